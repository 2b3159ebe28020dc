"""Depthwise and separable convolutions: every channel by itself, then the channels together."""

from collections.abc import Callable
from typing import Any

from kerax import activations
from kerax.layers.conv import BaseConv
from kerax.layers.options import Sizes, check_positive, weight_options
from kerax.ops import convolutions


class _Depthwise(BaseConv):
    """What depthwise and separable convolutions share: the convolution of every channel by itself."""

    strides_and_dilation = True
    depth_multiplier: int
    depthwise_initializer: Callable | None
    depthwise_regularizer: Callable | None
    depthwise_constraint: Callable | None

    def _add_depthwise(self, channels: int, name: str):
        shape = *self.kernel_size, channels, self.depth_multiplier
        self.add_stored(name, shape, self.depthwise_initializer, self.depthwise_regularizer, self.depthwise_constraint)


class _DepthwiseConv(_Depthwise):
    """What depthwise convolutions of any rank share."""

    def __init__(
        self,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation=None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.set_window(kernel_size, strides, padding, data_format, dilation_rate)
        check_positive(self, depth_multiplier=depth_multiplier)
        self.represent_kernel("io", "io")
        self.depth_multiplier = depth_multiplier
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        depthwise = depthwise_initializer, depthwise_regularizer, depthwise_constraint
        self.depthwise_initializer, self.depthwise_regularizer, self.depthwise_constraint = weight_options(*depthwise)
        self.set_bias_options(bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Any) -> None:
        channels = self._check_input(input_shape)
        self._add_depthwise(channels, "kernel")
        self.bias = self.add_bias((channels * self.depth_multiplier,)) if self.use_bias else None
        self.finish_build()

    def call(self, inputs: Any) -> Any:
        kernel = self.representations["kernel"].value
        return self._finish(convolutions.depthwise_conv(inputs, kernel, *self._geometry()))


class _SeparableConv(_Depthwise):
    """What separable convolutions of any rank share."""

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        depth_multiplier: int = 1,
        activation=None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        pointwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        pointwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.set_window(kernel_size, strides, padding, data_format, dilation_rate)
        check_positive(self, filters=filters, depth_multiplier=depth_multiplier)
        self.represent_kernel("io", "io", name="depthwise_kernel")
        self.represent_kernel("io", name="pointwise_kernel")
        self.filters = filters
        self.depth_multiplier = depth_multiplier
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        depthwise = depthwise_initializer, depthwise_regularizer, depthwise_constraint
        self.depthwise_initializer, self.depthwise_regularizer, self.depthwise_constraint = weight_options(*depthwise)
        self.set_bias_options(bias_initializer, bias_regularizer, bias_constraint)
        pointwise = pointwise_initializer, pointwise_regularizer, pointwise_constraint
        self.pointwise_initializer, self.pointwise_regularizer, self.pointwise_constraint = weight_options(*pointwise)

    def build(self, input_shape: Any) -> None:
        channels = self._check_input(input_shape)
        self._add_depthwise(channels, "depthwise_kernel")
        shape = *(1,) * self.rank, channels * self.depth_multiplier, self.filters
        options = self.pointwise_initializer, self.pointwise_regularizer, self.pointwise_constraint
        self.add_stored("pointwise_kernel", shape, *options)
        self.bias = self.add_bias((self.filters,)) if self.use_bias else None
        self.finish_build()

    def call(self, inputs: Any) -> Any:
        depthwise, pointwise = (weight.value for weight in self.representations.values())
        return self._finish(convolutions.separable_conv(inputs, depthwise, pointwise, *self._geometry()))


class DepthwiseConv1D(_DepthwiseConv, rank=1):
    """Convolution of every channel of sequences by itself: `depth_multiplier` outputs for each.

    Args: as in `DepthwiseConv2D`, with one size for `kernel_size`, `strides` and `dilation_rate`.
    Weights: `kernel (width, channels, depth_multiplier)`, `bias (channels * depth_multiplier,)`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new steps, channels * depth_multiplier)`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """


class DepthwiseConv2D(_DepthwiseConv, rank=2):
    """Convolution of every channel of images by itself: `depth_multiplier` outputs for each.

    Args:
        kernel_size: Height and width of the window.
        strides: Rows and columns between windows.
        padding: `"valid"` (none) or `"same"` (as many outputs as inputs at stride 1).
        depth_multiplier: Number of outputs per channel.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: Rows and columns between the inputs of a window.
        activation: Name or function applied to the result. `None` applies nothing.
        use_bias: Whether to add `bias`.
        depthwise_initializer, bias_initializer, depthwise_regularizer, bias_regularizer, depthwise_constraint,
            bias_constraint: Options of the weights.
        activity_regularizer: Penalty on the outputs.

    Weights: `kernel (height, width, channels, depth_multiplier)`, `bias (channels * depth_multiplier,)`.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, new height, new width, channels * depth_multiplier)`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """


class SeparableConv1D(_SeparableConv, rank=1):
    """Convolution of every channel of sequences by itself, then of all channels at each step.

    Args: as in `SeparableConv2D`, with one size for `kernel_size`, `strides` and `dilation_rate`.
    Weights: `depthwise_kernel (width, channels, depth_multiplier)`,
        `pointwise_kernel (1, channels * depth_multiplier, filters)`, `bias (filters,)`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new steps, filters)`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """


class SeparableConv2D(_SeparableConv, rank=2):
    """Convolution of every channel of images by itself, then of all channels at each position.

    Args:
        filters: Number of output channels.
        kernel_size, strides, padding, data_format, dilation_rate, depth_multiplier: As in `DepthwiseConv2D`.
        activation: Name or function applied to the result. `None` applies nothing.
        use_bias: Whether to add `bias`.
        depthwise_initializer, pointwise_initializer, bias_initializer: Options of the weights, as are regularizers and
            constraints of the same names.
        activity_regularizer: Penalty on the outputs.

    Weights: `depthwise_kernel (height, width, channels, depth_multiplier)`,
        `pointwise_kernel (1, 1, channels * depth_multiplier, filters)`, `bias (filters,)`.
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new height, new width, filters)`.
    Source: Chollet 2017, https://arxiv.org/abs/1610.02357

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """
