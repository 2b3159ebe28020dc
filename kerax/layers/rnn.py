"""`RNN`: a cell run over the steps of sequences, and `Bidirectional`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from kerax.core import caching
from kerax.core import scope as scopes
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.core.registry import serialize_keras_object
from kerax.core.tracking import Trackable, walk
from kerax.layers.cells import StackedRNNCells, as_list, check_cell, first_states, stepper_of, takes_training
from kerax.layers.options import PassesMasks, check, check_choice, leave_out
from kerax.ops import caches
from kerax.ops.products import is_projected_ahead


class _Carry(NamedTuple):
    """What one step hands to the next.

    Attributes:
        states: The cell's states.
        output: The last output, or `None` where it is one of the states.
        variables: Values of the variables that the cell may write, in the order of `_any_cell`.
    """

    states: Any
    output: Any = None
    variables: Any = ()


class RNN(PassesMasks):
    """A cell run over the steps of sequences, one after the other.

    Args:
        cell: A cell, or a list of cells, which are stacked. A cell is a layer with `state_size` (a size, or a list of
            sizes) and `call(inputs, states) -> (output, new states)`; it may have `output_size` and
            `get_initial_state(batch_size)`.
        return_sequences: Whether to return the output of every step, instead of the last one.
        return_state: Whether to return the last states too.
        go_backwards: Whether to start at the last step; outputs come in the order they are computed.
        stateful: Whether a batch starts with the states that the last one ended with. Needs a known batch size.
        unroll: Whether to compile the steps one after the other instead of as a loop: slow to compile.
        zero_output_for_mask: Whether masked steps give zeros; otherwise they repeat the output before them, and before
            the first one the state (where Keras gives zeros if `unroll` is set).

    Call arguments: `sequences (batch, steps, ...)`; `initial_state`, a list of states; `mask (batch, steps)`, true
        where a step counts: at other steps the states stay as they are.
    Output shape: `(batch, units)`, or `(batch, steps, units)` with `return_sequences`; then the states.

    Raises:
        ValueError: if the cell is not one, the batch size of a stateful layer is unknown or changes, or the number of
            steps to unroll is unknown.
    """

    def __init__(
        self,
        cell,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        check_cell(self, cell)
        self.cell = cell
        self.return_sequences, self.return_state, self.go_backwards = return_sequences, return_state, go_backwards
        self.stateful, self.unroll, self.zero_output_for_mask = stateful, unroll, zero_output_for_mask
        self.state_size = as_list(cell.state_size)
        self.states = None
        self.input_spec = InputSpec(min_ndim=3)

    # Shapes by the names of `call`'s arguments, as Keras has them.
    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        batch, steps, *step_shape = sequences_shape
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build((batch, *step_shape))
        if self.unroll and steps is None:
            raise ValueError(f"{self}: `unroll` needs a known number of steps. Got input shape {sequences_shape}.")
        if self.stateful:
            if batch is None:
                raise ValueError(
                    f"{self}: `stateful` needs a known batch size. Got input shape {sequences_shape}. "
                    "Pass `batch_size` (or `batch_shape`) to `Input`."
                )
            specs = jax.eval_shape(lambda: self._first_states(sequences_shape))
            self.states = jax.tree.map(self._add_state, specs)
            self.input_spec = InputSpec(min_ndim=3, axes={0: batch})

    def _add_state(self, spec):
        name = f"rnn_state_{len(self._weights)}"
        variable = self.add_weight(spec.shape, "zeros", trainable=False, autocast=False, name=name)
        variable.is_weight = False  # Keras neither counts nor saves it
        variable.goes_on = True
        return variable

    def get_initial_state(self, batch_size: Any) -> list:
        """The states that a sequence starts with where none are given."""
        return first_states(self.cell, batch_size)

    def _first_states(self, sequences_shape) -> list:
        """The states that sequences of a shape start with where none are given."""
        return self.get_initial_state(sequences_shape[0])

    def reset_state(self) -> None:
        """Sets the states of a stateful layer to zeros."""
        for variable in jax.tree.leaves(self.states):
            variable.assign(jnp.zeros(variable.shape))

    reset_states = reset_state

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False) -> Any:
        states = self._first_states(sequences.shape)
        if initial_state is None and self.stateful:
            initial_state = [variable.value for variable in jax.tree.leaves(self.states)]
        if initial_state is not None:
            given = jax.tree.leaves(initial_state)
            shapes, wanted = ([leaf.shape for leaf in leaves] for leaves in (given, jax.tree.leaves(states)))
            if shapes != wanted:
                raise ValueError(f"{self}: `initial_state` must have shapes {wanted}. Got {shapes}.")
            # In the cell's own structure: users hand over flat lists, also for cells on top of each other.
            states = jax.tree.unflatten(jax.tree.structure(states), given)
        # A loop's carry keeps its dtype: states given in another one would not fit those that the first step makes.
        states = jax.tree.map(lambda leaf: leaf.astype(self.compute_dtype), states)
        part = caching.part_of(self)
        if part is not None:
            states = self._kept_states(part, states, initial_state)
        step = stepper_of(self.cell, (sequences.shape[0], *sequences.shape[2:]), training)
        if step is None:
            # A user's cell may write variables and draw numbers, so it is called as a layer inside the loop.
            advance, carry, written = self._any_cell(sequences[:, 0], states, training)
            sequences = jnp.swapaxes(sequences, 0, 1)
        else:
            # All steps' inputs in one product: on CPU only where the loop then reads less than the inputs.
            ahead, carry, written = is_projected_ahead(step.growth), _Carry(states), []
            sequences = _projected(step, sequences) if ahead else jnp.swapaxes(sequences, 0, 1)

            def advance(carry, inputs):  # the output is the first state, or that of the last of stacked cells
                output, states = step.advance(inputs if ahead else step.project(inputs), carry.states)
                return output, _Carry(states)

        carry, outputs, after_each = self._scan(advance, carry, sequences, mask, part is not None)
        if part is not None:
            caching.keep(self, caches.updated_states(part.values, jax.tree.leaves(after_each), part.positions))
        for variable, value in zip(written, carry.variables, strict=False):
            variable.assign(value)
        for variable, value in zip(jax.tree.leaves(self.states), jax.tree.leaves(carry.states), strict=False):
            variable.assign(value)
        if not self.return_sequences:
            outputs = carry.output if step is None else self._last_output(carry.states, mask)
        return (outputs, *carry.states) if self.return_state else outputs

    # Caches: the states after each step, not the last alone, so that rows may be of unequal length and go back.

    def kerax_own_cache(self, batch_size: int, length: int, dtype: Any) -> dict[str, Any]:
        """Room for the states after so many steps, in the compute dtype; none where the inputs say their shape."""
        if not hasattr(self.cell, "state_size") or type(self)._first_states is not RNN._first_states:
            return {}
        specs = jax.eval_shape(lambda: self.get_initial_state(batch_size))
        specs = [jax.ShapeDtypeStruct(spec.shape, self.compute_dtype) for spec in jax.tree.leaves(specs)]
        return caches.empty_states(specs, length)

    def _kept_states(self, part, first, initial_state):
        is_each_row_alike = part.positions is None or part.positions.ndim < 2
        goes_on = self.return_sequences and not self.go_backwards and initial_state is None
        if not part.values or not goes_on or not is_each_row_alike:
            raise caching.NotCached(
                f"{self}: a recurrent layer goes on from a cache only forwards, with `return_sequences`, without "
                "`initial_state`, and with the position of the first step of each row."
            )
        leaves, structure = jax.tree.flatten(first)
        return jax.tree.unflatten(structure, caches.states_before(part.values, part.positions, leaves))

    def _last_output(self, states, mask):
        """What the last step gave, where outputs are states."""
        output = self._first_state(states)
        if mask is None or not self.zero_output_for_mask:
            return output
        return _choose(mask[:, 0 if self.go_backwards else -1].astype(bool), output, jnp.zeros_like(output))

    def _any_cell(self, inputs, states, training) -> tuple:
        """The step with a cell that is a layer like any other, its first carry, and the variables that it may write.

        Args:
            inputs: Those of one step.
        """
        kwargs = {"training": training} if takes_training(self.cell) else {}
        # In their own dtypes: the scope of a step casts them as the cell asks for.
        cast = scopes.autocast.set(None)
        variables = [variable for _, variable in walk(self.cell)] if isinstance(self.cell, Trackable) else []
        values = [variable.value for variable in variables]
        scopes.autocast.reset(cast)
        read = [(v, value) for v, value in zip(variables, values, strict=True) if v.is_parameter]
        written = [(v, value) for v, value in zip(variables, values, strict=True) if not v.is_parameter]
        can_draw = scopes.current_scope() is None or scopes.find_key() is not None
        key = self.next_key() if training and can_draw else None
        structure = jax.tree.structure(states)

        def advance(carry, step_inputs):
            *own, index = carry.variables
            step_key = None if key is None else jax.random.fold_in(key, index)
            with scopes.Scope([*read, *zip((v for v, _ in written), own, strict=True)], step_key) as scope:
                output, states = self.cell(step_inputs, carry.states, **kwargs)
                own = [scope.value_of(variable) for variable, _ in written]
            return output, _Carry(jax.tree.unflatten(structure, jax.tree.leaves(states)), output, (*own, index + 1))

        # The last output goes along, for it need not be a state of such a cell; its shape is found without computing.
        first = _Carry(states, None, (*(value for _, value in written), jnp.int32(0)))
        output = jax.eval_shape(lambda carry: advance(carry, inputs)[0], first)
        carry = first._replace(output=jnp.zeros(output.shape, output.dtype))
        return advance, carry, [variable for variable, _ in written]

    def _scan(self, advance, carry: _Carry, inputs, mask, with_states: bool) -> tuple[_Carry, Any, Any]:
        """`advance` over the steps. Returns the last carry, the outputs with `return_sequences`, and states after each.

        Args:
            inputs: `(steps, batch, ...)`.
            mask: `(batch, steps)`.
            with_states: Whether these are wanted.
        """
        steps = (inputs, None if mask is None else jnp.swapaxes(mask, 0, 1).astype(bool))

        def body(before, step):
            step_inputs, kept = step
            output, after = advance(before, step_inputs)
            # A cell may compute in another dtype than this layer.
            states = jax.tree.map(lambda new, old: new.astype(old.dtype), after.states, before.states)
            after = after._replace(states=states)
            if kept is not None:
                last = self._first_state(before.states) if before.output is None else before.output
                output = _choose(kept, output, jnp.zeros_like(output) if self.zero_output_for_mask else last)
                states = jax.tree.map(lambda new, old: _choose(kept, new, old), after.states, before.states)
                after = after._replace(states=states, output=None if before.output is None else output)
            return after, (output if self.return_sequences else None, after.states if with_states else None)

        outputs: Any
        carry, (outputs, states) = lax.scan(
            body, carry, steps, reverse=self.go_backwards, unroll=True if self.unroll else 1
        )
        if self.return_sequences:
            outputs = jnp.swapaxes(jnp.flip(outputs, 0) if self.go_backwards else outputs, 0, 1)
        return carry, outputs, jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), states)

    def _first_state(self, states):
        return as_list(states[-1] if isinstance(self.cell, StackedRNNCells) else states)[0]

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The inputs' mask for sequences, none for last outputs and states."""
        mask = as_list(mask)[0] if self.return_sequences else None
        return [mask, *[None] * len(self.state_size)] if self.return_state else mask


def _projected(step, sequences):
    """All steps' inputs `(batch, steps, ...)` as `advance` takes them, `(steps, batch, ...)`."""
    # Whichever is smaller changes its order in memory: an LSTM's step on a GPU moves 7% less.
    if step.growth > 1:
        return step.project(jnp.swapaxes(sequences, 0, 1), 0)
    return jnp.swapaxes(step.project(sequences, 1), 0, 1)


def _choose(kept, new, old):
    """`new` for the samples that are `kept`, `old` for the others."""
    return jnp.where(kept.reshape(kept.shape[:1] + (1,) * (new.ndim - 1)), new, old)


class Bidirectional(PassesMasks):
    """A recurrent layer run forwards and another one backwards, and their outputs merged.

    Args:
        layer: The forward layer; a copy of it is used.
        merge_mode: `"concat"`, `"sum"`, `"mul"`, `"ave"`, or `None` to return both.
        weights: Initial weights: the forward layer's, then the backward layer's.
        backward_layer: Default: a copy of `layer` with `go_backwards` reversed.

    Output shape: that of `layer`, twice as wide with `"concat"`; then the states of both.

    Raises:
        ValueError: if the layers do not go opposite ways or return different things.
    """

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights=None,
        backward_layer: Any = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        given = {"layer": layer} | ({} if backward_layer is None else {"backward_layer": backward_layer})
        for name, value in given.items():
            is_recurrent = isinstance(value, Layer) and hasattr(value, "go_backwards")
            check(self, is_recurrent, f"`{name}` must be a recurrent layer", **{name: value})
        check_choice(self, "merge_mode", merge_mode, ("concat", "sum", "mul", "ave", None))
        self.merge_mode, self.initial_weights = merge_mode, weights
        self.forward_layer: Any = _copy(layer, "forward_")
        self.backward_layer: Any = backward_layer or _copy(layer, "backward_", go_backwards=not layer.go_backwards)
        for name in ("return_sequences", "return_state", "stateful"):
            ways = {"layer": getattr(self.forward_layer, name), "backward_layer": getattr(self.backward_layer, name)}
            check(self, len({*ways.values()}) == 1, f"both layers must have the same `{name}`", **ways)
        self.return_sequences, self.return_state = self.forward_layer.return_sequences, self.forward_layer.return_state
        self.stateful = self.forward_layer.stateful
        differ = self.forward_layer.go_backwards != self.backward_layer.go_backwards
        check(self, differ, "the layers must have different `go_backwards`", go_backwards=layer.go_backwards)
        for one in (self.forward_layer, self.backward_layer):
            if hasattr(one, "zero_output_for_mask"):
                one.zero_output_for_mask = self.return_sequences  # so that merged outputs of masked steps are zeros
        self.input_spec = layer.input_spec

    @property
    def layer(self) -> Layer:
        """The forward layer."""
        return self.forward_layer

    # Shapes by the names of `call`'s arguments, as Keras has them.
    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for one in (self.forward_layer, self.backward_layer):
            if not one.built:
                one.build(sequences_shape)
        if self.initial_weights is not None:
            self.set_weights(self.initial_weights)

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None) -> Any:
        halves = [None, None]
        if initial_state is not None:
            half = len(initial_state) // 2  # the forward layer's states, then as many of the backward layer's
            halves = [list(initial_state[:half]), list(initial_state[half:])]
        forward, backward = (
            one(sequences, initial_state=state, mask=mask, training=training)
            for one, state in zip((self.forward_layer, self.backward_layer), halves, strict=True)
        )
        states = ()
        if self.return_state:
            (forward, *forward_states), (backward, *backward_states) = forward, backward
            states = (*forward_states, *backward_states)
        if self.return_sequences:
            backward = jnp.flip(backward, 1)  # it came in the order of computing: now both are in that of the inputs
        merged = self._merge(forward, backward)
        if self.merge_mode is None or self.return_state:
            return (*merged, *states)
        return merged[0]

    def _merge(self, forward, backward) -> tuple:
        if self.merge_mode is None:
            return forward, backward
        if self.merge_mode == "concat":
            return (jnp.concatenate([forward, backward], -1),)
        if self.merge_mode == "mul":
            return (forward * backward,)
        return ((forward + backward) / (2 if self.merge_mode == "ave" else 1),)

    def reset_state(self) -> None:
        """Sets the states of stateful layers to zeros."""
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The inputs' mask for each sequence that is returned."""
        mask = as_list(mask)[0] if self.return_sequences else None
        return [mask, mask] if self.merge_mode is None else [mask] if self.return_state else mask

    def get_config(self) -> dict:
        """The constructor's arguments, with both layers as they are."""
        layers = {"layer": self.forward_layer, "backward_layer": self.backward_layer}
        return leave_out(super().get_config(), "weights") | {
            name: serialize_keras_object(one) for name, one in layers.items()
        }


def _copy(layer: Layer, prefix: str, **changes) -> Layer:
    """A new layer of the same arguments, without weights."""
    name = prefix + layer.name.removeprefix(prefix)
    made = type(layer).from_config(layer.get_config() | {"name": name} | changes)
    if "use_cudnn" in vars(layer):
        vars(made)["use_cudnn"] = vars(layer)["use_cudnn"]  # which configs do not hold
    return made
