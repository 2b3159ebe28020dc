"""Functions that turn floats into small integers and 8-bit floats, and what undoes it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core.lift import lift


def abs_max_quantize(
    inputs: Any,
    axis: Any,
    value_range: Any = (-127, 127),
    dtype: Any = "int8",
    epsilon: Any = 1e-7,
    to_numpy: bool = False,
) -> Any:
    """`round(inputs * scale)` with the scale that brings the largest magnitude along `axis` to `value_range[1]`.

    Args:
        inputs: Floats.
        axis: Axis or axes that share a scale.
        value_range: Smallest and largest integer.
        dtype: Of the integers.
        epsilon: Added to the largest magnitude, which may be 0.
        to_numpy: Whether to compute on the host.

    Returns: the integers, and the scale with size-1 axes, in the inputs' dtype: `integers / scale` undoes it.
    """
    xp = np if to_numpy else jnp
    inputs = xp.asarray(inputs)
    largest = xp.max(xp.abs(inputs), axis=axis, keepdims=True)
    # Divided in float32, whatever the inputs: the small number vanishes in half precision.
    scale = (value_range[1] / (largest.astype("float32") + np.float32(epsilon))).astype(inputs.dtype)
    outputs = xp.clip(xp.round(inputs * scale), *value_range).astype(dtype)
    return jnp.asarray(outputs), jnp.asarray(scale)


def abs_max_quantize_grouped_with_zero_point(
    inputs: Any,
    block_size: Any,
    value_range: Any = (-8, 7),
    dtype: Any = "int8",
    epsilon: Any = 1e-7,
    to_numpy: bool = False,
) -> Any:
    """A matrix as integers, each column in groups of `block_size` rows that use the whole of `value_range`.

    Args:
        inputs: Floats `(rows, columns)`.
        block_size: Rows of a group; the last may have fewer.
        value_range: Smallest and largest integer.
        dtype: Of the integers.
        epsilon: Added to the width of a group's values, which may be 0.
        to_numpy: Whether to compute on the host. The results are the same (in Keras they differ for a group that is
            larger than the matrix: kerax always gives those of the host).

    Returns: the integers `(rows, columns)`, and scale and zero point `(groups, columns)`:
        `(integers - zero_point) * scale` undoes it.
    """
    xp = np if to_numpy else jnp
    inputs = xp.asarray(inputs)
    if inputs.ndim != 2:
        raise ValueError(f"`inputs` must have shape (rows, columns). Got {inputs.shape}.")
    if block_size < 1:
        raise ValueError(f"`block_size` must be at least 1. Got block_size={block_size}.")
    rows, columns = inputs.shape
    num_groups = -(-rows // block_size)
    padded = xp.pad(inputs, ((0, num_groups * block_size - rows), (0, 0)))
    groups = padded.reshape(num_groups, block_size, columns)
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    scale = (high - low + np.float32(epsilon)) / (value_range[1] - value_range[0])
    zero_point = xp.clip(xp.round(-low / scale) + value_range[0], *value_range)
    outputs = xp.clip(xp.round(groups / scale) + zero_point, *value_range)
    outputs = outputs.reshape(-1, columns)[:rows].astype(dtype)
    return jnp.asarray(outputs), jnp.asarray(scale[:, 0]), jnp.asarray(zero_point[:, 0].astype("int8"))


def pack_int4(arr: Any, axis: Any = 0, dtype: Any = "int8") -> Any:
    """Integers in `[-8, 7]`, two in a byte: the first of each pair along `axis` in the lower four bits.

    Returns: the bytes, their shape, and the size of `axis` before, which `unpack_int4` needs.
    """
    _check_byte(dtype)
    rows = jnp.moveaxis(jnp.asarray(arr), axis, 0)
    size = rows.shape[0]
    # `& 15` keeps the lower four bits, in two's complement: -1 becomes 15.
    rows = jnp.pad(rows, [(0, size % 2), *((0, 0),) * (rows.ndim - 1)]).astype("uint8") & 15
    packed = jnp.moveaxis((rows[::2] | (rows[1::2] << 4)).astype(dtype), 0, axis)
    return packed, packed.shape, size


def unpack_int4(packed: Any, orig_len: Any, axis: Any = 0, dtype: Any = "int8") -> Any:
    """What `pack_int4` packed along `axis`, which had the size `orig_len`; with `"uint8"`, in `[0, 15]`."""
    _check_byte(dtype)
    rows = jnp.moveaxis(jnp.asarray(packed), axis, 0).astype("uint8")
    pairs = jnp.stack([rows & 15, rows >> 4], axis=1).reshape(-1, *rows.shape[1:])[:orig_len].astype(dtype)
    if dtype == "int8":
        # The fourth bit is the sign's.
        pairs = jnp.where(pairs > 7, pairs - 16, pairs)
    return jnp.moveaxis(pairs, 0, axis)


def compute_quantization_parameters(
    x: Any,
    *,
    bits: Any,
    symmetric: bool = False,
    per_channel: bool = False,
    group_size: Any = -1,
    compute_dtype: Any = "float32",
    epsilon: Any = 0.0,
    signed: bool = False,
) -> Any:
    """Scale and zero point that bring the rows of a matrix to integers of some bits.

    Args:
        x: Floats `(out, in)`.
        bits: Number of bits.
        symmetric: Whether the range of values is made symmetric around 0.
        per_channel: Whether each row has a range of its own, or all share one.
        group_size: With `per_channel`, neighbours in a row that share a range; -1: the whole row.
        compute_dtype: Dtype of the returned largest integer.
        epsilon: Added to the width of a range.
        signed: Whether the integers run from `-2**(bits - 1)`, not from 0.

    Returns: scale and zero point `(out, groups)`, and the number of steps `2**bits - 1`.
        `(integers - zero) * scale` undoes the quantization.
    """
    x = jnp.asarray(x)
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"`x` must have shape (out, in) and not be empty. Got shape {x.shape}.")
    rows, columns = x.shape[:2]
    num_groups = -(-columns // group_size) if per_channel and group_size > 0 else 1
    if num_groups > 1:
        x = jnp.pad(x, ((0, 0), (0, num_groups * group_size - columns))).reshape(rows, num_groups, group_size)
    else:
        x = x.reshape(rows if per_channel else 1, 1, -1)
    low, high = x.min(-1), x.max(-1)
    if symmetric:  # only where there are negative values; else the range begins at the lowest one
        largest = jnp.maximum(jnp.abs(low), high)
        low, high = jnp.where(low < 0, -largest, low), largest
    is_flat = low == high  # of one value only, such as 0: the range would be empty
    low, high = jnp.where(is_flat, low - 1, low), jnp.where(is_flat, high + 1, high)
    steps = jnp.asarray(2**bits - 1, compute_dtype)
    scale = (high - low + epsilon) / steps
    scale = jnp.where(scale <= 0, 1e-8, scale)
    zero = jnp.full_like(scale, (steps + 1) / 2) if symmetric else jnp.round(-low / scale)
    if signed:
        lowest = -(2 ** (bits - 1))
        zero = jnp.clip(zero + lowest, lowest, -lowest - 1)
    scale, zero = (jnp.broadcast_to(array, (rows, num_groups)) for array in (scale, zero))
    return scale, zero.astype("int8" if signed else "uint8"), steps


def quantize_with_sz_map(
    weights_matrix: Any, scale: Any, zero: Any, g_idx: Any, maxq: Any, group_axis: Any = -1
) -> Any:
    """`round(weights / scale + zero)` within `[0, maxq]`, with the scale and zero point of each entry's group.

    Args:
        weights_matrix: Floats.
        scale, zero: Of the groups, along `group_axis`.
        g_idx: The group of each index of that axis.
        maxq: The largest integer.
        group_axis: Axis of the groups.
    """
    groups = jnp.asarray(g_idx).astype("int32")
    scale, zero = (jnp.take(jnp.asarray(array), groups, axis=group_axis) for array in (scale, zero))
    return jnp.clip(jnp.round(weights_matrix / jnp.where(scale == 0, 1e-8, scale) + zero.astype(scale.dtype)), 0, maxq)


def dequantize_with_sz_map(weights_matrix: Any, scale: Any, zero: Any, g_idx: Any, group_axis: Any = -1) -> Any:
    """`(integers - zero) * scale`, which undoes `quantize_with_sz_map`."""
    groups = jnp.asarray(g_idx).astype("int32")
    scale, zero = (jnp.take(jnp.asarray(array), groups, axis=group_axis) for array in (scale, zero))
    if not jnp.issubdtype(weights_matrix.dtype, jnp.floating):
        weights_matrix = weights_matrix.astype(scale.dtype)
    return (weights_matrix - zero.astype(scale.dtype)) * scale


def _check_byte(dtype):
    if dtype not in ("int8", "uint8"):
        raise ValueError(f"`dtype` must be 'int8' or 'uint8'. Got dtype={dtype!r}.")


def compute_float8_scale(amax: Any, scale: Any, dtype_max: Any, margin: Any = 0) -> Any:
    """The scale that brings `amax` to `dtype_max / 2**margin`, or `scale` where `amax` is 0 or not finite."""
    usable = (jnp.asarray(amax) > 0) & jnp.isfinite(amax)
    return jnp.where(usable, jnp.where(usable, amax, 1) * 2**margin / dtype_max, scale)


def compute_float8_amax_history(x: Any, amax_history: Any) -> Any:
    """`amax_history` moved on by one, with the largest magnitude of `x` in front."""
    largest = jnp.max(jnp.abs(jnp.asarray(x))).astype(amax_history.dtype)
    # Rolled to the left, the oldest comes to the front and is written over, as in Keras.
    return jnp.roll(jnp.asarray(amax_history), -1).at[0].set(largest)


def quantize_and_dequantize(inputs: Any, scale: Any, quantized_dtype: Any, compute_dtype: Any) -> Any:
    """`inputs` rounded to what `scale` times a number of the 8-bit float `quantized_dtype` can be."""
    largest = jnp.finfo(quantized_dtype).max.astype(compute_dtype)
    scale = jnp.asarray(scale, compute_dtype)
    # Clipped first: numbers beyond the largest would become infinite or NaN.
    scaled = jnp.clip(jnp.asarray(inputs, compute_dtype) / scale, -largest, largest)
    return scaled.astype(quantized_dtype).astype(compute_dtype) * scale


@lift
def fake_quant_with_min_max_vars(
    inputs: Any, min_vals: Any, max_vals: Any, num_bits: Any = 8, narrow_range: bool = False, axis: Any = None
) -> Any:
    """`inputs` clipped to a range and rounded to the `2**num_bits` values that divide it, as floats.

    The range is moved a little so that 0 is one of the values. Gradients reach `inputs` inside the range and its
    bounds from outside it.

    Args:
        inputs: Floats.
        min_vals, max_vals: The range: scalars, or with `axis` a number for each entry of that axis.
        num_bits: From 2 to 16.
        narrow_range: Whether there is one value fewer.
        axis: Axis with ranges of its own.
    """
    inputs, min_vals, max_vals = jnp.asarray(inputs), jnp.asarray(min_vals), jnp.asarray(max_vals)
    shape = [1] * inputs.ndim
    if axis is not None:
        shape[axis] = inputs.shape[axis]
        min_vals, max_vals = (jnp.broadcast_to(v, (inputs.shape[axis],)) for v in (min_vals, max_vals))
    levels = (int(narrow_range), 2 ** int(num_bits) - 1)
    bounds = (values.astype("float32").reshape(shape) for values in (min_vals, max_vals))
    return _fake_quant(inputs, *bounds, levels)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _fake_quant(x, low, high, levels):
    first, last, scale = _nudged_range(low, high, levels)
    zero = jnp.floor(-first / scale + 0.5)
    return (jnp.floor((jnp.clip(x, first, last) - first) / scale - zero + 0.5) * scale).astype(x.dtype)


def _nudged_range(low, high, levels):
    scale = (high - low) / (levels[1] - levels[0])
    # Rounded, the level of 0 is one of the levels: padding by zeros stays exact.
    zero = jnp.clip(jnp.floor(levels[0] - low / scale + 0.5), *levels)
    return (levels[0] - zero) * scale, (levels[1] - zero) * scale, scale


def _fake_quant_forward(x, low, high, levels):
    return _fake_quant(x, low, high, levels), (x, low, high)


def _fake_quant_backward(levels, saved, upstream):
    x, low, high = saved
    first, last, _ = _nudged_range(low, high, levels)
    # A bound moves with all values beyond it: their gradients are summed, for each range.
    shared = tuple(i for i in range(x.ndim) if low.shape[i] == 1)
    to_bound = lambda where: jnp.sum(jnp.where(where, upstream, 0), shared, keepdims=True).astype(low.dtype)
    return jnp.where((x >= first) & (x <= last), upstream, 0), to_bound(x <= first), to_bound(x >= last)


_fake_quant.defvjp(_fake_quant_forward, _fake_quant_backward)
