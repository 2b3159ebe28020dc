"""Constraints: projections applied to a weight after each update."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from kerax import config as settings
from kerax.core.configurable import Configurable
from kerax.core.registry import Family, deserialize_keras_object, serialize_keras_object
from kerax.core.variable import unwrap

CONSTRAINTS = Family("constraints", "constraint")


class Constraint(Configurable):
    """A projection; a subclass writes `__call__(self, w)`, which returns an array of the same shape."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__:  # users' own are found by registration
            CONSTRAINTS.add(cls)

    def __call__(self, w):
        return unwrap(w)


def _norms(w, axis):
    return jnp.sqrt(jnp.sum(jnp.square(w), axis=axis, keepdims=True))


class MaxNorm(Constraint):
    """Scales vectors along `axis` down to a norm of at most `max_value`.

    Args:
        max_value: Largest norm.
        axis: Axis or tuple of axes that make up one vector: 0 for a dense kernel, `[0, 1, 2]` for a Conv2D kernel.
    """

    def __init__(self, max_value: float = 2, axis: int | Sequence[int] = 0):
        self.max_value, self.axis = max_value, _axes(axis)

    def __call__(self, w):
        w = jnp.asarray(unwrap(w))
        norms = _norms(w, self.axis)
        # Vectors of norm 0 stay 0: the small number is all that is divided by.
        return w * (jnp.clip(norms, 0, self.max_value) / (settings.epsilon() + norms))


class NonNeg(Constraint):
    """Sets negative values to 0."""

    def __call__(self, w):
        return jnp.maximum(unwrap(w), 0)


class UnitNorm(Constraint):
    """Scales vectors along `axis` to a norm of 1. `axis` as in `MaxNorm`."""

    def __init__(self, axis: int | Sequence[int] = 0):
        self.axis = _axes(axis)

    def __call__(self, w):
        w = jnp.asarray(unwrap(w))
        return w / (settings.epsilon() + _norms(w, self.axis))


class MinMaxNorm(Constraint):
    """Moves the norms of vectors along `axis` into `[min_value, max_value]`.

    Args:
        min_value: Smallest norm.
        max_value: Largest norm.
        rate: Fraction of the way that one application goes: 1 enforces the range.
        axis: As in `MaxNorm`.
    """

    def __init__(self, min_value=0.0, max_value=1.0, rate=1.0, axis: int | Sequence[int] = 0):
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, _axes(axis)

    def __call__(self, w):
        w = jnp.asarray(unwrap(w))
        norms = _norms(w, self.axis)
        # At a rate below 1 a part of the way from the norm that is there.
        desired = self.rate * jnp.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (desired / (settings.epsilon() + norms))


def _axes(axis):
    return tuple(axis) if isinstance(axis, (list, tuple)) else axis


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm  # Keras's other names


def get(identifier) -> Callable | None:
    """The constraint for a name, a config, a class or a function; `None` stays `None`."""
    return CONSTRAINTS.get(identifier)


def serialize(constraint) -> dict:
    """A JSON-able description."""
    return serialize_keras_object(constraint)


def deserialize(config, custom_objects: dict | None = None) -> Callable | None:
    """The constraint that `serialize` described."""
    return CONSTRAINTS.get(deserialize_keras_object(config, custom_objects))
