"""Edges of images and how alike two images are."""

import jax
import jax.numpy as jnp
import numpy as np

from kerax import config
from kerax.ops.lifting import op

__all__ = ["psnr"]


@op
def psnr(x1, x2, max_val):
    """The peak signal-to-noise ratio in decibels, `10 * log10(max_val**2 / mean((x1 - x2)**2))`, of all elements."""
    x1, x2 = jnp.asarray(x1), jnp.asarray(x2)
    if x1.shape != x2.shape:
        raise ValueError(f"psnr: expected two tensors of one shape. Got {x1.shape} and {x2.shape}.")
    # Not the logarithm of a quotient, whose square may overflow.
    return 20 * jnp.log10(max_val) - 10 * jnp.log10(jnp.mean(jnp.square(x1 - x2)))


def _channels_last(name: str, images, data_format):
    images = jnp.asarray(images)
    if images.ndim not in (3, 4):
        raise ValueError(f"{name}: expected images (height, width, channels) or a batch of them. Got {images.shape}.")
    images = images if jnp.issubdtype(images.dtype, jnp.floating) else images.astype("float32")
    is_last = config.standardize_data_format(data_format) == "channels_last"
    return images if is_last else jnp.moveaxis(images, -3, -1)


def _filter(images, windows, padding):
    """Every channel under every window `(height, width, windows)`: `(batch, height, width, channels, windows)`."""
    stack = jnp.moveaxis(images, -1, 1)  # channels go with the batch
    outputs = jax.lax.conv_general_dilated(
        stack.reshape(-1, *stack.shape[2:], 1),
        jnp.asarray(windows, images.dtype)[:, :, None],
        (1, 1),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jnp.moveaxis(outputs.reshape(*stack.shape[:2], *outputs.shape[1:]), 1, 3)


@op
def sobel_edges(images, data_format=None):
    """The slopes `(..., 2)` of every channel, down and to the right, by Sobel's windows; zeros are beyond the edges.

    Args:
        images: `(batch, height, width, channels)` or one image.
    """
    images = _channels_last("sobel_edges", images, data_format)
    # Smoothed across the direction in which differences are taken.
    down = np.outer([-1, 0, 1], [1, 2, 1])
    batch = images if images.ndim == 4 else images[None]
    edges = _filter(batch, np.stack([down, down.T], -1), "SAME")
    edges = edges if images.ndim == 4 else edges[0]
    return edges if config.standardize_data_format(data_format) == "channels_last" else jnp.moveaxis(edges, -2, -4)


@op
def ssim(image1, image2, max_val=1.0, filter_size=11, filter_sigma=1.5, k1=0.01, k2=0.03, data_format=None):
    """The structural similarity of images, 1 for equal ones: `(batch,)`, a scalar for single images.

    Args:
        image1, image2: `(batch, height, width, channels)` or one image, at least `filter_size` high and wide.
        max_val: Range of the pixels.
        filter_size, filter_sigma: Size and standard deviation of the Gaussian window, in pixels.
        k1, k2: Stabilisers of the two quotients, as fractions of `max_val`.

    Integers are computed in float32, and the result stays so.
    Source: Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861
    """
    first, second = (_channels_last("ssim", image, data_format) for image in (image1, image2))
    if first.shape != second.shape:
        raise ValueError(f"ssim: expected two images of one shape. Got {first.shape} and {second.shape}.")
    is_single = first.ndim == 3
    first, second = (image[None] if is_single else image for image in (first, second))
    if min(first.shape[1:3]) < filter_size:
        raise ValueError(f"ssim: images must be at least filter_size={filter_size} high and wide. Got {first.shape}.")
    weights = np.exp(-0.5 * ((np.arange(filter_size) - (filter_size - 1) / 2) / filter_sigma) ** 2)
    window = np.outer(weights, weights)[..., None] / np.sum(weights) ** 2
    mean = lambda values: _filter(values, window, "VALID")[..., 0]
    mean1, mean2 = mean(first), mean(second)
    # Of both images together: their formula needs the sum only.
    variances = mean(first**2 + second**2) - mean1**2 - mean2**2
    covariance = mean(first * second) - mean1 * mean2
    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    luminance = (2 * mean1 * mean2 + c1) / (mean1**2 + mean2**2 + c1)
    similarity = jnp.mean(luminance * (2 * covariance + c2) / (variances + c2), (1, 2, 3))
    return similarity[0] if is_single else similarity
