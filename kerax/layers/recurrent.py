"""Recurrent layers with a cell of their own: `SimpleRNN`, `LSTM`, `GRU`."""

from kerax.core.input_spec import InputSpec
from kerax.layers.cells import GRUCell, LSTMCell, SimpleRNNCell
from kerax.layers.options import check_choice, without
from kerax.layers.rnn import RNN

_LOOP = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll")
_NOT_FOR_CELLS = ("self", "kwargs", "__class__", "use_cudnn", "activity_regularizer", *_LOOP)


class _CellRNN(RNN):
    """What the three layers share: the cell is made from the layer's own arguments."""

    cell_class: type

    def _set_up(self, arguments: dict):
        """Constructs the base class with a cell made from those of the constructor's arguments that it takes."""
        kwargs = arguments["kwargs"]
        own = {name: value for name, value in arguments.items() if name not in _NOT_FOR_CELLS}
        common = {name: kwargs[name] for name in ("dtype", "trainable") if name in kwargs}
        cell = self.cell_class(**own, **common)
        loop = {name: arguments[name] for name in _LOOP if name in arguments}
        RNN.__init__(self, cell, **loop, activity_regularizer=arguments["activity_regularizer"], **kwargs)
        self.input_spec = InputSpec(ndim=3)
        check_choice(self, "use_cudnn", arguments.get("use_cudnn", "auto"), ("auto", True, False))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = without(super().get_config(), "use_cudnn", "activity_regularizer")
        config.pop("use_cudnn", None)
        return config | {"unroll": self.unroll, "zero_output_for_mask": self.zero_output_for_mask}


_OPTIONS = [
    f"{weight}_{kind}"
    for weight in ("kernel", "recurrent", "bias")
    for kind in ("initializer", "regularizer", "constraint")
]
_GATES = ["units", "activation", "recurrent_activation", "use_bias", "unit_forget_bias", "reset_after"]
for _name in (*_GATES, *_OPTIONS, "dropout", "recurrent_dropout", "seed"):
    setattr(_CellRNN, _name, property(lambda self, name=_name: getattr(self.cell, name)))


class SimpleRNN(_CellRNN):
    """`SimpleRNNCell` run over the steps of sequences.

    Args: those of `SimpleRNNCell` and of `RNN`, and
        activity_regularizer: Penalty on the outputs.

    Weights: `kernel (features, units)`, `recurrent_kernel (units, units)`, `bias (units,)`.
    Input shape: `(batch, steps, features)`. Output shape: as in `RNN`.
    """

    cell_class = SimpleRNNCell

    def __init__(
        self,
        units,
        activation="tanh",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        seed=None,
        **kwargs,
    ):
        self._set_up(dict(locals()))


class LSTM(_CellRNN):
    """`LSTMCell` run over the steps of sequences.

    Args: those of `LSTMCell` and of `RNN`, and
        activity_regularizer: Penalty on the outputs.
        use_cudnn: Kept for Keras's signature: kerax has one formulation.

    Weights: `kernel (features, 4 * units)`, `recurrent_kernel (units, 4 * units)`, `bias (4 * units,)`.
    Input shape: `(batch, steps, features)`. Output shape: as in `RNN`; the states are `h` and `c`.
    """

    cell_class = LSTMCell

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias=True,
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        use_cudnn="auto",
        **kwargs,
    ):
        self._set_up(dict(locals()))


class GRU(_CellRNN):
    """`GRUCell` run over the steps of sequences.

    Args: those of `GRUCell` and of `RNN`, and
        activity_regularizer: Penalty on the outputs.
        use_cudnn: Kept for Keras's signature: kerax has one formulation.

    Weights: `kernel (features, 3 * units)`, `recurrent_kernel (units, 3 * units)`, `bias (2, 3 * units)` or
        `(3 * units,)` without `reset_after`.
    Input shape: `(batch, steps, features)`. Output shape: as in `RNN`.
    """

    cell_class = GRUCell

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        reset_after=True,
        use_cudnn="auto",
        **kwargs,
    ):
        self._set_up(dict(locals()))
