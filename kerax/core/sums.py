"""Sums that go on growing: a float32 alone counts to 2**24, an int32 to 2**31.

Beside a sum stands its rest (`core.variable.Sum`). Of floats both together are the sum, to 48 bits; of integers the
rest is how often 2**30 was taken away.

A compiled step only adds to the rest of floats, for all else in each step is dear: with the error-free sum of both a
step of an MLP took 1.10 of its time. A program settles them after a number of steps in which counts stay exact.
"""

import jax
import jax.numpy as jnp

UNIT = 2**30
EXACT = 2**24
"""Up to which a float32 holds every integer."""


def has_rest(dtype: str) -> bool:
    """Whether sums of this dtype need one."""
    return dtype in ("float32", "int32")


def add_up(total: jax.Array, rest: jax.Array, value) -> tuple[jax.Array, jax.Array]:
    """(total, rest) with `value` added: exact as long as the value itself is, and settled."""
    return _add_up(total, rest, jnp.broadcast_to(jnp.asarray(value, total.dtype), total.shape))


def settle(total: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(total, rest) of the same sum, of which the rest is only what the total has no digits for.

    Knuth's error-free sum of two numbers, The Art of Computer Programming 2, 4.2.2, theorem B.
    """
    new = total + rest
    part = new - total
    rest = (total - (new - part)) + (rest - part)
    return new, jnp.where(jnp.isfinite(rest), rest, 0)  # infinity stays infinity


def whole(total) -> jax.Array:
    """The sum that a variable and its rest hold, to the digits of float32."""
    value = jnp.asarray(total.value, jnp.float32)
    return value + total.rest.value * float(UNIT) if total.stored_dtype == "int32" else value


def _add(total, rest, value):
    if not jnp.issubdtype(total.dtype, jnp.integer):
        return settle(total, rest + value)
    # What a batch counts is below 2**30 too, so the sum of both fits.
    value = total + value
    units = value // UNIT
    return value - units * UNIT, rest + units


# Named and not inlined, so that a program in which sums only grow is known by it: see `is_sum`.
_add.__name__ = "add_up"
_add_up = jax.jit(_add)


def is_sum(equation) -> bool:
    """Whether an equation of a jaxpr is `add_up`."""
    return equation.primitive.name in ("jit", "pjit") and equation.params.get("name") == "add_up"
