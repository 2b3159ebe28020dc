"""Pooling over windows, over all positions, and to a given size."""

from typing import Any

import jax.numpy as jnp

from kerax.core.symbolic import known_shape
from kerax.layers.options import Sizes, Spatial, check_window, read_choice, sizes
from kerax.ops.pooling import adaptive_pool, pool


class _Pooling(Spatial):
    """What all pooling over windows shares: arguments, checks, and where the windows are."""

    reduction: str

    def __init__(
        self,
        pool_size: Sizes,
        strides: Sizes | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(data_format, name=name, **kwargs)
        self.pool_size = sizes(self, "pool_size", pool_size, self.rank)
        # Windows lie side by side unless told otherwise.
        self.strides = self.pool_size if strides is None else sizes(self, "strides", strides, self.rank)
        self.padding = read_choice(self, "padding", padding, ("valid", "same"))

    def call(self, inputs: Any) -> Any:
        # Without a `build`, as layers without weights are built from the start.
        if self.padding == "valid":
            spatial = known_shape(self.spatial_sizes(inputs.shape))
            check_window(self, "window", spatial, self.pool_size, pool_size=self.pool_size, input_shape=inputs.shape)
        return pool(inputs, self.reduction, self.pool_size, self.strides, self.padding, self.data_format)


class _MaxPooling(_Pooling):
    """What pooling of any rank by the largest value shares."""

    reduction = "max"

    # Keras has a default size for this reduction only.
    def __init__(
        self,
        pool_size: Sizes = 2,
        strides: Sizes | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)


class _AveragePooling(_Pooling):
    """What pooling of any rank by the mean shares."""

    reduction = "average"


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


class _GlobalPooling(Spatial):
    """What all pooling over every position shares.

    Args:
        data_format: `"channels_last"` or `"channels_first"`.
        keepdims: Whether the spatial axes stay, with size 1.
    """

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs):
        super().__init__(data_format, **kwargs)
        self.keepdims = keepdims


class _GlobalAverage(_GlobalPooling):
    """The mean over every position."""

    def call(self, inputs: Any) -> Any:
        return jnp.mean(inputs, self.spatial_axes, keepdims=self.keepdims)


class _GlobalMaximum(_GlobalPooling):
    """The largest value over every position."""

    def call(self, inputs: Any) -> Any:
        return jnp.max(inputs, self.spatial_axes, keepdims=self.keepdims)


class GlobalAveragePooling1D(_GlobalPooling, rank=1):
    """The mean over all steps of a sequence; masked steps do not count.

    Args: `data_format`, `keepdims` (whether the step axis stays, with size 1).
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, channels)`.
    """

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return jnp.mean(inputs, self.spatial_axes, keepdims=self.keepdims)
        # (batch, steps) beside the channels' axis. Zeros in place of masked steps add nothing, NaN there neither.
        kept = jnp.expand_dims(mask.astype(bool), 2 if self.spatial_axes == (1,) else 1)
        total = jnp.sum(jnp.where(kept, inputs, 0), self.spatial_axes, keepdims=self.keepdims)
        count = jnp.sum(kept.astype(inputs.dtype), self.spatial_axes, keepdims=self.keepdims)
        return total / jnp.maximum(count, 1)  # 0 where all steps are masked: NaN there would spoil the whole batch

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
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


class _AdaptivePooling(Spatial):
    """What all adaptive pooling shares: window i of an axis of n is from `floor(i n / size)` to `ceil((i+1) n / size)`.

    Args:
        output_size: Size of the outputs: one number for all axes, or one per axis.
        data_format: `"channels_last"` or `"channels_first"`.
    """

    reduction: str

    def __init__(self, output_size: Sizes, data_format: str | None = None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.output_size = sizes(self, "output_size", output_size, self.rank)

    def call(self, inputs: Any) -> Any:
        return adaptive_pool(inputs, self.reduction, self.output_size, self.data_format)

    def get_config(self) -> dict:
        """The constructor's arguments, a size for each axis."""
        return super().get_config() | {"output_size": self.output_size}


class _AdaptiveAverage(_AdaptivePooling):
    """The mean over windows, which is the mean along each axis in turn."""

    reduction = "average"


class _AdaptiveMaximum(_AdaptivePooling):
    """The largest value of windows, which is the largest along each axis in turn."""

    reduction = "max"


class AdaptiveAveragePooling1D(_AdaptiveAverage, rank=1):
    """The means of `output_size` windows of a sequence.

    Args: `output_size`; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, output_size, channels)`.
    """


class AdaptiveAveragePooling2D(_AdaptiveAverage, rank=2):
    """The means of windows of an image.

    Args: `output_size`, one number or `(height, width)`; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.
    """


class AdaptiveAveragePooling3D(_AdaptiveAverage, rank=3):
    """The means of windows of a volume.

    Args: `output_size`, one number or three; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.
    """


class AdaptiveMaxPooling1D(_AdaptiveMaximum, rank=1):
    """The largest values of `output_size` windows of a sequence.

    Args: `output_size`; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, output_size, channels)`.
    """


class AdaptiveMaxPooling2D(_AdaptiveMaximum, rank=2):
    """The largest values of windows of an image.

    Args: `output_size`, one number or `(height, width)`; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.
    """


class AdaptiveMaxPooling3D(_AdaptiveMaximum, rank=3):
    """The largest values of windows of a volume.

    Args: `output_size`, one number or three; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.
    """
