"""Windows over images: adaptive pooling, folding, blocks."""

import jax
import jax.numpy as jnp

from kerax.ops.convolutions import is_channels_last, per_axis
from kerax.ops.lifting import op
from kerax.ops.pooling import adaptive_pool

__all__ = [
    "adaptive_average_pool",
    "adaptive_max_pool",
    "depth_to_space",
    "fold",
    "space_to_depth",
    "unfold",
]


@op
def adaptive_average_pool(inputs, output_size, data_format=None):
    """The means of `output_size` windows along each spatial axis."""
    return adaptive_pool(jnp.asarray(inputs), "average", output_size, data_format)


@op
def adaptive_max_pool(inputs, output_size, data_format=None):
    """The largest values of `output_size` windows along each spatial axis."""
    return adaptive_pool(jnp.asarray(inputs), "max", output_size, data_format)


def _unfold(x, kernel_size, dilation, padding, stride):
    patches = jax.lax.conv_general_dilated_patches(
        x, kernel_size, stride, [(size, size) for size in padding], rhs_dilation=dilation
    )
    return patches.reshape(*patches.shape[:2], -1)


@op
def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    """The windows of images `(batch, channels, height, width)` as columns `(batch, channels * window, windows)`."""
    return _unfold(jnp.asarray(x), *(per_axis(value, 2) for value in (kernel_size, dilation, padding, stride)))


@op
def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns `(batch, channels * window, windows)` added up in images `(batch, channels, *output_size)`."""
    x = jnp.asarray(x)
    output_size, *options = (per_axis(value, 2) for value in (output_size, kernel_size, dilation, padding, stride))
    channels = x.shape[1] // (options[0][0] * options[0][1])
    image = jax.ShapeDtypeStruct((x.shape[0], channels, *output_size), x.dtype)
    # Without computing: only to tell which columns belong to an image of this size.
    columns = jax.eval_shape(lambda image: _unfold(image, *options), image)
    if columns.shape != x.shape:
        raise ValueError(f"fold: expected columns of shape {columns.shape} for these windows. Got {x.shape}.")
    # Folding is the transpose of unfolding: pixels that lie in several windows get the sum.
    return jax.linear_transpose(lambda image: _unfold(image, *options), image)(x)[0]


def _check_block(name: str, block_size, sizes: dict):
    if not isinstance(block_size, int) or block_size < 2:
        raise ValueError(f"{name}: `block_size` must be an integer of at least 2. Got {block_size!r}.")
    for axis, (size, divisor) in sizes.items():
        if divisor and isinstance(size, int) and size % divisor:
            raise ValueError(f"{name}: {axis} must be a multiple of {divisor} for block_size={block_size}. Got {size}.")


@op
def space_to_depth(x, block_size, data_format="channels_last"):
    """Blocks of pixels as channels: `(batch, h, w, c)` to `(batch, h / block, w / block, block**2 * c)`.

    The new channels are ordered by place in the block, then channel; with `"channels_first"` by channel, then place.
    """
    x, is_last, n = jnp.asarray(x), is_channels_last(data_format), block_size
    height, width = x.shape[1:3] if is_last else x.shape[2:]
    _check_block("space_to_depth", n, {"height": (height, n), "width": (width, n)})
    rows, columns = height // n, width // n
    if is_last:
        # (batch, rows, n, columns, n, channels) to (batch, rows, columns, n, n, channels)
        blocks = x.reshape(x.shape[0], rows, n, columns, n, x.shape[-1])
        return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], rows, columns, -1)
    blocks = x.reshape(*x.shape[:2], rows, n, columns, n)
    return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(x.shape[0], -1, rows, columns)


@op
def depth_to_space(x, block_size, data_format="channels_last"):
    """Channels as blocks of pixels: the inverse of `space_to_depth`."""
    x, is_last, n = jnp.asarray(x), is_channels_last(data_format), block_size
    channels = x.shape[-1 if is_last else 1]
    _check_block("depth_to_space", n, {"channels": (channels, n**2)})
    if is_last:
        batch, height, width, _ = x.shape
        blocks = x.reshape(batch, height, width, n, n, channels // n**2)
        return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * n, width * n, -1)
    batch, _, height, width = x.shape
    blocks = x.reshape(batch, channels // n**2, n, n, height, width)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(batch, -1, height * n, width * n)
