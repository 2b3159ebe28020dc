"""The three programs: a model's pure steps as functions of flat tuples of arrays, and how their results are kept."""

import functools
from collections import Counter, OrderedDict  # a dict that JAX does not sort
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kerax.core import placement, sums
from kerax.core import scope as scopes
from kerax.core.variable import Sum, Variable
from kerax.data.source import BatchSpec
from kerax.train import steps
from kerax.train.keras_state import KerasLists, ListedState
from kerax.train.logs import Packing
from kerax.train.program import Program
from kerax.train.state import RANDOM_KEY, Carried, TrainState

Tree = Any
BAD_STEP = "_bad_step"


def train_program(model, variables: TrainState, spec: BatchSpec) -> Program:
    """The program of `train_step`: the carry is the whole state."""
    owners = jax.tree.leaves(variables)
    step, shardings = _train_on_leaves(model, variables), placement.shardings_of(owners)
    return Program(step, (), _specs(owners), spec, Packing, None, model.run_eagerly, shardings, _rests(owners))


def test_program(model, variables: TrainState, spec: BatchSpec, fills_up: bool) -> Program:
    """The program of `test_step`: the carry is what `Carried` says, the constants are all else.

    Args:
        fills_up: Whether only the first `num_rows` of a batch's rows count.
    """
    carried = Carried(variables)
    constants, carry = map(_specs, carried.split(carried.owners))
    is_plain = not {"test_step", "compute_metrics"} & steps.overridden(model)  # then logs follow from the metrics
    keep = functools.partial(_Results, model, variables) if is_plain else _Latest
    step = _test_on_leaves(model, variables, carried, spec.num_rows if fills_up else None)
    # Batches whose states follow from each other's cannot be done at once.
    _, owners = carried.split(carried.owners)
    join = functools.partial(_summed, step, len(constants), owners) if is_plain and not carried.states else None
    program = Program(step, constants, carry, spec, keep, join, model.run_eagerly, rests=_rests(owners))
    program.fills_up = fills_up
    return program


def predict_program(model, variables: TrainState, spec: BatchSpec) -> Program:
    """The program of `predict_step`: nothing is carried but states of recurrent layers that go on."""
    carried = Carried(variables)
    constants, carry = map(_specs, carried.split(carried.owners))
    is_own = steps.overrides(model, "predict_step")
    lists = KerasLists(model, variables, ("params", "state")) if is_own else None
    predict_step = steps.step_of(model, "predict_step")

    def step(constants, carry, batch, number, num_rows):
        state, batch = _at(carried.join(constants, carry), number), placement.constrain_batch(batch)
        if lists is None:
            outputs, new = steps.predict_and_go_on(model, state, batch)
            _, carry = carried.split(jax.tree.leaves(new))
        else:
            given = lists.give(state)
            outputs = _without_state(predict_step(given, batch), given)
        return carry, placement.replicate(outputs) if jax.process_count() > 1 else outputs

    join = None if carried.states else _side_by_side
    program = Program(step, constants, carry, spec, _Stacked, join, model.run_eagerly)
    if not model.run_eagerly:
        # Rows that fill a batch up are cut off again, which needs outputs that have rows.
        has_rows = all(leaf.shape[:1] == (spec.num_rows,) for leaf in jax.tree.leaves(program.outputs))
        program.fills_up = has_rows and not _sets_rows_against_each_other(model, step, program)
        program.room = program.room if program.fills_up else 1
    return program


def _sets_rows_against_each_other(model, step: Callable, program: Program) -> bool:
    """Whether an output has the rows in a second axis too, as similarities have: there none may be added."""
    size, shapes = program.spec.num_rows, [leaf.shape[1:] for leaf in jax.tree.leaves(program.outputs)]
    known = [tensor.shape[1:] for tensor in getattr(model, "outputs", None) or ()]
    # Only where it may be so, for it takes a second tracing.
    if not any(size in shape for shape in shapes) or (known and not any(None in shape for shape in known)):
        return False
    constants, carry, batch = program.specs
    more = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size + 1, *leaf.shape[1:]), leaf.dtype), batch)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    _, outputs = jax.eval_shape(step, constants, carry, more, number, number)
    return shapes != [leaf.shape[1:] for leaf in jax.tree.leaves(outputs)]


def _without_state(outputs, given: ListedState):
    """What a step of prediction returned, without the variables that Keras's own return beside the outputs."""
    if isinstance(outputs, tuple) and len(outputs) == 2 and isinstance(outputs[1], (list, tuple)):
        if isinstance(outputs[1], TrainState):
            return outputs[0]
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(outputs[1])]
        if shapes in ([leaf.shape for leaf in given[1]], [leaf.shape for part in given for leaf in part]):
            return outputs[0]
    return outputs


def _specs(owners: Sequence[Variable]) -> tuple:
    return tuple(jax.ShapeDtypeStruct(owner.shape, owner.stored_dtype) for owner in owners)


def _rests(owners: Sequence[Variable]) -> dict[int, int]:
    """Place of the rest of a sum, by the place of the sum."""
    places = {id(owner): place for place, owner in enumerate(owners)}
    return {places[id(owner)]: places[id(owner.rest)] for owner in owners if isinstance(owner, Sum)}


# The steps.


def _train_on_leaves(model, variables: TrainState) -> Callable:
    """`train_step(state, data) -> (logs, state)` on leaves.

    The step runs in a scope that holds every variable of the state, so that an overridden step may also read and update
    variables and metrics as Keras users do; what it writes there takes precedence over the state it returns.
    The position of the random key is advanced here, whatever the step does with it.
    """
    train_step = steps.step_of(model, "train_step")
    owners, treedef = jax.tree.flatten(variables)
    # By identity: a variable may compare elementwise.
    key_index = next(index for index, owner in enumerate(owners) if owner is model.kerax_random_key)
    lists = KerasLists(model, variables) if steps.overrides(model, "train_step") else None
    bad_step = model.kerax_compilation.bad_step
    guard = next((index for index, owner in enumerate(owners) if owner is bad_step), None)

    def step(constants, leaves, batch, number, num_rows):
        state = jax.tree.unflatten(treedef, leaves)
        key = jax.random.fold_in(steps.step_key(state), 1)  # not the one that the layers draw from
        with scopes.Scope(zip(owners, leaves, strict=True), key) as scope:
            if lists is None:
                logs, state = train_step(state, batch)
            else:
                given = lists.give(state)
                logs, state = train_step(given, batch)
                state = lists.take(train_step.__qualname__, given, state)
        new = _checked_leaves(train_step, state, treedef, leaves)
        logs = _checked_logs(train_step, logs)
        # What was assigned in the step comes before what it returned: Keras users write either way.
        new = [scope.value_of(owner) if id(owner) in scope.written else a for owner, a in zip(owners, new, strict=True)]
        # A carry's dtype is fixed; a step may have promoted it.
        new = [lax.convert_element_type(a, old.dtype) for a, old in zip(new, leaves, strict=True)]
        new[key_index] = steps.advanced(leaves[key_index])
        if guard is not None:
            new = _guarded(new, leaves, guard, leaves[key_index][2])
            logs[BAD_STEP] = new[guard]
        return tuple(new), logs

    return step


def _checked_leaves(step: Callable, state, treedef, leaves: tuple) -> list:
    """The leaves of the state that an overridden step returned. Raises `ValueError` if its form is another."""
    if isinstance(state, (tuple, list)) and not isinstance(state, TrainState) and len(state) == 4:
        state = TrainState(*state)
    new, new_treedef = jax.tree.flatten(state)
    if new_treedef != treedef or [jnp.shape(a) for a in new] != [a.shape for a in leaves]:
        raise ValueError(
            f"{step.__qualname__} must return (logs, state) with a `TrainState` of the form it was given. "
            f"Given {treedef}, returned {new_treedef}."
        )
    return new


def _leaves_like(step: Callable, new, old: TrainState) -> list:
    """The leaves of the state that a step of evaluation returned. Raises `ValueError` if its form is another."""
    leaves = jax.tree.leaves(new)
    if [jnp.shape(leaf) for leaf in leaves] != [jnp.shape(leaf) for leaf in jax.tree.leaves(old)]:
        raise ValueError(f"{step.__qualname__} must return (logs, state) with a `TrainState` of the form it was given.")
    return leaves


def _checked_logs(step: Callable, logs) -> OrderedDict:
    if not isinstance(logs, dict):
        raise TypeError(f"{step.__qualname__} must return logs as a dict of scalars. Got {type(logs).__name__}.")
    named = OrderedDict()
    for name, value in logs.items():  # the result of all compiled metrics is a dict
        named.update(value if isinstance(value, dict) else {name: value})
    return OrderedDict((name, jnp.asarray(value)) for name, value in named.items())


def _guarded(new: list, old: tuple, guard: int, step) -> list:
    """The new leaves, or from the first step on that makes one of them NaN or infinite, the old ones for good."""
    floats = [leaf for leaf in new if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    is_finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))
    keep = (old[guard] < 0) & is_finite
    # Selected, not branched: no host is asked, and the steps after a bad one cost what others cost.
    kept = [jnp.where(keep, a, b) for a, b in zip(new, old, strict=True)]
    kept[guard] = jnp.where((old[guard] < 0) & ~is_finite, step.astype(jnp.int32), old[guard])
    return kept


def _at(state: TrainState, number) -> TrainState:
    """The state in which random layers get the keys of batch `number`."""
    return state._replace(state=state.state | {RANDOM_KEY: steps.advanced(state.state[RANDOM_KEY], number)})


def _test_on_leaves(model, variables: TrainState, carried: Carried, size: int | None) -> Callable:
    """`test_step(state, data) -> (logs, state)` on leaves.

    Of a batch of `size` rows, the first `num_rows` count; all for `None`.
    """
    test_step = steps.step_of(model, "test_step")
    parts = ("params", "state", "metrics")
    lists = KerasLists(model, variables, parts) if steps.overrides(model, "test_step") else None

    def step(constants, carry, batch, number, num_rows):
        state, batch = _at(carried.join(constants, carry), number), placement.constrain_batch(batch)
        key = jax.random.fold_in(steps.step_key(state), 1)
        with scopes.Scope(zip(carried.owners, jax.tree.leaves(state), strict=True), key) as scope:
            if lists is not None:
                given = lists.give(state)
                logs, new = test_step(given, batch)
                new = lists.take(test_step.__qualname__, given, new)
            elif size is None or num_rows is None:
                logs, new = test_step(state, batch)
            else:
                logs, new = steps.test_step_on_rows(model, state, batch, jnp.arange(size) < num_rows)
        logs = _checked_logs(test_step, logs)
        if isinstance(new, (tuple, list)) and not isinstance(new, TrainState):  # all parts, of which the last counts
            new = state._replace(metrics=new[-1])
        _, values = carried.split(_leaves_like(test_step, new, state))
        _, owners = carried.split(carried.owners)
        values = [
            scope.value_of(owner) if id(owner) in scope.written else value
            for owner, value in zip(owners, values, strict=True)
        ]
        values = tuple(lax.convert_element_type(new, old.dtype) for new, old in zip(values, carry, strict=True))
        return placement.replicate(values), placement.replicate(logs)

    return step


# How results are kept: see `Program`.


class _Results:
    """The results of the metrics after the last step."""

    def __init__(self, model, variables: TrainState, outputs: Tree):
        self.model, self.treedef = model, jax.tree.structure(variables.metrics)

    def one(self, carry, outputs):
        # Before the metrics there may be states that go on.
        metrics = jax.tree.unflatten(self.treedef, carry[len(carry) - self.treedef.num_leaves :])
        logs = steps.compute_logs(self.model, metrics, training=False)
        return OrderedDict((name, jnp.asarray(value)) for name, value in logs.items())

    def empty(self, room: int):
        return ()

    def put(self, kept, outputs, place):
        return ()

    put_several = put

    def finish(self, carry, kept):
        return self.one(carry, kept)

    def together(self, parts: list):
        return parts[-1]


class _Latest:
    """What the last step returned."""

    def __init__(self, outputs: Tree):
        self.outputs = outputs

    def one(self, carry, outputs):
        return outputs

    def empty(self, room: int):
        return jax.tree.map(lambda spec: jnp.zeros(spec.shape, spec.dtype), self.outputs)

    def put(self, kept, outputs, place):
        return outputs

    put_several = put

    def finish(self, carry, kept):
        return kept

    def together(self, parts: list):
        return parts[-1]


class _Stacked:
    """The outputs of every step, one after the other along a first axis; of a step alone as they are."""

    def __init__(self, outputs: Tree):
        self.outputs = outputs

    def one(self, carry, outputs):
        return outputs

    def empty(self, room: int):
        return jax.tree.map(lambda spec: jnp.zeros((room, *spec.shape), spec.dtype), self.outputs)

    def put(self, kept, outputs, place):
        return jax.tree.map(lambda rows, new: lax.dynamic_update_index_in_dim(rows, new, place, 0), kept, outputs)

    def put_several(self, kept, outputs, place):
        return jax.tree.map(lambda rows, new: lax.dynamic_update_slice_in_dim(rows, new, place, 0), kept, outputs)

    def finish(self, carry, kept):
        return kept

    def together(self, parts: list):
        return jax.tree.map(lambda *outputs: np.stack(outputs), *parts)


def _summed(step: Callable, begin: int, owners: Sequence[Variable], traced: Callable, jaxpr) -> Callable | None:
    """Evaluates several batches at once, by `jax.vmap`, if the step only ever adds to the metrics.

    The sum of what the batches add is the result, and each batch keeps its own statistics and random key, while the
    small matrix products of a batch of 32 become large ones: of an MLP on CPU, 784-512-512-10, 32 rows take 300 us in
    a group of 8, 210 in one of 39, 189 in one of 160.
    """
    if not only_adds(jaxpr, begin, len(owners), _rests(owners)):
        return None

    def several(constants, carry, batches, numbers):
        zeros = jax.tree.map(jnp.zeros_like, carry)

        def added(batch, number):
            # All rows of full batches count: leaving some out would take 1.09 of the time.
            # From zero for each batch; the sum of all is added to what there was.
            return step(constants, zeros, batch, number, None)[0]

        parts = jax.vmap(added)(batches, numbers)
        return tuple(total + jnp.sum(part, 0, total.dtype) for total, part in zip(carry, parts, strict=True)), ()

    return several


def _side_by_side(traced: Callable, jaxpr) -> Callable:
    """Predicts for several batches at once, by `jax.vmap`: see `_summed`."""

    def several(constants, carry, batches, numbers):
        def predicted(batch, number):
            return traced(constants, (), batch, number, jax.tree.leaves(batch)[0].shape[0])[1]

        return (), jax.vmap(predicted)(batches, numbers)

    return several


def only_adds(jaxpr, begin: int, count: int, rests: dict[int, int]) -> bool:
    """Whether each of the first `count` results is the input from `begin` on of the same place plus something.

    Nothing that these results are made of may read those inputs otherwise.

    Args:
        rests: Place of the rest of a sum by the place of the sum. Assigned anew, a sum takes in its rest.
    """
    results, given = jaxpr.outvars[:count], jaxpr.invars[begin : begin + count]
    needed, made, uses = set(map(id, results)), {}, Counter()
    for equation in reversed(jaxpr.eqns):
        if any(id(out) in needed for out in equation.outvars):
            made |= {id(out): equation for out in equation.outvars}
            uses.update(map(id, equation.invars))
            needed.update(map(id, equation.invars))

    def summands(var) -> list:
        equation = made.get(id(var))
        name = "" if equation is None else equation.primitive.name
        if equation is None or not (name in ("add", "add_any", "sharding_constraint") or sums.is_sum(equation)):
            return [var]
        return [summand for inner in equation.invars for summand in summands(inner)]

    sum_of = {rest: place for place, rest in rests.items()}
    for place, var in enumerate(given):
        if not uses[id(var)] and (results[place] is var or place in sum_of):
            continue  # left alone, or the rest of integers that were assigned anew
        places = (place, sum_of.get(place, place))
        if uses[id(var)] != 1 or not any(summand is var for at in places for summand in summands(results[at])):
            return False
    return True
