"""Recurrent layers with a cell of their own: `SimpleRNN`, `LSTM`, `GRU`."""

import operator
from typing import Any

from kerax.core.input_spec import InputSpec
from kerax.layers.cells import GRUCell, LSTMCell, SimpleRNNCell
from kerax.layers.options import check_choice, leave_out
from kerax.layers.rnn import RNN


def of_cell(*names: str) -> Any:
    """For each name, an attribute of a layer that is its cell's."""
    return [property(operator.attrgetter(f"cell.{name}")) for name in names]


class CellRNN(RNN):
    """What layers share whose cell is made from their own arguments, and shows them.

    Args:
        cell_class, arguments: The class of the cell, and what its constructor is given.
        loop: The first arguments of `RNN` after the cell.
        activity_regularizer, use_cudnn, **kwargs: As in `LSTM`.
    """

    # Properties, not copies: a cell that is changed, or put in its place, is what the layer shows.
    units, use_bias, unit_forget_bias, reset_after = of_cell("units", "use_bias", "unit_forget_bias", "reset_after")
    activation, recurrent_activation = of_cell("activation", "recurrent_activation")
    kernel_initializer, kernel_regularizer, kernel_constraint = of_cell(
        "kernel_initializer", "kernel_regularizer", "kernel_constraint"
    )
    recurrent_initializer, recurrent_regularizer, recurrent_constraint = of_cell(
        "recurrent_initializer", "recurrent_regularizer", "recurrent_constraint"
    )
    bias_initializer, bias_regularizer, bias_constraint = of_cell(
        "bias_initializer", "bias_regularizer", "bias_constraint"
    )
    dropout, recurrent_dropout, seed = of_cell("dropout", "recurrent_dropout", "seed")
    takes_implementation = True

    def __init__(self, cell_class: Any, arguments: tuple, loop: tuple, use_cudnn: bool | str | None = None, **kwargs):
        if self.takes_implementation:
            kwargs.pop("implementation", None)  # of Keras's older formulations; there is one
        # The others are the layer's own; the weights, which these two are about, are its cell's.
        shared = {name: kwargs[name] for name in ("dtype", "trainable") if name in kwargs}
        super().__init__(cell_class(*arguments, **shared), *loop, **kwargs)
        if use_cudnn is not None:  # only `LSTM` and `GRU` have it
            check_choice(self, "use_cudnn", use_cudnn, ("auto", True, False))
            self.use_cudnn = use_cudnn
        self.input_spec = InputSpec(ndim=3)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = leave_out(super().get_config(), "use_cudnn", "implementation")
        # Of `RNN`'s own, which the constructors take as `kwargs` or at their end: Keras's configs always have them.
        return config | {"unroll": self.unroll, "zero_output_for_mask": self.zero_output_for_mask}


class SimpleRNN(CellRNN):
    """`SimpleRNNCell` run over the steps of sequences.

    Args: those of `SimpleRNNCell` and of `RNN`, and
        activity_regularizer: Penalty on the outputs.

    Weights: `kernel (features, units)`, `recurrent_kernel (units, units)`, `bias (units,)`.
    Input shape: `(batch, steps, features)`. Output shape: as in `RNN`.
    """

    takes_implementation = False  # nor in Keras

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        **kwargs,
    ):
        weights = kernel_initializer, recurrent_initializer, bias_initializer
        penalties = kernel_regularizer, recurrent_regularizer, bias_regularizer
        limits = kernel_constraint, recurrent_constraint, bias_constraint
        options = *weights, *penalties, *limits, dropout, recurrent_dropout, seed
        loop = return_sequences, return_state, go_backwards, stateful, unroll
        kwargs |= {"activity_regularizer": activity_regularizer}
        super().__init__(SimpleRNNCell, (units, activation, use_bias, *options), loop, **kwargs)


class LSTM(CellRNN):
    """`LSTMCell` run over the steps of sequences.

    Args: those of `LSTMCell` and of `RNN`, and
        activity_regularizer: Penalty on the outputs.
        use_cudnn: Kept for Keras's signature: kerax has one formulation.

    Weights: `kernel (features, 4 * units)`, `recurrent_kernel (units, 4 * units)`, `bias (4 * units,)`.
    Input shape: `(batch, steps, features)`. Output shape: as in `RNN`; the states are `h` and `c`.
    """

    def __init__(
        self,
        units: int,
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
        unroll: bool = False,
        use_cudnn: bool | str = "auto",
        **kwargs,
    ):
        weights = kernel_initializer, recurrent_initializer, bias_initializer
        penalties = kernel_regularizer, recurrent_regularizer, bias_regularizer
        limits = kernel_constraint, recurrent_constraint, bias_constraint
        gates = units, activation, recurrent_activation, use_bias
        options = *weights, unit_forget_bias, *penalties, *limits, dropout, recurrent_dropout, seed
        loop = return_sequences, return_state, go_backwards, stateful, unroll
        kwargs |= {"activity_regularizer": activity_regularizer}
        super().__init__(LSTMCell, (*gates, *options), loop, use_cudnn, **kwargs)


class GRU(CellRNN):
    """`GRUCell` run over the steps of sequences.

    Args: those of `GRUCell` and of `RNN`, and
        activity_regularizer: Penalty on the outputs.
        use_cudnn: Kept for Keras's signature: kerax has one formulation.

    Weights: `kernel (features, 3 * units)`, `recurrent_kernel (units, 3 * units)`, `bias (2, 3 * units)` or
        `(3 * units,)` without `reset_after`.
    Input shape: `(batch, steps, features)`. Output shape: as in `RNN`.
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
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
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: bool | str = "auto",
        **kwargs,
    ):
        weights = kernel_initializer, recurrent_initializer, bias_initializer
        penalties = kernel_regularizer, recurrent_regularizer, bias_regularizer
        limits = kernel_constraint, recurrent_constraint, bias_constraint
        gates = units, activation, recurrent_activation, use_bias
        options = *weights, *penalties, *limits, dropout, recurrent_dropout, reset_after, seed
        loop = return_sequences, return_state, go_backwards, stateful, unroll
        kwargs |= {"activity_regularizer": activity_regularizer}
        super().__init__(GRUCell, (*gates, *options), loop, use_cudnn, **kwargs)
