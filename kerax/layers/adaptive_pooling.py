"""Pooling to a given size: the windows follow from it, and may overlap by one position."""

from typing import Any

from kerax.layers.options import Sizes, Spatial, sizes
from kerax.ops.pooling import adaptive_pool


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
