"""Pooling to a given size: the windows follow from it, and may overlap by one position."""

import jax.numpy as jnp
import numpy as np

from kerax import config
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.layers.options import sizes


class _AdaptivePooling(Layer):
    """What all adaptive pooling shares: window i of an axis of n is from `floor(i n / size)` to `ceil((i+1) n / size)`.

    Args:
        output_size: Size of the outputs: one number for all axes, or one per axis.
        data_format: `"channels_last"` or `"channels_first"`.
    """

    rank: int

    def __init__(self, output_size, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.output_size = sizes(self, "output_size", output_size, self.rank)
        self.data_format = config.standardize_data_format(data_format)
        self._first = 1 if self.data_format == "channels_last" else 2  # spatial axis
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs):
        for axis, size in enumerate(self.output_size, start=self._first):
            length = int(inputs.shape[axis])
            if length % size:
                inputs = self._pool_axis(inputs, axis, *_windows(length, size))
            else:
                shape = (*inputs.shape[:axis], size, length // size, *inputs.shape[axis + 1 :])
                inputs = self._reduce(inputs.reshape(shape), axis + 1)
        return inputs

    def _reduce(self, inputs, axis: int):
        """The windows' values from those along `axis`."""
        raise NotImplementedError

    def _pool_axis(self, inputs, axis: int, starts, ends):
        """The values of windows of different sizes along `axis`."""
        raise NotImplementedError


def _windows(length: int, size: int):
    """Where `size` windows over `length` positions start and end."""
    index = np.arange(size)
    return index * length // size, -(-(index + 1) * length // size)


class _AdaptiveAverage(_AdaptivePooling):
    """The mean over windows, which is the mean along each axis in turn."""

    def _reduce(self, inputs, axis):
        return jnp.mean(inputs, axis)

    def _pool_axis(self, inputs, axis, starts, ends):
        positions = np.arange(inputs.shape[axis])[:, None]
        weights = ((positions >= starts) & (positions < ends)) / (ends - starts)  # (positions, windows)
        return jnp.moveaxis(jnp.tensordot(inputs, jnp.asarray(weights, inputs.dtype), ((axis,), (0,))), -1, axis)


class _AdaptiveMaximum(_AdaptivePooling):
    """The largest value of windows, which is the largest along each axis in turn."""

    def _reduce(self, inputs, axis):
        return jnp.max(inputs, axis)

    def _pool_axis(self, inputs, axis, starts, ends):
        positions = starts[:, None] + np.arange(max(ends - starts))  # shorter windows count their last one again
        return jnp.max(jnp.take(inputs, np.minimum(positions, ends[:, None] - 1), axis), axis + 1)


class AdaptiveAveragePooling1D(_AdaptiveAverage):
    """The means of `output_size` windows of a sequence.

    Args: `output_size`; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, output_size, channels)`.
    """

    rank = 1


class AdaptiveAveragePooling2D(_AdaptiveAverage):
    """The means of windows of an image.

    Args: `output_size`, one number or `(height, width)`; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.
    """

    rank = 2


class AdaptiveAveragePooling3D(_AdaptiveAverage):
    """The means of windows of a volume.

    Args: `output_size`, one number or three; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.
    """

    rank = 3


class AdaptiveMaxPooling1D(_AdaptiveMaximum):
    """The largest values of `output_size` windows of a sequence.

    Args: `output_size`; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, output_size, channels)`.
    """

    rank = 1


class AdaptiveMaxPooling2D(_AdaptiveMaximum):
    """The largest values of windows of an image.

    Args: `output_size`, one number or `(height, width)`; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.
    """

    rank = 2


class AdaptiveMaxPooling3D(_AdaptiveMaximum):
    """The largest values of windows of a volume.

    Args: `output_size`, one number or three; `data_format`, `"channels_last"` or `"channels_first"`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.
    """

    rank = 3
