"""Regularizers: scalar penalties on weights or outputs, added to the loss."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from kerax import ops
from kerax.core.configurable import Configurable
from kerax.core.registry import Family, deserialize_keras_object, serialize_keras_object
from kerax.core.variable import unwrap

REGULARIZERS = Family("regularizers", "regularizer")


class Regularizer(Configurable):
    """A penalty; a subclass writes `__call__(self, x)`, which returns a scalar."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__:  # users' own are found by registration
            REGULARIZERS.add(cls, *{"L1L2": ("l1_l2",)}.get(cls.__name__, ()))

    def __call__(self, x) -> jax.Array | float:
        return 0.0


def _weight(owner, name: str, value) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{type(owner).__name__}: `{name}` must be a finite number of at least 0. Got {value!r}.")
    return float(value)


class L1L2(Regularizer):
    """`l1 * sum(|x|) + l2 * sum(x**2)`."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1, self.l2 = _weight(self, "l1", l1 or 0.0), _weight(self, "l2", l2 or 0.0)

    def __call__(self, x):
        x = jnp.asarray(unwrap(x))
        penalty = jnp.zeros((), x.dtype)
        # A factor of 0 costs nothing: the sum would be computed, and its gradient too.
        if self.l1:
            penalty = penalty + self.l1 * jnp.sum(jnp.abs(x))
        if self.l2:
            penalty = penalty + self.l2 * jnp.sum(jnp.square(x))
        return penalty

    def get_config(self) -> dict:
        """The two factors."""
        return {"l1": self.l1, "l2": self.l2}


class L1(Regularizer):
    """`l1 * sum(|x|)`."""

    def __init__(self, l1: float = 0.01):
        self.l1 = _weight(self, "l1", 0.01 if l1 is None else l1)

    def __call__(self, x):
        return self.l1 * jnp.sum(jnp.abs(unwrap(x)))

    def get_config(self) -> dict:
        """The factor."""
        return {"l1": self.l1}


class L2(Regularizer):
    """`l2 * sum(x**2)`."""

    def __init__(self, l2: float = 0.01):
        self.l2 = _weight(self, "l2", 0.01 if l2 is None else l2)

    def __call__(self, x):
        return self.l2 * jnp.sum(jnp.square(unwrap(x)))

    def get_config(self) -> dict:
        """The factor."""
        return {"l2": self.l2}


class OrthogonalRegularizer(Regularizer):
    """`factor` times the mean `|cosine|` between any two rows (or columns) of a matrix.

    Args:
        factor: Factor of the penalty.
        mode: `"rows"` or `"columns"`.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        if mode not in ("rows", "columns"):
            raise ValueError(f"OrthogonalRegularizer: `mode` must be 'rows' or 'columns'. Got {mode!r}.")
        self.factor, self.mode = _weight(self, "factor", factor), mode

    def __call__(self, inputs):
        vectors = jnp.asarray(unwrap(inputs))
        if vectors.ndim != 2:
            raise ValueError(f"OrthogonalRegularizer: expected a matrix. Got shape {vectors.shape}.")
        vectors = vectors if self.mode == "rows" else vectors.T
        vectors = ops.normalize(vectors, axis=1)
        size = vectors.shape[0]
        # Without the diagonal, the cosine of each with itself; every pair stands there twice, as in the divisor.
        cosines = (vectors @ vectors.T) * (1 - jnp.eye(size, dtype=vectors.dtype))
        return self.factor * jnp.sum(jnp.abs(cosines)) / (size * (size - 1))


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer  # Keras's other names


def get(identifier) -> Callable | None:
    """The regularizer for a name, a config, a class or a function; `None` stays `None`."""
    return REGULARIZERS.get(identifier)


def serialize(regularizer) -> dict:
    """A JSON-able description."""
    return serialize_keras_object(regularizer)


def deserialize(config, custom_objects: dict | None = None) -> Callable | None:
    """The regularizer that `serialize` described."""
    return REGULARIZERS.get(deserialize_keras_object(config, custom_objects))
