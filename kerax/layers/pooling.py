"""Pooling over windows and over all positions."""

import jax.numpy as jnp

from kerax import config
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.layers.options import Sizes, check_choice, set_rank, sizes
from kerax.ops.pooling import pool


class _Pooling(Layer):
    """What all pooling over windows shares: arguments, checks, and where the windows are."""

    rank: int
    reduction: str

    def __init_subclass__(cls, rank: int | None = None, **defaults):
        super().__init_subclass__()
        set_rank(cls, rank, **defaults)

    def __init__(self, pool_size: Sizes, strides: Sizes | None, padding: str, data_format: str | None, **kwargs):
        super().__init__(**kwargs)
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

    def call(self, inputs):
        return pool(inputs, self.reduction, self.pool_size, self.strides, self.padding, self.data_format)


class _MaxPooling(_Pooling):
    """What pooling of any rank by the largest value shares."""

    reduction = "max"

    def __init__(
        self,
        pool_size: Sizes = 2,
        strides: Sizes | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(pool_size, strides, padding, data_format, name=name, **kwargs)


class _AveragePooling(_Pooling):
    """What pooling of any rank by the mean shares."""

    reduction = "average"

    def __init__(
        self,
        pool_size: Sizes,
        strides: Sizes | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(pool_size, strides, padding, data_format, name=name, **kwargs)


class MaxPooling1D(_MaxPooling, rank=1):
    """The largest value of each window of a sequence.

    Deviation from Keras: where values of a window are equal, the gradient is shared among them.

    Args:
        pool_size: Width of the window.
        strides: Steps between windows. Default: `pool_size`.
        padding: `"valid"` (drops what is left over) or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new steps, channels)`.
    """


class MaxPooling2D(_MaxPooling, rank=2, pool_size=(2, 2)):
    """The largest value of each window of an image.

    Deviation from Keras: where values of a window are equal, the gradient is shared among them.

    Args:
        pool_size: Height and width of the window.
        strides: Rows and columns between windows. Default: `pool_size`.
        padding: `"valid"` (drops what is left over) or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new height, new width, channels)`.
    """


class MaxPooling3D(_MaxPooling, rank=3, pool_size=(2, 2, 2)):
    """The largest value of each window of a volume.

    Deviation from Keras: where values of a window are equal, the gradient is shared among them.

    Args: as in `MaxPooling2D`, with three sizes for `pool_size` and `strides`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes.
    """


class AveragePooling1D(_AveragePooling, rank=1):
    """The mean of each window of a sequence; padding does not count.

    Args: as in `MaxPooling1D`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new steps, channels)`.
    """


class AveragePooling2D(_AveragePooling, rank=2):
    """The mean of each window of an image; padding does not count.

    Args: as in `MaxPooling2D`.
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new height, new width, channels)`.
    """


class AveragePooling3D(_AveragePooling, rank=3):
    """The mean of each window of a volume; padding does not count.

    Args: as in `MaxPooling3D`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes.
    """


class _GlobalPooling(Layer):
    """What all pooling over every position shares.

    Args:
        data_format: `"channels_last"` or `"channels_first"`.
        keepdims: Whether the spatial axes stay, with size 1.
    """

    rank: int

    def __init_subclass__(cls, rank: int | None = None):
        super().__init_subclass__()
        set_rank(cls, rank)

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.keepdims = keepdims
        first = 1 if self.data_format == "channels_last" else 2
        self._axes = tuple(range(first, first + self.rank))
        self.input_spec = InputSpec(ndim=self.rank + 2)


class _GlobalAverage(_GlobalPooling):
    """The mean over every position."""

    def call(self, inputs):
        return jnp.mean(inputs, self._axes, keepdims=self.keepdims)


class _GlobalMaximum(_GlobalPooling):
    """The largest value over every position."""

    def call(self, inputs):
        return jnp.max(inputs, self._axes, keepdims=self.keepdims)


class GlobalAveragePooling1D(_GlobalPooling, rank=1):
    """The mean over all steps of a sequence; masked steps do not count.

    Args: `data_format`, `keepdims` (whether the step axis stays, with size 1).
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, channels)`.
    """

    def call(self, inputs, mask=None):
        if mask is None:
            return jnp.mean(inputs, self._axes, keepdims=self.keepdims)
        kept = jnp.expand_dims(mask.astype(bool), 2 if self._axes == (1,) else 1)
        total = jnp.sum(jnp.where(kept, inputs, 0), self._axes, keepdims=self.keepdims)
        return total / jnp.sum(kept.astype(inputs.dtype), self._axes, keepdims=self.keepdims)

    def compute_mask(self, inputs, previous_mask=None):
        """`None`: no steps are left."""
        return None


class GlobalAveragePooling2D(_GlobalAverage, rank=2):
    """The mean over all positions of an image.

    Args: `data_format`, `keepdims` (whether the spatial axes stay, with size 1).
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, channels)`.
    """


class GlobalAveragePooling3D(_GlobalAverage, rank=3):
    """The mean over all positions of a volume.

    Args: `data_format`, `keepdims` (whether the spatial axes stay, with size 1).
    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, channels)`.
    """


class GlobalMaxPooling1D(_GlobalMaximum, rank=1):
    """The largest value over all steps of a sequence.

    Args: `data_format`, `keepdims` (whether the step axis stays, with size 1).
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, channels)`.
    """


class GlobalMaxPooling2D(_GlobalMaximum, rank=2):
    """The largest value over all positions of an image.

    Args: `data_format`, `keepdims` (whether the spatial axes stay, with size 1).
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, channels)`.
    """


class GlobalMaxPooling3D(_GlobalMaximum, rank=3):
    """The largest value over all positions of a volume.

    Args: `data_format`, `keepdims` (whether the spatial axes stay, with size 1).
    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, channels)`.
    """
