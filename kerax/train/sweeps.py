"""Programs that go over consecutive batches without changing weights: evaluation and prediction.

Both compute several batches at once where that is the same: `joining.vmap` over batches keeps each batch's own
computation (its statistics, its random key) while the small matrix products of a batch of 32 become large ones. An
evaluation may do so if its step only ever adds to the metrics' variables, which is read off the traced step; then the
sum of the batches' additions is the result. Groups begin at fixed batches, so that the sums are the same however the
work is cut.
"""

import functools
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kerax.core import placement
from kerax.core import scope as scopes
from kerax.core.jaxprs import inner_jaxprs
from kerax.data.resident import slice_rows, take_rows
from kerax.ops import cpu
from kerax.train import joining, steps
from kerax.train.engine import batch_form, cached
from kerax.train.state import RANDOM_KEY, TrainState

Tree = Any
_GROUP_BYTES = {"cpu": 64 * 2**20}
"""Bytes of intermediate results that a group of batches may have; 512 MB where not said otherwise.

us per batch of 32 rows of an MLP on CPU, 784-512-512-10, with groups of 8, 39 and 160 batches: 300, 210, 189. A CNN and
an attention block take the same time with 16 and 64 MB, more with 256.
"""
_NUMBER = jax.ShapeDtypeStruct((), np.int32)


class Evaluator:
    """A traced evaluation step for one form of batch, in three forms.

    `batch` takes one batch; `many` a group of them that begin at a row of the data, in one dispatch, or if given their
    count several groups, one after the other; `run` any number of full batches from a batch of the data on, and if
    asked the rows after them as one smaller batch. All take the number of the first batch in the evaluation, from
    which random layers get their keys.

    Args:
        model: The model.
        variables: Its state, without the optimizer's.
        batch_spec: Shapes and dtypes of a batch.
        rest: Rows of the last, smaller batch, or 0.

    Attributes:
        most: Batches that a group may have.
    """

    def __init__(self, model, variables: TrainState, batch_spec: tuple, rest: int = 0):
        self.seconds_per_step: float | None = None
        self.most = 1
        step = _flat_test_step(model, variables)
        self.batch = step if model.run_eagerly else jax.jit(step, donate_argnums=1)
        if model.run_eagerly:
            return
        frozen, metrics = _specs(variables)
        size = jax.tree.leaves(batch_spec)[0].shape[0]
        closed, (_, logs) = jax.make_jaxpr(step, return_shape=True)(frozen, metrics, _NUMBER, batch_spec)
        own = (type(model).test_step, type(model).compute_metrics)
        is_plain = all(hasattr(method, "is_default") for method in own)  # then logs follow from the metrics
        if is_plain and _only_adds(closed.jaxpr, len(frozen), len(metrics)):
            self.most = _most_at_once(closed.jaxpr)

        stacked = _over_batches(closed, len(frozen) + len(metrics))

        def one(frozen, metrics, number, batch):
            new, results = step(frozen, metrics, number, batch)
            return new, () if is_plain else results

        def many(group, frozen, metrics, data, row, number, count=None):
            def body(index, metrics):
                batches, numbers = _group(data, row, number, index, group, size)
                zeros = jax.tree.map(jnp.zeros_like, metrics)
                added = stacked(*frozen, *zeros, numbers, *jax.tree.leaves(batches))[: len(metrics)]
                return tuple(
                    total + jnp.sum(parts, 0, total.dtype) for total, parts in zip(metrics, added, strict=True)
                )

            metrics = body(0, metrics) if count is None else lax.fori_loop(0, count, body, metrics)
            return metrics, _results(model, variables, metrics)

        def run(frozen, metrics, data, start, count, number, with_rest):
            def body(index, carry):
                return one(frozen, carry[0], number + index, slice_rows(data, (start + index) * size, size))

            results = () if is_plain else jax.tree.map(lambda spec: jnp.zeros(spec.shape, spec.dtype), logs)
            metrics, results = lax.fori_loop(0, count, body, (metrics, results))
            if rest:
                metrics, results = lax.cond(
                    with_rest,
                    lambda new: one(frozen, new, number + count, slice_rows(data, (start + count) * size, rest)),
                    lambda new: (new, results),
                    metrics,
                )
            return metrics, _results(model, variables, metrics) if is_plain else results

        options = {"compiler_options": cpu.compiler_options(closed.jaxpr)}
        self.batch = jax.jit(step, donate_argnums=1, **options)
        self.many = jax.jit(many, static_argnums=0, donate_argnums=2, **options)
        self.run = jax.jit(run, donate_argnums=1, **options)


def evaluator(model, variables: TrainState, batch_spec: tuple, rest: int = 0) -> Evaluator:
    """The evaluator for this state and form of batch, compiled once per model."""
    key = _key("test", model, variables, batch_spec), rest
    return cached(model, key, lambda: Evaluator(model, variables, batch_spec, rest))


class Predictor:
    """A model's compiled prediction for one form of batch, in three forms as an `Evaluator`.

    `run` takes beside the first batch and the number of batches the last row there is; rows after it are repeated to
    fill the last batch. Its results have room for `capacity` batches. `many` and `run` also return the number of the
    next batch: who passes that on lets one program begin when the one before has ended; side by side they would slow
    each other and need more memory.

    Args:
        model, variables, batch_spec: As for `Evaluator`.

    Attributes:
        most: Batches that a group may have.
        outputs: Shapes and dtypes of the outputs of one batch.
        is_rowwise: Whether every output has a row per input row, which `many` and `run` need.
    """

    chunk_bytes = 4 * 2**20

    def __init__(self, model, variables: TrainState, batch_spec: tuple):
        self.seconds_per_step: float | None = None
        size = jax.tree.leaves(batch_spec)[0].shape[0]
        predict = _flat_predict_step(model, variables)
        frozen, metrics = _specs(variables)
        if model.run_eagerly:
            self.is_rowwise, self.batch = False, predict
            return
        closed, self.outputs = jax.make_jaxpr(predict, return_shape=True)(frozen + metrics, _NUMBER, batch_spec)
        leaves = jax.tree.leaves(self.outputs)
        self.is_rowwise = all(leaf.shape[:1] == (size,) for leaf in leaves)
        self._batch_bytes = max(sum(leaf.dtype.itemsize * leaf.size for leaf in leaves), 1)
        self.most = _most_at_once(closed.jaxpr)
        self.capacity = max(1, min(64, self.chunk_bytes // self._batch_bytes))

        stacked = _over_batches(closed, len(frozen) + len(metrics))

        def rows_for(num_batches):
            return jax.tree.map(lambda s: jnp.zeros((num_batches * size, *s.shape[1:]), s.dtype), self.outputs)

        def put(results, new, row):
            return jax.tree.map(lambda old, new: lax.dynamic_update_slice_in_dim(old, new, row, 0), results, new)

        def many(group, leaves, data, row, number, count=None):
            def body(index):
                batches, numbers = _group(data, row, number, index, group, size)
                outputs = stacked(*leaves, numbers, *jax.tree.leaves(batches))
                rows = [output.reshape(group * size, *output.shape[2:]) for output in outputs]
                return jax.tree.unflatten(jax.tree.structure(self.outputs), rows)

            if count is None:
                return body(0), number + group
            room = rows_for(group * self.most_groups(group))
            results = lax.fori_loop(0, count, lambda index, old: put(old, body(index), index * group * size), room)
            return results, number + count * group

        def run(leaves, data, start, count, last, number):
            def one(index, results):
                rows = jnp.minimum((start + index) * size + jnp.arange(size), last)
                return put(results, predict(leaves, number + index, take_rows(data, rows)), index * size)

            return lax.fori_loop(0, count, one, rows_for(self.capacity)), number + count

        options = {"compiler_options": cpu.compiler_options(closed.jaxpr)}
        self.many = jax.jit(many, static_argnums=0, **options)
        self.batch, self.run = jax.jit(predict, **options), jax.jit(run, **options)

    def most_groups(self, group: int) -> int:
        """Groups of so many batches for whose results `many` has room."""
        return max(1, min(64, self.chunk_bytes // (group * self._batch_bytes)))


def predictor(model, variables: TrainState, batch_spec: tuple) -> Predictor:
    """The predictor for this state and form of batch, compiled once per model."""
    key = _key("predict", model, variables, batch_spec)
    return cached(model, key, lambda: Predictor(model, variables, batch_spec))


def _key(kind: str, model, variables: TrainState, batch_spec: tuple) -> tuple:
    leaves, treedef = jax.tree.flatten(variables)
    specs = tuple((leaf.shape, leaf._dtype) for leaf in leaves)
    return kind, treedef, specs, batch_form(batch_spec), model.run_eagerly


def _specs(variables: TrainState) -> tuple[tuple, tuple]:
    """Shapes and dtypes of the leaves before the metrics, and of the metrics."""
    specs = [jax.ShapeDtypeStruct(leaf.shape, leaf._dtype) for leaf in jax.tree.leaves(variables)]
    cut = len(specs) - len(jax.tree.leaves(variables.metrics))
    return tuple(specs[:cut]), tuple(specs[cut:])


def _state(treedef, leaves, number) -> TrainState:
    """The state in which random layers get the keys of batch `number`."""
    state = jax.tree.unflatten(treedef, leaves)
    return state._replace(state=state.state | {RANDOM_KEY: steps.advanced(state.state[RANDOM_KEY], number)})


def _flat_test_step(model, variables: TrainState) -> Callable:
    """`test_step(state, data) -> (logs, state)` as (frozen, metrics, number, batch) -> (metrics, logs) on leaves."""
    owners, treedef = jax.tree.flatten(variables)
    step, cut = model.test_step, len(owners) - len(jax.tree.leaves(variables.metrics))

    def flat(frozen, metrics, number, batch):
        leaves, batch = (*frozen, *metrics), placement.constrain_batch(batch)
        state = _state(treedef, leaves, number)
        with scopes.Scope(zip(owners, leaves, strict=True), jax.random.fold_in(steps.step_key(state), 1)) as scope:
            logs, new = step(state, batch)
        if not isinstance(logs, dict):
            raise TypeError(f"{step.__qualname__} must return logs as a dict of scalars. Got {type(logs).__name__}.")
        values = jax.tree.leaves(new.metrics if isinstance(new, TrainState) else new[-1])
        if [jnp.shape(value) for value in values] != [value.shape for value in metrics]:
            raise ValueError(
                f"{step.__qualname__} must return (logs, state) with a `TrainState` of the form it was given."
            )
        values = [
            scope.value_of(owner) if id(owner) in scope.written else value
            for owner, value in zip(owners[cut:], values, strict=True)
        ]
        values = tuple(lax.convert_element_type(new, old.dtype) for new, old in zip(values, metrics, strict=True))
        logs = OrderedDict((name, jnp.asarray(value)) for name, value in logs.items())
        return placement.replicate(values), placement.replicate(logs)

    return flat


def _flat_predict_step(model, variables: TrainState) -> Callable:
    treedef = jax.tree.structure(variables)

    def flat(leaves, number, batch):
        outputs = model.predict_step(_state(treedef, leaves, number), placement.constrain_batch(batch))
        return placement.replicate(outputs) if jax.process_count() > 1 else outputs

    return flat


def _results(model, variables: TrainState, metrics: tuple) -> dict:
    tree = jax.tree.unflatten(jax.tree.structure(variables.metrics), metrics)
    logs = steps.compute_logs(model, tree, training=False)
    return OrderedDict((name, jnp.asarray(value)) for name, value in logs.items())


def _over_batches(program, num_shared: int) -> Callable:
    """A traced step for several batches: those of its arguments from `num_shared` on are stacked, as the results."""
    if placement.active() is None:
        return joining.vmap(program, num_shared)
    in_axes = [None if at < num_shared else 0 for at in range(len(program.in_avals))]
    return jax.vmap(functools.partial(jax.core.eval_jaxpr, program.jaxpr, program.consts), in_axes)


def _group(data: Tree, row, number, index, group: int, size: int) -> tuple[Tree, jax.Array]:
    """`group` batches, stacked, and their numbers: those of group `index` from a row and a batch's number on."""
    rows = slice_rows(data, row + index * group * size, group * size)
    batches = jax.tree.map(lambda array: array.reshape(group, size, *array.shape[1:]), rows)
    return batches, number + index * group + jnp.arange(group)


def _only_adds(jaxpr, begin: int, count: int) -> bool:
    """Whether each of the first `count` results is the input from `begin` on of the same place plus something.

    Nothing else may read those inputs.
    """
    made = {id(out): equation for equation in jaxpr.eqns for out in equation.outvars}
    uses = Counter(id(var) for equation in jaxpr.eqns for var in equation.invars)
    for given, result in zip(jaxpr.invars[begin : begin + count], jaxpr.outvars[:count], strict=True):
        equation = made.get(id(result))
        while equation is not None and equation.primitive.name == "sharding_constraint":
            equation = made.get(id(equation.invars[0]))
        is_sum = equation is not None and equation.primitive.name in ("add", "add_any")
        if result is given and not uses[id(given)]:
            continue
        if not is_sum or uses[id(given)] != 1 or not any(var is given for var in equation.invars):
            return False
    return True


def _most_at_once(jaxpr) -> int:
    """Batches to compute at once, as many as intermediate results allow."""
    limit = _GROUP_BYTES.get(jax.default_backend(), 512 * 2**20)
    return limit // max(_num_bytes(jaxpr), 1)


def _num_bytes(jaxpr) -> int:
    """Bytes of a jaxpr's intermediate results, with those of functions that have derivatives of their own."""
    total = sum(out.aval.size * out.aval.dtype.itemsize for equation in jaxpr.eqns for out in equation.outvars)
    own = (equation for equation in jaxpr.eqns if equation.primitive.name == "custom_jvp_call")
    return total + sum(_num_bytes(inner) for equation in own for inner in inner_jaxprs(equation))


def group_size(num_batches: int, most: int) -> int:
    """Batches per group, so that there are few groups and few batches left over, which are computed one by one.

    A dispatch costs as much as about four more of those. Every size is another program, so that there are at most 32
    between a power of two and the next.

    >>> group_size(600, 270), group_size(1875, 41), group_size(1001, 1001)
    (200, 39, 992)
    """
    most = min(num_batches, most)
    step = 1 << max(most.bit_length() - 6, 0)
    sizes = range(most // step * step, most // 2, -step)
    return min(sizes, key=lambda size: 4 * (num_batches // size) + num_batches % size) if most > 1 else 1
