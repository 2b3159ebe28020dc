"""`SeedGenerator`: a reproducible stream of keys whose position is part of the owner's state."""

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core import scope as scopes
from kerax.core import seeds
from kerax.core.tracking import Trackable
from kerax.core.variable import Variable


class SeedGenerator(Trackable):
    """Keys `(seed, n)` for n = 0, 1, 2, ..., as in Keras.

    A layer that holds one saves and restores the position with its state, and stays pure under `apply`.

    Args:
        seed: Integer of at least 0. Default: drawn from the process-wide stream.
        name: Name of the state variable's owner.
    """

    def __init__(self, seed=None, name=None, **unknown):
        if unknown:
            raise ValueError(f"SeedGenerator: unknown arguments {sorted(unknown)}. Known: seed, name.")
        if not isinstance(seed, (int, np.integer, type(None))) or (seed is not None and seed < 0):
            raise ValueError(f"SeedGenerator: `seed` must be an integer of at least 0, or None. Got seed={seed!r}.")
        self.seed = seeds.make_seed() if seed is None else int(seed)
        self.name = name or "seed_generator"
        # (seed, number of draws)
        start = jnp.array([self.seed % 2**32, 0], jnp.uint32)
        self.state = Variable(start, trainable=False, autocast=False, name="seed_generator_state")
        # Not in `get_weights`, as in Keras.
        self.state.is_weight = False

    def _own_variables(self):
        return [("seed_generator_state", self.state)]

    def next(self, ordered=True) -> jax.Array:
        """The next key, uint32[2], for `jax.random` and `kerax.random`."""
        # Before anything is drawn: a constant key would go unnoticed.
        _refuse_tracing(self.state)
        # Who draws in a call without training is found out where its shapes are.
        self.state.is_drawn_from |= scopes.infers_shapes()
        state = self.state.value
        self.state.assign(state + jnp.array([0, 1], jnp.uint32))
        return state

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"name": self.name, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict) -> "SeedGenerator":
        """The generator that `get_config` described, at its start."""
        return cls(**config)


class CallGenerator(SeedGenerator):
    """The keys of the running call, as an object that layers without a seed hand to functions that draw.

    It has no position: a call that is given a key draws the same from it, however often it is made.
    """

    def __init__(self):
        self.seed, self.name = None, "seed_generator"

    def _own_variables(self):
        return []

    def next(self, ordered=True) -> jax.Array:
        """The next key, uint32[2]."""
        return jax.random.key_data(next_key())


def generator_for(seed) -> SeedGenerator:
    """Where a layer draws from: a `SeedGenerator` that it was given, a stream of its own, or the running call."""
    if isinstance(seed, SeedGenerator):
        return seed
    return CallGenerator() if seed is None else SeedGenerator(seed)


def next_key(seed=None) -> jax.Array:
    """A PRNG key: from a `SeedGenerator`, an integer, a key, or for `None` the open scope or the process-wide stream.

    Raises:
        ValueError: inside a pure call that was given no key.
    """
    seed = seed.next() if isinstance(seed, SeedGenerator) else seed
    if isinstance(seed, (int, np.integer)):
        # What a `SeedGenerator` of this seed gives first, as in Keras. Any integer, negative ones too.
        seed = np.array([int(seed) % 2**32, 0], np.uint32)
    if seed is not None:
        return seeds.key_from(seed)
    # An inner scope without a key draws from the one around it.
    scope = scopes.find_key()
    if scope is not None:
        return scope.next_key()
    if scopes.current_scope() is not None:
        raise ValueError(
            "This call draws random numbers and was given no key. Pass `key=jax.random.key(...)` to `apply`."
        )
    _refuse_tracing(None)
    return jax.random.key(seeds.make_seed())


def _refuse_tracing(variable):
    """Raises `ValueError` where a key would become a constant of a traced function, the same at each of its calls."""
    scope = scopes.current_scope() if variable is None else scopes.find(variable)
    if scope is None and scopes.is_tracing():
        raise ValueError(
            "A random number is drawn inside a function that JAX traces, outside a pure call: every call of the traced "
            "function would repeat it. Call `layer.apply(variables, x, training=True, key=key)` in there instead of "
            "`layer(x, training=True)`, or pass a key as `seed`."
        )
