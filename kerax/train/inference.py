"""Evaluation and prediction: passes over data that leave the weights as they are."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from kerax.data import ArraySource
from kerax.train import engine
from kerax.train.logs import Logs
from kerax.train.state import state_variables

Tree = Any


class RowReader:
    """Consecutive batches of arrays: views of a small data set on the device, chunks of a large one from the host.

    Args:
        source: The arrays.
        size: Rows per batch.
    """

    def __init__(self, source: ArraySource, size: int):
        self.num_rows, self.size = source.num_rows, size
        self.feed = None if engine.fits_on_device(source.data) else engine.HostFeed(source.data, size)
        self.data = engine.place(source.data) if self.feed is None else None
        self.capacity = 2**30 if self.feed is None else self.feed.capacity

    def read(self, step: int, count: int) -> tuple[Tree, int]:
        """Data that holds batches `step` to `step + count`, and the position of the first among its batches.

        A last batch that would be short starts earlier instead, so that it is full.
        """
        if self.feed is None:
            return self.data, step
        starts = np.minimum(np.arange(step, step + count) * self.size, self.num_rows - self.size)
        return self.feed.gather(starts[:, None] + np.arange(self.size))[0], 0


class Evaluation:
    """An evaluation that can be repeated; a small data set is placed on the device once.

    Args:
        source: An `ArraySource` or `BatchSource`.
        callbacks: The `CallbackList`.
        steps: Number of batches, or `None` for all there are.
    """

    def __init__(self, model, source, callbacks, steps: int | None = None):
        self.model, self.source, self.callbacks, self.steps = model, source, callbacks, steps
        self.reader = None
        if isinstance(source, ArraySource) and source.num_rows >= source.batch_size:
            self.reader = RowReader(source, source.batch_size)

    def __call__(self) -> Logs:
        """Loss and metrics over the data."""
        variables = state_variables(self.model, with_optimizer=False)
        frozen = engine.current_values(variables[:-1])
        changing = tuple(jax.device_put(engine.initial_metrics(self.model)))
        self.callbacks.on_test_begin()
        step, latest, pace = 0, None, engine.Pace()
        for program, data, start, count in self._pieces(variables, pace):
            self.callbacks.before_test_batches(step)
            if start is None:
                changing, latest = program.batch(frozen, changing, data)
            else:
                changing, latest = program.run(frozen, changing, data, (), start, count)
            step += count
            self.callbacks.after_test_batches(step, latest, pace.dispatched(program, count, latest))
        if latest is None:
            raise ValueError("evaluate: the data ran out before the first batch.")
        logs = Logs(latest)
        self.callbacks.on_test_end(logs)
        return logs

    def _pieces(self, variables, pace: engine.Pace) -> Iterator[tuple]:
        """(program, data, first batch in it or `None` for a single batch, number of batches)."""
        if not isinstance(self.source, ArraySource):
            for step, batch in enumerate(self.source.epoch()):
                if step == self.steps:
                    return
                yield self._program(variables, batch), batch, None, 1
            return
        size, num_rows = self.source.batch_size, self.source.num_rows
        full, step = num_rows // size, 0
        if self.steps is not None:
            full = min(full, self.steps)
        if full:
            program = self._program(variables, jax.tree.map(lambda array: array[:size], self.source.data))
        while step < full:
            wanted = min(pace.steps(program), self.callbacks.test_steps_until_look(step))
            count = min(wanted, full - step, self.reader.capacity)
            data, start = self.reader.read(step, count)
            yield program, data, start, count
            step += count
        if num_rows % size and step != self.steps:
            rest = jax.tree.map(lambda array: array[step * size :], self.source.data)
            yield self._program(variables, rest), rest, None, 1

    def _program(self, variables, batch: tuple) -> engine.Program:
        spec = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)
        return engine.test_program(self.model, variables, spec, jax.tree.leaves(spec)[0].shape[0])


def predict(model, source, callbacks, steps: int | None = None):
    """The outputs for all rows or batches, as NumPy arrays in the structure that `predict_step` returns."""
    variables = state_variables(model, with_optimizer=False)
    values = engine.current_values(variables)
    callbacks.on_predict_begin()
    predictor = engine.predictor(model, variables, source.batch_spec())
    if isinstance(source, ArraySource) and predictor.is_rowwise:
        outputs = _predict_rows(predictor, values, source, callbacks, steps)
    else:
        outputs = _predict_batches(model, variables, values, source, callbacks, steps)
    callbacks.on_predict_end()
    return outputs


def _predict_rows(predictor: engine.Predictor, values: tuple, source: ArraySource, callbacks, steps: int | None):
    """Many batches per dispatch; each result is copied into its place while the next is computed."""
    size = min(source.batch_size, source.num_rows)
    num_steps = source.num_batches if steps is None else min(steps, source.num_batches)
    num_rows = min(num_steps * size, source.num_rows)
    reader = RowReader(source, size)
    results = jax.tree.map(lambda spec: np.empty((num_rows, *spec.shape[1:]), spec.dtype), predictor.outputs)
    step, waiting = 0, None
    while step < num_steps:
        count = min(num_steps - step, predictor.capacity, reader.capacity, callbacks.predict_steps_until_look(step))
        callbacks.before_predict_batches(step)
        data, start = reader.read(step, count)
        outputs = predictor.run(values, data, start, count)
        if waiting is not None:
            _store_rows(results, *waiting, size)
        waiting = (outputs, step, count)
        step += count
        callbacks.after_predict_batches(step, outputs)
    _store_rows(results, *waiting, size)
    return results


def _store_rows(results: Tree, outputs: Tree, step: int, count: int, size: int):
    """Copies the rows of batches `step` to `step + count` to where they belong."""

    def store(result, output):
        values, num_rows = np.asarray(output), len(result)
        full = min(count, num_rows // size - step)
        result[step * size : (step + full) * size] = values[: full * size]
        if full < count:  # the last batch began early enough to be full
            result[num_rows - size :] = values[full * size : count * size]

    jax.tree.map(store, results, outputs)


def _predict_batches(model, variables, values: tuple, source, callbacks, steps: int | None):
    """One batch per dispatch, of whatever shape the outputs are."""
    if isinstance(source, ArraySource):
        size = source.batch_size
        starts = range(0, source.num_rows, size)
        batches = (jax.tree.map(lambda a, s=start: a[s : s + size], source.data) for start in starts)
    else:
        batches = source.epoch()
    outputs = []
    for step, batch in enumerate(batches):
        if step == steps:
            break
        callbacks.before_predict_batches(step)
        spec = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)
        outputs.append(engine.predictor(model, variables, spec).batch(values, batch))
        callbacks.after_predict_batches(step + 1, outputs[-1])
    if not outputs:
        raise ValueError("predict: the data is empty.")
    outputs = jax.device_get(outputs)
    join = np.concatenate if np.ndim(jax.tree.leaves(outputs[0])[0]) else np.stack
    return jax.tree.map(lambda *parts: join(parts), *outputs)
