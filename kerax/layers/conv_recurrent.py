"""Convolutional LSTMs: recurrent layers whose inputs and states are sequences, images or volumes."""

from typing import Any

import jax.numpy as jnp

from kerax import config
from kerax.core.input_spec import InputSpec
from kerax.layers.cells import GatedCell, Stepper, drop
from kerax.layers.options import Sizes, check_steps, check_window, read_window, set_rank, spans_of
from kerax.layers.recurrent import CellRNN, of_cell
from kerax.ops import convolutions


class _ConvLSTMCell(GatedCell):
    """An LSTM step with convolutions in place of matrix products.

    Args:
        rank: Number of spatial axes.
        filters, kernel_size, strides, padding, data_format, dilation_rate: As in `ConvLSTM2D`.
        *arguments, **kwargs: Those of `LSTMCell` after `units`.
    """

    size_name = "filters"

    def __init__(self, rank, filters, kernel_size, strides, padding, data_format, dilation_rate, *arguments, **kwargs):
        super().__init__(filters, *arguments, name="conv_lstm_cell", **kwargs)
        self.rank, self.filters = rank, filters
        window = read_window(self, rank, kernel_size, strides, padding, dilation_rate, ("valid", "same"))
        self.kernel_size, self.strides, self.padding, self.dilation_rate = window
        check_steps(self, self.strides, self.dilation_rate)
        self.data_format = config.standardize_data_format(data_format)
        self.channel_axis = -1 if self.data_format == "channels_last" else 1
        # What the window takes off an axis, plus 1: nothing where it is padded.
        self._spans = (1,) * rank if self.padding == "same" else spans_of(self.kernel_size, self.dilation_rate)

    def build(self, input_shape: Any) -> None:
        channels, width = input_shape[self.channel_axis], self.filters * self.num_gates
        got = {"kernel_size": self.kernel_size, "dilation_rate": self.dilation_rate, "step_shape": tuple(input_shape)}
        check_window(self, "kernel", self._spatial(input_shape), self._spans, **got)
        self._add_weights((*self.kernel_size, channels, width), (*self.kernel_size, self.filters, width))

    def _spatial(self, shape) -> tuple:
        return tuple(shape[1:-1] if self.channel_axis == -1 else shape[2:])

    def state_shape(self, input_shape: Any) -> tuple:
        """The shape of each state for inputs `(batch, *spatial, channels)`."""
        axes = zip(self._spatial(input_shape), self._spans, self.strides, strict=True)
        new = [None if size is None else (size - span) // stride + 1 for size, span, stride in axes]
        rest = (*new, self.filters) if self.channel_axis == -1 else (self.filters, *new)
        return input_shape[0], *rest

    def stepper(self, input_shape: Any, training: Any) -> Any:
        """The step with the weights as they are, and with dropout masks for one pass over a batch of sequences."""
        kernel, recurrent_kernel, bias = self.read_weights()
        input_mask = self.draw_mask(self.dropout if training else 0, input_shape)
        recurrent_mask = self.draw_mask(self.recurrent_dropout if training else 0, self.state_shape(input_shape))
        ones, channels_last = (1,) * self.rank, self.channel_axis == -1

        def project(inputs, steps_axis=None):
            ahead = steps_axis is not None
            dropped = drop(inputs, input_mask, steps_axis)
            # A convolution has one batch axis: steps are folded into it, and unfolded from the outputs.
            steps = dropped.reshape(-1, *dropped.shape[2:]) if ahead else dropped
            outputs = convolutions.conv(steps, kernel, self.strides, self.padding, self.data_format, self.dilation_rate)
            if bias is not None:
                outputs = outputs + (bias if channels_last else bias.reshape(-1, *ones))
            return outputs.reshape(*inputs.shape[:2], *outputs.shape[1:]) if ahead else outputs

        def advance(projected, states):
            hidden = drop(states[0], recurrent_mask)
            # The state keeps its size from step to step, whatever strides and padding the inputs' convolution has.
            recurrent = convolutions.conv(hidden, recurrent_kernel, 1, "same", self.data_format)
            return self.gate(projected + recurrent, states[1], self.channel_axis)

        return Stepper(project, advance, self.filters * self.num_gates / kernel.shape[-2])


class _ConvLSTM(CellRNN):
    """What convolutional LSTMs of any rank share."""

    rank: int
    cell: _ConvLSTMCell
    filters, padding, data_format = of_cell("filters", "padding", "data_format")
    kernel_size, strides, dilation_rate = of_cell("kernel_size", "strides", "dilation_rate")

    def __init_subclass__(cls, rank: int | None = None):
        super().__init_subclass__()
        set_rank(cls, rank)

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        **kwargs,
    ):
        window = filters, kernel_size, strides, padding, data_format, dilation_rate
        weights = kernel_initializer, recurrent_initializer, bias_initializer
        penalties = kernel_regularizer, recurrent_regularizer, bias_regularizer
        limits = kernel_constraint, recurrent_constraint, bias_constraint
        gates = self.rank, *window, activation, recurrent_activation, use_bias
        options = *weights, unit_forget_bias, *penalties, *limits, dropout, recurrent_dropout, seed
        kwargs |= {"activity_regularizer": activity_regularizer}
        loop = return_sequences, return_state, go_backwards, stateful
        super().__init__(_ConvLSTMCell, (*gates, *options), loop, **kwargs)
        self.input_spec = InputSpec(ndim=self.rank + 3)

    def _first_states(self, sequences_shape) -> list:
        # From the inputs' shape, not the batch size alone: a state is an image.
        shape = self.cell.state_shape((sequences_shape[0], *sequences_shape[2:]))
        return [jnp.zeros(shape, self.compute_dtype) for _ in range(2)]


class ConvLSTM1D(_ConvLSTM, rank=1):
    """An LSTM over sequences of sequences: its products with kernels are convolutions.

    Args: as in `ConvLSTM2D`, with one size for `kernel_size`, `strides` and `dilation_rate`.
    Weights: `kernel (width, channels, 4 * filters)`, `recurrent_kernel (width, filters, 4 * filters)`,
        `bias (4 * filters,)`.
    Input shape: `(batch, steps, length, channels)`. Output shape: as in `ConvLSTM2D`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """


class ConvLSTM2D(_ConvLSTM, rank=2):
    """An LSTM over sequences of images: its products with kernels are convolutions, and its states are images.

    Args:
        filters: Number of channels of the states.
        kernel_size: Height and width of both convolutions' windows.
        strides, padding, data_format, dilation_rate: Of the convolution of the inputs, as in `Conv2D`; that of the
            states has strides of 1 and padding `"same"`.
        activation, recurrent_activation, use_bias, unit_forget_bias, dropout, recurrent_dropout, seed: As in `LSTM`.
        kernel_initializer, recurrent_initializer, bias_initializer: Options of the weights, as are regularizers and
            constraints of the same names.
        activity_regularizer: Penalty on the outputs.
        return_sequences, return_state, go_backwards, stateful: As in `RNN`.

    Weights: `kernel (height, width, channels, 4 * filters)`, `recurrent_kernel (height, width, filters, 4 * filters)`,
        `bias (4 * filters,)`.
    Input shape: `(batch, steps, height, width, channels)`.
    Output shape: `(batch, new height, new width, filters)`, with the steps after the batch if `return_sequences`; then
        the states `h` and `c`.
    Source: Shi et al. 2015, https://arxiv.org/abs/1506.04214

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """


class ConvLSTM3D(_ConvLSTM, rank=3):
    """An LSTM over sequences of volumes: its products with kernels are convolutions.

    Args: as in `ConvLSTM2D`, with three sizes for `kernel_size`, `strides` and `dilation_rate`.
    Weights: `kernel (depth, height, width, channels, 4 * filters)`,
        `recurrent_kernel (depth, height, width, filters, 4 * filters)`, `bias (4 * filters,)`.
    Input shape: `(batch, steps, depth, height, width, channels)`. Output shape: as in `ConvLSTM2D`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """
