"""The engine: turns a model's pure training step into device programs that take and return flat tuples of arrays.

A program exists in three forms over one traced step. `run` takes the data set, a table of row numbers per step, and
the range of steps to do as run-time integers: one compilation and the same bits however a run is cut. `single` does
one step of the same table without a loop, `batch` one step on a batch from elsewhere. Under a distribution the state
keeps its layout from step to step, and the rows of a batch are spread over the devices.

XLA's CPU backend runs convolutions with axes in another order than its own, as JAX's gradients have them, about 37
times slower inside a loop than outside one, and matmul and recurrent steps 1.2 to 4 times faster (dispatch is saved);
so on CPU a step that holds such a convolution is dispatched alone. kerax's layers write theirs in XLA's order
(`ops/cpu.py`). On GPU and TPU every step is looped over.
"""

import functools
import threading
import time
from collections import OrderedDict  # a pytree that keeps its order, unlike dict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kerax.core import placement
from kerax.core import scope as scopes
from kerax.core.tracking import descendants, forgetting
from kerax.core.variable import Variable, materialize
from kerax.data.resident import take_rows
from kerax.ops import cpu
from kerax.train import steps
from kerax.train.logs import Packing
from kerax.train.state import TrainState, metric_variables

Tree = Any
BAD_STEP = "_bad_step"


class Program:
    """A traced training step for one structure of state and one form of batch.

    Args:
        step: Function of (leaves, batch) that returns (leaves, logs); leaves are a flat tuple of arrays. The programs
            return the logs as `packing` lays them: of the last 32 steps of a table, of the only one otherwise.
        leaves: The state's leaves, or their shapes.
        batch: The batch's shapes and dtypes.
        shardings: Where the leaves lie, under a distribution.
    """

    def __init__(self, step: Callable, leaves: tuple, batch: tuple, shardings: list | None = None):
        self._specs = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves), batch
        closed, (_, logs) = jax.make_jaxpr(step, return_shape=True)(*self._specs)
        constants = jax.device_put(closed.consts)
        packing, names, num_leaves = Packing(logs), tuple(logs), len(leaves)
        self.packing = packing
        self.is_looped = jax.default_backend() != "cpu" or not cpu.is_slow_in_loops(closed.jaxpr)
        self.seconds_per_step: float | None = None
        self._shardings = shardings
        self._is_behind = False  # whether a thread compiles, or has compiled, the form that is used

        def batch(leaves, batch):
            batch = placement.constrain_batch(batch)
            out = jax.core.eval_jaxpr(closed.jaxpr, constants, *leaves, *jax.tree.leaves(batch))
            new = out[:num_leaves] if shardings is None else map(lax.with_sharding_constraint, out, shardings)
            return tuple(new), packing.pack(dict(zip(names, out[num_leaves:])))

        def single(leaves, data, table, index):
            return batch(leaves, gather_rows(data, table, index))

        def run(leaves, data, table, start, count):
            def step(index, carry):
                leaves, row = single(carry[0], data, table, index)
                return leaves, packing.put(carry[1], row, index)

            return lax.fori_loop(start, start + count, step, (leaves, packing.empty()))

        options = {"compiler_options": cpu.compiler_options(closed.jaxpr)}
        layout = {} if shardings is None else {"out_shardings": (tuple(shardings), placement.active().replicated)}
        # A step that prints or calls the host cannot be taken back.
        self.can_look_ahead = packing.num_rows > 1 and self.is_looped and shardings is None and not closed.effects
        self.copy = jax.jit(lambda leaves: jax.tree.map(jnp.copy, leaves))
        self.run = jax.jit(run, donate_argnums=0, **layout, **options)
        self.single = jax.jit(single, donate_argnums=0, **layout, **options)
        self.batch = jax.jit(batch, donate_argnums=0, **layout, **options)

    def calls(self, data: Tree, table, start: int, count: int) -> tuple[Callable, list[tuple]]:
        """What does `count` steps of a table from `start`, or one on a batch without a table: a function of leaves and
        further arguments, and these for each call of it."""
        if table is None:
            return self.batch, [(data,)]
        if self.is_looped:
            return self.run, [(data, table, start, count)]
        return self.single, [(data, table, index) for index in range(start, start + count)]

    def compile_behind(self, leaves: tuple, data: Tree, table):
        """Compiles what does one step of a table in a thread.

        Not where compiled programs are kept on disk: XLA was seen to abort the process as a thread wrote one out.
        """
        if not self._is_behind and jax.config.jax_compilation_cache_dir is None:
            self._is_behind = True
            function, (arguments,) = self.calls(data, table, 0, 1)
            setattr(self, "run" if self.is_looped else "single", Behind(function, leaves, *arguments))

    def specs(self) -> tuple:
        """Shapes, dtypes and layouts of what `batch` takes."""
        leaves, batch = self._specs
        if self._shardings is not None:
            leaves = tuple(
                jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
                for leaf, sharding in zip(leaves, self._shardings, strict=True)
            )
        return leaves, batch

    def flops(self) -> float:
        """Floating-point operations of one step, by XLA's count."""
        return float(self.batch.lower(*self._specs).cost_analysis().get("flops", 0.0))


class Behind:
    """A jitted function that is compiled for given arguments in a thread; a call with such arguments waits until it is.

    Args:
        function: What `jax.jit` returned.
        *args: Arguments like those of the calls to come, or variables that hold them; only shapes, dtypes and placement
            are looked at.
    """

    def __init__(self, function: Callable, *args):
        self._function, self._compiled, self._program = function, Future(), None
        specs = jax.tree.map(_spec, args)
        threading.Thread(target=self._compile, args=(function, specs), name="kerax compile").start()

    def _compile(self, function: Callable, specs: tuple):
        try:
            self._compiled.set_result(function.lower(*specs).compile())
        except BaseException as error:  # raised where the program is called
            self._compiled.set_exception(error)

    def _wait(self) -> Callable:
        if not self._compiled.done():
            begun = time.time()
            self._compiled.result()
            jax.monitoring.record_event_time_span("/kerax/compile/wait", begun, time.time())
        self._program = self._compiled.result()
        return self._program

    def __call__(self, *args):
        program = self._program or self._wait()
        try:
            return program(*args)
        except (TypeError, ValueError):  # other shapes or devices: raised before anything is donated
            return self._function(*args)


def _spec(leaf):
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding if leaf.committed else None)
    if isinstance(leaf, Variable):
        return jax.ShapeDtypeStruct(leaf.shape, leaf._dtype, sharding=placement.sharding_of(leaf))
    if isinstance(leaf, np.ndarray) and placement.active() is not None:  # a table, which will be placed
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement.active().replicated)
    return leaf


class Pace:
    """How many steps to hand to the device at once: about `target` seconds' worth, or 8 if `most` seconds suffice.

    Long enough that dispatch costs nothing, short enough that Ctrl-C and the progress bar are served. XLA's CPU backend
    maps the step's temporary memory anew at each dispatch: of a step of 77 MB that is more than half the time, unless
    several steps share it. One piece of work is always queued behind the one that is waited for, so the device never
    idles.
    """

    target, most = 0.1, 0.6

    def __init__(self):
        self.pending: tuple | None = None
        self.last_done: float | None = None
        self.num_measured = 0

    def steps(self, program) -> int:
        """Number of steps of `program` for the next dispatch."""
        known = program.seconds_per_step
        return 1 if known is None else max(1, int(self.target / known), min(8, int(self.most / known)))

    def dispatched(self, program, count: int, logs, token: jax.Array | None):
        """Notes a dispatch, waits for the one before it and returns (its number of steps, its logs), or `None`.

        Args:
            token: One of its results, to wait for; the others come from the same program. `None`: it is not waited for.
        """
        previous, self.pending = self.pending, (program, count, logs, token)
        if previous is None:
            return None
        before, num_steps, finished, waited_for = previous
        if waited_for is not None:
            waited_for.block_until_ready()
        now = time.perf_counter()
        if self.last_done is not None:
            measured, known = max((now - self.last_done) / num_steps, 1e-7), before.seconds_per_step
            if jax.process_count() > 1:
                measured = known or self._agreed(measured)
            before.seconds_per_step = measured if known is None else max(measured, known / 8)
        self.last_done = now
        return num_steps, finished

    def _agreed(self, measured: float) -> float | None:
        """The first process's measurement of the third dispatch, once: all processes must do the same steps at once."""
        self.num_measured += 1
        if self.num_measured < 3:
            return None
        from jax.experimental import multihost_utils

        return float(multihost_utils.broadcast_one_to_all(np.float32(measured)))


def gather_rows(data, table, index):
    """The batch of step `index`: the rows that the table names, or those of that index of stacked batches."""
    if isinstance(table, tuple):
        return jax.tree.map(lambda array: lax.dynamic_index_in_dim(array, index, keepdims=False), data)
    rows = lax.dynamic_index_in_dim(table, index, keepdims=False)
    return take_rows(data, rows)


def train_program(model, variables: TrainState, batch_spec: tuple):
    """The training program for this state and batch, compiled once per model."""
    leaves, treedef = jax.tree.flatten(variables)
    forms = tuple((leaf.shape, leaf._dtype) for leaf in leaves)

    def make():
        step = _flat_step(model, variables)
        if model.run_eagerly:
            return EagerProgram(step)
        specs = tuple(jax.ShapeDtypeStruct(*form) for form in forms)
        return Program(step, specs, batch_spec, placement.shardings_of(leaves))

    key = "train", treedef, forms, _frozen(model), model.run_eagerly, batch_form(batch_spec)
    return cached(model, key, make)


def _flat_step(model, variables: TrainState) -> Callable:
    """`train_step(state, data) -> (logs, state)` on leaves instead of a state.

    The step runs in a scope that holds every variable of the state, so that an overridden step may also read and update
    variables and metrics as Keras users do; what it writes there takes precedence over the state it returns.
    The position of the random key is advanced here, whatever the step does with it.
    """
    step = model.train_step
    owners, treedef = jax.tree.flatten(variables)
    key_index = next(index for index, owner in enumerate(owners) if owner is model.random_key)
    guard = next((index for index, owner in enumerate(owners) if owner is model._bad_step), None)

    def flat(leaves, batch):
        state = jax.tree.unflatten(treedef, leaves)
        key = jax.random.fold_in(steps.step_key(state), 1)  # not the one that the layers draw from
        with scopes.Scope(zip(owners, leaves, strict=True), key) as scope:
            try:
                logs, state = step(state, batch)
            except (TypeError, KeyError) as error:
                if not hasattr(type(model).train_step, "is_default"):
                    error.add_note(_STATE_NOTE)
                raise
        new = _checked_leaves(step, state, treedef, leaves)
        if not isinstance(logs, dict):
            raise TypeError(f"{step.__qualname__} must return logs as a dict of scalars. Got {type(logs).__name__}.")
        new = [scope.value_of(owner) if id(owner) in scope.written else a for owner, a in zip(owners, new, strict=True)]
        new = [lax.convert_element_type(a, old.dtype) for a, old in zip(new, leaves, strict=True)]
        new[key_index] = steps.advanced(leaves[key_index])
        logs = OrderedDict((name, jnp.asarray(value)) for name, value in logs.items())
        if guard is not None:
            new = _guarded(new, leaves, guard, leaves[key_index][2])
            logs[BAD_STEP] = new[guard]
        return tuple(new), logs

    return flat


_STATE_NOTE = (
    "kerax's `train_step(self, state, data)` gets a `TrainState` whose params, state, opt_state and metrics are trees, "
    "not Keras's lists: `stateless_call(params, state, x)` and `optimizer.update(grads, opt_state, params)` take them; "
    "metrics are updated with `metric.update_state(...)` as they are."
)


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


def _guarded(new: list, old: tuple, guard: int, step) -> list:
    """The new leaves, or from the first step on that makes one of them NaN or infinite, the old ones for good."""
    floats = [leaf for leaf in new if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    is_finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))
    keep = (old[guard] < 0) & is_finite
    kept = [jnp.where(keep, a, b) for a, b in zip(new, old, strict=True)]
    kept[guard] = jnp.where((old[guard] < 0) & ~is_finite, step.astype(jnp.int32), old[guard])
    return kept


class EagerProgram:
    """The interface of `Program` without compilation, for `run_eagerly`: `print` and debuggers work in the step."""

    seconds_per_step, can_look_ahead = None, False

    def __init__(self, step: Callable):
        self._step = step

    def batch(self, leaves, batch):
        """One step."""
        leaves, logs = self._step(leaves, batch)
        self.packing = Packing(logs)
        return leaves, self.packing.pack(logs)

    def compile_behind(self, *_):
        """Nothing to compile."""

    def calls(self, data: Tree, table, start: int, count: int) -> tuple[Callable, list[tuple]]:
        """As `Program.calls`."""
        if table is None:
            return self.batch, [(data,)]
        return self.batch, [(gather_rows(data, table, index),) for index in range(start, start + count)]


def initial_metrics(model) -> list[np.ndarray]:
    """The leaves of the metrics tree at the start of an epoch, on the host."""
    key = ("initial_metrics", tuple(metric.name for metric in model.metrics))
    return cached(model, key, lambda: _reset_values(model))


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


def _frozen(model) -> tuple[bool, ...]:
    """Which layers are trainable: batch normalization computes otherwise when it is not."""
    return tuple(item.trainable for item in descendants(model) if hasattr(item, "trainable"))


def batch_form(batch_spec: tuple):
    """What distinguishes one form of batch from another: structure, shapes and dtypes."""
    leaves, treedef = jax.tree.flatten(batch_spec)
    return treedef, tuple((leaf.shape, jnp.dtype(leaf.dtype).name) for leaf in leaves)


def cached(model, key, make: Callable):
    """What `make()` returns, made once per model and key."""
    programs, key = model._programs, (*key, placement.active())
    if key not in programs:
        _raise_map_threshold()
        with forgetting():
            programs[key] = make()
    return programs[key]


@functools.cache
def _raise_map_threshold():
    """Has glibc keep up to 62 MB of memory that XLA's CPU backend frees, for the next program.

    Once a large piece has been freed, glibc no longer maps pieces of up to that size anew at each use, nor unmaps what
    is free at the end up to twice that. Before, predictions of 600 batches touched 6,000 fresh pages, a quarter of
    their time.
    """
    if jax.default_backend() == "cpu":
        np.empty(31 * 2**20, np.uint8)  # 32 MB is the largest that counts
