"""Formulations that XLA's CPU backend is fast with, where it is slow with the plain ones, and its compiler options.

Milliseconds are those of 2 cores with jax 0.10.2; `scripts/benchmark.py --formulations` times each formulation against
the plain one. With `compiler_options`, most convolutions need none: kernel 3x3x32x64 on (128,13,13,32), forward and
with both gradients, 2.4 and 11.4, without the options 5.6 and 30 (jax 0.12: 2.8 and 14.6).
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from kerax import config
from kerax.core.jaxprs import equations

_FEW_CHANNELS, _FEW_ROWS, _HALVED = 8, 16, 512
_AT_ONCE = 8  # numbers of a column that are added up in one loop
_NAN_BITS = 0x7FC0  # of a bfloat16
_PATCHES_LIMIT, _TRANSPOSED_LIMIT = 20_000_000, 100_000_000  # bytes
_MANY_POSITIONS, _MANY_TRANSPOSED = 64, 9  # of a window
_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


def is_target() -> bool:
    """Whether programs are traced for a CPU."""
    return config.target_platform() == "cpu"


def favors_halves(query, key) -> bool:
    """Whether causal attention leaves out the scores of the first half of the queries with the second half of the keys.

    Of `(batch, heads, positions, features)`, forward and gradients, over all at once: (8,8,512,64) 0.82, with jax 0.12
    0.86, (4,8,1024,64) 0.83; it compiles a tenth longer. Of 128 positions a GPT's step takes 3% less, but compiles
    almost half as long again.
    """
    length = query.shape[-2]
    return is_target() and isinstance(length, int) and length == key.shape[-2] and length >= _HALVED


def favors_few_rows(rows: Any, dtype) -> bool:
    """Whether `product_of_few_rows` is the way to multiply so many rows by a matrix: a few, in bfloat16."""
    return isinstance(rows, int) and rows <= _FEW_ROWS and dtype == jnp.bfloat16 and is_target()


def product_of_few_rows(left, right, dtype=None, axis: int = -2):
    """`left (..., rows, n) @ right (..., n, m)` in `dtype`, or in its own; `axis` -1 for `right (..., m, n)`.

    XLA's CPU backend has fast products of bfloat16 with results in float32, and of 8-bit integers with results of 32
    bits, for at least two rows: of one a second is made. 24 matrices of 768x3072, one row: bfloat16 252, so 21;
    integers 258, so 11; 8 rows of bfloat16 228, so 37. (float32: 17 to 21, and 39.) One row of bfloat16 by a matrix is
    faster still as `_product_of_one_row`.
    """
    result = jnp.dtype(dtype or left.dtype)
    batch = tuple(range(right.ndim - 2))
    numbers = ((left.ndim - 1,), (right.ndim + axis,)), (batch, batch)
    if left.dtype not in (jnp.bfloat16, jnp.int8) or not is_target():
        return lax.dot_general(left, right, numbers, preferred_element_type=result)
    rows = left.shape[-2]
    if rows == 1:
        if left.dtype == jnp.bfloat16 and left.ndim == right.ndim == 2 == -axis and right.shape[0] % _AT_ONCE == 0:
            return _product_of_one_row(left, right).astype(result)
        left = jnp.concatenate([left, jnp.zeros_like(left)], axis=-2)
    exact = jnp.float32 if left.dtype == jnp.bfloat16 else jnp.int32
    product = lax.dot_general(left, right, numbers, preferred_element_type=exact)
    return product[..., :rows, :].astype(result)


@jax.custom_jvp
def _product_of_one_row(left, right):
    """`left (1, n) @ right (n, m)` of bfloat16 in float32: sums of 8 numbers in one loop, then those as a product.

    So memory is read once, in order, and little is written. 16 matrices of 768x3072 5.9, as a product of two rows 14,
    in float32 13; of 3072x768 5.3, 19, 15. Numbers are widened by a shift: with `astype` 6.7 and 6.9. With 16 at once
    XLA no longer makes one loop of them: 62.
    """
    # Else XLA would widen all weights ahead of a loop over tokens, to read twice as much in each turn.
    left, right = lax.optimization_barrier((left, right))
    size = right.shape[0] // _AT_ONCE
    bits = _bits(right).astype(jnp.uint32) << 16
    numbers = lax.bitcast_convert_type(bits, jnp.float32).reshape(_AT_ONCE, size, -1)
    factors = left.astype(jnp.float32).reshape(_AT_ONCE, size, 1)
    sums: Any = sum(factors[index] * numbers[index] for index in range(_AT_ONCE))
    return jnp.ones((1, size)) @ sums


@_product_of_one_row.defjvp
def _product_of_one_row_jvp(primals, tangents):
    (left, right), (left_tangent, right_tangent) = primals, tangents
    product = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
    return _product_of_one_row(left, right), product(left_tangent, right) + product(left, right_tangent)


def take_rows(table, index):
    """`jnp.take(table, index, axis=0)`. XLA's CPU backend would make all of a table of bfloat16 float32 first."""
    is_slow = table.dtype == jnp.bfloat16 and is_target()
    return _take_bits(table, index) if is_slow else jnp.take(table, index, axis=0)


@jax.custom_jvp
def _take_bits(table, index):
    table, index = lax.optimization_barrier((table, index))  # else all of it would be copied, ahead of loops
    picked = jnp.take(_bits(table), index, axis=0, fill_value=_NAN_BITS)
    return lax.bitcast_convert_type(picked, jnp.bfloat16)


@_take_bits.defjvp
def _take_bits_jvp(primals, tangents):
    (table, index), (tangent, _) = primals, tangents
    return _take_bits(table, index), jnp.take(tangent, index, axis=0)


def _bits(array):
    return lax.bitcast_convert_type(array, jnp.uint16)


def compiler_options(jaxpr) -> dict[str, str]:
    """XLA's options for a program of this jaxpr: on CPU its convolutions are kept from a library that is slow at them.

    Not where all have few channels: the prediction of a small separable network takes 8.6 ms a batch, with them 21.5.
    """
    helps = any(
        equation.invars[1].aval.shape[equation.params["dimension_numbers"].rhs_spec[1]] >= _FEW_CHANNELS
        for equation in equations(jaxpr)
        if equation.primitive.name == "conv_general_dilated"
    )
    return dict(_OPTIONS) if helps and is_target() and _has_options() else {}


@functools.cache
def _has_options() -> bool:
    """Whether this version of XLA knows the options."""
    try:
        jax.jit(lambda: 0, compiler_options=_OPTIONS).lower().compile()
    except Exception:  # of which kind differs between versions
        return False
    return True


def is_slow_in_loops(jaxpr) -> bool:
    """Whether a jaxpr or one inside it has a convolution with groups, or with axes in another order than XLA's own."""
    convolutions = (found for found in equations(jaxpr) if found.primitive.name == "conv_general_dilated")
    # XLA brings other orders into its own outside of loops, and only there.
    return not all(_is_in_order(convolution.params) for convolution in convolutions)


def _is_in_order(params: dict) -> bool:
    """Whether a convolution's axes are (batch, *spatial, channels) and (*window, channels, filters), without groups."""
    numbers = params["dimension_numbers"]
    rank = len(numbers.lhs_spec) - 2
    data, kernel = (0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank))
    in_order = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (data, kernel, data)
    return in_order and params["feature_group_count"] == params["batch_group_count"] == 1


def _padded(inputs, pads):
    if not any(map(any, pads)):
        return inputs
    edges = [(0, 0, 0), *((before, after, 0) for before, after in pads), (0, 0, 0)]  # some may be negative
    return lax.pad(inputs, jnp.zeros((), inputs.dtype), edges)


def _windows(inputs, window, strides, pads, dilation) -> Iterator[jax.Array]:
    """The inputs under each position of the window: arrays `(batch, *places, channels)`."""
    inputs = _padded(inputs, pads)
    spans = [(k - 1) * apart for k, apart in zip(window, dilation)]
    reach = [(size - span - 1) // step * step + 1 for size, span, step in zip(inputs.shape[1:], spans, strides)]
    for offsets in itertools.product(*map(range, window)):
        starts = [offset * apart for offset, apart in zip(offsets, dilation)]
        yield inputs[:, *(slice(start, start + n, step) for start, n, step in zip(starts, reach, strides))]


_as_one_program = functools.partial(jax.jit, static_argnums=(2, 3, 4), inline=True)  # where called eagerly


@_as_one_program
def _multiply_windows(inputs, kernel, strides, pads, dilation):
    """A convolution as one product of the kernel with what lies under the window at each place.

    The windows are put together axis by axis: 10 slices for 5x5 positions, not 25, which compile in a third of the time
    and whose gradient takes half of it.
    """
    patches = _padded(inputs, pads)
    for axis in reversed(range(1, len(strides) + 1)):  # the last varies fastest, as in the kernel
        apart, step = dilation[axis - 1], strides[axis - 1]
        starts = range(0, kernel.shape[axis - 1] * apart, apart)
        reach = (patches.shape[axis] - starts[-1] - 1) // step * step + 1
        slices = [lax.slice_in_dim(patches, start, start + reach, step, axis) for start in starts]
        patches = lax.concatenate(slices, patches.ndim - 1)
    product = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return product.reshape(*patches.shape[:-1], kernel.shape[-1])


def _is_product(inputs: tuple, kernel: tuple, strides) -> bool:
    """Whether a convolution of arrays of such shapes is better done as a product of windows.

    With few channels or three spatial axes it is, while the windows fit the caches. Forward / with both gradients,
    3x3 windows, plain against product: (128,28,28,1)*32 2.3/9.4, 1.5/4.7. (128,32,32,3)*32 4.4/20, 2.9/12.
    (128,28,28,8)*32 3.0/16, 16/29. (4,16,16,16,1)*16 3.6/16, 0.5/1.3. (4,12,12,12,16)*32 5.8/27, 2.1/7.1.
    Windows of one position: (32,28,28,128)*256 6/47, 6/40; without the options 14/121.
    """
    if math.prod(kernel[:-2]) == 1:
        return True
    is_small = isinstance(inputs[0], int) and math.prod(inputs[:-1]) * math.prod(kernel[:-1]) * 4 <= _PATCHES_LIMIT
    return is_small and max(strides) == 1 and (kernel[-2] < _FEW_CHANNELS or len(strides) == 3)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def convolve(inputs, kernel, strides, pads, dilation):
    """The convolution of `(batch, *spatial, channels)` with `(*window, channels, filters)`.

    XLA has a fast convolution for this order of axes only, and brings others into it only outside loops. The gradients
    that JAX derives swap axes; here they are convolutions of that order. Kernel 3x3x32x32 on (32,32,32,32), forward and
    gradients in a loop: 1,423 with JAX's gradients, 25 with these, 23 outside a loop with either.

    Args:
        strides, dilation: Tuples of a number for each spatial axis.
        pads: Tuple of the zeros (before, after) each spatial axis.
    """
    if _is_product(inputs.shape, kernel.shape, strides):
        return _multiply_windows(inputs, kernel, strides, pads, dilation)
    return _in_order(inputs, kernel, strides, pads, dilation)


@functools.partial(convolve.defjvp, symbolic_zeros=True)
def _convolve_jvp(strides, pads, dilation, primals, tangents):
    inputs, kernel = primals
    options = strides, pads, dilation
    is_product = _is_product(inputs.shape, kernel.shape, strides)
    by_inputs = _transposed_product if is_product else _transposed_in_order
    by_kernel = _kernel_gradient_of_product if is_product else _kernel_gradient
    gradients = (
        lambda upstream: by_inputs(upstream, kernel, inputs.shape, *options),
        lambda upstream: by_kernel(inputs, upstream, kernel.shape, *options),
    )
    outputs = convolve(inputs, kernel, *options)
    return outputs, _tangent(outputs, tangents, gradients)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5))
def convolve_transposed(inputs, kernel, shape, strides, pads, dilation):
    """What `convolve`'s gradient makes of `inputs`: from the shape of its outputs to `shape`, that of its inputs.

    Forward / with both gradients, at stride 2 but for the last, plain against this: (32,7,7,128)*5x5x64 4.3/185,
    3.2/11. (32,14,14,64)*3x3x32 2.4/164, 1.3/5.5. (16,32,32,64)*4x4x32 24/850, 23/40. (32,28,28,32)*3x3x1, stride 1:
    0.9/3.0, 0.5/1.3.
    """
    num_positions, num_places = math.prod(kernel.shape[:-2]), math.prod(inputs.shape[:-1])
    if num_positions <= _MANY_TRANSPOSED and num_places * math.prod(kernel.shape[:-1]) * 4 <= _TRANSPOSED_LIMIT:
        return _transposed_product(inputs, kernel, shape, strides, pads, dilation)
    return _transposed_in_order(inputs, kernel, shape, strides, pads, dilation)


@functools.partial(convolve_transposed.defjvp, symbolic_zeros=True)
def _convolve_transposed_jvp(shape, strides, pads, dilation, primals, tangents):
    inputs, kernel = primals
    options = strides, pads, dilation
    by_kernel = _kernel_gradient_of_product if _is_product(shape, kernel.shape, strides) else _kernel_gradient
    gradients = (
        lambda upstream: convolve(upstream, kernel, *options),
        lambda upstream: by_kernel(upstream, inputs, kernel.shape, *options),
    )
    outputs = convolve_transposed(inputs, kernel, shape, *options)
    return outputs, _tangent(outputs, tangents, gradients)


def _tangent(outputs, tangents, gradients):
    """The tangent as the transpose of each gradient: transposed back in reverse mode, that is the gradient itself."""
    total = jnp.zeros_like(outputs)
    for gradient, tangent in zip(gradients, tangents, strict=True):
        if not isinstance(tangent, SymbolicZero):  # of data, for example, whose gradient nobody asks for
            total = total + jax.linear_transpose(gradient, outputs)(tangent)[0]
    return total


def _transposed_product(upstream, kernel, shape, *options):
    inputs = jax.ShapeDtypeStruct(shape, upstream.dtype)
    return jax.linear_transpose(lambda inputs: _multiply_windows(inputs, kernel, *options), inputs)(upstream)[0]


def _kernel_gradient_of_product(inputs, upstream, shape, *options):
    kernel = jax.ShapeDtypeStruct(shape, upstream.dtype)
    return jax.linear_transpose(lambda kernel: _multiply_windows(inputs, kernel, *options), kernel)(upstream)[0]


def _in_order(inputs, kernel, strides, pads, dilation, spread=None):
    letters = "DHW"[-len(strides) :]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return lax.conv_general_dilated(inputs, kernel, strides, pads, spread, dilation, numbers)


def _transposed_in_order(upstream, kernel, shape, strides, pads, dilation):
    """Each input is reached through the mirrored window, from outputs that lie `strides` apart."""
    rank = len(strides)
    mirrored = jnp.flip(kernel, tuple(range(rank))).swapaxes(-1, -2)
    margins = []
    for i, (low, _) in enumerate(pads):
        extent = (kernel.shape[i] - 1) * dilation[i]
        before = extent - low
        margins.append((before, shape[i + 1] + extent - (upstream.shape[i + 1] - 1) * strides[i] - 1 - before))
    return _in_order(upstream, mirrored, (1,) * rank, margins, dilation, spread=strides)


def _kernel_gradient(inputs, upstream, shape, strides, pads, dilation):
    """Each weight sees the inputs under all outputs: channels take the place of the batch, the batch of channels."""
    rank = len(strides)
    spatial = tuple(range(1, rank + 1))
    margins = []
    for i, (low, _) in enumerate(pads):
        extent = (shape[i] - 1) * dilation[i] + (upstream.shape[i + 1] - 1) * strides[i] + 1
        margins.append((low, extent - inputs.shape[i + 1] - low))
    # (channels, *spatial, batch) under windows (*places, batch, filters).
    by_channel, images = inputs.transpose(rank + 1, *spatial, 0), upstream.transpose(*spatial, 0, rank + 1)
    return jnp.moveaxis(_in_order(by_channel, images, dilation, margins, strides), 0, rank)


def is_sum_of_windows(kernel: tuple) -> bool:
    """Whether `convolve_channels` is faster than as many groups as channels, and quick to compile.

    Forward / with both gradients, plain against sum: (32,30,30,32)*3x3 27/71, 0.8/19. (32,16,16,128)*3x3 31/91, 1.3/20.
    (32,30,30,32)*5x5 43/113, 1.0/50. (32,30,30,16)*3x3, 2 outputs per channel 14/650, 0.8/30.
    """
    return math.prod(kernel[:-2]) <= _MANY_POSITIONS


@_as_one_program
def convolve_channels(inputs, kernel, strides, pads, dilation):
    """The convolution of each channel with its own filters, kernel `(*window, channels, multiplier)`, as a sum."""
    *window, channels, multiplier = kernel.shape
    weights = kernel.reshape(-1, channels, multiplier)
    parts = zip(_windows(inputs, window, strides, pads, dilation), weights)
    total: Any = sum(part[..., None] * weight for part, weight in parts)  # (batch, *places, channels, multiplier)
    return total.reshape(*total.shape[:-2], channels * multiplier)
