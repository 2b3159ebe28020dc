"""Depthwise and separable convolutions: every channel by itself, then the channels together."""

from typing import Any

from kerax.layers.conv import BaseConv
from kerax.layers.options import Sizes, check_positive, weight_options
from kerax.ops import convolutions


class _DepthwiseConv(BaseConv):
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
        bias_initializer: Any = "zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        kwargs |= {"activity_regularizer": activity_regularizer}
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, **kwargs)
        check_positive(self, depth_multiplier=depth_multiplier)
        self.depth_multiplier = depth_multiplier
        depthwise = depthwise_initializer, depthwise_regularizer, depthwise_constraint
        self.depthwise_initializer, self.depthwise_regularizer, self.depthwise_constraint = weight_options(*depthwise)
        self.set_bias_options(bias_initializer, bias_regularizer, bias_constraint)
        # Channels and multipliers both stay in the outputs: each pair of them has a scale of its own when quantized.
        self.represent_kernel("io", "io")

    def build(self, input_shape: Any) -> None:
        channels = self.read_channels(input_shape)
        depthwise = self.depthwise_initializer, self.depthwise_regularizer, self.depthwise_constraint
        self.add_stored("kernel", (*self.kernel_size, channels, self.depth_multiplier), *depthwise)
        self.finish_build((channels * self.depth_multiplier,) if self.use_bias else None)

    def call(self, inputs: Any) -> Any:
        kernel, window = self.representations["kernel"].value, (self.strides, self.padding)
        return self.finish(convolutions.depthwise_conv(inputs, kernel, *window, self.data_format, self.dilation_rate))


class _SeparableConv(BaseConv):
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
        bias_initializer: Any = "zeros",
        depthwise_regularizer=None,
        pointwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        pointwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        kwargs |= {"activity_regularizer": activity_regularizer}
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, **kwargs)
        check_positive(self, filters=filters, depth_multiplier=depth_multiplier)
        self.filters, self.depth_multiplier = filters, depth_multiplier
        depthwise = depthwise_initializer, depthwise_regularizer, depthwise_constraint
        self.depthwise_initializer, self.depthwise_regularizer, self.depthwise_constraint = weight_options(*depthwise)
        pointwise = pointwise_initializer, pointwise_regularizer, pointwise_constraint
        self.pointwise_initializer, self.pointwise_regularizer, self.pointwise_constraint = weight_options(*pointwise)
        self.set_bias_options(bias_initializer, bias_regularizer, bias_constraint)
        # Two weights, read apart: a low-rank update is on the first, the depthwise one.
        self.represent_kernel("io", "io", name="depthwise_kernel")
        self.represent_kernel("io", name="pointwise_kernel")

    def build(self, input_shape: Any) -> None:
        channels = self.read_channels(input_shape)
        depthwise = self.depthwise_initializer, self.depthwise_regularizer, self.depthwise_constraint
        self.add_stored("depthwise_kernel", (*self.kernel_size, channels, self.depth_multiplier), *depthwise)
        # A window of size 1: at each position the channels that the depthwise convolution made are mixed.
        shape = *(1,) * self.rank, channels * self.depth_multiplier, self.filters
        pointwise = self.pointwise_initializer, self.pointwise_regularizer, self.pointwise_constraint
        self.add_stored("pointwise_kernel", shape, *pointwise)
        self.finish_build((self.filters,) if self.use_bias else None)

    def call(self, inputs: Any) -> Any:
        depthwise, pointwise = (weight.value for weight in self.representations.values())  # in the order of `represent`
        window = self.strides, self.padding, self.data_format, self.dilation_rate
        return self.finish(convolutions.separable_conv(inputs, depthwise, pointwise, *window))


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
