"""Convolutions on CPU, with gradients that are fast anywhere in a program.

XLA's CPU backend has a fast convolution for one order of axes only, and brings others into it only outside loops: the
gradients that JAX derives, which swap axes, run 37 times slower inside `scan` or `fori_loop`. Here they are written as
convolutions of that order. Kernel 3x3x32x32 on (32,32,32,32), forward and gradients, ms per step: 1,423 with JAX's
gradients in a loop, 25 with these, 23 outside a loop with either.

A window of one position is a matrix product: 28x28x128 to 512 channels, 16 images, forward and kernel gradient, ms:
19.5 and 53.3 as a convolution, 16.3 and 12.6 as a product (jax 0.12: 9.9 and 84.0, 9.3 and 10.2).

Before jax 0.11, XLA computes convolutions without padding on one core, in memory that beyond 32 MB is mapped anew each
time. Two-dimensional ones are matrix products here, of the windows of a few images at once. Forward and kernel
gradient, ms on 2 cores: (128,13,13,32) to 64 filters of 3x3, 8.5 and 13.4, here 4.7 and 6.0; (64,32,32,32) to 32, 65
and 66, here 13 and 20; (16,56,56,64) to 64, 104 and 126, here 41 and 71. A small CNN's `fit` takes 0.4 of the time with
batches of 256, the same with 128 and less. Padded ones are faster as they are, and so are lines (4.3; 7.9) and the
kernel gradient of large windows (7x7x3 to 64: 53; 70). Jax 0.11 takes 20 and 25 for (16,56,56,64).
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from kerax import config
from kerax.core import placement

_UNPADDED_IS_SLOW = jax.__version_info__ < (0, 11)
_CHUNK_BYTES = 5 * 2**19  # of windows; the small CNN's step takes 32 ms with twice as much, 24 with this or half of it
_LEAST_BYTES = 2**20  # of the windows of all images
_MOST_POSITIONS, _MOST_FOR_GRADIENT = 49, 25  # of a window


def axis_letters(rank: int, channels_last: bool) -> tuple[str, str, str]:
    """The order of the axes of inputs, kernel and outputs, as `lax` writes it."""
    letters = "DHW"[-rank:]
    data = f"N{letters}C" if channels_last else f"NC{letters}"
    return data, f"{letters}IO", data


def convolve(inputs, kernel, strides, pads, dilation, groups: int = 1, channels_last: bool = True):
    """The convolution of inputs `(batch, *spatial, channels)` with a kernel `(*window, channels / groups, filters)`.

    Args:
        strides, dilation: A number for each spatial axis.
        pads: The zeros before and after each spatial axis, or `"SAME"` or `"VALID"`.
        groups: Number of parts of the channels that are convolved apart.
        channels_last: Else the inputs' channels come before the spatial axes, and the outputs' too.
    """
    spatial = inputs.shape[1:-1] if channels_last else inputs.shape[2:]
    if config.target_platform() != "cpu" or groups > 1 or not all(isinstance(size, int) for size in spatial):
        numbers = axis_letters(len(strides), channels_last)
        return lax.conv_general_dilated(inputs, kernel, strides, pads, None, dilation, numbers, groups)
    if isinstance(pads, str):
        windows = [(k - 1) * step + 1 for k, step in zip(kernel.shape[:-2], dilation, strict=True)]
        pads = lax.padtype_to_pads(spatial, windows, strides, pads)
    inputs = inputs if channels_last else jnp.moveaxis(inputs, 1, -1)
    if math.prod(kernel.shape[:-2]) == 1 and not any(map(any, pads)):
        seen = inputs[:, *(slice(None, None, step) for step in strides)]
        outputs = seen.reshape(-1, seen.shape[-1]) @ kernel.reshape(kernel.shape[-2:])
        outputs = outputs.reshape(*seen.shape[:-1], kernel.shape[-1])
    else:
        outputs = convolve_natively(inputs, kernel, tuple(strides), tuple(map(tuple, pads)), tuple(dilation))
    return outputs if channels_last else jnp.moveaxis(outputs, -1, 1)


def _native(inputs, kernel, strides, pads, dilation, spread=None):
    numbers = axis_letters(len(strides), channels_last=True)
    return lax.conv_general_dilated(inputs, kernel, strides, pads, spread, dilation, numbers)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def convolve_natively(inputs, kernel, strides, pads, dilation):
    """The convolution of `(batch, *spatial, channels)` with `(*window, channels, filters)`.

    Args:
        strides, dilation: Tuples of a number for each spatial axis.
        pads: Tuple of the zeros (before, after) each spatial axis.
    """
    if _fits_columns(inputs.shape, kernel.shape, strides, pads, dilation, _MOST_POSITIONS):
        return _convolve_columns(inputs, kernel, strides, dilation)
    return _native(inputs, kernel, strides, pads, dilation)


def _fits_columns(inputs: tuple, kernel: tuple, strides, pads, dilation, positions: int) -> bool:
    """Whether a convolution of arrays of such shapes, on one device, is better done as a product of its windows."""
    return (
        _UNPADDED_IS_SLOW
        and isinstance(inputs[0], int)  # else a program for any number of images is exported
        and placement.active() is None
        and len(strides) == 2
        and not any(map(any, pads))
        and 1 < math.prod(kernel[:2]) <= positions
        and math.prod(_columns_shape(inputs, kernel, strides, dilation)) * 4 > _LEAST_BYTES
    )


def _columns_shape(inputs: tuple, kernel: tuple, strides, dilation) -> tuple[int, ...]:
    """Images, the window's places down and across, and the numbers under it."""
    sizes = [
        (size - (window - 1) * apart - 1) // step + 1
        for size, window, step, apart in zip(inputs[1:], kernel, strides, dilation)
    ]
    return (inputs[0], *sizes, math.prod(kernel[:-1]))


def _columns(inputs, kernel: tuple, strides, dilation):
    """What lies under the window at each place: `(places, window * channels)`, for a kernel of this shape."""
    _, *sizes, width = _columns_shape(inputs.shape, kernel, strides, dilation)
    ranges = [
        [slice(at * apart, at * apart + (size - 1) * step + 1, step) for at in range(window)]
        for window, apart, size, step in zip(kernel, dilation, sizes, strides)
    ]
    parts = [inputs[:, rows, columns] for rows in ranges[0] for columns in ranges[1]]
    return jnp.concatenate(parts, axis=-1).reshape(-1, width)


def _chunk_size(columns: tuple) -> int:
    """Images of a chunk, whose windows take up to `_CHUNK_BYTES`; if possible so many that none are left over."""
    num_images, *shape = columns
    most = min(num_images, _CHUNK_BYTES // (math.prod(shape) * 4)) or 1
    return next((size for size in range(most, most // 2, -1) if num_images % size == 0), most)


def _cut(arrays: tuple, size: int):
    """Arrays with an axis of chunks of so many rows before their own, and the rows left over."""
    whole = len(arrays[0]) // size * size
    chunks = tuple(array[:whole].reshape(-1, size, *array.shape[1:]) for array in arrays)
    return chunks, tuple(array[whole:] for array in arrays) if whole < len(arrays[0]) else None


def _convolve_columns(inputs, kernel, strides, dilation):
    """The convolution without padding as products of chunks' windows with the kernel."""

    @jax.custom_batching.custom_vmap
    def convolve(inputs, kernel):
        shape = _columns_shape(inputs.shape, kernel.shape, strides, dilation)
        matrix = kernel.reshape(-1, kernel.shape[-1])

        def one(images):
            outputs = _columns(images, kernel.shape, strides, dilation) @ matrix
            return outputs.reshape(-1, *shape[1:-1], matrix.shape[-1])

        (chunks,), rest = _cut((inputs,), _chunk_size(shape))
        outputs = lax.map(one, chunks) if len(chunks) > 1 else one(chunks[0])
        outputs = outputs.reshape(-1, *outputs.shape[-3:])
        return outputs if rest is None else jnp.concatenate([outputs, one(*rest)])

    @convolve.def_vmap
    def _(axis_size, is_batched, inputs, kernel):
        if is_batched == [True, False]:  # more images: chunks are as large as before
            outputs = convolve(inputs.reshape(-1, *inputs.shape[2:]), kernel)
            return outputs.reshape(axis_size, -1, *outputs.shape[1:]), True
        axes = [0 if batched else None for batched in is_batched]
        natively = functools.partial(_native, strides=strides, pads=((0, 0),) * 2, dilation=dilation)
        return jax.vmap(natively, axes)(inputs, kernel), True

    return convolve(inputs, kernel)


@functools.partial(convolve_natively.defjvp, symbolic_zeros=True)
def _tangent(strides, pads, dilation, primals, tangents):
    """The tangent as the transpose of each gradient: transposed back in reverse mode, that is the gradient itself."""
    inputs, kernel = primals
    outputs = convolve_natively(inputs, kernel, strides, pads, dilation)
    gradients = (
        functools.partial(_inputs_gradient, inputs.shape, kernel, strides, pads, dilation),
        functools.partial(_kernel_gradient, inputs, kernel.shape, strides, pads, dilation),
    )
    total = jnp.zeros_like(outputs)
    for gradient, tangent in zip(gradients, tangents, strict=True):
        if not isinstance(tangent, SymbolicZero):  # of data, for example, whose gradient nobody asks for
            total = total + jax.linear_transpose(gradient, outputs)(tangent)[0]
    return outputs, total


def _inputs_gradient(shape, kernel, strides, pads, dilation, upstream):
    """Each input is reached through the mirrored window, from outputs that lie `strides` apart."""
    rank = len(strides)
    mirrored = jnp.flip(kernel, tuple(range(rank))).swapaxes(-1, -2)
    margins = []
    for i, (low, _) in enumerate(pads):
        extent = (kernel.shape[i] - 1) * dilation[i]
        before = extent - low
        margins.append((before, shape[i + 1] + extent - (upstream.shape[i + 1] - 1) * strides[i] - 1 - before))
    return _native(upstream, mirrored, (1,) * rank, margins, dilation, spread=strides)


def _kernel_gradient(inputs, shape, strides, pads, dilation, upstream):
    """Each weight sees the inputs under all outputs: channels take the place of the batch, the batch of channels."""
    if _fits_columns(inputs.shape, shape, strides, pads, dilation, _MOST_FOR_GRADIENT):
        return _kernel_gradient_of_columns(inputs, shape, strides, dilation, upstream)
    rank = len(strides)
    spatial = tuple(range(1, rank + 1))
    margins = []
    for i, (low, _) in enumerate(pads):
        extent = (shape[i] - 1) * dilation[i] + (upstream.shape[i + 1] - 1) * strides[i] + 1
        margins.append((low, extent - inputs.shape[i + 1] - low))
    by_channel = inputs.transpose(rank + 1, *spatial, 0)
    return jnp.moveaxis(
        _native(by_channel, upstream.transpose(*spatial, 0, rank + 1), dilation, margins, strides), 0, rank
    )


def _kernel_gradient_of_columns(inputs, shape, strides, dilation, upstream):
    """The sum of the products of chunks' windows with what comes back for them."""

    @functools.partial(jax.checkpoint, prevent_cse=False)  # else the forward pass stores the windows of all images
    def product(images, upstream):
        columns = _columns(images, shape, strides, dilation)
        return lax.dot_general(upstream.reshape(-1, shape[-1]), columns, (((0,), (0,)), ((), ()))).T

    size = _chunk_size(_columns_shape(inputs.shape, shape, strides, dilation))
    chunks, rest = _cut((inputs, upstream), size)
    zero = jnp.zeros((math.prod(shape[:-1]), shape[-1]), upstream.dtype)
    total = lax.scan(lambda total, chunk: (total + product(*chunk), None), zero, chunks)[0]
    return (total if rest is None else total + product(*rest)).reshape(shape)
