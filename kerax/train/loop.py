"""The loop: epochs, batches, callbacks and validation in plain Python around compiled programs.

Order of one epoch: `on_epoch_begin`, metrics to zero, then for each piece of work `on_train_batch_begin`, its steps,
`on_train_batch_end` and the progress display; then validation, then `on_epoch_end`.
"""

import itertools
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from kerax.data import ArraySource, BatchSource
from kerax.train import engine
from kerax.train.logs import Logs
from kerax.train.state import Store, state_variables

Tree = Any


class Piece(NamedTuple):
    """Work for one visit of the loop: `count` steps of a program on its table of rows, or on one batch."""

    program: engine.Program
    data: Tree
    table: Any
    start: int
    count: int


class Interrupts:
    """Holds Ctrl-C back during a dispatch, until the arrays that the dispatch returns are safe."""

    def __init__(self):
        self.busy = self.pending = False

    @contextmanager
    def guarded(self):
        """Handles SIGINT for the length of a `with` block, in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _on_signal(self, *_):
        if self.busy and not self.pending:
            self.pending = True
        else:
            raise KeyboardInterrupt

    def check(self):
        """Raises the interrupt that was held back."""
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt


def fit(model, source, validation, callbacks, epochs, initial_epoch, steps_per_epoch, shuffle, validation_freq):
    """Trains for the epochs from `initial_epoch` up to `epochs`.

    However it ends, by return, exception or Ctrl-C, the model holds the weights of the last finished step.

    Args:
        source: An `ArraySource` or `BatchSource`.
        validation: Function without arguments that evaluates and returns logs, or `None`.
        callbacks: The `CallbackList`.
        steps_per_epoch: Number of batches that make an epoch, or `None` for all there are.
        shuffle: Whether to draw a new order of the rows for each pass.
        validation_freq: Every how many epochs to validate, or the 1-based epochs to validate after.
    """
    variables = state_variables(model)
    work = (
        ArrayWork(model, variables, source, shuffle)
        if isinstance(source, ArraySource)
        else BatchWork(model, variables, source)
    )
    fresh_metrics = engine.initial_metrics(model)
    store = Store(jax.tree.leaves(variables))
    num_kept = len(store.leaves) - len(fresh_metrics)
    interrupts = Interrupts()
    logs: Any = Logs()
    try:
        with interrupts.guarded():
            callbacks.on_train_begin()
            for epoch in range(initial_epoch, epochs):
                callbacks.on_epoch_begin(epoch)
                store.leaves = (*store.leaves[:num_kept], *jax.device_put(fresh_metrics))
                step, latest, pace = 0, None, engine.Pace()
                for program, data, table, start, count in work.pieces(steps_per_epoch, pace, callbacks):
                    callbacks.before_batches(step)
                    interrupts.busy = True
                    if table is None:
                        store.leaves, latest = program.batch((), store.leaves, data)
                    elif program.is_looped:
                        store.leaves, latest = program.run((), store.leaves, data, table, start, count)
                    else:
                        for index in range(start, start + count):
                            store.leaves, latest = program.single((), store.leaves, data, table, index)
                    interrupts.busy = False
                    interrupts.check()
                    step += count
                    token = None if latest else store.read(0)
                    callbacks.after_batches(step, latest, pace.dispatched(program, count, latest, token))
                    if model.stop_training:
                        break
                if latest is None:
                    warnings.warn(f"fit: the data ran out before epoch {epoch + 1}; training ends here.", stacklevel=4)
                    break
                callbacks.after_last_batch(latest)
                logs = Logs(latest)
                if validation is not None and _is_due(epoch, validation_freq):
                    logs.update({f"val_{name}": value for name, value in validation().items()})
                if isinstance(source, BatchSource):
                    source.on_epoch_end()
                callbacks.on_epoch_end(epoch, logs)
                if model.stop_training:
                    break
            model.optimizer.finalize(variables.params)
            callbacks.on_train_end(logs)
    finally:
        store.release()


class ArrayWork:
    """The pieces of training on arrays: whole passes over the rows, each in its own order.

    Arrays small enough lie on the device, and the program gathers its batches there. Of larger ones the host gathers a
    few batches at a time while the device computes on those before. Both give the same batches.
    """

    def __init__(self, model, variables, source: ArraySource, shuffle: bool):
        self.model, self.variables, self.source, self.shuffle = model, variables, source, shuffle
        self.seed = int(np.asarray(model.random_key.value)[1])
        self.size = min(source.batch_size, source.num_rows)
        self.program = self._program(self.size)
        self.feed = None if engine.fits_on_device(source.data) else engine.HostFeed(source.data, self.size)
        self.data = engine.place(source.data) if self.feed is None else None
        self._rest: Iterator | None = None  # of a pass that an epoch of `steps_per_epoch` left unfinished

    def _program(self, size: int) -> engine.Program:
        spec = jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), self.source.data)
        return engine.train_program(self.model, self.variables, spec)

    def _pass(self) -> Iterator[np.ndarray]:
        """The tables of one pass, (number of steps, rows per step): full batches, then what is left."""
        size, num_rows = self.source.batch_size, self.source.num_rows
        order = engine.row_order(num_rows, (self.seed, self.model.passes) if self.shuffle else None)
        self.model.passes += 1
        full = num_rows // size
        if full:
            yield order[: full * size].reshape(full, size)
        if num_rows % size:
            yield order[full * size :][None]

    def pieces(self, steps_per_epoch: int | None, pace: engine.Pace, callbacks) -> Iterator[Piece]:
        """An epoch's work, cut where callbacks want to look and where the pace says."""
        left = self.source.num_batches if steps_per_epoch is None else steps_per_epoch
        step = 0
        while left:
            table = next(self._rest, None) if self._rest is not None else None
            if table is None:
                self._rest = self._pass()
                continue
            program = self.program if table.shape[1] == self.size else self._program(table.shape[1])
            placed = jax.device_put(table) if self.feed is None else None
            start = 0
            while start < len(table) and left:
                count = min(pace.steps(program), len(table) - start, left, callbacks.steps_until_look(step))
                if self.feed is None:
                    yield Piece(program, self.data, placed, start, count)
                else:
                    count = min(count, self.feed.capacity)
                    data, rows = self.feed.gather(table[start : start + count])
                    yield Piece(program, data, rows, 0, count)
                start, step, left = start + count, step + count, left - count
            if start < len(table):
                self._rest = itertools.chain([table[start:]], self._rest)


class BatchWork:
    """The pieces of training on batches from elsewhere: one program per shape, one step per piece."""

    def __init__(self, model, variables, source: BatchSource):
        self.model, self.variables, self.source = model, variables, source
        self._form = jax.tree.structure(source.batch_spec())
        self._programs: dict[tuple, engine.Program] = {}
        self._rest: Iterator | None = None

    def pieces(self, steps_per_epoch: int | None, pace: engine.Pace, callbacks) -> Iterator[Piece]:
        """An epoch's work. With `steps_per_epoch` an epoch goes on where the last one stopped."""
        batches = self._rest if self._rest is not None else self.source.epoch()
        self._rest = batches if steps_per_epoch is not None else None
        step = 0
        while steps_per_epoch is None or step < steps_per_epoch:
            batch = next(batches, None)
            if batch is None and steps_per_epoch is not None and not self.source.is_single_pass and step:
                batches = self._rest = self.source.epoch()
                batch = next(batches, None)
            if batch is None:
                if steps_per_epoch is not None and step:
                    warnings.warn(f"fit: the data ran out after {step} of {steps_per_epoch} batches.", stacklevel=4)
                    self.model.stop_training = True
                return
            yield Piece(self._program(batch), batch, None, 0, 1)
            step += 1

    def _program(self, batch: tuple) -> engine.Program:
        if jax.tree.structure(batch) != self._form:
            raise ValueError(
                f"fit: every batch must have the structure of the first, {self._form}. Got {jax.tree.structure(batch)}."
            )
        key = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(batch))
        if key not in self._programs:
            spec = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)
            self._programs[key] = engine.train_program(self.model, self.variables, spec)
        return self._programs[key]


def _is_due(epoch: int, validation_freq) -> bool:
    if isinstance(validation_freq, int):
        return (epoch + 1) % validation_freq == 0
    return epoch + 1 in validation_freq
