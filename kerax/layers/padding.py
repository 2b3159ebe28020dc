"""Layers that add zeros at the edges, cut edges off, or enlarge by whole factors."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.layers.options import Sizes, Spatial, check, read_choice, sizes
from kerax.ops.image import resize

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")  # the order that messages show


class _Edges(Spatial):
    """What padding and cropping share: a pair of widths for each spatial axis."""

    def set_edges(self, name: str, widths: Any) -> Any:
        """Reads the argument `name`: one number stands for all axes, a number in place of a pair for both ends.

        Returns: the pair of widths of the only axis, or the pairs of all.
        """
        pairs = (widths,) * self.rank if np.ndim(widths) == 0 else tuple(widths)
        if self.rank == 1:  # of one axis the pair itself, or a number for both ends
            pairs = (pairs * 2 if np.ndim(widths) == 0 else pairs,)
        expected = f"`{name}` must be a number, or {self.rank} numbers or pairs of numbers"
        check(self, len(pairs) == self.rank, expected, **{name: widths})
        self._pairs = tuple(sizes(self, name, pair, 2, minimum=0) for pair in pairs)
        return self._pairs if self.rank > 1 else self._pairs[0]  # as Keras's attributes and configs have it


class _ZeroPadding(_Edges):
    """What zero padding of any rank shares."""

    kerax_builds_in_call = True

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.padding = self.set_edges("padding", padding)

    def call(self, inputs: Any) -> Any:
        pads = [(0, 0)] * inputs.ndim
        pads[self.spatial_axes[0] : self.spatial_axes[-1] + 1] = self._pairs
        return jnp.pad(inputs, pads)


class ZeroPadding1D(_ZeroPadding, rank=1):
    """Sequences with steps of zeros before and after them.

    Args:
        padding: A number for both ends, or `(before, after)`.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, before + steps + after, channels)`.
    """


class ZeroPadding2D(_ZeroPadding, rank=2, padding=(1, 1)):
    """Images with rows and columns of zeros around them.

    Args:
        padding: A number for all sides, `(rows, columns)`, or `((top, bottom), (left, right))`.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, top + height + bottom, left + width + right, channels)`.
    """


class ZeroPadding3D(_ZeroPadding, rank=3, padding=((1, 1), (1, 1), (1, 1))):
    """Volumes with zeros around them.

    Args:
        padding: A number for all sides, one per axis, or a pair per axis.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same, larger by the pairs.
    """


class _Cropping(_Edges):
    """What cropping of any rank shares."""

    def __init__(self, cropping: Any = 0, data_format: str | None = None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.cropping = self.set_edges("cropping", cropping)

    def build(self, input_shape: Any) -> None:
        for size, pair in zip(self.spatial_sizes(input_shape), self._pairs, strict=True):
            leaves_some = size is None or sum(pair) < size
            expected = "`cropping` leaves nothing of the input"
            check(self, leaves_some, expected, cropping=self.cropping, input_shape=input_shape)

    def call(self, inputs: Any) -> Any:
        index = [slice(None)] * inputs.ndim
        for axis, (before, after) in zip(self.spatial_axes, self._pairs, strict=True):
            # Not `-after`: a slice up to -0 would be empty.
            index[axis] = slice(before, inputs.shape[axis] - after)
        return inputs[tuple(index)]


class Cropping1D(_Cropping, rank=1):
    """Sequences without their first and last steps.

    Args:
        cropping: A number for both ends, or `(before, after)`.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, steps - before - after, channels)`.

    Raises:
        ValueError: if nothing is left.
    """

    def __init__(self, cropping: Any = (1, 1), **kwargs):
        # Past the family's constructor, whose `data_format` is no argument here.
        super(_Cropping, self).__init__("channels_last", **kwargs)
        self.cropping = self.set_edges("cropping", cropping)


class Cropping2D(_Cropping, rank=2, cropping=((0, 0), (0, 0))):
    """Images without the rows and columns at their edges.

    Args:
        cropping: A number for all sides, `(rows, columns)`, or `((top, bottom), (left, right))`.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, height - top - bottom, width - left - right, channels)`.

    Raises:
        ValueError: if nothing is left.
    """


class Cropping3D(_Cropping, rank=3, cropping=((1, 1), (1, 1), (1, 1))):
    """Volumes without their edges.

    Args:
        cropping: A number for all sides, one per axis, or a pair per axis.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same, smaller by the pairs.

    Raises:
        ValueError: if nothing is left.
    """


def _repeat(inputs, factors: tuple[int, ...], first: int):
    """Every value along axis `first` and those after it as often as the factors say: a broadcast, not a gather."""
    # The last axis first: the axes in front of it keep their numbers.
    for axis, factor in reversed(list(enumerate(factors, start=first))):
        shape = (*inputs.shape[: axis + 1], factor, *inputs.shape[axis + 1 :])
        repeated = jnp.broadcast_to(jnp.expand_dims(inputs, axis + 1), shape)
        inputs = repeated.reshape(*inputs.shape[:axis], inputs.shape[axis] * factor, *inputs.shape[axis + 1 :])
    return inputs


class UpSampling1D(Layer):
    """Sequences with every step repeated.

    Args:
        size: Number of repetitions.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, steps * size, channels)`.
    """

    kerax_builds_in_call = True

    def __init__(self, size: Sizes = 2, **kwargs):
        super().__init__(**kwargs)
        (self.size,) = sizes(self, "size", size, 1)
        self.input_spec = InputSpec(ndim=3)

    def call(self, inputs: Any) -> Any:
        return _repeat(inputs, (self.size,), 1)


class UpSampling2D(Spatial, rank=2):
    """Images enlarged by whole factors.

    Args:
        size: Factors of height and width.
        data_format: `"channels_last"` or `"channels_first"`.
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.

    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, height * size[0], width * size[1], channels)`.
    """

    kerax_builds_in_call = True

    def __init__(self, size: Sizes = (2, 2), data_format: str | None = None, interpolation: str = "nearest", **kwargs):
        super().__init__(data_format, **kwargs)
        self.size = sizes(self, "size", size, 2)
        self.interpolation = read_choice(self, "interpolation", interpolation, _INTERPOLATIONS)

    def call(self, inputs: Any) -> Any:
        if self.interpolation == "nearest":
            return _repeat(inputs, self.size, self.spatial_axes[0])
        size = [inputs.shape[axis] * factor for axis, factor in zip(self.spatial_axes, self.size, strict=True)]
        return resize(inputs, size, self.interpolation, data_format=self.data_format)


class UpSampling3D(Spatial, rank=3):
    """Volumes enlarged by whole factors, every value repeated.

    Args:
        size: Factors of depth, height and width.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, depth, height, width, channels)`.
    Output shape: `(batch, depth * size[0], height * size[1], width * size[2], channels)`.
    """

    kerax_builds_in_call = True

    def __init__(self, size: Sizes = (2, 2, 2), data_format: str | None = None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.size = sizes(self, "size", size, 3)

    def call(self, inputs: Any) -> Any:
        return _repeat(inputs, self.size, self.spatial_axes[0])
