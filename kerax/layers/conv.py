"""Convolutions."""

from collections.abc import Callable
from typing import Any

from kerax import activations, config
from kerax.core.input_spec import InputSpec
from kerax.core.variable import Variable
from kerax.layers.options import Sizes, check_choice, check_positive, set_rank, sizes
from kerax.ops import convolutions
from kerax.quantizers.compressible import Compressible


class BaseConv(Compressible):
    """What all convolutions share: how the window moves over the input, and what follows the sum over it.

    `quantize`, which Keras does not offer for them, stores kernels as integers with a scale for each output channel,
    and computes with the floats that these stand for. Only kerax reads files of such layers.

    A subclass of a rank gets its family's constructor with that rank's defaults.
    """

    rank: int
    use_bias: bool
    activation: Callable
    kernel: Variable
    bias: Variable | None = None
    paddings: tuple[str, ...] = ("valid", "same")
    strides_and_dilation = False  # whether both may be above 1
    unmentioned = (*Compressible.unmentioned, "quantization_config")

    def __init_subclass__(cls, rank: int | None = None):
        super().__init_subclass__()
        ones = (1,) * rank if rank and rank > 1 else 1
        set_rank(cls, rank, strides=ones, dilation_rate=ones)

    def set_window(
        self, kernel_size: Any, strides: Any, padding: str, data_format: str | None, dilation_rate: Any
    ) -> None:
        """Sets the attributes that say how the window moves. Raises `ValueError` if one is out of its range."""
        self.kernel_size = sizes(self, "kernel_size", kernel_size, self.rank)
        self.strides = sizes(self, "strides", strides, self.rank)
        self.dilation_rate = sizes(self, "dilation_rate", dilation_rate, self.rank)
        self.padding = padding.lower()
        check_choice(self, "padding", self.padding, self.paddings)
        self.data_format = config.standardize_data_format(data_format)
        if not self.strides_and_dilation and max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{self}: `strides` and `dilation_rate` cannot both be above 1. "
                f"Got strides={self.strides}, dilation_rate={self.dilation_rate}."
            )
        self._channel_axis = -1 if self.data_format == "channels_last" else 1
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def represent_kernel(self, axes: str, outputs: str = "o", name: str = "kernel") -> None:
        """Says how a kernel is read: by the window's axes, and those of channels and filters in the order of `axes`."""
        window = "uvw"[: self.rank]
        self.represent(name, f"...{window}i,{window}{axes}->...{outputs}")

    def _check_input(self, input_shape) -> int:
        """The number of input channels. Raises `ValueError` if a window without padding is larger than the input."""
        self._check_size(input_shape)
        channels = input_shape[self._channel_axis]
        # From here on other numbers of channels are refused by name, not by XLA.
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self._channel_axis: channels})
        return channels

    def _check_size(self, input_shape):
        spatial = input_shape[1:-1] if self._channel_axis == -1 else input_shape[2:]
        for size, k, dilation in zip(spatial, self.kernel_size, self.dilation_rate, strict=True):
            if self.padding == "valid" and size is not None and dilation * (k - 1) + 1 > size:
                raise ValueError(
                    f"{self}: the kernel is larger than the input. Got kernel_size={self.kernel_size}, "
                    f"dilation_rate={self.dilation_rate}, input shape {input_shape}. "
                    "Use a smaller kernel or padding='same'."
                )

    def _geometry(self) -> tuple:
        """Where windows lie, as `ops.conv` takes it."""
        return self.strides, self.padding, self.data_format, self.dilation_rate

    def _finish(self, outputs):
        if self.bias is not None:
            shape = (-1,) if self._channel_axis == -1 else (-1,) + (1,) * self.rank  # broadcasts from the last axis
            outputs = outputs + self.bias.value.reshape(shape)
        return self.activation(outputs)


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
        super().__init__(lora_rank, lora_alpha, activity_regularizer=activity_regularizer, **kwargs)
        self.set_window(kernel_size, strides, padding, data_format, dilation_rate)
        check_positive(self, filters=filters, groups=groups)
        if filters % groups:
            raise ValueError(f"{self}: `filters` must be a multiple of `groups`. Got {filters=}, {groups=}.")
        self.represent_kernel("io")
        self.filters = filters
        self.groups = groups
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.set_kernel_options(kernel_initializer, kernel_regularizer, kernel_constraint)
        self.set_bias_options(bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Any) -> None:
        channels = self._check_input(input_shape)
        if channels is not None and channels % self.groups:
            raise ValueError(
                f"{self}: the number of input channels must be a multiple of `groups`={self.groups}. "
                f"Got {channels} channels, input shape {input_shape}."
            )
        inputs = None if channels is None else channels // self.groups
        self.add_kernel((*self.kernel_size, inputs, self.filters))
        self.bias = self.add_bias((self.filters,)) if self.use_bias else None
        self.finish_build()

    def call(self, inputs: Any) -> Any:
        kernel = self.representations["kernel"].value
        return self._finish(convolutions.conv(inputs, kernel, *self._geometry()))


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
