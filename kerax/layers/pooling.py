"""Pooling over windows and over all positions."""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from kerax import config
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.layers.options import check_choice, sizes

_FEW_POSITIONS, _MANY_POSITIONS = 4, 16


def _pool_tiles(inputs, window: tuple[int, ...], first: int, combine: Callable):
    """`combine` over windows that touch and do not overlap; what is left over at the end is dropped.

    One axis after the other, and one slice per position in the window: its gradient is a select, where that of
    `reduce_window` is a scatter. A whole CNN step took 40 ms instead of 60 with one slice per position of all axes.
    Maximum, gradient, ms, best of 8 on 2 cores, all axes at once / one after the other / `reduce_window`:
    (64,26,26,32) by 2x2: 18.2, 5.7, 16.6. (32,28,28,32) by 3x3: 13.6, 1.7, 4.3.
    (8,16,16,16,16) by 2x2x2: 10.9, 1.4, 5.0.
    """
    for axis, size in enumerate(window, start=first):
        count = inputs.shape[axis] // size
        whole = lax.slice_in_dim(inputs, 0, count * size, axis=axis)
        tiles = whole.reshape(*inputs.shape[:axis], count, size, *inputs.shape[axis + 1 :])
        inputs = functools.reduce(combine, [tiles[(slice(None),) * (axis + 1) + (i,)] for i in range(size)])
    return inputs


class _Pooling(Layer):
    """What all pooling over windows shares: arguments, checks, and where the windows are."""

    rank: int

    def _configure(self, pool_size, strides, padding, data_format):
        self.pool_size = sizes(self, "pool_size", pool_size, self.rank)
        self.strides = self.pool_size if strides is None else sizes(self, "strides", strides, self.rank)
        self.padding = padding.lower()
        check_choice(self, "padding", self.padding, ("valid", "same"))
        self.data_format = config.standardize_data_format(data_format)
        self._first = 1 if self.data_format == "channels_last" else 2  # spatial axis
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def build(self, input_shape):
        spatial = input_shape[self._first : self._first + self.rank]
        if self.padding == "valid" and any(
            size is not None and pool > size for size, pool in zip(spatial, self.pool_size, strict=True)
        ):
            raise ValueError(
                f"{self}: the window is larger than the input. Got pool_size={self.pool_size}, "
                f"input shape {input_shape}. Use a smaller window or padding='same'."
            )

    def _is_tiling(self) -> bool:
        return (
            self.padding == "valid" and self.pool_size == self.strides and math.prod(self.pool_size) <= _MANY_POSITIONS
        )

    def _reduce(self, inputs, initial, operation):
        """`operation` over every window of the inputs."""
        before, after = (1,) * self._first, (1,) * (inputs.ndim - self._first - self.rank)
        window, strides = (*before, *self.pool_size, *after), (*before, *self.strides, *after)
        return lax.reduce_window(inputs, initial, operation, window, strides, self.padding.upper())

    def _maximum(self, inputs):
        if self._is_tiling():
            return _pool_tiles(inputs, self.pool_size, self._first, jnp.maximum)
        is_float = jnp.issubdtype(inputs.dtype, jnp.floating)
        lowest = -jnp.inf if is_float else jnp.iinfo(inputs.dtype).min
        return self._reduce(inputs, lowest, lax.max)

    def _average(self, inputs):
        # Sums of up to 4 are faster by `reduce_window`, whose gradient is no scatter: (64,26,26,32) by 2x2 2.2 against
        # 3.6 ms, by 3x3 of (32,28,28,32) 4.9 against 1.5.
        if self._is_tiling() and math.prod(self.pool_size) > _FEW_POSITIONS:
            return _pool_tiles(inputs, self.pool_size, self._first, jnp.add) / math.prod(self.pool_size)
        total = self._reduce(inputs, 0.0, lax.add)
        if self.padding == "valid":
            return total / math.prod(self.pool_size)
        return total / self._reduce(jnp.ones(inputs.shape, inputs.dtype), 0.0, lax.add)


class MaxPooling1D(_Pooling):
    """The largest value of each window of a sequence.

    Deviation from Keras: where values of a window are equal, the gradient is shared among them.

    Args:
        pool_size: Width of the window.
        strides: Steps between windows. Default: `pool_size`.
        padding: `"valid"` (drops what is left over) or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new steps, channels)`.
    """

    rank = 1

    def __init__(self, pool_size=2, strides=None, padding="valid", data_format=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self._configure(pool_size, strides, padding, data_format)

    def call(self, inputs):
        return self._maximum(inputs)


class MaxPooling2D(_Pooling):
    """The largest value of each window of an image.

    Deviation from Keras: where values of a window are equal, the gradient is shared among them.

    Args:
        pool_size: Height and width of the window.
        strides: Rows and columns between windows. Default: `pool_size`.
        padding: `"valid"` (drops what is left over) or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new height, new width, channels)`.
    """

    rank = 2

    def __init__(self, pool_size=(2, 2), strides=None, padding="valid", data_format=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self._configure(pool_size, strides, padding, data_format)

    def call(self, inputs):
        return self._maximum(inputs)


class MaxPooling3D(_Pooling):
    """The largest value of each window of a volume.

    Deviation from Keras: where values of a window are equal, the gradient is shared among them.

    Args: as in `MaxPooling2D`, with three sizes for `pool_size` and `strides`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes.
    """

    rank = 3

    def __init__(self, pool_size=(2, 2, 2), strides=None, padding="valid", data_format=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self._configure(pool_size, strides, padding, data_format)

    def call(self, inputs):
        return self._maximum(inputs)


class AveragePooling1D(_Pooling):
    """The mean of each window of a sequence; padding does not count.

    Args: as in `MaxPooling1D`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new steps, channels)`.
    """

    rank = 1

    def __init__(self, pool_size, strides=None, padding="valid", data_format=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self._configure(pool_size, strides, padding, data_format)

    def call(self, inputs):
        return self._average(inputs)


class AveragePooling2D(_Pooling):
    """The mean of each window of an image; padding does not count.

    Args: as in `MaxPooling2D`.
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new height, new width, channels)`.
    """

    rank = 2

    def __init__(self, pool_size, strides=None, padding="valid", data_format=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self._configure(pool_size, strides, padding, data_format)

    def call(self, inputs):
        return self._average(inputs)


class AveragePooling3D(_Pooling):
    """The mean of each window of a volume; padding does not count.

    Args: as in `MaxPooling3D`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes.
    """

    rank = 3

    def __init__(self, pool_size, strides=None, padding="valid", data_format=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self._configure(pool_size, strides, padding, data_format)

    def call(self, inputs):
        return self._average(inputs)


class _GlobalPooling(Layer):
    """What all pooling over every position shares.

    Args:
        data_format: `"channels_last"` or `"channels_first"`.
        keepdims: Whether the spatial axes stay, with size 1.
    """

    rank: int

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.keepdims = keepdims
        first = 1 if self.data_format == "channels_last" else 2
        self._axes = tuple(range(first, first + self.rank))
        self.input_spec = InputSpec(ndim=self.rank + 2)


class GlobalAveragePooling1D(_GlobalPooling):
    """The mean over all steps of a sequence; masked steps do not count.

    Args: `data_format`, `keepdims` (whether the step axis stays, with size 1).
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, channels)`.
    """

    rank = 1

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(data_format, keepdims, **kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        if mask is None:
            return jnp.mean(inputs, self._axes, keepdims=self.keepdims)
        kept = jnp.expand_dims(mask.astype(bool), 2 if self._axes == (1,) else 1)
        total = jnp.sum(jnp.where(kept, inputs, 0), self._axes, keepdims=self.keepdims)
        return total / jnp.sum(kept.astype(inputs.dtype), self._axes, keepdims=self.keepdims)

    def compute_mask(self, inputs, previous_mask=None):
        """`None`: no steps are left."""
        return None


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean over all positions of an image.

    Args: `data_format`, `keepdims` (whether the spatial axes stay, with size 1).
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, channels)`.
    """

    rank = 2

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(data_format, keepdims, **kwargs)

    def call(self, inputs):
        return jnp.mean(inputs, self._axes, keepdims=self.keepdims)


class GlobalAveragePooling3D(_GlobalPooling):
    """The mean over all positions of a volume.

    Args: `data_format`, `keepdims` (whether the spatial axes stay, with size 1).
    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, channels)`.
    """

    rank = 3

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(data_format, keepdims, **kwargs)

    def call(self, inputs):
        return jnp.mean(inputs, self._axes, keepdims=self.keepdims)


class GlobalMaxPooling1D(_GlobalPooling):
    """The largest value over all steps of a sequence.

    Args: `data_format`, `keepdims` (whether the step axis stays, with size 1).
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, channels)`.
    """

    rank = 1

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(data_format, keepdims, **kwargs)

    def call(self, inputs):
        return jnp.max(inputs, self._axes, keepdims=self.keepdims)


class GlobalMaxPooling2D(_GlobalPooling):
    """The largest value over all positions of an image.

    Args: `data_format`, `keepdims` (whether the spatial axes stay, with size 1).
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, channels)`.
    """

    rank = 2

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(data_format, keepdims, **kwargs)

    def call(self, inputs):
        return jnp.max(inputs, self._axes, keepdims=self.keepdims)


class GlobalMaxPooling3D(_GlobalPooling):
    """The largest value over all positions of a volume.

    Args: `data_format`, `keepdims` (whether the spatial axes stay, with size 1).
    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, channels)`.
    """

    rank = 3

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(data_format, keepdims, **kwargs)

    def call(self, inputs):
        return jnp.max(inputs, self._axes, keepdims=self.keepdims)
