"""Normalization of arrays by given statistics, or by those of each sample; in float32 for half precision."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from kerax.ops import gpu
from kerax.ops.products import computed_once


def upcast(x):
    """Half precision overflows in sums of squares: statistics are taken in float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def along(axes, value, ndim: int):
    """`value` with size-1 axes where `axes` has none, to broadcast to `ndim` axes; one of other axes as it is."""
    if jnp.ndim(value) != len(axes):
        return value
    return jnp.expand_dims(value, [axis for axis in range(ndim) if axis not in axes])


@functools.partial(jax.jit, static_argnames=("epsilon", "axis"), inline=True)  # one program where called eagerly
def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """`(x - mean) / sqrt(variance + epsilon) * scale + offset`, the statistics lying along `axis`."""
    # One product and one sum for each number of `x`; all else is done on vectors of the size of one axis.
    factor = lax.rsqrt(variance + epsilon)
    factor = factor if scale is None else scale * factor
    shift = -mean * factor if offset is None else offset - mean * factor
    axes = (axis % x.ndim,)
    return x * along(axes, factor, x.ndim) + along(axes, shift, x.ndim)


def moments(x, axes):
    """Mean and variance over all axes but one, in float32 for half precision."""
    if gpu.is_target():
        return gpu.moments(x, tuple(axes))
    x = upcast(x)
    # In two passes: the mean of squares minus the squared mean loses all digits where the mean is large.
    mean = jnp.mean(x, axes, keepdims=True)
    return mean.reshape(-1), jnp.mean(jnp.square(x - mean), axes)


def standardize(x, axes, epsilon: float, is_centered=True):
    """`(x - mean) / sqrt(variance + epsilon)` with statistics over `axes`; not centered, `x` itself is divided."""
    x = upcast(x)
    # In two passes: `mean(x**2) - mean(x)**2` loses all digits where the mean is large.
    centered = x - jnp.mean(x, axes, keepdims=True)
    scale = lax.rsqrt(jnp.mean(jnp.square(centered), axes, keepdims=True) + epsilon)
    return (centered if is_centered else x) * scale


def layer_normalization(x, gamma=None, beta=None, axes=(-1,), epsilon=1e-3, is_centered=True, dtype=None):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`, statistics over `axes`, of at least float32.

    Args:
        dtype: What the outputs are cast to next, for platforms where they are computed in it at once.
    """
    if gpu.is_target() and is_centered:
        axes = tuple(sorted({axis % x.ndim for axis in axes}))
        gamma = jnp.ones((), jnp.float32) if gamma is None else along(axes, gamma, x.ndim)
        beta = jnp.zeros((), jnp.float32) if beta is None else along(axes, beta, x.ndim)
        dtype = dtype or jnp.promote_types(x.dtype, jnp.float32)
        return gpu.layer_normalization(x, gamma, beta, axes, epsilon, dtype)
    outputs, axes = standardize(computed_once(x), axes, epsilon, is_centered), {axis % x.ndim for axis in axes}
    outputs = outputs if gamma is None else outputs * along(axes, gamma, x.ndim)
    return outputs if beta is None else outputs + along(axes, beta, x.ndim)


def rms_normalization(x, scale=None, axes=(-1,), epsilon=1e-6, dtype=None):
    """`x / sqrt(mean(x**2) + epsilon) * scale`, of at least float32. Source: https://arxiv.org/abs/1910.07467

    Args:
        dtype: What the outputs are cast to next, for platforms where they are computed in it at once.
    """
    if gpu.is_target():
        axes = tuple(sorted({axis % x.ndim for axis in axes}))
        scale = jnp.ones((), jnp.float32) if scale is None else along(axes, scale, x.ndim)
        return gpu.rms_normalization(x, scale, axes, epsilon, dtype or jnp.promote_types(x.dtype, jnp.float32))
    exact = upcast(x)
    outputs = exact * lax.rsqrt(jnp.mean(jnp.square(exact), axes, keepdims=True) + epsilon)
    return outputs if scale is None else outputs * along({axis % x.ndim for axis in axes}, scale, x.ndim)


def unit_normalization(x, axes, least: float):
    """`x` divided by its Euclidean norm over `axes`, which is taken as at least `least`."""
    # The maximum is taken of the squares, before the root, whose slope at 0 is infinite.
    return x * lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axes, keepdims=True), least**2))
