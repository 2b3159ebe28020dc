"""Convolutions."""

from collections.abc import Callable
from functools import partial
from typing import Any

from kerax import activations, config
from kerax.core.input_spec import InputSpec
from kerax.layers.options import (
    Sizes,
    check,
    check_positive,
    check_steps,
    check_window,
    read_window,
    set_rank,
    spans_of,
)
from kerax.ops import convolutions
from kerax.quantizers.compressible import Compressible, Stored


class BaseConv(Compressible):
    """What all convolutions share: how the window moves over the input, and what follows the sum over it.

    `quantize`, which Keras does not offer for them, stores kernels as integers with a scale for each output channel,
    and computes with the floats that these stand for. Only kerax reads files of such layers.

    A subclass of a rank gets its family's constructor with that rank's defaults.

    Args: as in `Conv2D`.
    """

    rank: int
    kernel = Stored()
    _kernel = Stored()
    paddings: tuple[str, ...] = ("valid", "same")
    needs_whole_windows = True  # whether an input without padding must have room for one
    unmentioned = (*Compressible.unmentioned, "quantization_config")

    def __init_subclass__(cls, rank: int | None = None):
        super().__init_subclass__()
        # One number where there is one axis, a tuple where there are more: the defaults of Keras's signatures.
        ones = (1,) * rank if rank and rank > 1 else 1
        set_rank(cls, rank, strides=ones, dilation_rate=ones)

    def __init__(
        self, kernel_size, strides, padding: str, data_format, dilation_rate, activation, use_bias: bool, **kwargs
    ):
        super().__init__(**kwargs)
        window = read_window(self, self.rank, kernel_size, strides, padding, dilation_rate, self.paddings)
        self.kernel_size, self.strides, self.padding, self.dilation_rate = window
        self.data_format = config.standardize_data_format(data_format)
        self.channel_axis = -1 if self.data_format == "channels_last" else 1
        self.activation: Callable = activations.get(activation)
        self.use_bias = use_bias
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def represent_kernel(self, axes: str, outputs: str = "o", name: str = "kernel") -> None:
        """Says how a kernel is read: by the window's axes, and those of channels and filters in the order of `axes`."""
        window = "uvw"[: self.rank]
        # Only quantization reads the equation, to see which numbers are added up; a call convolves.
        self.represent(name, f"...{window}i,{window}{axes}->...{outputs}")

    def read_channels(self, input_shape: Any) -> int:
        """The number of input channels. Raises `ValueError` if a window without padding is larger than the input."""
        if self.padding == "valid" and self.needs_whole_windows:
            spatial = input_shape[1:-1] if self.channel_axis == -1 else input_shape[2:]
            got = {"kernel_size": self.kernel_size, "dilation_rate": self.dilation_rate, "input_shape": input_shape}
            check_window(self, "kernel", spatial, spans_of(self.kernel_size, self.dilation_rate), **got)
        channels = input_shape[self.channel_axis]
        # From here on other numbers of channels are refused by name, not by XLA.
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self.channel_axis: channels})
        return channels

    def finish(self, outputs: Any) -> Any:
        """The layer's outputs from the sums over the windows."""
        if self.bias is not None:
            # Broadcast from the last axis; channels in front of the spatial axes need size-1 axes behind them.
            shape = (-1,) if self.channel_axis == -1 else (-1,) + (1,) * self.rank
            outputs = outputs + self.bias.value.reshape(shape)
        return outputs if self.activation is None else self.activation(outputs)


class _Conv(BaseConv):
    """What convolutions of any rank share. See `Conv2D`."""

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        groups: int = 1,
        activation=None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        **kwargs,
    ):
        kwargs |= {"lora_rank": lora_rank, "lora_alpha": lora_alpha, "activity_regularizer": activity_regularizer}
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, **kwargs)
        check_steps(self, self.strides, self.dilation_rate)
        check_positive(self, filters=filters, groups=groups)
        check(self, filters % groups == 0, "`filters` must be a multiple of `groups`", filters=filters, groups=groups)
        self.filters, self.groups = filters, groups
        self.set_kernel_options(kernel_initializer, kernel_regularizer, kernel_constraint)
        self.set_bias_options(bias_initializer, bias_regularizer, bias_constraint)
        self.represent_kernel("io")

    def build(self, input_shape: Any) -> None:
        channels = self.read_channels(input_shape)
        fits = channels is None or channels % self.groups == 0
        expected = f"the number of input channels must be a multiple of `groups`={self.groups}"
        check(self, fits, expected, channels=channels, input_shape=input_shape)
        # Each group of filters sees its own group of channels. An unknown number is left to `add_weight` to refuse.
        inputs = None if channels is None else channels // self.groups
        self.add_kernel((*self.kernel_size, inputs, self.filters))
        self.finish_build((self.filters,) if self.use_bias else None)

    def call(self, inputs: Any) -> Any:
        return self.finish(self.convolution_op(inputs, self.representations["kernel"].value))

    @property
    def convolution_op(self) -> Callable:
        """Takes inputs and kernel to the sums over the windows, without bias and activation. A subclass writes a method
        of this name to convolve another way."""
        window = {"strides": self.strides, "padding": self.padding, "data_format": self.data_format}
        return partial(convolutions.conv, **window, dilation_rate=self.dilation_rate)


class Conv1D(_Conv, rank=1):
    """Convolution of sequences: `activation(sum over the window of inputs @ kernel + bias)`.

    Args:
        filters: Number of output channels.
        kernel_size: Width of the window.
        strides: Steps between windows.
        padding: `"valid"` (none), `"same"` (as many outputs as inputs at stride 1), or `"causal"` (zeros in front
            only, so that no output sees a later input).
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: Steps between the inputs of a window.
        groups: Number of groups of channels that are convolved apart.
        activation: Name or function applied to the result. `None` applies nothing.
        use_bias: Whether to add `bias`.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            Options of the weights.
        activity_regularizer: Penalty on the outputs.
        lora_rank, lora_alpha: As in `Dense`.

    Weights: `kernel (width, channels / groups, filters)`, `bias (filters,)`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new steps, filters)`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """

    # Only along time is there a past: "causal" would mean nothing for images.
    paddings = ("valid", "same", "causal")


class Conv2D(_Conv, rank=2):
    """Convolution of images: `activation(sum over the window of inputs @ kernel + bias)`.

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the window.
        strides: Rows and columns between windows.
        padding: `"valid"` (none) or `"same"` (as many outputs as inputs at stride 1).
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: Rows and columns between the inputs of a window.
        groups: Number of groups of channels that are convolved apart.
        activation: Name or function applied to the result. `None` applies nothing.
        use_bias: Whether to add `bias`.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            Options of the weights.
        activity_regularizer: Penalty on the outputs.
        lora_rank, lora_alpha: As in `Dense`.

    Weights: `kernel (height, width, channels / groups, filters)`, `bias (filters,)`.
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new height, new width, filters)`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """


class Conv3D(_Conv, rank=3):
    """Convolution of volumes: `activation(sum over the window of inputs @ kernel + bias)`.

    Args: as in `Conv2D`, with three sizes for `kernel_size`, `strides` and `dilation_rate`.
    Weights: `kernel (depth, height, width, channels / groups, filters)`, `bias (filters,)`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes and `filters`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """
