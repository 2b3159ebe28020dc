"""Evaluation and prediction: passes over data that leave the weights as they are."""

import contextlib
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from kerax.core import placement
from kerax.core.tracking import remembering
from kerax.data import ArraySource, resident
from kerax.data.feed import HostFeed, Prefetch
from kerax.train import engine, sweeps
from kerax.train.logs import Logs
from kerax.train.state import TrainState, state_variables

Tree = Any


def inference_values(model, variables: TrainState) -> tuple:
    """The leaves of a state, with a random key of its own for each evaluation or prediction."""
    model.inferences += 1
    key = np.asarray(model.random_key.peek())
    key = np.array([model.inferences, key[1], 0], np.uint32)
    return tuple(
        key if variable is model.random_key else value
        for variable, value in zip(jax.tree.leaves(variables), engine.current_values(variables), strict=True)
    )


class RowReader:
    """Consecutive rows of arrays: a small data set lies on the device, of a large one a chunk at a time is copied.

    On CPU, whole groups of batches are read where they lie, if XLA can. Else a program goes through several groups and
    copies each within the cache: 39 us per 32 rows of 784 in an evaluation, against 37; 46 with a dispatch per group.

    Args:
        source: The arrays.
        size: Rows per batch.

    Attributes:
        room: Batches that there may be in a group.
        is_copied_inside: Whether a program copies groups, and takes several of them.
    """

    def __init__(self, source: ArraySource, size: int):
        self.num_rows, self.size, self.data = source.num_rows, size, source.data
        self._feeds: dict[int, HostFeed] = {}
        self.is_resident = resident.has_readable_rows(source.data)
        if self.is_resident:
            self.data = resident.place_rows(source.data)
        is_in_place = placement.reads_host_memory() and resident.lies_well(self.data)
        self._host = jax.tree.map(np.asarray, self.data) if is_in_place else None
        is_copied = not self.is_resident or (placement.reads_host_memory() and not is_in_place)
        self.is_copied_inside = self.is_resident and is_copied
        self.room = HostFeed.batches_per_chunk(source.batch_spec(), size) if is_copied else source.num_batches

    def close(self, results: Tree):
        """Keeps the buffers for the next reader, once nothing computes on them: `results` are the last ones."""
        for feed in self._feeds.values():
            feed.recycle(results)
        self._feeds = {}

    def read_group(self, step: int, count: int) -> tuple[Tree, int]:
        """Data that holds batches `step` to `step + count`, all full, and the row at which they begin."""
        start, stop = step * self.size, (step + count) * self.size
        if self._host is not None:
            rows = jax.tree.map(lambda array: array[start:stop], self._host)
            if resident.lies_well(rows):
                return rows, 0
        data, first, _ = self.read(step, count, count)
        return data, first * self.size

    def read(self, step: int, count: int, room: int) -> tuple[Tree, int, int]:
        """Data that holds batches `step` to `step + count`, the first one's place among its batches, its last row.

        A chunk of a large data set is always as long as `room` batches.
        """
        if self.is_resident:
            return self.data, step, self.num_rows - 1
        if room not in self._feeds:
            self._feeds[room] = HostFeed(self.data, self.size, room)
        start, stop = step * self.size, min((step + count) * self.size, self.num_rows)
        return self._feeds[room].copy(self.data, start, stop), 0, stop - start - 1


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
        if _is_read_by_rows(source) and source.num_rows >= source.batch_size and not model.run_eagerly:
            self.reader = RowReader(source, source.batch_size)

    def __call__(self) -> Logs:
        """Loss and metrics over the data. The metrics keep their values afterwards."""
        self.callbacks.on_test_begin()
        with remembering():
            variables = state_variables(self.model, with_optimizer=False)
            metrics = tuple(placement.place_numbers(engine.initial_metrics(self.model)))
        frozen = inference_values(self.model, variables)[: -len(metrics) or None]
        step, latest, pace = 0, None, engine.Pace()
        with contextlib.closing(self._pieces(variables, pace)) as pieces:
            for program, function, arguments, count in pieces:
                self.callbacks.before_test_batches(step)
                metrics, latest = function(frozen, metrics, *arguments)
                step += count
                finished = pace.dispatched(program, count, latest, next(iter(latest.values()), None))
                self.callbacks.after_test_batches(step, latest, finished)
        if latest is None:
            raise ValueError("evaluate: the data ran out before the first batch.")
        logs = Logs(latest)
        if self.reader is not None:
            self.reader.close(metrics)
        for variable, value in zip(jax.tree.leaves(variables.metrics), metrics, strict=True):
            variable.assign(value)
        self.callbacks.on_test_end(logs)
        return logs

    def _pieces(self, variables, pace: engine.Pace) -> Iterator[tuple]:
        """(program, which of its functions, its arguments after the state, number of batches)."""
        if self.reader is None:
            with contextlib.closing(_single_batches(self.source, self.steps)) as batches:
                for step, batch in enumerate(batches):
                    program = sweeps.evaluator(self.model, variables, _spec(batch))
                    yield program, program.batch, (np.int32(step), batch), 1
            return
        size, num_rows = self.source.batch_size, self.source.num_rows
        full, rest, step = num_rows // size, num_rows % size, 0
        if self.steps is not None:
            full, rest = min(full, self.steps), rest if self.steps > full else 0
        spec = self.source.batch_spec()
        program = sweeps.evaluator(self.model, variables, spec, rest)
        room, group = self.reader.room, sweeps.group_size(full, min(program.most, self.reader.room))
        while step < full:
            until_look = self.callbacks.test_steps_until_look(step)
            if 1 < group <= min(full - step, until_look):
                data, row = self.reader.read_group(step, group)
                num_groups = None
                if self.reader.is_copied_inside:
                    num_groups = max(1, min(pace.steps(program), full - step, until_look) // group)
                count = group * (num_groups or 1)
                yield program, functools.partial(program.many, group), (data, row, step, num_groups), count
                step += count
                continue
            count = min(pace.steps(program), full - step, until_look, 2**30 if self.reader.is_resident else room)
            with_rest = bool(rest) and step + count == full and count < until_look
            data, start, _ = self.reader.read(step, count + with_rest, room + 1)
            yield program, program.run, (data, start, count, step, with_rest), count + with_rest
            step += count + with_rest
        if step == full and rest:  # someone looked at the batch before, or `many` took it
            data, start, _ = self.reader.read(step, 1, room + 1)
            yield program, program.run, (data, start, 0, step, True), 1


def predict(model, source, callbacks, steps: int | None = None):
    """The outputs for all rows or batches, as NumPy arrays in the structure that `predict_step` returns."""
    callbacks.on_predict_begin()
    variables = state_variables(model, with_optimizer=False)
    values = inference_values(model, variables)
    spec = source.batch_spec() if isinstance(source, ArraySource) else placement.global_spec(source.batch_spec())
    predictor = sweeps.predictor(model, variables, spec)
    if _is_read_by_rows(source) and predictor.is_rowwise:
        outputs = _predict_rows(predictor, values, source, callbacks, steps)
    else:
        outputs = _predict_batches(model, variables, values, source, callbacks, steps)
    callbacks.on_predict_end()
    return outputs


def _predict_rows(predictor: sweeps.Predictor, values: tuple, source: ArraySource, callbacks, steps: int | None):
    """Many batches per dispatch; each result is copied into its place while the next is computed."""
    size = min(source.batch_size, source.num_rows)
    num_steps = source.num_batches if steps is None else min(steps, source.num_batches)
    num_rows = min(num_steps * size, source.num_rows)
    reader = RowReader(source, size)
    group = sweeps.group_size(num_rows // size, min(predictor.most, reader.room))
    results = jax.tree.map(lambda spec: np.empty((num_rows, *spec.shape[1:]), spec.dtype), predictor.outputs)
    step, number, waiting, pace = 0, np.int32(0), None, engine.Pace()
    while step < num_steps:
        until_look = callbacks.predict_steps_until_look(step)
        callbacks.before_predict_batches(step)
        if 1 < group <= min(num_rows // size - step, until_look):
            data, row = reader.read_group(step, group)
            num_groups = None
            if reader.is_copied_inside:
                most = min(pace.steps(predictor), num_rows // size - step, until_look) // group
                num_groups = max(1, min(most, predictor.most_groups(group)))
            count = group * (num_groups or 1)
            outputs, number = predictor.many(group, values, data, row, number, num_groups)
            pace.dispatched(predictor, count, None, number)
        else:
            count = min(predictor.capacity, num_steps - step, until_look)
            data, start, last = reader.read(step, count, predictor.capacity)
            outputs, number = predictor.run(values, data, start, count, last, number)
        if waiting is not None:
            _store_rows(results, *waiting)
        waiting = (outputs, step * size)
        shown = outputs
        if until_look == 1:  # without the room for more batches, and the rows that the last one was filled with
            rows = min(size, num_rows - step * size)
            shown = jax.tree.map(lambda output, rows=rows: output[:rows], outputs)
        step += count
        callbacks.after_predict_batches(step, shown)
    _store_rows(results, *waiting)
    reader.close(outputs)
    return results


def _store_rows(results: Tree, outputs: Tree, start: int):
    """Copies rows to where they belong, from `start` on; those that a batch was filled with are left out."""

    def store(result, output):
        stop = min(start + len(output), len(result))
        result[start:stop] = np.asarray(output)[: stop - start]

    jax.tree.map(store, results, outputs)


def _predict_batches(model, variables, values: tuple, source, callbacks, steps: int | None):
    """One batch per dispatch, of whatever shape the outputs are."""
    outputs = []
    with contextlib.closing(_single_batches(source, steps)) as batches:
        for step, batch in enumerate(batches):
            callbacks.before_predict_batches(step)
            predictor = sweeps.predictor(model, variables, _spec(batch))
            outputs.append(predictor.batch(values, np.int32(step), batch))
            callbacks.after_predict_batches(step + 1, outputs[-1])
    if not outputs:
        raise ValueError("predict: the data is empty.")
    outputs = jax.device_get(outputs)
    join = np.concatenate if np.ndim(jax.tree.leaves(outputs[0])[0]) else np.stack
    return jax.tree.map(lambda *parts: join(parts), *outputs)


def _is_read_by_rows(source) -> bool:
    """Whether arrays are on the device, or on the only one."""
    return isinstance(source, ArraySource) and (placement.active() is None or resident.fits_on_device(source.data))


def _single_batches(source, steps: int | None) -> Iterator[tuple]:
    """At most `steps` batches of a source, placed on the devices; those from elsewhere are drawn ahead in a thread."""
    if isinstance(source, ArraySource):
        size = source.batch_size
        for start in itertools.islice(range(0, source.num_rows, size), steps):
            batch = jax.tree.map(lambda array, at=start: array[at : at + size], source.data)
            yield placement.place_batch(batch, is_whole=True)
        return
    with Prefetch(source.epoch(), steps) as batches:
        while taken := batches.take(1):
            yield placement.place_batch(taken[0][0])


def _spec(batch: tuple) -> tuple:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)


def test_on_batch(model, batch: tuple) -> Logs:
    """Loss and metrics of one batch alone."""
    variables = state_variables(model, with_optimizer=False)
    metrics, batch = tuple(placement.place_numbers(engine.initial_metrics(model))), placement.place_batch(batch)
    frozen = inference_values(model, variables)[: -len(metrics) or None]
    metrics, logs = sweeps.evaluator(model, variables, _spec(batch)).batch(frozen, metrics, np.int32(0), batch)
    for variable, value in zip(jax.tree.leaves(variables.metrics), metrics, strict=True):
        variable.assign(value)
    return Logs(logs)


def predict_on_batch(model, batch: tuple):
    """The outputs for one batch, as NumPy arrays."""
    variables, batch = state_variables(model, with_optimizer=False), placement.place_batch(batch)
    predictor = sweeps.predictor(model, variables, _spec(batch))
    return jax.device_get(predictor.batch(inference_values(model, variables), np.int32(0), batch))
