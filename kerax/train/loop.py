"""The loop: epochs, batches, callbacks and validation in plain Python around compiled programs.

Order of one epoch: `on_epoch_begin`, metrics to zero, then for each piece of work `on_train_batch_begin`, its steps,
`on_train_batch_end`, the progress display and `on_checkpoint`; then validation, `on_epoch_end` and `on_checkpoint`.

A run that goes on from a checkpoint repeats the hooks that came before it, `on_train_begin` and inside an epoch
`on_epoch_begin`; what they change of the state is then put back.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kerax.core.tracking import remembering
from kerax.data import Source
from kerax.train.feed import Feed, Piece, single
from kerax.train.interrupts import Interrupts
from kerax.train.logs import Logs, Rows, StepLogs
from kerax.train.program import Pace
from kerax.train.state import Store, TrainState, inference_values, metrics_at_start, state_variables
from kerax.train.training import Training

Tree = Any


def fit(training: Training, validate: Callable[[], Logs] | None, validation_freq):
    """Trains for the epochs of a run, or from where a callback's checkpoint was made.

    However it ends, by return, exception or Ctrl-C, the model holds the weights of the last finished step.

    Args:
        validate: Function without arguments that evaluates and returns logs, or `None`.
        validation_freq: Every how many epochs to validate, or the 1-based epochs to validate after.
    """
    callbacks, model, logs = training.callbacks, training.model, Logs()
    with training.interrupts.guarded(), training:
        try:
            training.interrupts.check()
            callbacks.on_train_begin()
            training.undo_hooks()
            for epoch in range(training.epoch, training.epochs):
                if model.stop_training:
                    break
                callbacks.on_epoch_begin(epoch)
                training.begin_epoch()
                for piece in training.pieces():
                    callbacks.on_train_batch_begin(training.step)
                    latest = training.advance(piece)
                    callbacks.on_train_batch_end(training.step - 1, latest, training.pace.finished)
                    callbacks.on_checkpoint(epoch, training.step, latest)
                    training.interrupts.check()
                    if model.stop_training:
                        break
                if training.logs is None:
                    warnings.warn(f"fit: the data ran out before epoch {epoch + 1}; training ends here.", stacklevel=4)
                    break
                logs = training.end_batches()
                if validate is not None and _is_due(epoch + 1, validation_freq):
                    logs.update({f"val_{name}": value for name, value in validate().items()})
                training.source.on_epoch_end()
                callbacks.on_epoch_end(epoch, logs)
                training.next_epoch(logs)
                callbacks.on_checkpoint(epoch, None, logs)
            if model.optimizer is not None:
                model.optimizer.finalize(training.variables.params)
            callbacks.on_train_end(logs)
            training.interrupts.busy = True
        except (KeyboardInterrupt, SystemExit):
            training.interrupts.busy = False  # another signal ends the saving too
            callbacks.on_interrupt()
            raise


def _is_due(epoch: int, validation_freq) -> bool:
    if isinstance(validation_freq, int):
        return epoch % validation_freq == 0
    return epoch in validation_freq


class Evaluation:
    """An evaluation that can be repeated, with the data where it is after the first time.

    Args:
        model: The model.
        source: Of the batches.
        callbacks: The `CallbackList`.
        steps: Number of batches, or `None` for all there are.
    """

    def __init__(self, model, source: Source, callbacks, steps: int | None = None):
        self.model, self.source, self.callbacks, self.steps = model, source.for_inference(), callbacks, steps
        self._feed: Feed | None = None

    def __call__(self) -> Logs:
        """Loss and metrics over the data. The metrics keep their values afterwards."""
        model, callbacks, compiled = self.model, self.callbacks, self.model.compilation
        callbacks.on_test_begin()
        with remembering():
            variables = state_variables(model, with_optimizer=False)
            metrics = _fresh_metrics(model, variables)
            program = compiled.test_program(model, variables, self.source)
        frozen = inference_values(model, variables)[: -len(metrics) or None]
        feed = self._feed = self._feed or Feed(self.source, program.room, program.fills_up, True, limit=self.steps)
        step, logs, pace = 0, None, Pace()
        for piece in feed.pieces(self.steps, 0, functools.partial(callbacks.until_look, "test")):
            callbacks.on_test_batch_begin(step)
            if piece.spec != program.spec:
                program = compiled.test_program_for(model, variables, piece.spec, program.fills_up)
            metrics, logs = program(frozen, metrics, piece, step)
            step += piece.num_batches
            pace.dispatched(program, piece.num_batches, logs, next(iter(logs.values()), None))
            callbacks.on_test_batch_end(step - 1, logs)
        if logs is None:
            raise ValueError("evaluate: the data ran out before the first batch.")
        feed.rewind()
        for variable, value in zip(jax.tree.leaves(variables.metrics), metrics, strict=True):
            variable.assign(value)
        logs = Logs(logs)
        callbacks.on_test_end(logs)
        return logs

    def close(self):
        """Keeps the buffers' memory for later passes over data."""
        if self._feed is not None:
            self._feed.close(())


def predict(model, source: Source, callbacks, steps: int | None = None) -> Tree:
    """The outputs for all rows or batches, as NumPy arrays in the structure that `predict_step` returns."""
    compiled, source = model.compilation, source.for_inference()
    callbacks.on_predict_begin()
    variables = state_variables(model, with_optimizer=False, with_metrics=False)
    values = inference_values(model, variables)
    program = compiled.predict_program(model, variables, source.spec(True))
    feed = Feed(source, program.room, program.fills_up, True, limit=steps)
    results, step = _Outputs(), 0
    for piece in feed.pieces(steps, 0, functools.partial(callbacks.until_look, "predict")):
        callbacks.on_predict_batch_begin(step)
        if piece.spec != program.spec:
            program = compiled.predict_program(model, variables, piece.spec)
        _, outputs = program(values, (), piece, step)
        results.add(piece, outputs)
        step += piece.num_batches
        if callbacks.watches("predict"):
            callbacks.on_predict_batch_end(step - 1, {"outputs": _rows_of(piece, outputs)})
    outputs = results.joined()
    feed.close(())
    callbacks.on_predict_end()
    return outputs


class _Outputs:
    """The outputs of pieces of work, each copied to the host while the next is computed."""

    def __init__(self):
        self._parts: list[Tree] = []
        self._latest: tuple | None = None

    def add(self, piece: Piece, outputs: Tree):
        """Takes the outputs of a piece, which may still be computed."""
        self._fetch()
        self._latest = piece, outputs

    def _fetch(self):
        if self._latest is not None:
            piece, outputs = self._latest
            self._parts.append(_rows_of(piece, jax.device_get(outputs)))
            self._latest = None

    def joined(self) -> Tree:
        """All rows, one after the other."""
        self._fetch()
        if not self._parts:
            raise ValueError("predict: the data is empty.")
        join = np.concatenate if np.ndim(jax.tree.leaves(self._parts[0])[0]) else np.stack
        return jax.tree.map(lambda *parts: join(parts), *self._parts)


def _rows_of(piece: Piece, outputs: Tree) -> Tree:
    """The outputs for the rows that count, without the room for more."""
    if piece.room == 1:
        has_rows = all(leaf.shape[:1] == (piece.spec.num_rows,) for leaf in jax.tree.leaves(outputs))
        return jax.tree.map(lambda leaf: leaf[: piece.num_rows], outputs) if has_rows else outputs

    def cut(leaf):
        done = (
            leaf[: piece.num_batches]
            if len(leaf) == piece.num_batches
            else leaf[piece.start : piece.start + piece.num_batches]
        )
        return done.reshape(-1, *leaf.shape[2:])[: piece.num_rows]

    return jax.tree.map(cut, outputs)


def _fresh_metrics(model, variables: TrainState) -> tuple:
    owners = jax.tree.leaves(variables.metrics)
    return metrics_at_start(model.compilation.initial_metrics(model), lambda index: owners[index].value)


def train_on_batch(model, batch: tuple) -> dict:
    """One step on one batch: the logs of this batch alone."""
    compiled, variables, piece = model.compilation, state_variables(model), single(batch, is_whole=False)
    program = compiled.train_program(model, variables, piece.spec)
    for variable, value in zip(jax.tree.leaves(variables.metrics), compiled.initial_metrics(model), strict=True):
        if value is not None:
            variable.assign(value)
    with Interrupts(with_termination=False).guarded():
        store = Store(jax.tree.leaves(variables))
        try:
            store.leaves, rows = program((), store.leaves, piece)
        finally:
            store.release()
    return dict(Logs(StepLogs(Rows(program.kept, rows))))


def test_on_batch(model, batch: tuple) -> dict:
    """Loss and metrics of one batch alone."""
    compiled, piece = model.compilation, single(batch, is_whole=False)
    variables = state_variables(model, with_optimizer=False)
    metrics = _fresh_metrics(model, variables)
    frozen = inference_values(model, variables)[: -len(metrics) or None]
    metrics, logs = compiled.test_program_for(model, variables, piece.spec, False)(frozen, metrics, piece)
    for variable, value in zip(jax.tree.leaves(variables.metrics), metrics, strict=True):
        variable.assign(value)
    return dict(Logs(logs))


def predict_on_batch(model, batch: tuple) -> Tree:
    """The outputs for one batch, as NumPy arrays."""
    variables, piece = state_variables(model, False, False), single(batch, is_whole=False)
    program = model.compilation.predict_program(model, variables, piece.spec)
    return jax.device_get(program(inference_values(model, variables), (), piece)[1])
