"""Functions of images: resizing, warping, colour spaces, blurring, cropping, patches.

Images are `(height, width, channels)` or `(batch, height, width, channels)`, with `data_format="channels_first"`
`(batch, channels, height, width)`. Integer images come back as integers, rounded and clipped to their range.
"""

import functools
import inspect
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from kerax import config
from kerax.core.seed_generator import next_key
from kerax.ops.lifting import op
from kerax.ops.patches import extract_patches, extract_patches_3d, reconstruct_patches
from kerax.ops.quality import sobel_edges, ssim

__all__ = [
    "affine_transform",
    "crop_images",
    "elastic_transform",
    "extract_patches",
    "extract_patches_3d",
    "gaussian_blur",
    "hsv_to_rgb",
    "map_coordinates",
    "pad_images",
    "perspective_transform",
    "reconstruct_patches",
    "resize",
    "rgb_to_grayscale",
    "rgb_to_hsv",
    "scale_and_translate",
    "sobel_edges",
    "ssim",
]

RESIZE_METHODS = ("bilinear", "nearest", "lanczos3", "lanczos5", "bicubic")
INTERPOLATIONS = ("nearest", "bilinear")
FILL_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")
LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, to the digits that Keras uses


def check_option(name: str, value, choices: tuple) -> None:
    """Raises `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Got {name}={value!r}.")


def to_dtype(values, dtype):
    """Floats as `dtype`: rounded and clipped to its range if that holds integers only."""
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.integer):
        return values.astype(dtype)
    limits = jnp.iinfo(dtype)
    return jnp.clip(jnp.round(values), limits.min, limits.max).astype(dtype)


def _image_op(function):
    """Lets a function of float images `(batch, height, width, channels)` take every rank, layout and dtype."""
    signature = inspect.signature(function)
    first = next(iter(signature.parameters))

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        images = jnp.asarray(bound.arguments[first])
        is_first = config.standardize_data_format(bound.arguments["data_format"]) == "channels_first"
        if images.ndim not in (3, 4):
            raise ValueError(
                f"{function.__name__}: `{first}` must have shape (height, width, channels) or (batch, height, width, "
                f"channels). Got {images.shape}."
            )
        # One form inside, (batch, height, width, channels) of floats; the way in is gone back at the end.
        dtype, is_single = images.dtype, images.ndim == 3
        images = images[None] if is_single else images
        images = jnp.moveaxis(images, 1, -1) if is_first else images
        bound.arguments[first] = images if jnp.issubdtype(dtype, jnp.inexact) else images.astype("float32")
        # Interpolation overshoots: integers are rounded and clipped, where a plain cast would wrap around.
        outputs = to_dtype(function(*bound.args, **bound.kwargs), dtype)
        outputs = jnp.moveaxis(outputs, -1, 1) if is_first else outputs
        return outputs[0] if is_single else outputs

    return op(wrapped)


def window_of_aspect(height: int, width: int, target_height: int, target_width: int) -> tuple[int, int, int, int]:
    """`(top, left, height, width)` of the largest centred window with the aspect ratio of the target."""
    # In integers: no rounding error can cost a row. At least one pixel remains.
    crop_height = max(min(height, width * target_height // target_width), 1)
    crop_width = max(min(width, height * target_width // target_height), 1)
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def frame_of_aspect(height: int, width: int, target_height: int, target_width: int) -> tuple[int, int]:
    """Rows above and below, and columns left and right, that lead to the aspect ratio of the target."""
    rows = max(0, width * target_height // target_width - height) // 2
    return rows, max(0, height * target_width // target_height - width) // 2


@_image_op
def resize(
    images,
    size,
    interpolation="bilinear",
    antialias=False,
    crop_to_aspect_ratio=False,
    pad_to_aspect_ratio=False,
    fill_mode="constant",
    fill_value=0.0,
    data_format=None,
):
    """Images of height and width `size`.

    Args:
        size: `(height, width)`.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
        antialias: Whether to widen the filter when making images smaller.
        crop_to_aspect_ratio: Whether to keep proportions by cutting off what is too long.
        pad_to_aspect_ratio: Whether to keep proportions by filling up what is too short.
        fill_mode: `"constant"`. fill_value: What `pad_to_aspect_ratio` fills up with.

    Raises:
        ValueError: for an unknown option, both proportions, or a `size` that is not two integers above 0.
    """
    check_option("interpolation", interpolation, RESIZE_METHODS)
    check_option("fill_mode", fill_mode, ("constant",))
    if len(size) != 2 or any(isinstance(side, int) and side < 1 for side in size):
        raise ValueError(f"resize: `size` must be (height, width), both above 0. Got size={size!r}.")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError("resize: set only one of `crop_to_aspect_ratio` and `pad_to_aspect_ratio`.")
    batch, height, width, channels = images.shape
    if crop_to_aspect_ratio:
        top, left, crop_height, crop_width = window_of_aspect(height, width, *size)
        images = images[:, top : top + crop_height, left : left + crop_width]
    if pad_to_aspect_ratio:
        rows, columns = frame_of_aspect(height, width, *size)
        margins = ((0, 0), (rows, rows), (columns, columns), (0, 0))
        images = jnp.pad(images, margins, constant_values=fill_value)
    return jax.image.resize(images, (batch, *size, channels), interpolation, antialias=antialias)


_PLAIN_METHODS: dict[str, str] = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic", "tricubic": "cubic"}


@op
def scale_and_translate(images, output_shape, scale, translation, spatial_dims, method, antialias=True):
    """Images resampled so that location `x` lands at `x * scale + translation` along `spatial_dims`.

    Args:
        scale, translation: One number for each of `spatial_dims`.
        method: `"linear"`, `"cubic"`, `"lanczos3"` or `"lanczos5"`.
    """
    # Keras has a name of each method for every number of axes.
    method = _PLAIN_METHODS[method] if method in _PLAIN_METHODS else method
    scale, translation = jnp.asarray(scale), jnp.asarray(translation)
    return jax.image.scale_and_translate(
        jnp.asarray(images), output_shape, spatial_dims, scale, translation, method, antialias
    )


def _index(index, size: int, fill_mode: str):
    """The index inside `[0, size)` that an index anywhere stands for."""
    if fill_mode == "wrap":
        return index % size
    if fill_mode == "reflect":
        # The edge stands twice: a period of 2 n, whose second half runs backwards.
        return size - 1 - jnp.abs(index % (2 * size) - size + jnp.where(index % (2 * size) < size, 1, 0))
    if fill_mode == "mirror":
        period = max(2 * (size - 1), 1)  # the edge stands once; an axis of one pixel has no period
        return jnp.abs((index + size - 1) % period - (size - 1))
    return jnp.clip(index, 0, size - 1)


def sample(values, coordinates, order, fill_mode, fill_value):
    """`values` at `coordinates` of its first axes; further axes, such as channels, are carried along.

    Args:
        values: `(*sizes, ...)`. coordinates: One array for each of `sizes`, all of one shape.
        order: 0 for the nearest element, 1 for linear interpolation.

    Returns: the coordinates' shape followed by the remaining axes of `values`.
    """
    corners = []
    for coordinate in coordinates:
        lower = jnp.floor(coordinate)
        weight = coordinate - lower
        lower = lower.astype("int32")
        # Halves away from 0, as Keras's; `jnp.round` would take them to the even neighbour.
        nearest = lax.round(coordinate).astype("int32")
        corners.append([(lower, 1 - weight), (lower + 1, weight)] if order else [(nearest, None)])
    rest = (1,) * (values.ndim - len(coordinates))
    total = 0
    for corner in itertools.product(*corners):  # 2 ** axes of them for linear interpolation, else one
        indices = [_index(index, size, fill_mode) for (index, _), size in zip(corner, values.shape)]
        found = values[tuple(indices)]
        # Each corner by itself: at the edge an inner pixel and the filling are mixed.
        if fill_mode == "constant":
            inside = functools.reduce(
                jnp.logical_and, [(0 <= index) & (index < size) for (index, _), size in zip(corner, values.shape)]
            )
            found = jnp.where(inside.reshape(*inside.shape, *rest), found, jnp.asarray(fill_value, found.dtype))
        if order:
            weight = functools.reduce(jnp.multiply, [weight for _, weight in corner])
            found = found * weight.reshape(*weight.shape, *rest).astype(found.dtype)
        total = total + found
    return total


@op
def map_coordinates(inputs, coordinates, order, fill_mode="constant", fill_value=0):
    """`inputs` at fractional positions.

    Args:
        coordinates: Positions along each axis of `inputs`: `(inputs.ndim, ...)`.
        order: 0 for the nearest element, 1 for linear interpolation.
        fill_mode: What is beyond the edges of `a b c d`: `"constant"` (`fill_value`), `"nearest"` (`d d d`),
            `"wrap"` (`a b c`), `"mirror"` (`c b a`) or `"reflect"` (`d c b`).

    Returns: the shape of `coordinates` without its first axis, in the dtype of `inputs`.
    """
    inputs = jnp.asarray(inputs)
    check_option("order", order, (0, 1))
    check_option("fill_mode", fill_mode, FILL_MODES)
    if len(coordinates) != inputs.ndim:
        raise ValueError(
            f"map_coordinates: `coordinates` must have one row for each of the {inputs.ndim} axes of `inputs`. "
            f"Got {len(coordinates)}."
        )
    values = inputs if jnp.issubdtype(inputs.dtype, jnp.inexact) else inputs.astype("float32")
    coordinates = [jnp.asarray(coordinate) for coordinate in coordinates]
    return to_dtype(sample(values, coordinates, order, fill_mode, fill_value), inputs.dtype)


def warp(image, transform, interpolation, fill_mode, fill_value):
    """One image whose pixel `(x, y)` is that of `image` at `((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k)`.

    Args:
        image: `(height, width, channels)`, floats.
        transform: `[a0, a1, a2, b0, b1, b2, c0, c1]`; `k = c0 x + c1 y + 1`.
    """
    height, width, _ = image.shape
    # Coordinates in float32 also for half-precision images: bfloat16 cannot count to 257.
    y, x = jnp.meshgrid(jnp.arange(height, dtype="float32"), jnp.arange(width, dtype="float32"), indexing="ij")
    a0, a1, a2, b0, b1, b2, c0, c1 = transform.astype("float32")
    k = c0 * x + c1 * y + 1
    coordinates = [(b0 * x + b1 * y + b2) / k, (a0 * x + a1 * y + a2) / k]
    return sample(image, coordinates, INTERPOLATIONS.index(interpolation), fill_mode, fill_value)


def _warp_all(images, transforms, interpolation, fill_mode, fill_value):
    """`warp` of each image of a batch by its own transform, or by one for all."""
    check_option("interpolation", interpolation, INTERPOLATIONS)
    check_option("fill_mode", fill_mode, FILL_MODES)
    if transforms.shape not in ((8,), (1, 8), (images.shape[0], 8)):
        raise ValueError(
            f"affine_transform: `transform` must have shape (8,) or (batch, 8) for images of shape {images.shape}. "
            f"Got {transforms.shape}."
        )
    transforms = jnp.broadcast_to(transforms, (images.shape[0], 8))
    warp_one = lambda image, transform: warp(image, transform, interpolation, fill_mode, fill_value)
    return jax.vmap(warp_one)(images, transforms)


@_image_op
def affine_transform(images, transform, interpolation="bilinear", fill_mode="constant", fill_value=0, data_format=None):
    """Images whose pixel `(x, y)` is the given one's at `((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k)`.

    Args:
        transform: `[a0, a1, a2, b0, b1, b2, c0, c1]`, or one row for each image; `k = c0 x + c1 y + 1`.
            Unlike Keras on JAX, which documents that it ignores `c0` and `c1`, they are obeyed, as on TensorFlow.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_mode, fill_value: What is beyond the edges, as in `map_coordinates`.
    """
    return _warp_all(images, jnp.asarray(transform), interpolation, fill_mode, fill_value)


def homography(start_points, end_points):
    """The 8 numbers of the projective map that takes four `(x, y)` points `end_points` to `start_points`."""
    rows, targets = [], []
    # u (c0 x + c1 y + 1) = a0 x + a1 y + a2, and the same for v with b: for four points eight linear equations.
    for (x, y), (u, v) in zip(end_points, start_points):
        zero, one = jnp.zeros_like(x), jnp.ones_like(x)
        rows.append(jnp.stack([x, y, one, zero, zero, zero, -x * u, -y * u]))
        rows.append(jnp.stack([zero, zero, zero, x, y, one, -x * v, -y * v]))
        targets += [u, v]
    return jnp.linalg.solve(jnp.stack(rows), jnp.stack(targets))


@_image_op
def perspective_transform(images, start_points, end_points, interpolation="bilinear", fill_value=0, data_format=None):
    """Images warped so that what was at four `start_points` comes to `end_points`.

    Args:
        start_points, end_points: `(4, 2)` or `(batch, 4, 2)`, each point `(x, y)` in pixels.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_value: What is beyond the edges.
    """
    points = [jnp.asarray(points, "float32") for points in (start_points, end_points)]
    for name, given in zip(("start_points", "end_points"), points):
        if given.shape[-2:] != (4, 2):
            raise ValueError(f"perspective_transform: `{name}` must have shape (..., 4, 2). Got {given.shape}.")
    transforms = jnp.vectorize(homography, signature="(n,d),(n,d)->(k)")(*points)
    return _warp_all(images, transforms, interpolation, "constant", fill_value)


@_image_op
def elastic_transform(
    images,
    alpha=20.0,
    sigma=5.0,
    interpolation="bilinear",
    fill_mode="reflect",
    fill_value=0.0,
    seed=None,
    data_format=None,
):
    """Images whose pixels are moved by smooth noise, each image by its own.

    Args:
        alpha: Strength of the displacement.
        sigma: Standard deviation in pixels of the Gaussian that smooths it.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_mode, fill_value: What is beyond the edges, as in `map_coordinates`.
        seed: Integer, `SeedGenerator` or key.

    Source: Simard et al. 2003, https://doi.org/10.1109/ICDAR.2003.1227801
    """
    check_option("interpolation", interpolation, INTERPOLATIONS)
    check_option("fill_mode", fill_mode, FILL_MODES)
    # A key for each image: with one key all would be moved alike.
    keys = jax.random.split(next_key(seed), images.shape[0])
    order = INTERPOLATIONS.index(interpolation)

    def transform(image, key):
        return sample(image, elastic_coordinates(key, image.shape, alpha, sigma), order, fill_mode, fill_value)

    return jax.vmap(transform)(images, keys)


def elastic_coordinates(key, shape, alpha, sigma, max_sigma=None):
    """Rows and columns of an image's pixels, moved by smooth noise; `max_sigma` bounds a traced `sigma`."""
    height, width = shape[:2]
    noise = sigma * jax.random.normal(key, (height, width, 2))
    # Three standard deviations on each side, an odd number; a size, which a traced `sigma` cannot give.
    taps = int(6 * (sigma if max_sigma is None else max_sigma)) | 1
    moves = alpha * blur(noise, (taps, taps), (sigma, sigma))
    rows = jnp.arange(height, dtype="float32")[:, None] + moves[..., 0]
    return rows, jnp.arange(width, dtype="float32") + moves[..., 1]


@_image_op
def rgb_to_grayscale(images, data_format=None):
    """Brightness of colour images, with one channel: `0.2989 red + 0.587 green + 0.114 blue`.

    Integer images are rounded; Keras cuts off. One channel comes back as it is.

    Raises:
        ValueError: if there are neither 1 nor 3 channels.
    """
    _check_channels("rgb_to_grayscale", images, (1, 3))
    return grayscale(images)


def grayscale(images):
    """`rgb_to_grayscale` of float images with the channels last."""
    if images.shape[-1] == 1:
        return images
    return jnp.sum(images * jnp.asarray(LUMA, images.dtype), axis=-1, keepdims=True)


def _check_channels(name: str, images, allowed: tuple):
    if images.shape[-1] not in allowed:
        raise ValueError(f"{name}: `images` must have {' or '.join(map(str, allowed))} channels. Got {images.shape}.")


def _check_floats(name: str, images):
    dtype = getattr(images, "dtype", None)
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name}: `images` must be floats in [0, 1]. Got dtype {dtype}. Divide them by 255.")


# The dtype is looked at before `_image_op` turns integers into floats.
def rgb_to_hsv(images, data_format=None):
    """Hue, saturation and value, all in `[0, 1]`, of float colour images in `[0, 1]`.

    Source: Smith 1978, https://doi.org/10.1145/800248.807361
    """
    _check_floats("rgb_to_hsv", images)
    return _rgb_to_hsv(images, data_format=data_format)


@_image_op
def _rgb_to_hsv(images, data_format=None):
    _check_channels("rgb_to_hsv", images, (3,))
    return to_hsv(images)


def to_hsv(images):
    """`rgb_to_hsv` of float images with the channels last."""
    red, green, blue = jnp.moveaxis(images, -1, 0)
    value = jnp.max(images, axis=-1)
    spread = value - jnp.min(images, axis=-1)
    saturation = jnp.where(value > 0, spread / jnp.where(value > 0, value, 1), 0)
    # Not divided by 0 even where the result is thrown away: its gradient would be NaN.
    safe = jnp.where(spread > 0, spread, 1)
    hue = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = jnp.where(spread > 0, hue / 6 % 1, 0)
    return jnp.stack([hue, saturation, value], axis=-1)


def hsv_to_rgb(images, data_format=None):
    """Red, green and blue in `[0, 1]` of float images of hue, saturation and value in `[0, 1]`."""
    _check_floats("hsv_to_rgb", images)
    return _hsv_to_rgb(images, data_format=data_format)


@_image_op
def _hsv_to_rgb(images, data_format=None):
    _check_channels("hsv_to_rgb", images, (3,))
    return to_rgb(images)


def to_rgb(images):
    """`hsv_to_rgb` of float images with the channels last."""
    hue, saturation, value = (channel[..., None] for channel in jnp.moveaxis(images, -1, 0))
    # How far each channel is from its own hue: three trapezoids, a third of the circle apart.
    distance = jnp.abs((hue * 6 + jnp.asarray([0, 4, 2], images.dtype)) % 6 - 3) - 1
    return value * (1 + saturation * (jnp.clip(distance, 0, 1) - 1))


def _gaussian(taps: int, sigma):
    """`taps` weights that sum to 1, of standard deviation `sigma`."""
    offsets = jnp.arange(taps, dtype="float32") - (taps - 1) / 2
    weights = jnp.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / jnp.sum(weights)


def blur(image, kernel_size, sigma, padding="SAME"):
    """One image `(height, width, channels)` under a Gaussian window; zeros are beyond the edges."""
    numbers = ("HWNC", "HWIO", "HWNC")  # channels are the batch: all under the same weights
    # A Gaussian window is a product of two: 2 n products for each pixel in the place of n * n.
    stack = image[..., None]
    for axis in (0, 1):
        weights = jnp.expand_dims(_gaussian(kernel_size[axis], sigma[axis]).astype(image.dtype), (1 - axis, 2, 3))
        stack = lax.conv_general_dilated(stack, weights, (1, 1), padding, dimension_numbers=numbers)
    return stack[..., 0]


@_image_op
def gaussian_blur(images, kernel_size=(3, 3), sigma=(1.0, 1.0), data_format=None):
    """Images averaged under a Gaussian window; zeros are beyond the edges.

    Keras 3.15 on JAX blurs `"channels_last"` images along the wrong axes and takes both pairs the other way round;
    this one does what its documentation says.

    Args:
        kernel_size: Height and width of the window. sigma: Its standard deviations in pixels.
    """
    return jax.vmap(lambda image: blur(image, kernel_size, sigma))(images)


def _margins(name: str, size: int, before, after, target, sign: int, names: Sequence[str]) -> tuple[int, int]:
    """Two margins of an axis of `size`, of which two of three are given: `size + sign * (before + after) == target`."""
    if sum(value is not None for value in (before, after, target)) != 2:
        raise ValueError(f"{name}: give exactly two of {', '.join(names)}. Got {before}, {after}, {target}.")
    # Whether margins are added or taken away is the sign.
    if target is not None:
        rest = sign * (target - size)
        before, after = (rest - after if before is None else before), (rest - before if after is None else after)
    is_known = isinstance(size, int)  # what is to be added to unknown sizes up to a target is known later
    if is_known and (before < 0 or after < 0 or size + sign * (before + after) < 1):
        raise ValueError(
            f"{name}: {', '.join(names)} do not fit an axis of {size} pixels. Got margins {before} and {after}."
        )
    return before, after


_MARGIN_NAMES = ("top_{0}, bottom_{0}, target_height", "left_{0}, right_{0}, target_width")


@_image_op
def crop_images(
    images,
    top_cropping=None,
    left_cropping=None,
    bottom_cropping=None,
    right_cropping=None,
    target_height=None,
    target_width=None,
    data_format=None,
):
    """Images without their margins. Of two margins and the size that remains, two are given, for each axis."""
    names = [text.format("cropping").split(", ") for text in _MARGIN_NAMES]
    _, height, width, _ = images.shape
    top, bottom = _margins("crop_images", height, top_cropping, bottom_cropping, target_height, -1, names[0])
    left, right = _margins("crop_images", width, left_cropping, right_cropping, target_width, -1, names[1])
    return images[:, top : height - bottom, left : width - right]


@_image_op
def pad_images(
    images,
    top_padding=None,
    left_padding=None,
    bottom_padding=None,
    right_padding=None,
    target_height=None,
    target_width=None,
    data_format=None,
):
    """Images with margins of zeros. Of two margins and the size they lead to, two are given, for each axis."""
    names = [text.format("padding").split(", ") for text in _MARGIN_NAMES]
    _, height, width, _ = images.shape
    rows = _margins("pad_images", height, top_padding, bottom_padding, target_height, 1, names[0])
    columns = _margins("pad_images", width, left_padding, right_padding, target_width, 1, names[1])
    edges = [(*margins, 0) for margins in ((0, 0), rows, columns, (0, 0))]
    return jax.lax.pad(images, jnp.zeros((), images.dtype), edges)  # `jnp.pad` compares margins with 0
