"""Images as Pillow images and as arrays: reading, writing, converting, resizing on the host."""

import functools
import io
import math
import os
import threading
import warnings
from pathlib import Path

import numpy as np

from kerax import config
from kerax.core.dtypes import standardize_dtype
from kerax.errors import check_choice
from kerax.places import path_of, to_read, to_write

_MODES = {"grayscale": ("L", "I;16", "I"), "rgb": ("RGB",), "rgba": ("RGBA",)}
_PILLOW_METHODS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")
RESIZE_METHODS = ("bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic")


def pillow(who: str):
    """The module `PIL.Image`. Raises `ImportError` that says how to get it."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(f"{who} needs Pillow: pip install 'kerax[images]'") from None
    return Image


def load_img(path, color_mode="rgb", target_size=None, interpolation="nearest", keep_aspect_ratio=False):
    """A Pillow image from a file.

    Args:
        path: Of the file, or an `io.BytesIO` with its bytes.
        color_mode: `"rgb"`, `"rgba"` or `"grayscale"` (which keeps 16 and 32 bits).
        target_size: `(height, width)`. Default: the image's own.
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"`, `"lanczos"`, `"box"` or `"hamming"`.
        keep_aspect_ratio: Whether to keep proportions by cutting off what is too long, at the middle.

    Raises:
        TypeError: for another kind of path.
        ValueError: for an unknown option.
    """
    image_module = pillow("load_img")
    check_choice("load_img", "color_mode", color_mode, _MODES)
    check_choice("load_img", "interpolation", interpolation, _PILLOW_METHODS)
    if not isinstance(path, (str, bytes, os.PathLike, io.BytesIO)):
        raise TypeError(f"load_img: `path` must be a path or io.BytesIO. Got {type(path).__name__}.")
    path = path if isinstance(path, io.BytesIO) else path_of(path, "load_img")
    with to_read(path) as file, image_module.open(file) as image:
        image.load()  # `open` reads the head only, and closes the file at the end of this block
        image = image if image.mode in _MODES[color_mode] else image.convert(_MODES[color_mode][0])
    if target_size is None or image.size == tuple(target_size)[::-1]:
        return image
    height, width = target_size
    # Cut and resized in one step: Pillow takes the part to look at.
    box = None
    if keep_aspect_ratio:
        rows = min(image.height, image.width * height // width)
        columns = min(image.width, image.height * width // height)
        left, top = (image.width - columns) // 2, (image.height - rows) // 2
        box = (left, top, left + columns, top + rows)
    return image.resize((width, height), getattr(image_module.Resampling, interpolation.upper()), box=box)


@functools.cache
def opencv():
    """The module `cv2`, or `None` where it is not installed: everything can be done without, at half the speed."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def read_pixels(path, color_mode: str = "rgb") -> np.ndarray:
    """The pixels of an image file as `load_img` and `img_to_array` give them, `(height, width, channels)`.

    OpenCV, where installed, decodes whole JPEGs of 1 or 3 components in 0.6 of Pillow's time, to the same bits.
    """
    with open(path, "rb") as file:
        data = file.read()
    cv2 = opencv() if color_mode == "rgb" and _is_plain_jpeg(data) else None
    if cv2 is not None:
        # As Pillow and TensorFlow: pixels as they are stored, whatever way the camera was held.
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if pixels is not None:
            return pixels
    try:
        pixels = np.asarray(load_img(io.BytesIO(data), color_mode))
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for files that are no images, or cut off
        raise ValueError(f"The image {path!r} cannot be read: {error}. Remove the file, or repair it.") from None
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether these are the bytes of a whole JPEG of 1 or 3 components: others OpenCV reads in its own way, and of one
    that is cut off it makes a picture with a grey rest."""
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        return False
    place = 2
    while place + 10 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame: size and components
            return data[place + 4] == 8 and data[place + 9] in (1, 3)
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def img_to_array(img, data_format: str | None = None, dtype=None) -> np.ndarray:
    """A Pillow image as an array `(height, width, channels)`, or with the channels first.

    Args:
        data_format: `"channels_last"` or `"channels_first"`. Default: `config.image_data_format()`.
        dtype: Default: `floatx()`.

    Raises:
        ValueError: for an array of other than 2 or 3 axes.
    """
    data_format, array = config.standardize_data_format(data_format), np.asarray(img, standardize_dtype(dtype))
    if array.ndim not in (2, 3):
        raise ValueError(f"img_to_array: expected an image of 2 or 3 axes. Got shape {array.shape}.")
    array = array[..., None] if array.ndim == 2 else array
    return array.transpose(2, 0, 1) if data_format == "channels_first" else array


def array_to_img(x, data_format: str | None = None, scale: bool = True, dtype=None):
    """A Pillow image from an array.

    Args:
        x: `(height, width, channels)` with 1, 3 or 4 channels, or with the channels first.
        data_format: Default: `config.image_data_format()`.
        scale: Whether the smallest value becomes 0 and the largest 255; else values are taken as they are.
        dtype: Of the computation. Default: `floatx()`.

    Raises:
        ValueError: for another shape.
    """
    image_module = pillow("array_to_img")
    data_format, array = config.standardize_data_format(data_format), np.asarray(x, standardize_dtype(dtype))
    if array.ndim == 3 and data_format == "channels_first":
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ValueError(f"array_to_img: expected one image with 1, 3 or 4 channels. Got shape {np.shape(x)}.")
    if scale:
        array = array - array.min()
        # An image of one value stays black, where a division by its range would give NaN.
        array = array / (array.max() or 1) * 255
    array = array[..., 0] if array.shape[2] == 1 else array
    if array.ndim == 2 and array.max() > 255:  # Pillow has wider pixels for one channel only
        return image_module.fromarray(array.astype(np.int32))
    return image_module.fromarray(array.astype(np.uint8))


def save_img(path, x, data_format: str | None = None, file_format=None, scale: bool = True, **kwargs):
    """Writes an array as an image file.

    Args:
        path: Of the file, or an open file (which needs `file_format`).
        x: As in `array_to_img`, with `data_format` and `scale`.
        file_format: Default: from the name of the file.
        **kwargs: For Pillow's `save`.
    """
    if isinstance(path, (str, os.PathLike)):
        path = path_of(path, "save_img")
        file_format = Path(path).suffix[1:] if file_format is None else file_format
    # Pillow knows the format by this one of its two names.
    file_format = {"jpg": "jpeg"}.get((file_format or "").lower(), file_format)
    image = array_to_img(x, data_format, scale)
    if image.mode == "RGBA" and (file_format or "").lower() == "jpeg":
        warnings.warn("save_img: JPEG has no transparency; the fourth channel is left out.", stacklevel=2)
        image = image.convert("RGB")
    with to_write(path) as file:
        image.save(file, format=file_format, **kwargs)


def smart_resize(x, size, interpolation: str = "bilinear", data_format="channels_last", **kwargs):
    """Images resized without distortion: the largest part at the middle that has the proportions of `size`.

    Args:
        x: `(height, width, channels)`, with a batch axis or without.
        size: `(height, width)`.
        interpolation: One of `"bilinear"`, `"nearest"`, `"bicubic"`, `"area"`, `"lanczos3"`, `"lanczos5"`,
            `"gaussian"`, `"mitchellcubic"`.

    Returns: a float32 NumPy array.

    Raises:
        ValueError: for another rank or size.
    """
    if kwargs.pop("backend_module", None) is None and kwargs:
        raise TypeError(f"smart_resize: unknown argument {next(iter(kwargs))!r}.")
    if len(size) != 2:
        raise ValueError(f"smart_resize: `size` must be (height, width). Got {size!r}.")
    array = np.asarray(x)
    if array.ndim not in (3, 4):
        raise ValueError(f"smart_resize: expected images ([batch,] height, width, channels). Got shape {array.shape}.")
    array = np.moveaxis(array, -3, -1) if data_format == "channels_first" else array
    array = resize(array, size, interpolation, crop=True)
    return np.moveaxis(array, -1, -3) if data_format == "channels_first" else array


def resize(array: np.ndarray, size, method="bilinear", crop: bool = False, pad: bool = False, out=None) -> np.ndarray:
    """Images `(..., height, width, channels)` of another size, as `kerax.ops.image.resize` makes them, on the host.

    On the device every size of image would be a program of its own to compile.

    Args:
        size: `(height, width)`.
        method: One of `RESIZE_METHODS`.
        crop: Whether to keep proportions by cutting off what is too long.
        pad: Whether to keep proportions by filling up with zeros what is too short.
        out: A float32 array for the result. Default: a new one.
    """
    height, width = array.shape[-3:-1]
    out = np.empty((*array.shape[:-3], *size, array.shape[-1]), np.float32) if out is None else out
    of_aspect = int(width * size[0] / size[1]), int(height * size[1] / size[0])
    if crop:
        rows, columns = max(min(height, of_aspect[0]), 1), max(min(width, of_aspect[1]), 1)
        top, left = (height - rows) // 2, (width - columns) // 2
        array = array[..., top : top + rows, left : left + columns, :]
    if pad:
        rows, columns = (max(new - old, 0) // 2 for new, old in zip(of_aspect, (height, width), strict=True))
        margins = ((0, 0),) * (array.ndim - 3) + ((rows, rows), (columns, columns), (0, 0))
        array = np.pad(array, margins)
    cv2 = opencv() if method == "bilinear" and array.ndim == 3 and array.shape[-1] <= 4 else None
    if cv2 is not None and array.size:
        # The same sum to 5e-5 of 255, in an eighth of NumPy's time. Its arrays lack the axis of one channel.
        flat = out[..., 0] if array.shape[-1] == 1 else out
        cv2.resize(_as_floats(array), tuple(size)[::-1], dst=flat, interpolation=cv2.INTER_LINEAR)
        return out
    # One axis after the other: the kernels are products, so that this is the same sum with fewer terms.
    rows = _along(array, -3, size[0], method)
    # Columns and channels as one axis: NumPy takes single numbers faster than groups of three.
    channels = array.shape[-1]
    columns = _along(rows.reshape(*rows.shape[:-2], -1), -1, size[1], method, channels)
    out[...] = columns.reshape(out.shape)
    return out


_memory = threading.local()


def _as_floats(array: np.ndarray) -> np.ndarray:
    """A float32 copy in memory that the thread uses again: mapping fresh pages takes 15 times as long as the copy."""
    memory = getattr(_memory, "floats", None)
    if memory is None or not array.size <= memory.size <= 16 * array.size:  # not for ever as large as the largest
        memory = _memory.floats = np.empty(array.size, np.float32)
    copy = memory[: array.size].reshape(array.shape)
    copy[...] = array
    return copy


def _along(array: np.ndarray, axis: int, size: int, method: str, channels: int = 1) -> np.ndarray:
    """`array` resampled along one axis, on which `channels` numbers make a position: a weighted sum of a few copies."""
    if array.shape[axis] == size * channels:
        return array
    indices, weights = _taps(array.shape[axis] // channels, size, method, channels)
    # A tap at a time for all positions, as a matrix product would be mostly zeros.
    shape = (-1,) + (1,) * (-axis - 1)
    result = np.take(array, indices[0], axis, mode="clip") * weights[0].reshape(shape)
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        result += np.take(array, index, axis, mode="clip") * weight.reshape(shape)
    return result


def _cubic(x, b: float, c: float):
    """The cubic kernels of Mitchell and Netravali 1988."""
    near = (12 - 9 * b - 6 * c) * x**3 + (-18 + 12 * b + 6 * c) * x**2 + 6 - 2 * b
    far = (-b - 6 * c) * x**3 + (6 * b + 30 * c) * x**2 + (-12 * b - 48 * c) * x + 8 * b + 24 * c
    return np.where(x < 1, near, np.where(x < 2, far, 0)) / 6


_KERNELS = {
    "bilinear": (1, lambda x: np.maximum(1 - x, 0)),
    "bicubic": (2, lambda x: _cubic(x, 0, 0.5)),
    "mitchellcubic": (2, lambda x: _cubic(x, 1 / 3, 1 / 3)),
    "lanczos3": (3, lambda x: np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0)),
    "lanczos5": (5, lambda x: np.where(x < 5, np.sinc(x) * np.sinc(x / 5), 0)),
    "gaussian": (1.5, lambda x: np.where(x < 1.5, np.exp(-2 * x**2), 0)),  # standard deviation 0.5
}


@functools.lru_cache(256)
def _taps(old: int, new: int, method: str, channels: int = 1) -> tuple[list, list]:
    """Which old positions each new one is made of, and their weights: lists of arrays `(new * channels,)`."""
    if channels > 1:
        indices, weights = _taps(old, new, method)
        every = np.arange(channels)
        spread = [(index[:, None] * channels + every).ravel() for index in indices]
        return spread, [np.repeat(weight, channels) for weight in weights]
    # Without antialiasing, as the function of `ops`: the kernel keeps its width where images shrink.
    step = old / new
    centers = (np.arange(new) + 0.5) * step - 0.5
    if method == "nearest":
        return [np.minimum(np.floor((np.arange(new) + 0.5) * step), old - 1).astype(np.int64)], [np.ones(new, "f")]
    if method == "area":
        # Pixels count by the part of them that lies in the new pixel; the small number is for edges that meet exactly.
        first, reach = np.floor(centers + 0.5 - step / 2 + 1e-9), math.ceil(step) + 1
        positions = first[None] + np.arange(reach)[:, None]
        low, high = (centers + 0.5 - step / 2)[None], (centers + 0.5 + step / 2)[None]
        weights = np.clip(np.minimum(positions + 1, high) - np.maximum(positions, low), 0, None)
    else:
        radius, kernel = _KERNELS[method]
        first, reach = np.floor(centers - radius) + 1, math.ceil(2 * radius)
        positions = first[None] + np.arange(reach)[:, None]
        weights = kernel(np.abs(positions - centers[None]))
    # What lies beyond the edge does not count, and the others make up for it.
    weights = np.where((positions >= 0) & (positions < old), weights, 0)
    weights = (weights / weights.sum(0)).astype(np.float32)
    return list(np.clip(positions, 0, old - 1).astype(np.int64)), list(weights)
