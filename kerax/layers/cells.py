"""One step of a recurrent layer: `SimpleRNNCell`, `LSTMCell`, `GRUCell`, `StackedRNNCells`.

kerax's cells split a step in two pure functions of arrays, so that `RNN` can run them inside `scan` with weights and
dropout masks that were read outside: `project` (what depends on the inputs only) and `advance` (the rest).
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kerax import activations
from kerax.core import scope as scopes
from kerax.core.layer import Layer
from kerax.core.seed_generator import generator_for
from kerax.core.variable import Variable, call_initializer
from kerax.layers.options import check_positive, check_rate, weight_options, with_defaults
from kerax.ops.products import contract


class Stepper(NamedTuple):
    """A cell whose weights are fixed.

    Attributes:
        project: `(inputs, steps_axis=None)`: from the inputs of one step, or of all, to what `advance` takes.
        advance: `(projected, states) -> (output, states)`.
        growth: How many times larger `project`'s results are than its arguments.
    """

    project: Callable[..., Any]
    advance: Callable[[Any, Any], tuple]
    growth: float


class _Cell(Layer):
    """What all cells share: weights for `num_gates` gates side by side, dropout, and zeros as the first state."""

    num_gates: int
    num_states = 1
    size_name = "units"  # what the constructor calls the size of a state
    kernel: Variable
    recurrent_kernel: Variable
    bias: Variable | None = None

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
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        self.implementation = kwargs.pop("implementation", 2)  # of Keras's older formulations; there is one
        super().__init__(**kwargs)
        check_positive(self, **{self.size_name: units})
        check_rate(self, dropout=dropout, recurrent_dropout=recurrent_dropout)
        self.units, self.use_bias, self.seed = units, use_bias, seed
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout
        self.activation: Callable = activations.get(activation)
        kernel = kernel_initializer, kernel_regularizer, kernel_constraint
        self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint = weight_options(*kernel)
        recurrent = recurrent_initializer, recurrent_regularizer, recurrent_constraint
        self.recurrent_initializer, self.recurrent_regularizer, self.recurrent_constraint = weight_options(*recurrent)
        bias = bias_initializer, bias_regularizer, bias_constraint
        self.bias_initializer, self.bias_regularizer, self.bias_constraint = weight_options(*bias)
        # A number for one state, a list for several: the form that Keras's `RNN` and users' cells have.
        self.state_size = units if self.num_states == 1 else [units] * self.num_states
        self.output_size = units
        self.seed_generator = generator_for(seed)

    def build(self, input_shape: Any) -> None:
        width = self.units * self.num_gates
        self._add_weights((input_shape[-1], width), (self.units, width))

    def _add_weights(self, kernel_shape: tuple, recurrent_shape: tuple):
        def add(name, shape, initializer, regularizer, constraint):
            return self.add_weight(shape, initializer, regularizer=regularizer, constraint=constraint, name=name)

        kernel = self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint
        self.kernel = add("kernel", kernel_shape, *kernel)
        recurrent = self.recurrent_initializer, self.recurrent_regularizer, self.recurrent_constraint
        self.recurrent_kernel = add("recurrent_kernel", recurrent_shape, *recurrent)
        if self.use_bias:
            bias = self._bias_initial(), self.bias_regularizer, self.bias_constraint
            self.bias = add("bias", self._bias_shape(kernel_shape[-1]), *bias)

    def _bias_shape(self, width: int) -> tuple[int, ...]:
        return (width,)

    def _bias_initial(self) -> Callable | None:
        return self.bias_initializer

    def get_initial_state(self, batch_size: Any = None) -> list:
        """Zeros for a batch."""
        return [jnp.zeros((batch_size, self.units), self.compute_dtype) for _ in range(self.num_states)]

    def read_weights(self) -> tuple:
        """Kernel, recurrent kernel and bias in the compute dtype."""
        # Outside of `__call__`, which would have set it: `RNN` asks for the step without calling the cell.
        cast = scopes.autocast.set(self.compute_dtype if self.autocast else None)
        try:
            return self.kernel.value, self.recurrent_kernel.value, None if self.bias is None else self.bias.value
        finally:
            scopes.autocast.reset(cast)

    def stepper(self, input_shape: Any, training: Any) -> Stepper:
        """The step with the weights as they are, and with dropout masks for one pass over a batch of sequences.

        `input_shape` is that of one step's inputs.

        Deviation from Keras: with `recurrent_dropout` all gates share a mask, as in the tied variant of Gal &
        Ghahramani 2016 (https://arxiv.org/abs/1512.05287), where Keras draws one per gate.
        """
        kernel, recurrent_kernel, bias = self.read_weights()
        # Drawn before the loop: the same values are dropped at every step, and the loop's body draws nothing.
        input_mask = self.draw_mask(self.dropout if training else 0, input_shape)
        recurrent_mask = self.draw_mask(self.recurrent_dropout if training else 0, (input_shape[0], self.units))

        def project(inputs, steps_axis=None):
            inputs = drop(inputs, input_mask, steps_axis)
            projected = contract(inputs, kernel)
            return projected if bias is None else projected + self._input_bias(bias)

        def advance(projected, states):
            return self._advance(projected, drop(states[0], recurrent_mask), states, recurrent_kernel, bias)

        # (batch, features) to (batch, gates * units): what a projection of all steps takes beyond its inputs.
        return Stepper(project, advance, self.units * self.num_gates / kernel.shape[0])

    def draw_mask(self, rate: float, shape: Any) -> Any:
        """`None`, or an array of 0 and `1 / (1 - rate)`."""
        if rate == 0:
            return None
        kept = jax.random.bernoulli(self.next_key(), 1 - rate, shape)
        # Where all is dropped nothing is scaled: 0 / 0 would be NaN.
        return kept.astype(self.compute_dtype) / (1 - rate if rate < 1 else 1)

    def _input_bias(self, bias):
        return bias

    def _advance(self, projected, hidden, states, recurrent_kernel, bias):
        """`(output, new states)`; `hidden` is `states[0]` with dropout."""
        raise NotImplementedError

    def call(self, inputs: Any, states: Any, training: Any = False) -> Any:
        step = self.stepper(inputs.shape, training)
        output, new_states = step.advance(step.project(inputs), as_list(states))
        return output, in_form_of(states, new_states)


def drop(inputs: Any, mask: Any, steps_axis: int | None = None) -> Any:
    """Inputs of a step, or of all steps along `steps_axis`, times a mask of `draw_mask`, if there is one."""
    if mask is None:
        return inputs
    return inputs * (mask if steps_axis is None else jnp.expand_dims(mask, steps_axis))


def as_list(states: Any) -> list:
    """States, sizes or masks as a list: cells with a single one may leave the list out."""
    return list(states) if isinstance(states, (list, tuple)) else [states]


def in_form_of(given: Any, states: list) -> Any:
    """A list of states, or its only one where those that were given were no list."""
    return states if isinstance(given, (list, tuple)) else states[0]


class SimpleRNNCell(_Cell):
    """`output = activation(inputs @ kernel + bias + state @ recurrent_kernel)`, which is also the state.

    Args:
        units: Size of the state.
        activation: Name or function.
        use_bias: Whether to add `bias`.
        kernel_initializer, recurrent_initializer, bias_initializer: Options of the weights, as are regularizers and
            constraints of the same names.
        dropout: Fraction of the inputs to drop, the same ones at every step.
        recurrent_dropout: Fraction of the state to drop, the same ones at every step.
        seed: Integer for a stream of random numbers of the cell's own.

    Weights: `kernel (features, units)`, `recurrent_kernel (units, units)`, `bias (units,)`.
    Call arguments: `inputs (batch, features)`, `states [(batch, units)]`. Returns: `output, states`.
    """

    num_gates = 1

    __init__ = with_defaults(_Cell.__init__)

    def _advance(self, projected, hidden, states, recurrent_kernel, bias):
        output = self.activation(projected + hidden @ recurrent_kernel)
        return output, [output]


class GatedCell(_Cell):
    """What cells with a memory share: four gates, and how they act."""

    num_gates = 4
    num_states = 2

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
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        weights = kernel_initializer, recurrent_initializer, bias_initializer
        penalties = kernel_regularizer, recurrent_regularizer, bias_regularizer
        limits = kernel_constraint, recurrent_constraint, bias_constraint
        options = *weights, *penalties, *limits, dropout, recurrent_dropout
        super().__init__(units, activation, use_bias, *options, seed, **kwargs)
        self.unit_forget_bias = unit_forget_bias
        self.recurrent_activation: Callable = activations.get(recurrent_activation)

    def _bias_initial(self):
        return self._open_gates if self.unit_forget_bias else self.bias_initializer

    def _open_gates(self, shape, dtype, key):
        bias = call_initializer(self.bias_initializer, key, shape, dtype)
        # Gates that begin open remember from the start: gradients reach far steps before anything is learned.
        return bias.at[self.units : 2 * self.units].set(1)

    def gate(self, gates: Any, carry: Any, axis: int = -1) -> tuple:
        """`(output, new states)` from the four gates side by side."""
        # The order of Keras's files, whose kernels hold the four side by side.
        input_gate, forget_gate, candidate, output_gate = jnp.split(gates, 4, axis)
        kept = self.recurrent_activation(forget_gate) * carry
        carry = kept + self.recurrent_activation(input_gate) * self.activation(candidate)
        output = self.recurrent_activation(output_gate) * self.activation(carry)
        return output, [output, carry]


class LSTMCell(GatedCell):
    """A step of a long short-term memory; the gates lie in the kernels in the order input, forget, candidate, output.

        c = forget * c + input * activation(candidate);  h = output * activation(c)

    Args: as in `SimpleRNNCell`, and
        recurrent_activation: Name or function of the gates.
        unit_forget_bias: Whether the forget gate's bias starts at 1 (Jozefowicz et al. 2015).

    Weights: `kernel (features, 4 * units)`, `recurrent_kernel (units, 4 * units)`, `bias (4 * units,)`.
    Call arguments: `inputs (batch, features)`, `states [h, c]`. Returns: `h, [h, c]`.
    Source: Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735
    """

    __init__ = with_defaults(GatedCell.__init__)

    def _advance(self, projected, hidden, states, recurrent_kernel, bias):
        return self.gate(projected + hidden @ recurrent_kernel, states[1])


class GRUCell(_Cell):
    """A step of a gated recurrent unit; the gates lie in the kernels in the order update, reset, candidate.

        h = update * h + (1 - update) * activation(candidate)

    Args: as in `SimpleRNNCell`, and
        recurrent_activation: Name or function of the gates.
        reset_after: Whether the reset gate acts after the product with the state (cuDNN's variant), which has a second
            bias, or before it.

    Weights: `kernel (features, 3 * units)`, `recurrent_kernel (units, 3 * units)`, `bias (2, 3 * units)` or
        `(3 * units,)` without `reset_after`.
    Call arguments: `inputs (batch, features)`, `states [h]`. Returns: `h, [h]`.
    Source: Cho et al. 2014, https://arxiv.org/abs/1406.1078
    """

    num_gates = 3

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
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs,
    ):
        weights = kernel_initializer, recurrent_initializer, bias_initializer
        penalties = kernel_regularizer, recurrent_regularizer, bias_regularizer
        limits = kernel_constraint, recurrent_constraint, bias_constraint
        options = *weights, *penalties, *limits, dropout, recurrent_dropout
        super().__init__(units, activation, use_bias, *options, seed, **kwargs)
        self.recurrent_activation: Callable = activations.get(recurrent_activation)
        self.reset_after = reset_after

    def _bias_shape(self, width):
        return (2, width) if self.reset_after else (width,)

    def _input_bias(self, bias):
        return bias[0] if self.reset_after else bias

    def _advance(self, projected, hidden, states, recurrent_kernel, bias):
        # The two gates are computed together; the candidate waits for the reset gate.
        gates, candidate = jnp.split(projected, [2 * self.units], axis=-1)
        if self.reset_after:  # one product for all three
            recurrent = hidden @ recurrent_kernel
            recurrent = recurrent if bias is None else recurrent + bias[1]
            recurrent_gates, recurrent_candidate = jnp.split(recurrent, [2 * self.units], axis=-1)
            update, reset = jnp.split(self.recurrent_activation(gates + recurrent_gates), 2, axis=-1)
            candidate = self.activation(candidate + reset * recurrent_candidate)
        else:  # the reset state is multiplied, so its product comes second
            gate_kernel, candidate_kernel = jnp.split(recurrent_kernel, [2 * self.units], axis=-1)
            update, reset = jnp.split(self.recurrent_activation(gates + hidden @ gate_kernel), 2, axis=-1)
            candidate = self.activation(candidate + (reset * hidden) @ candidate_kernel)
        # The state without dropout: what is kept is kept whole.
        output = update * states[0] + (1 - update) * candidate
        return output, [output]


class StackedRNNCells(Layer):
    """Cells one on top of the other as one cell: each takes the output of the one below.

    Args:
        cells: List of cells.

    Call arguments: `inputs`, `states`, the list of the cells' states. Returns: output of the last cell, and states.

    Raises:
        ValueError: if a cell has no `call` or `state_size`.
    """

    def __init__(self, cells, **kwargs):
        super().__init__(**kwargs)
        for cell in cells:
            check_cell(self, cell)
        self.cells = list(cells)

    @property
    def state_size(self) -> list:
        """The cells' state sizes."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """Size of the last cell's output."""
        return output_size(self.cells[-1])

    def build(self, input_shape: Any) -> None:
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], output_size(cell))

    def get_initial_state(self, batch_size: Any = None) -> list:
        """The cells' initial states."""
        return [in_form_of(cell.state_size, first_states(cell, batch_size)) for cell in self.cells]

    def call(self, inputs: Any, states: Any, training: Any = False) -> Any:
        new_states = []
        for cell, own in zip(self.cells, states, strict=True):
            kwargs = {"training": training} if takes_training(cell) else {}
            inputs, new = cell(inputs, as_list(own), **kwargs)
            new_states.append(in_form_of(own, as_list(new)))
        return inputs, new_states

    def stepper(self, input_shape: Any, training: Any) -> Stepper | None:
        """The step of all cells with their weights as they are; `None` if one of them is not kerax's own."""
        steps = []
        for cell in self.cells:
            steps.append(stepper_of(cell, input_shape, training))
            if steps[-1] is None:
                return None
            input_shape = (input_shape[0], output_size(cell))

        def advance(inputs, states):
            new_states = []
            for step, own in zip(steps, states, strict=True):
                inputs, new = step.advance(step.project(inputs), as_list(own))
                new_states.append(in_form_of(own, new))
            return inputs, new_states

        # Only the first cell's projection could be made for all steps at once, so none is.
        return Stepper(lambda inputs, steps_axis=None: inputs, advance, 1)


def stepper_of(cell: Any, input_shape: Any, training: Any) -> Stepper | None:
    """The pure step of one of kerax's own cells; `None` for a cell, or a subclass, with a `call` of its own."""
    own = _Cell.call if isinstance(cell, _Cell) else StackedRNNCells.call if isinstance(cell, StackedRNNCells) else None
    return cell.stepper(input_shape, training) if own is not None and type(cell).call is own else None


def check_cell(layer: Layer, cell: Any) -> None:
    """Raises `ValueError` unless `cell` can be a recurrent layer's cell."""
    # Not by class: any object with the two will do, as in Keras.
    for name in ("call", "state_size"):
        if not hasattr(cell, name):
            raise ValueError(f"{layer}: a cell must have `call` and `state_size`. Got {cell!r} without `{name}`.")


def takes_training(cell: Any) -> bool:
    """Whether a cell's `call` has the argument `training`."""
    return "training" in inspect.signature(cell.call).parameters


def output_size(cell: Any) -> int:
    """The size of a cell's output: by default that of its first state."""
    size = getattr(cell, "output_size", None)
    return as_list(cell.state_size)[0] if size is None else size


def first_states(cell: Any, batch_size: Any) -> list:
    """A cell's first states as a list: its own, or zeros of its state sizes."""
    if hasattr(cell, "get_initial_state"):
        return as_list(cell.get_initial_state(batch_size=batch_size))
    dtype = getattr(cell, "compute_dtype", None)
    return [jnp.zeros((batch_size, size), dtype) for size in as_list(cell.state_size)]
