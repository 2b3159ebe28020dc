"""Depthwise and separable convolutions: every channel by itself, then the channels together."""

from kerax.layers.conv import _Conv
from kerax.layers.options import add_weight
from kerax.ops import convolutions


class _Depthwise(_Conv):
    """What depthwise and separable convolutions share: the convolution of every channel by itself."""

    strides_and_dilation = True

    def _add_depthwise(self, channels: int, name: str):
        return add_weight(self, name, (*self.kernel_size, channels, self.depth_multiplier), options="depthwise")


class _DepthwiseConv(_Depthwise):
    """What depthwise convolutions of any rank share."""

    def build(self, input_shape):
        channels = self._check_input(input_shape)
        self.kernel = self._add_depthwise(channels, "kernel")
        self.bias = add_weight(self, "bias", (channels * self.depth_multiplier,)) if self.use_bias else None

    def call(self, inputs):
        return self._finish(convolutions.depthwise_conv(inputs, self.kernel.value, *self._window()))


class _SeparableConv(_Depthwise):
    """What separable convolutions of any rank share."""

    def build(self, input_shape):
        channels = self._check_input(input_shape)
        self.depthwise_kernel = self._add_depthwise(channels, "depthwise_kernel")
        shape = (*(1,) * self.rank, channels * self.depth_multiplier, self.filters)
        self.pointwise_kernel = add_weight(self, "pointwise_kernel", shape, options="pointwise")
        self.bias = add_weight(self, "bias", (self.filters,)) if self.use_bias else None

    def call(self, inputs):
        kernels = self.depthwise_kernel.value, self.pointwise_kernel.value
        return self._finish(convolutions.separable_conv(inputs, *kernels, *self._window()))


class DepthwiseConv1D(_DepthwiseConv):
    """Convolution of every channel of sequences by itself: `depth_multiplier` outputs for each.

    Args: as in `DepthwiseConv2D`, with one size for `kernel_size`, `strides` and `dilation_rate`.
    Weights: `kernel (width, channels, depth_multiplier)`, `bias (channels * depth_multiplier,)`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new steps, channels * depth_multiplier)`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """

    rank = 1

    def __init__(
        self,
        kernel_size,
        strides=1,
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        arguments = dict(locals())
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._configure(arguments)


class DepthwiseConv2D(_DepthwiseConv):
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

    rank = 2

    def __init__(
        self,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=(1, 1),
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        arguments = dict(locals())
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._configure(arguments)


class SeparableConv1D(_SeparableConv):
    """Convolution of every channel of sequences by itself, then of all channels at each step.

    Args: as in `SeparableConv2D`, with one size for `kernel_size`, `strides` and `dilation_rate`.
    Weights: `depthwise_kernel (width, channels, depth_multiplier)`,
        `pointwise_kernel (1, channels * depth_multiplier, filters)`, `bias (filters,)`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new steps, filters)`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """

    rank = 1

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        depth_multiplier=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        pointwise_initializer="glorot_uniform",
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
        arguments = dict(locals())
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._configure(arguments)


class SeparableConv2D(_SeparableConv):
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

    rank = 2

    def __init__(
        self,
        filters,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        depth_multiplier=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        pointwise_initializer="glorot_uniform",
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
        arguments = dict(locals())
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._configure(arguments)
