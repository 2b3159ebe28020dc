"""Random arrays. `seed` is an int, a `SeedGenerator`, a JAX key, or `None` for the running call's own key."""

from typing import Any

import jax
import jax.numpy as jnp

from kerax import config
from kerax.core.lift import Function, lift
from kerax.core.registry import Family
from kerax.core.seed_generator import SeedGenerator as SeedGenerator
from kerax.core.seed_generator import next_key

RANDOM = Family("random", "seed generator")
RANDOM.add(SeedGenerator)


def _dtype(dtype):
    return jnp.dtype(dtype or config.floatx())


def _array(value) -> Any:
    """A list as an array; numbers stay numbers, which take the dtype of what they meet."""
    return jnp.asarray(value) if isinstance(value, (list, tuple)) else value


def _drawing(function: Function) -> Function:
    """`function` on symbolic tensors too, and for shapes that only the graph knows. Each run draws anew."""
    lifted = lift(function, f"random_{function.__name__}")
    lifted.__name__ = lifted.__qualname__ = function.__name__
    return lifted


@_drawing
def normal(shape, mean: float = 0.0, stddev: float = 1.0, dtype=None, seed=None):
    """Normally distributed numbers."""
    dtype = _dtype(dtype)
    return (jax.random.normal(next_key(seed), shape, dtype) * _array(stddev) + _array(mean)).astype(dtype)


@_drawing
def truncated_normal(shape, mean: float = 0.0, stddev: float = 1.0, dtype=None, seed=None):
    """Normally distributed numbers, redrawn beyond 2 `stddev` from `mean`."""
    dtype = _dtype(dtype)
    return (
        jax.random.truncated_normal(next_key(seed), -2.0, 2.0, shape, dtype) * _array(stddev) + _array(mean)
    ).astype(dtype)


@_drawing
def uniform(shape, minval: float = 0.0, maxval: float = 1.0, dtype=None, seed=None):
    """Numbers spread evenly over `[minval, maxval)`."""
    return jax.random.uniform(next_key(seed), shape, _dtype(dtype), _array(minval), _array(maxval))


@_drawing
def randint(shape, minval, maxval, dtype: Any = "int32", seed=None):
    """Integers spread evenly over `[minval, maxval)`."""
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"randint: `dtype` must be one of integers. Got dtype={dtype!r}.")
    return jax.random.randint(next_key(seed), shape, _array(minval), _array(maxval), jnp.dtype(dtype))


@_drawing
def categorical(logits, num_samples, dtype: Any = "int32", seed=None):
    """`num_samples` class indices for each row of `logits (batch, classes)`: shape `(batch, num_samples)`."""
    logits = jnp.asarray(logits)
    if logits.ndim != 2:
        raise ValueError(f"categorical: `logits` must have shape (batch, classes). Got {logits.shape}.")
    shape = (logits.shape[0], num_samples)
    return jax.random.categorical(next_key(seed), logits[..., None], axis=1, shape=shape).astype(dtype)


@_drawing
def dropout(inputs, rate, noise_shape=None, seed=None):
    """`inputs` with a fraction `rate` of its values set to 0 and the others scaled by `1 / (1 - rate)`.

    Args:
        noise_shape: Shape of the draw, broadcast to `inputs`; `None` or an entry `None` is the size of `inputs`.
    """
    inputs = jnp.asarray(inputs)
    if rate == 0:
        return inputs
    sizes = noise_shape if noise_shape is not None else inputs.shape
    shape = [inputs.shape[axis] if size is None else size for axis, size in enumerate(sizes)]
    kept = jax.random.bernoulli(next_key(seed), 1 - rate, shape)
    # At a rate of 1 nothing is kept, and the scale would be a division by 0, whose gradient is NaN.
    scaled = inputs / (1 - rate) if rate < 1 else jnp.zeros_like(inputs)
    return jnp.where(kept, scaled, 0).astype(inputs.dtype)


@_drawing
def shuffle(x, axis: int = 0, seed=None):
    """`x` with its slices along `axis` in random order."""
    return jax.random.permutation(next_key(seed), jnp.asarray(x), axis)


@_drawing
def gamma(shape, alpha, dtype=None, seed=None):
    """Gamma distributed numbers of shape parameter `alpha` and scale 1."""
    return jax.random.gamma(next_key(seed), _array(alpha), shape, _dtype(dtype))


@_drawing
def beta(shape, alpha, beta, dtype=None, seed=None):
    """Beta distributed numbers of concentrations `alpha` and `beta`."""
    return jax.random.beta(next_key(seed), _array(alpha), _array(beta), shape, _dtype(dtype))


@_drawing
def binomial(shape, counts, probabilities, dtype=None, seed=None):
    """Numbers of successes in `counts` trials of success probability `probabilities`."""
    dtype = _dtype(dtype)
    # Drawn in float32 where needed, then rounded once.
    exact = dtype if dtype.itemsize >= 4 else jnp.dtype("float32")  # half precision cannot count beyond 256
    drawn = jax.random.binomial(next_key(seed), _array(counts), _array(probabilities), shape, exact)
    return drawn.astype(dtype)
