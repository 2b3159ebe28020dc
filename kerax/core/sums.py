"""Sums that go on growing: a float32 alone counts to 2**24, an int32 to 2**31.

Beside a sum stands its rest. Of floats that is what rounding left off the sum, so that both together hold 48 bits; of
integers how often 2**30 was taken away from it.
"""

import jax
import jax.numpy as jnp

UNIT = 2**30


def has_rest(dtype: str) -> bool:
    """Whether sums of this dtype need one."""
    return dtype in ("float32", "int32")


def add_up(total: jax.Array, rest: jax.Array, value) -> tuple[jax.Array, jax.Array]:
    """(total, rest) with `value` added: exact as long as the value itself is.

    For floats Knuth's error-free sum of two numbers, The Art of Computer Programming 2, 4.2.2, theorem B.
    """
    return _add_up(total, rest, jnp.broadcast_to(jnp.asarray(value, total.dtype), total.shape))


def whole(total) -> jax.Array:
    """The sum that a variable and its rest hold, to the digits of float32."""
    value = jnp.asarray(total.value, jnp.float32)
    if total.rest is None or total.stored_dtype != "int32":
        return value  # the rest of a float is below its last digit
    return value + total.rest.value * float(UNIT)


def _add(total, rest, value):
    if jnp.issubdtype(total.dtype, jnp.integer):
        # What a batch counts is below 2**30 too, so the sum of both fits.
        value = total + value
        units = value // UNIT
        return value - units * UNIT, rest + units
    value = value + rest
    new = total + value
    part = new - total
    rest = (total - (new - part)) + (value - part)
    return new, jnp.where(jnp.isfinite(rest), rest, 0)  # infinity stays infinity


# Named and not inlined, so that a program in which sums only grow is known by it: see `is_sum`.
_add.__name__ = "add_up"
_add_up = jax.jit(_add)


def is_sum(equation) -> bool:
    """Whether an equation of a jaxpr is `add_up`."""
    return equation.primitive.name in ("jit", "pjit") and equation.params.get("name") == "add_up"
