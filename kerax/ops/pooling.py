"""Pooling of arrays over windows of a given size, or over a given number of windows."""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from kerax.ops.convolutions import is_channels_last, per_axis

_FEW_POSITIONS, _MANY_POSITIONS = 4, 16


def pool(inputs, reduction, pool_size, strides=None, padding="valid", data_format=None):
    """The `reduction`, `"max"` or `"average"`, of each window; padded places do not count.

    Where windows touch and do not overlap, one axis after the other, and one slice per position in the window: its
    gradient is a select, where that of `reduce_window` is a scatter. Where values are equal, a maximum's gradient is
    shared among them. A whole CNN step takes 41 ms on CPU, 74 with `reduce_window`. Maximum, gradient, ms, all axes at
    once / one after the other / `reduce_window`: (64,26,26,32) by 2x2: 18.2, 5.7, 16.6. (32,28,28,32) by 3x3: 13.6,
    1.7, 4.3. (8,16,16,16,16) by 2x2x2: 10.9, 1.4, 5.0. Averages of up to 4 are faster by `reduce_window`, whose
    gradient is no scatter: (64,26,26,32) by 2x2 2.2 against 3.6 ms, by 3x3 of (32,28,28,32) 4.9 against 1.5.

    Args:
        strides: Default: `pool_size`.
        padding: `"valid"` (drops what is left over) or `"same"`.
    """
    rank, first = inputs.ndim - 2, 1 if is_channels_last(data_format) else 2
    sizes = per_axis(pool_size, rank)
    steps = sizes if strides is None else per_axis(strides, rank)
    count, is_max = math.prod(sizes), reduction == "max"
    is_tiling = padding.lower() == "valid" and sizes == steps
    if is_tiling and (is_max or count > _FEW_POSITIONS) and count <= _MANY_POSITIONS:
        # What is left over at the end is no whole window, and is cut off.
        for axis, size in enumerate(sizes, start=first):
            num_windows = inputs.shape[axis] // size
            whole = lax.slice_in_dim(inputs, 0, num_windows * size, axis=axis)
            tiles = whole.reshape(*inputs.shape[:axis], num_windows, size, *inputs.shape[axis + 1 :])
            slices = (tiles[(slice(None),) * (axis + 1) + (position,)] for position in range(size))
            inputs = functools.reduce(jnp.maximum if is_max else jnp.add, slices)
        return inputs if is_max else inputs / count
    after = (1,) * (2 - first)
    window = (1,) * first + sizes + after, (1,) * first + steps + after, padding.upper()
    if is_max:
        # Where the window begins: what every number beats. Integers have no infinity.
        is_float = jnp.issubdtype(inputs.dtype, jnp.floating)
        return lax.reduce_window(inputs, -jnp.inf if is_float else jnp.iinfo(inputs.dtype).min, lax.max, *window)
    total = lax.reduce_window(inputs, 0.0, lax.add, *window)
    if padding.lower() == "same":
        # At the edges fewer places count: the same ones for all rows and channels, which XLA would count one by one.
        shape = [size if first <= axis < first + rank else 1 for axis, size in enumerate(inputs.shape)]
        count = lax.reduce_window(jnp.ones(shape, inputs.dtype), 0.0, lax.add, *window)
    return total / count


def adaptive_pool(inputs, reduction, output_size, data_format=None):
    """The `reduction`, `"max"` or `"average"`, of `output_size` windows along each spatial axis in turn.

    Window i of an axis of n is from `floor(i n / size)` to `ceil((i + 1) n / size)`: they may overlap by one position.
    """
    reduce = jnp.max if reduction == "max" else jnp.mean
    first = 1 if is_channels_last(data_format) else 2
    for axis, size in enumerate(per_axis(output_size, inputs.ndim - 2), start=first):
        length, index = int(inputs.shape[axis]), np.arange(size)
        starts, ends = index * length // size, -(-(index + 1) * length // size)
        if length % size == 0:  # windows of one size that do not overlap
            shape = (*inputs.shape[:axis], size, length // size, *inputs.shape[axis + 1 :])
            inputs = reduce(inputs.reshape(shape), axis + 1)
        elif reduction == "max":
            positions = starts[:, None] + np.arange(max(ends - starts))  # shorter windows count their last one again
            inputs = jnp.max(jnp.take(inputs, np.minimum(positions, ends[:, None] - 1), axis), axis + 1)
        else:
            positions = np.arange(length)[:, None]
            weights = ((positions >= starts) & (positions < ends)) / (ends - starts)  # (positions, windows)
            # A product with a matrix that is known beforehand: each window's mean is a weighted sum of all positions.
            means = jnp.tensordot(inputs, jnp.asarray(weights, inputs.dtype), ((axis,), (0,)))
            inputs = jnp.moveaxis(means, -1, axis)
    return inputs
