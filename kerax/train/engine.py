"""The engine: turns a model's pure steps into device programs that take and return flat tuples of arrays.

A training program exists in three forms over one traced step. `run` takes the data set, a table of row numbers per
step, and the range of steps to do as run-time integers: one compilation and the same bits however a run is cut.
`single` does one step of the same table without a loop, `batch` one step on a batch from elsewhere.

XLA's CPU backend runs a convolution's kernel gradient about 37 times slower inside a loop than outside one, and
matmul and recurrent steps 1.2 to 4 times faster (dispatch is saved); so on CPU a step that holds a convolution is
dispatched alone. On GPU and TPU every step is looped over.
"""

import time
from collections import OrderedDict  # a pytree that keeps its order, unlike dict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kerax.core import scope as scopes
from kerax.core.tracking import descendants
from kerax.core.variable import materialize
from kerax.train import steps
from kerax.train.state import TrainState, metric_variables

Tree = Any


class Program:
    """A traced step of a model for one structure of state and one form of batch.

    Args:
        step: Function of (leaves, batch) that returns (leaves, logs); leaves are a flat tuple of arrays.
        leaves: The state's leaves, or their shapes.
        batch: The batch's shapes and dtypes.
        fixed: Leaves before this position are read only: not donated and not returned.
        gather: Function of (data, table, step index) that returns a batch on the device.
    """

    def __init__(self, step: Callable, leaves: tuple, batch: tuple, fixed: int, gather: Callable):
        specs = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
        closed, (_, logs) = jax.make_jaxpr(step, return_shape=True)(specs, batch)
        constants = [jnp.asarray(constant) for constant in closed.consts]
        logs_treedef = jax.tree.structure(logs)
        self.is_looped = jax.default_backend() != "cpu" or not _holds_convolution(closed.jaxpr)
        self.seconds_per_step: float | None = None
        num_changing = len(specs) - fixed

        def traced(frozen, changing, batch):
            out = jax.core.eval_jaxpr(closed.jaxpr, constants, *frozen, *changing, *jax.tree.leaves(batch))
            return tuple(out[:num_changing]), jax.tree.unflatten(logs_treedef, out[num_changing:])

        def run(frozen, changing, data, table, start, count):
            def body(index, carry):
                return traced(frozen, carry[0], gather(data, table, index))

            empty = jax.tree.map(lambda spec: jnp.zeros(spec.shape, spec.dtype), logs)
            return lax.fori_loop(start, start + count, body, (changing, empty))

        def single(frozen, changing, data, table, index):
            return traced(frozen, changing, gather(data, table, index))

        self.run = jax.jit(run, donate_argnums=1)
        self.single = jax.jit(single, donate_argnums=1)
        self.batch = jax.jit(traced, donate_argnums=1)


class Pace:
    """How many steps to hand to the device at once: about `target` seconds' worth.

    Long enough that dispatch costs nothing, short enough that Ctrl-C and the progress bar are served.
    One piece of work is always queued behind the one that is waited for, so the device never idles.
    """

    target = 0.1

    def __init__(self):
        self.pending: tuple | None = None
        self.last_done: float | None = None

    def steps(self, program) -> int:
        """Number of steps of `program` for the next dispatch."""
        known = program.seconds_per_step
        return 1 if known is None else max(1, int(self.target / known))

    def dispatched(self, program, count: int, logs, token=None):
        """Notes a dispatch, waits for the one before it and returns (its number of steps, its logs), or `None`.

        `token` is an array to wait for in place of the logs, if these are empty.
        """
        previous, self.pending = self.pending, (program, count, logs, token)
        if previous is None:
            return None
        before, num_steps, finished, waited_for = previous
        jax.block_until_ready((finished, waited_for))
        now = time.perf_counter()
        if self.last_done is not None:
            measured, known = max((now - self.last_done) / num_steps, 1e-7), before.seconds_per_step
            before.seconds_per_step = measured if known is None else max(measured, known / 8)
        self.last_done = now
        return num_steps, finished


def gather_rows(data, table, index):
    """The batch of step `index`: the rows that the table names."""
    rows = lax.dynamic_index_in_dim(table, index, keepdims=False)
    return jax.tree.map(lambda array: array.at[rows].get(mode="promise_in_bounds"), data)


def slice_rows(batch_size: int) -> Callable:
    """A `gather` that takes consecutive rows; the table is unused."""

    def gather(data, table, index):
        return jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, index * batch_size, batch_size), data)

    return gather


def train_program(model, variables: TrainState, batch_spec: tuple) -> Program:
    """The training program for this state and batch, compiled once per model."""
    leaves, treedef = jax.tree.flatten(variables)
    specs = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf._dtype) for leaf in leaves)
    step = _flat_step(model, model.train_step, variables)
    if model.run_eagerly:
        return EagerProgram(step, 0, gather_rows)
    return _cached(
        model,
        ("train", treedef, specs, _frozen(model), batch_form(batch_spec)),
        lambda: Program(step, specs, batch_spec, 0, gather_rows),
    )


def test_program(model, variables: TrainState, batch_spec: tuple, batch_size: int) -> Program:
    """The evaluation program: weights are read only, metrics are carried along."""
    leaves, treedef = jax.tree.flatten(variables)
    specs = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf._dtype) for leaf in leaves)
    fixed = len(leaves) - len(jax.tree.leaves(variables.metrics))
    step = _flat_step(model, model.test_step, variables)

    def metrics_only(leaves, batch):
        new, logs = step(leaves, batch)
        return new[fixed:], logs

    if model.run_eagerly:
        return EagerProgram(metrics_only, fixed, slice_rows(batch_size))
    return _cached(
        model,
        ("test", treedef, specs, _frozen(model), batch_form(batch_spec)),
        lambda: Program(metrics_only, specs, batch_spec, fixed, slice_rows(batch_size)),
    )


class Predictor:
    """A model's compiled prediction for one form of batch.

    `batch` predicts one batch. `run` predicts several consecutive ones in one dispatch, into one array of `capacity`
    batches; it takes the data and, as run-time integers, the first batch and their number. The last batch may overlap
    the one before it, so that every batch is full.

    Args:
        outputs: Shapes and dtypes of the outputs of one batch.
        is_rowwise: Whether every output has a row per input row, which `run` needs.
    """

    chunk_bytes = 4 * 2**20

    def __init__(self, model, variables: TrainState, batch_spec: tuple):
        treedef = jax.tree.structure(variables)
        leaves = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf._dtype) for leaf in jax.tree.leaves(variables))
        size = jax.tree.leaves(batch_spec)[0].shape[0]

        def predict(leaves, batch):
            return model.predict_step(jax.tree.unflatten(treedef, leaves), batch)

        self.outputs = jax.eval_shape(predict, leaves, batch_spec)
        self.is_rowwise = not model.run_eagerly and all(
            leaf.shape[:1] == (size,) for leaf in jax.tree.leaves(self.outputs)
        )
        row_bytes = sum(leaf.dtype.itemsize * leaf.size for leaf in jax.tree.leaves(self.outputs))
        self.capacity = capacity = max(1, min(64, self.chunk_bytes // max(row_bytes, 1)))

        def run(leaves, data, start, count):
            num_rows = jax.tree.leaves(data)[0].shape[0]

            def body(index, results):
                row = jnp.minimum((start + index) * size, num_rows - size)
                batch = jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, row, size), data)
                return jax.tree.map(
                    lambda result, new: lax.dynamic_update_slice_in_dim(result, new, index * size, 0),
                    results,
                    predict(leaves, batch),
                )

            empty = jax.tree.map(lambda s: jnp.zeros((capacity * size, *s.shape[1:]), s.dtype), self.outputs)
            return lax.fori_loop(0, count, body, empty)

        self.batch = predict if model.run_eagerly else jax.jit(predict)
        self.run = jax.jit(run)


def predictor(model, variables: TrainState, batch_spec: tuple) -> Predictor:
    """The predictor for this state and form of batch, compiled once per model."""
    key = ("predict", jax.tree.structure(variables), batch_form(batch_spec), model.run_eagerly)
    return _cached(model, key, lambda: Predictor(model, variables, batch_spec))


def _flat_step(model, step: Callable, variables: TrainState) -> Callable:
    """`step(state, data) -> (logs, state)` on leaves instead of a state.

    The step runs in a scope that holds every variable of the state, so that an overridden step may also read and update
    variables and metrics as Keras users do; what it writes there takes precedence over the state it returns.
    """
    owners, treedef = jax.tree.flatten(variables)

    def flat(leaves, batch):
        state = jax.tree.unflatten(treedef, leaves)
        key = jax.random.fold_in(steps.step_key(state), 1)  # not the one that the layers draw from
        with scopes.Scope(zip(owners, leaves, strict=True), key) as scope:
            logs, state = step(state, batch)
        if not isinstance(state, TrainState) and isinstance(state, (tuple, list)) and len(state) == 4:
            state = TrainState(*state)
        new, new_treedef = jax.tree.flatten(state)
        if new_treedef != treedef or [jnp.shape(a) for a in new] != [a.shape for a in leaves]:
            raise ValueError(
                f"{step.__qualname__} must return (logs, state) with a `TrainState` of the form it was given. "
                f"Given {treedef}, returned {new_treedef}."
            )
        if not isinstance(logs, dict):
            raise TypeError(f"{step.__qualname__} must return logs as a dict of scalars. Got {type(logs).__name__}.")
        new = [scope.value_of(owner) if id(owner) in scope.written else a for owner, a in zip(owners, new, strict=True)]
        new = tuple(lax.convert_element_type(a, old.dtype) for a, old in zip(new, leaves, strict=True))
        return new, OrderedDict((name, jnp.asarray(value)) for name, value in logs.items())

    return flat


class EagerProgram:
    """The interface of `Program` without compilation, for `run_eagerly`: `print` and debuggers work in the step."""

    is_looped = False
    seconds_per_step = None

    def __init__(self, step: Callable, fixed: int, gather: Callable):
        self.step, self.fixed, self.gather = step, fixed, gather

    def batch(self, frozen, changing, batch):
        """One step on a batch."""
        return self.step((*frozen, *changing), batch)

    def single(self, frozen, changing, data, table, index):
        """One step on a batch of the data set."""
        return self.step((*frozen, *changing), self.gather(data, table, index))

    def run(self, frozen, changing, data, table, start, count):
        """Steps `start` to `start + count`."""
        for index in range(start, start + count):
            changing, logs = self.single(frozen, changing, data, table, index)
        return changing, logs


def initial_metrics(model) -> list[np.ndarray]:
    """The leaves of the metrics tree at the start of an epoch, on the host."""
    key = ("initial_metrics", tuple(metric.name for metric in model.metrics))
    return _cached(model, key, lambda: _reset_values(model))


def _reset_values(model) -> list[np.ndarray]:
    variables = jax.tree.leaves(metric_variables(model))
    with scopes.Scope([(variable, None) for variable in variables]) as scope:
        for metric in model.metrics:
            metric.reset_state()
        return [np.asarray(scope.value_of(variable)) for variable in variables]


def current_values(variables: Tree) -> tuple:
    """The leaves of a tree of variables as arrays, uncopied: to be used before the next training step."""
    leaves = jax.tree.leaves(variables)
    materialize(leaves)
    return tuple(variable.peek() for variable in leaves)


def place(data: Tree) -> Tree:
    """A pytree of arrays on the device."""
    return jax.device_put(data)


def _frozen(model) -> tuple[bool, ...]:
    """Which layers are trainable: batch normalization computes otherwise when it is not."""
    return tuple(item.trainable for item in descendants(model) if hasattr(item, "trainable"))


def batch_form(batch_spec: tuple):
    """What distinguishes one form of batch from another: structure, shapes and dtypes."""
    leaves, treedef = jax.tree.flatten(batch_spec)
    return treedef, tuple((leaf.shape, jnp.dtype(leaf.dtype).name) for leaf in leaves)


def _cached(model, key, make: Callable):
    programs = model._programs
    if key not in programs:
        programs[key] = make()
    return programs[key]


def _holds_convolution(jaxpr) -> bool:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            return True
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns") and _holds_convolution(inner):
                return True
    return False


RESIDENT_BYTES = {"cpu": 16 * 2**20}
"""Largest data set that is copied to the device whole; 2 GB where not said otherwise.

On a CPU the copy is only worth its time for small arrays: 60 MB take 27 ms, half as long as 600 steps on them.
"""


def fits_on_device(data: Tree) -> bool:
    """Whether arrays are small enough to lie on the device, or do already."""
    leaves = [leaf for leaf in jax.tree.leaves(data) if not isinstance(leaf, jax.Array)]
    return sum(leaf.nbytes for leaf in leaves) <= RESIDENT_BYTES.get(jax.default_backend(), 2 * 2**30)


class HostFeed:
    """Gathers batches on the host into a few buffers that are used in turn.

    Three buffers are enough: the loop waits for the dispatch before the last before it asks for the next.

    Args:
        data: A pytree of arrays.
        batch_size: Rows per step.
    """

    chunk_bytes = 4 * 2**20

    def __init__(self, data: Tree, batch_size: int):
        self.data = jax.tree.map(np.asarray, data)
        row_bytes = sum(leaf[:1].nbytes for leaf in jax.tree.leaves(self.data))
        self.capacity = max(1, min(64, self.chunk_bytes // max(row_bytes * batch_size, 1)))
        self.rows = self.capacity * batch_size
        self._buffers = [
            jax.tree.map(lambda leaf: _aligned((self.rows, *leaf.shape[1:]), leaf.dtype), self.data) for _ in range(3)
        ]
        self._tables: dict[int, jax.Array] = {}
        self._turn = 0

    def gather(self, table: np.ndarray) -> tuple[Tree, jax.Array]:
        """The rows of a table, and the table of where they lie in the buffer."""
        self._turn = (self._turn + 1) % 3
        buffer = self._buffers[self._turn]
        rows = table.reshape(-1)
        jax.tree.map(
            lambda leaf, out: np.take(leaf, rows, axis=0, out=out[: len(rows)], mode="clip"), self.data, buffer
        )
        return buffer, self._table(table.shape[1])

    def _table(self, size: int) -> jax.Array:
        if size not in self._tables:
            steps = self.rows // size
            self._tables[size] = jax.device_put(np.arange(steps * size, dtype=np.int32).reshape(steps, size))
        return self._tables[size]


def _aligned(shape: tuple[int, ...], dtype) -> np.ndarray:
    """An array that starts at a multiple of 64 bytes, which XLA's CPU backend reads without copying it (4 us for 4 MB;
    1,100 us for one that does not)."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def row_order(num_rows: int, seed: tuple[int, int] | None) -> np.ndarray:
    """Row numbers of one pass over the data, int32: shuffled by (seed, pass), in order for `None`."""
    if seed is None:
        return np.arange(num_rows, dtype=np.int32)
    return np.random.Generator(np.random.Philox(key=seed)).permutation(num_rows).astype(np.int32)
