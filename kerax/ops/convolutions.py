"""Convolutions of arrays of one, two or three spatial axes: what layers call, and `ops` under the same names."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from kerax import config
from kerax.ops import cpu


def per_axis(value, rank: int) -> tuple[int, ...]:
    """A number for each of `rank` axes, from one for all or one for each."""
    return (int(value),) * rank if isinstance(value, (int, np.integer)) else tuple(value)


def axis_letters(rank: int, channels_last: bool) -> tuple[str, str, str]:
    """The order of the axes of inputs, kernel and outputs, as `lax` writes it."""
    letters = "DHW"[-rank:]
    data = f"N{letters}C" if channels_last else f"NC{letters}"
    return data, f"{letters}IO", data


def is_channels_last(data_format: str | None) -> bool:
    """Whether `data_format`, or the default for `None`, has the channels as the last axis."""
    return config.standardize_data_format(data_format) == "channels_last"


def _pads(padding, sizes, window, strides, dilation):
    """The zeros before and after each axis, or `"SAME"` where they depend on sizes that are not known."""
    if not isinstance(padding, str):
        return tuple(map(tuple, padding))
    spans = [(k - 1) * apart for k, apart in zip(window, dilation, strict=True)]
    if padding.lower() == "causal":
        return tuple((span, 0) for span in spans)
    if padding.lower() == "valid":
        return ((0, 0),) * len(spans)
    if max(strides) == 1:  # then the zeros do not depend on the sizes
        return tuple((span // 2, span - span // 2) for span in spans)
    if not _are_known(sizes):  # left to XLA, which computes them when it knows
        return "SAME"
    return tuple(lax.padtype_to_pads(sizes, [span + 1 for span in spans], strides, "SAME"))


def _are_known(sizes) -> bool:
    return all(isinstance(size, int) for size in sizes)


def _geometry(inputs, kernel, strides, padding, data_format, dilation_rate):
    """Strides, pads and dilation as tuples, whether channels come last, and whether sizes and platform are a CPU's."""
    rank, channels_last = inputs.ndim - 2, is_channels_last(data_format)
    strides, dilation = per_axis(strides, rank), per_axis(dilation_rate, rank)
    sizes = inputs.shape[1:-1] if channels_last else inputs.shape[2:]
    pads = _pads(padding, sizes, kernel.shape[:-2], strides, dilation)
    return (strides, pads, dilation), channels_last, cpu.is_target() and _are_known(sizes)


def conv(inputs, kernel, strides: Any = 1, padding: Any = "valid", data_format=None, dilation_rate: Any = 1):
    """Convolution of 1, 2 or 3 dimensions with a kernel `(*window, channels // groups, filters)`.

    `padding` is `"valid"`, `"same"`, `"causal"` (zeros in front only) or the zeros before and after each axis.
    """
    inputs = jnp.asarray(inputs)
    kernel = jnp.asarray(kernel, inputs.dtype)
    options, channels_last, on_cpu = _geometry(inputs, kernel, strides, padding, data_format, dilation_rate)
    channels = inputs.shape[-1 if channels_last else 1]
    if channels % kernel.shape[-2]:
        raise ValueError(
            f"conv: the number of input channels must be a multiple of the kernel's. "
            f"Got inputs of shape {inputs.shape} and a kernel of shape {kernel.shape}."
        )
    groups = channels // kernel.shape[-2]
    # The formulations for CPUs have channels last and no groups: axes are moved for them.
    if groups > 1 or not on_cpu:
        letters, (strides, pads, dilation) = axis_letters(inputs.ndim - 2, channels_last), options
        return lax.conv_general_dilated(inputs, kernel, strides, pads, None, dilation, letters, groups)
    outputs = cpu.convolve(inputs if channels_last else jnp.moveaxis(inputs, 1, -1), kernel, *options)
    return outputs if channels_last else jnp.moveaxis(outputs, -1, 1)


def depthwise_conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolution of each channel with its own filters: kernel `(*window, channels, multiplier)`."""
    inputs = jnp.asarray(inputs)
    kernel = jnp.asarray(kernel, inputs.dtype)
    options, channels_last, on_cpu = _geometry(inputs, kernel, strides, padding, data_format, dilation_rate)
    if on_cpu and cpu.is_sum_of_windows(kernel.shape):
        outputs = cpu.convolve_channels(inputs if channels_last else jnp.moveaxis(inputs, 1, -1), kernel, *options)
        return outputs if channels_last else jnp.moveaxis(outputs, -1, 1)
    # To XLA it is a convolution with as many groups as channels, whose kernel has one input channel.
    *window, channels, multiplier = kernel.shape
    kernel, letters = kernel.reshape(*window, 1, channels * multiplier), axis_letters(len(window), channels_last)
    strides, pads, dilation = options
    return lax.conv_general_dilated(inputs, kernel, strides, pads, None, dilation, letters, channels)


def separable_conv(
    inputs, depthwise_kernel, pointwise_kernel, strides=1, padding="valid", data_format=None, dilation_rate=1
):
    """`depthwise_conv`, then a convolution with a kernel of window size 1."""
    hidden = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(hidden, pointwise_kernel, data_format=data_format)


def conv_transpose(inputs, kernel, strides=1, padding="valid", output_padding=None, data_format=None, dilation_rate=1):
    """Transposed convolution of 1, 2 or 3 dimensions with a kernel `(*window, filters, channels)`.

    Args:
        strides: Steps between the windows, in outputs.
        padding: `"valid"`: every window counts whole. `"same"`: `stride` times as many outputs as inputs.
        output_padding: Outputs more than the smallest number of them. Default: as `padding` says.
    """
    inputs = jnp.asarray(inputs)
    kernel = jnp.asarray(kernel, inputs.dtype)
    rank, channels_last = inputs.ndim - 2, is_channels_last(data_format)
    strides, dilation = per_axis(strides, rank), per_axis(dilation_rate, rank)
    spans = [(k - 1) * apart for k, apart in zip(kernel.shape, dilation, strict=False)]
    pads = _transposed_pads(spans, strides, padding, output_padding)
    if not cpu.is_target() or not _are_known(inputs.shape):
        letters = axis_letters(rank, channels_last)
        return lax.conv_transpose(inputs, kernel, strides, pads, dilation, letters, transpose_kernel=True)
    inputs = inputs if channels_last else jnp.moveaxis(inputs, 1, -1)
    # A transposed convolution is the gradient of a plain one: `shape` is that of the plain one's inputs,
    # `cuts` its padding.
    reach = [(size - 1) * step for size, step in zip(inputs.shape[1:-1], strides, strict=True)]
    sizes = [n + 1 + sum(pair) - span for n, pair, span in zip(reach, pads, spans, strict=True)]
    cut = [span - before for span, (before, _) in zip(spans, pads, strict=True)]
    cuts = tuple((low, n + span + 1 - size - low) for low, n, span, size in zip(cut, reach, spans, sizes, strict=True))
    shape = (inputs.shape[0], *sizes, kernel.shape[-2])
    outputs = cpu.convolve_transposed(inputs, kernel, shape, strides, cuts, dilation)
    return outputs if channels_last else jnp.moveaxis(outputs, -1, 1)


def _transposed_pads(spans, strides, padding: str, output_padding) -> list[tuple[int, int]]:
    """Zeros before and after the inputs, between which `stride - 1` zeros are put.

    An axis of n inputs then gives `(n - 1) * stride + growth` outputs.
    """
    extra = (None,) * len(spans) if output_padding is None else per_axis(output_padding, len(spans))
    pads = []
    for span, stride, more in zip(spans, strides, extra, strict=True):
        if padding.lower() == "same":
            # Of an odd number of zeros the larger half goes before, as in `lax`.
            total = (stride if more is None else (span + 1) % 2 + more) + span - 1
            before = min(total - total // 2, span)
        else:
            growth = max(span + 1, stride) if more is None else span + 1 + more
            total, before = growth + span - 1, span
        pads.append((before, total - before))
    return pads
