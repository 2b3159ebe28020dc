"""Patches of images and volumes, and images from them: in `kerax.ops.image`."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from kerax import config
from kerax.ops.convolutions import per_axis
from kerax.ops.lifting import op


def _patches(images, size, strides, dilation_rate, padding, data_format):
    rank = len(size)
    if images.ndim not in (rank + 1, rank + 2):
        raise ValueError(f"extract_patches: `size`={size} needs {rank + 1} or {rank + 2} axes. Got {images.shape}.")
    is_first = config.standardize_data_format(data_format) == "channels_first"
    is_single = images.ndim == rank + 1
    images = images[None] if is_single else images
    images = images if is_first else jnp.moveaxis(images, -1, 1)
    channels = images.shape[1]
    strides, dilation = size if strides is None else per_axis(strides, rank), per_axis(dilation_rate, rank)
    found = lax.conv_general_dilated_patches(images, size, strides, padding.upper(), rhs_dilation=dilation)
    grid = found.shape[2:]
    # XLA orders by channel, then place in the patch; Keras the other way round.
    found = jnp.moveaxis(found.reshape(-1, channels, math.prod(size), *grid), 1, 2)  # (batch, patch, channel, grid)
    found = found.reshape(-1, math.prod(size) * channels, *grid)
    found = found if is_first else jnp.moveaxis(found, 1, -1)
    return found[0] if is_single else found


@op
def extract_patches(images, size, strides=None, dilation_rate=1, padding="valid", data_format=None):
    """All patches of `size` of images (2 sizes) or volumes (3 sizes), flattened into the channels axis.

    Args:
        size: Integer or tuple. strides: Default: `size`, so that patches do not overlap.
        padding: `"valid"` or `"same"`.
    """
    size = per_axis(size, 2)  # a tuple may have three sizes
    return _patches(jnp.asarray(images), size, strides, dilation_rate, padding, data_format)


@op
def extract_patches_3d(volumes, size, strides=None, dilation_rate=1, padding="valid", data_format=None):
    """`extract_patches` of volumes `(batch, depth, height, width, channels)`."""
    return _patches(jnp.asarray(volumes), per_axis(size, 3), strides, dilation_rate, padding, data_format)


@op
def reconstruct_patches(patches, size, output_size=None, strides=None, padding="valid", data_format=None):
    """Images or volumes from what `extract_patches` made of them; where patches overlap, which Keras refuses, the mean.

    Args:
        patches: `(batch, *grid, patch * channels)`, or those of one image.
        size: Integer, or tuple of two or three sizes.
        output_size: Those of the image. Default, for the padding `"valid"` only: what the patches cover.
        strides, padding: As they were extracted.

    Raises:
        ValueError: for patches that are not those of such an image.
    """
    patches, size = jnp.asarray(patches), per_axis(size, 2)  # a tuple may have three sizes
    strides = size if strides is None else per_axis(strides, len(size))
    is_first = config.standardize_data_format(data_format) == "channels_first"
    is_single = patches.ndim == len(size) + 1
    patches = patches[None] if is_single else patches
    patches = jnp.moveaxis(patches, 1, -1) if is_first else patches
    channels = patches.shape[-1] // math.prod(size)
    if output_size is None and padding.lower() == "same":
        raise ValueError("reconstruct_patches: the padding 'same' needs `output_size`, the height and width of images.")
    if output_size is None:
        output_size = [(n - 1) * step + k for n, step, k in zip(patches.shape[1:-1], strides, size, strict=True)]
    image = jax.ShapeDtypeStruct((patches.shape[0], *output_size, channels), patches.dtype)
    extract = lambda image: _patches(image, size, strides, 1, padding, "channels_last")
    expected = jax.eval_shape(extract, image).shape
    if patches.shape != expected:
        raise ValueError(
            f"reconstruct_patches: patches of images {image.shape} have shape {expected}. Got {patches.shape}. "
            "`size`, `strides` and `padding` must be those of `extract_patches`."
        )
    # To put patches in their places is the transpose of taking them out; how many lie on a place is that of ones.
    (total,) = jax.linear_transpose(extract, image)(patches)
    (count,) = jax.linear_transpose(extract, image)(jnp.ones_like(patches))
    images = total / jnp.maximum(count, 1)
    images = jnp.moveaxis(images, -1, 1) if is_first else images
    return images[0] if is_single else images
