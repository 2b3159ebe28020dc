"""Convolutions."""

import jax.numpy as jnp

from kerax import activations, config
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.layers.options import add_weight, check_choice, check_positive, set_weight_options, sizes, without
from kerax.ops import convolutions
from kerax.quantizers import lora


class _Conv(Layer):
    """What all convolutions share: checks, weights, and the sum over windows."""

    rank: int
    paddings = ("valid", "same")
    strides_and_dilation = False  # whether both may be above 1
    lora_rank = main_shape = None
    lora_enabled = False

    def _configure(self, arguments: dict):
        """Sets the attributes from the constructor's arguments by name."""
        given = arguments
        counts = [name for name in ("filters", "groups", "depth_multiplier") if name in given]
        check_positive(self, **{name: given[name] for name in counts})
        for name in (*counts, "use_bias"):
            setattr(self, name, given[name])
        for name in ("kernel_size", "strides", "dilation_rate"):
            setattr(self, name, sizes(self, name, given[name], self.rank))
        self.padding = given["padding"].lower()
        check_choice(self, "padding", self.padding, self.paddings)
        self.data_format = config.standardize_data_format(given["data_format"])
        self.activation = activations.get(given["activation"])
        options = ("_initializer", "_regularizer", "_constraint")
        names = [name for name in given if name.endswith(options) and name != "activity_regularizer"]
        set_weight_options(self, **{name: given[name] for name in names})
        if given.get("filters", 0) % given.get("groups", 1):
            raise ValueError(
                f"{self}: `filters` must be a multiple of `groups`. Got filters={self.filters}, groups={self.groups}."
            )
        if not self.strides_and_dilation and max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{self}: `strides` and `dilation_rate` cannot both be above 1. "
                f"Got strides={self.strides}, dilation_rate={self.dilation_rate}."
            )
        self._channel_axis = -1 if self.data_format == "channels_last" else 1
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _check_input(self, input_shape) -> int:
        """The number of input channels. Raises `ValueError` if a window without padding is larger than the input."""
        self._check_size(input_shape)
        channels = input_shape[self._channel_axis]
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

    def build(self, input_shape):
        channels = self._check_input(input_shape)
        if channels is not None and channels % self.groups:
            raise ValueError(
                f"{self}: the number of input channels must be a multiple of `groups`={self.groups}. "
                f"Got {channels} channels, input shape {input_shape}."
            )
        inputs = None if channels is None else channels // self.groups
        self.kernel = add_weight(self, "kernel", (*self.kernel_size, inputs, self.filters))
        self.main_shape = self.kernel.shape
        self.bias = add_weight(self, "bias", (self.filters,)) if self.use_bias else None
        lora.enable_if_asked(self, "kernel")

    def call(self, inputs):
        kernel = lora.merged(self, "kernel")
        return self._finish(convolutions.conv(inputs, kernel, *self._window()))

    def _window(self) -> tuple:
        """Where windows lie, as `ops.conv` takes it."""
        return self.strides, self.padding, self.data_format, self.dilation_rate

    def _finish(self, outputs):
        if self.use_bias:
            shape = (-1,) if self._channel_axis == -1 else (-1,) + (1,) * self.rank
            outputs = outputs + self.bias.value.reshape(shape)
        return self.activation(outputs)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return lora.configured(self, without(super().get_config(), "activity_regularizer"))

    def stored_variables(self):
        """The layer's own weights but those of a low-rank update."""
        adapters = {id(variable) for variable in lora.adapters(self)}
        return [variable for variable in super().stored_variables() if id(variable) not in adapters]

    def stored_values(self):
        """The values that files hold: with a low-rank update, those of the merged kernel."""
        values = super().stored_values()
        if self.lora_enabled:
            values[0] = (self.kernel.value + lora.update(self)).astype(self.kernel._dtype)
        return values

    def also_loaded(self):
        """The low-rank update becomes 0, for files hold the merged kernel; one of its weights stays, to go on from."""
        return [(adapter, jnp.zeros(adapter.shape)) for adapter in lora.adapters(self)[1:]]


def _enable_lora(self, rank, lora_alpha=None, a_initializer="he_uniform", b_initializer="zeros"):
    """Freezes the kernel and trains `lora_alpha / rank * a @ b` added to it, as `lora_rank` does from the start."""
    lora.enable(self, "kernel", rank, lora_alpha, a_initializer, b_initializer)


class Conv1D(_Conv):
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

    rank, enable_lora = 1, _enable_lora
    paddings = ("valid", "same", "causal")

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank=None,
        lora_alpha=None,
        **kwargs,
    ):
        arguments = dict(locals())
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._configure(arguments)
        lora.configure(self, lora_rank, lora_alpha)


class Conv2D(_Conv):
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

    Weights: `kernel (height, width, channels / groups, filters)`, `bias (filters,)`.
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new height, new width, filters)`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """

    rank, enable_lora = 2, _enable_lora

    def __init__(
        self,
        filters,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        groups=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank=None,
        lora_alpha=None,
        **kwargs,
    ):
        arguments = dict(locals())
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._configure(arguments)
        lora.configure(self, lora_rank, lora_alpha)


class Conv3D(_Conv):
    """Convolution of volumes: `activation(sum over the window of inputs @ kernel + bias)`.

    Args: as in `Conv2D`, with three sizes for `kernel_size`, `strides` and `dilation_rate`.
    Weights: `kernel (depth, height, width, channels / groups, filters)`, `bias (filters,)`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes and `filters`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """

    rank, enable_lora = 3, _enable_lora

    def __init__(
        self,
        filters,
        kernel_size,
        strides=(1, 1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1, 1),
        groups=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank=None,
        lora_alpha=None,
        **kwargs,
    ):
        arguments = dict(locals())
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._configure(arguments)
        lora.configure(self, lora_rank, lora_alpha)
