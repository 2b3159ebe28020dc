"""Windows over images: transposed convolution, adaptive pooling, folding, blocks."""

import jax
import jax.numpy as jnp
import numpy as np

from kerax import config
from kerax.ops.lifting import op

__all__ = [
    "adaptive_average_pool",
    "adaptive_max_pool",
    "conv_transpose",
    "depth_to_space",
    "fold",
    "space_to_depth",
    "unfold",
]


def _sizes(value, rank: int) -> tuple[int, ...]:
    return (int(value),) * rank if isinstance(value, (int, np.integer)) else tuple(value)


def _is_last(data_format) -> bool:
    return config.standardize_data_format(data_format) == "channels_last"


@op
def conv_transpose(inputs, kernel, strides=1, padding="valid", output_padding=None, data_format=None, dilation_rate=1):
    """Transposed convolution of 1, 2 or 3 dimensions with a kernel `(*window, filters, channels)`.

    Args:
        strides: Steps between the windows, in outputs.
        padding: `"valid"`: every window counts whole. `"same"`: `stride` times as many outputs as inputs.
        output_padding: Outputs more than the smallest number of them. Default: as `padding` says.
    """
    inputs, kernel = jnp.asarray(inputs), jnp.asarray(kernel)
    rank = inputs.ndim - 2
    strides, dilation_rate = _sizes(strides, rank), _sizes(dilation_rate, rank)
    extra = (None,) * rank if output_padding is None else _sizes(output_padding, rank)
    pads = []
    for size, stride, dilation, more in zip(kernel.shape, strides, dilation_rate, extra, strict=False):
        window = dilation * (size - 1) + 1
        if padding.lower() == "same":
            total = (stride if more is None else window % 2 + more) + window - 2
            before = min(total - total // 2, window - 1)
        else:
            total, before = (max(window, stride) if more is None else window + more) + window - 2, window - 1
        pads.append((before, total - before))
    axes = "DHW"[3 - rank :]
    layout = f"N{axes}C" if _is_last(data_format) else f"NC{axes}"
    return jax.lax.conv_transpose(
        inputs,
        kernel.astype(inputs.dtype),
        strides,
        pads,
        rhs_dilation=dilation_rate,
        dimension_numbers=(layout, f"{axes}IO", layout),
        transpose_kernel=True,
    )


def _adaptive(inputs, output_size, data_format, pool):
    """`pool(inputs, axis, starts, ends)` along each spatial axis; windows are as even as they can be."""
    inputs = jnp.asarray(inputs)
    first = 1 if _is_last(data_format) else 2
    for axis, size in enumerate(_sizes(output_size, inputs.ndim - 2), start=first):
        index, length = np.arange(size), inputs.shape[axis]
        inputs = pool(inputs, axis, index * length // size, -(-(index + 1) * length // size))
    return inputs


def _window_means(inputs, axis, starts, ends):
    positions = np.arange(inputs.shape[axis])[:, None]
    weights = ((positions >= starts) & (positions < ends)) / (ends - starts)  # (positions, windows)
    return jnp.moveaxis(jnp.tensordot(inputs, jnp.asarray(weights, inputs.dtype), ((axis,), (0,))), -1, axis)


def _window_maxima(inputs, axis, starts, ends):
    positions = starts[:, None] + np.arange(max(ends - starts))  # shorter windows count their last one again
    return jnp.max(jnp.take(inputs, np.minimum(positions, ends[:, None] - 1), axis), axis + 1)


@op
def adaptive_average_pool(inputs, output_size, data_format=None):
    """The means of `output_size` windows along each spatial axis."""
    return _adaptive(inputs, output_size, data_format, _window_means)


@op
def adaptive_max_pool(inputs, output_size, data_format=None):
    """The largest values of `output_size` windows along each spatial axis."""
    return _adaptive(inputs, output_size, data_format, _window_maxima)


def _unfold(x, kernel_size, dilation, padding, stride):
    patches = jax.lax.conv_general_dilated_patches(
        x, kernel_size, stride, [(size, size) for size in padding], rhs_dilation=dilation
    )
    return patches.reshape(*patches.shape[:2], -1)


@op
def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    """The windows of images `(batch, channels, height, width)` as columns `(batch, channels * window, windows)`."""
    return _unfold(jnp.asarray(x), *(_sizes(value, 2) for value in (kernel_size, dilation, padding, stride)))


@op
def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns `(batch, channels * window, windows)` added up in images `(batch, channels, *output_size)`."""
    x = jnp.asarray(x)
    output_size, *options = (_sizes(value, 2) for value in (output_size, kernel_size, dilation, padding, stride))
    channels = x.shape[1] // (options[0][0] * options[0][1])
    image = jax.ShapeDtypeStruct((x.shape[0], channels, *output_size), x.dtype)
    columns = jax.eval_shape(lambda image: _unfold(image, *options), image)
    if columns.shape != x.shape:
        raise ValueError(f"fold: expected columns of shape {columns.shape} for these windows. Got {x.shape}.")
    return jax.linear_transpose(lambda image: _unfold(image, *options), image)(x)[0]


def _check_block(name: str, block_size, sizes: dict):
    for axis, (size, divisor) in sizes.items():
        if size % divisor:
            raise ValueError(f"{name}: {axis} must be a multiple of {divisor} for block_size={block_size}. Got {size}.")


@op
def space_to_depth(x, block_size, data_format="channels_last"):
    """Blocks of pixels as channels: `(batch, h, w, c)` to `(batch, h / block, w / block, block**2 * c)`.

    The new channels are ordered by place in the block, then channel; with `"channels_first"` by channel, then place.
    """
    x, is_last, n = jnp.asarray(x), _is_last(data_format), block_size
    height, width = x.shape[1:3] if is_last else x.shape[2:]
    _check_block("space_to_depth", n, {"height": (height, n), "width": (width, n)})
    rows, columns = height // n, width // n
    if is_last:
        blocks = x.reshape(x.shape[0], rows, n, columns, n, x.shape[-1])
        return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], rows, columns, -1)
    blocks = x.reshape(*x.shape[:2], rows, n, columns, n)
    return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(x.shape[0], -1, rows, columns)


@op
def depth_to_space(x, block_size, data_format="channels_last"):
    """Channels as blocks of pixels: the inverse of `space_to_depth`."""
    x, is_last, n = jnp.asarray(x), _is_last(data_format), block_size
    channels = x.shape[-1 if is_last else 1]
    _check_block("depth_to_space", n, {"channels": (channels, n**2)})
    if is_last:
        batch, height, width, _ = x.shape
        blocks = x.reshape(batch, height, width, n, n, channels // n**2)
        return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * n, width * n, -1)
    batch, _, height, width = x.shape
    blocks = x.reshape(batch, channels // n**2, n, n, height, width)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(batch, -1, height * n, width * n)
