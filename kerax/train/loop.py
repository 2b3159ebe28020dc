"""The loop: epochs, batches, callbacks and validation in plain Python around compiled programs.

Order of one epoch: `on_epoch_begin`, metrics to zero, then for each piece of work `on_train_batch_begin`, its steps,
`on_train_batch_end`, the progress display and `on_checkpoint`; then validation, `on_epoch_end` and `on_checkpoint`.

A run that goes on from a checkpoint repeats the hooks that came before it, `on_train_begin` and inside an epoch
`on_epoch_begin`; what they change of the state is then put back.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core import placement
from kerax.core.tracking import remembering
from kerax.data import BatchSpec, Source
from kerax.tracebacks import warn_each_time
from kerax.train.feed import Feed, Piece, single
from kerax.train.interrupts import Interrupts
from kerax.train.logs import Logs
from kerax.train.program import Pace, Program, room_of
from kerax.train.run_state import RunState, run_state
from kerax.train.state import Carried, changing_hands, inference_values, metrics_at_start, store_of
from kerax.train.steps import goes_on
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
            # Hooks that a run going on repeats must not change what the checkpoint holds.
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
                # An iterator that is used up: the epochs so far stand.
                if training.logs is None:
                    warn_each_time(f"fit: the data ran out before epoch {epoch + 1}; training ends here.")
                    break
                logs = training.end_batches()
                if validate is not None and _is_due(epoch + 1, validation_freq):
                    validated = {f"val_{name}": value for name, value in validate().items()}
                    logs = Logs(dict(sorted((dict(logs) | validated).items())))
                training.source.on_epoch_end()
                callbacks.on_epoch_end(epoch, logs)
                training.next_epoch(logs)
                callbacks.on_checkpoint(epoch, None, logs)
            # Moving averages take the weights' place before `on_train_end`, where models are saved.
            if model.optimizer is not None:
                model.optimizer.finalize(training.state.variables.params)
            callbacks.on_train_end(logs)
            training.interrupts.busy = True
        except (KeyboardInterrupt, SystemExit) as error:
            training.interrupted(error)
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
        # A recurrent layer that goes on needs batches of the size it was made for.
        source = source if goes_on(model) else source.for_inference()
        self.model, self.source, self.callbacks, self.steps = model, source, callbacks, steps
        self._feed: Feed | None = None

    def __call__(self) -> Logs:
        """Loss and metrics over the data. The metrics keep their values afterwards."""
        model, callbacks, compiled = self.model, self.callbacks, self.model.kerax_compilation
        model.stop_evaluating = False
        callbacks.on_test_begin()
        with remembering():
            # The numbers at the start, not the present ones, which a running epoch may be counting.
            state = run_state(model, "test")
            metrics = _fresh_metrics(model, state)
            program = compiled.test_program(model, state, self.source)
        inference = _Inference(model, state.carried, metrics)
        if self._feed is None:
            room = room_of(program, self.source)
            self._feed = Feed(
                self.source, room, program.fills_up, True, limit=self.steps, does_groups=program.does_groups
            )
        feed = self._feed
        step, logs, pace = 0, None, Pace()
        total = self.source.num_batches if self.steps is None else self.steps

        def most(number: int) -> int:
            return min(callbacks.until_look("test", number), pace.most_shown(program, self.source.rows is not None))

        for piece in feed.pieces(self.steps, 0, most):
            callbacks.on_test_batch_begin(step)
            # A last, smaller batch that nobody fills up, or a source of batches of several sizes.
            if piece.spec != program.spec:
                program = compiled.test_program_for(model, state, piece.spec, program.fills_up)
            logs = inference.advance(program, piece, step)
            step += piece.num_batches
            pace.dispatched(program, piece.num_batches, logs, next(iter(logs.values()), None))
            callbacks.on_test_batch_end(step - 1, logs)
            if pace.finished is not None:
                callbacks.on_test_progress(step, total, pace.finished[1])
            if model.stop_evaluating:
                break
        if logs is None:
            raise ValueError("evaluate: the data ran out before the first batch.")
        feed.rewind()
        inference.keep()
        logs = Logs(dict(sorted(logs.items())))
        callbacks.on_test_end(logs)
        return logs

    def close(self):
        """Keeps the buffers' memory for later passes over data."""
        if self._feed is not None:
            self._feed.close(())


def predict(model, source: Source, callbacks, steps: int | None = None) -> Tree:
    """The outputs for all rows or batches, as NumPy arrays in the structure that `predict_step` returns."""
    compiled, fills_up = model.kerax_compilation, not goes_on(model)
    model.stop_predicting = False
    callbacks.on_predict_begin()
    with remembering():
        state = run_state(model, "predict")
    inference = _Inference(model, state.carried)
    source = source.for_inference() if fills_up else source
    program = compiled.predict_program(model, state, source.spec(fills_up))
    if fills_up and not program.fills_up:
        fills_up, program = False, compiled.predict_program(model, state, source.spec(False))
    feed = Feed(source, room_of(program, source), fills_up, True, limit=steps, does_groups=program.does_groups)
    results, step, pace = _Outputs(), 0, Pace()
    total = source.num_batches if steps is None else steps

    def most(number: int) -> int:
        return min(callbacks.until_look("predict", number), pace.most_shown(program, source.rows is not None))

    for piece in feed.pieces(steps, 0, most):
        callbacks.on_predict_batch_begin(step)
        if piece.spec != program.spec:
            program = compiled.predict_program(model, state, piece.spec)
        outputs = inference.advance(program, piece, step)
        if jax.process_count() == 1:  # several would agree on a pace that is for the display alone
            pace.dispatched(program, piece.num_batches, None, _any_array(outputs))
        results.add(piece, outputs)
        step += piece.num_batches
        if pace.finished is not None:
            callbacks.on_predict_progress(step, total)
        if callbacks.watches("predict"):
            callbacks.on_predict_batch_end(step - 1, {"outputs": _rows_of(piece, outputs)})
        if model.stop_predicting:
            break
    outputs = results.joined()
    inference.keep()
    feed.close(())
    callbacks.on_predict_end()
    return outputs


class _Inference:
    """What programs of evaluation and prediction read and carry.

    Args:
        model: The model.
        carried: The variables that hold its state, and which of them go from batch to batch.
        metrics: The metrics' values at the start.
    """

    def __init__(self, model, carried: Carried, metrics: tuple = ()):
        self._carried, self._compiled = carried, model.kerax_compilation
        self._training = self._compiled.training
        self._constants, carry = carried.split(inference_values(model, carried.owners, self))
        # Copies: the carry is donated, and these arrays are the variables' own.
        self._carry = (*map(jnp.copy, carry[: len(carry) - len(metrics)]), *metrics)

    def advance(self, program: Program, piece: Piece, number: int = 0):
        """Does a piece of work, whose first batch is the `number`-th. Returns what the program does."""
        self._carry, outputs = program(self._constants, self._carry, piece, number)
        return outputs

    def keep(self):
        """Puts metrics, which users read after `evaluate`, and states that go on into their variables.

        Not while an epoch is counting, which has its own, nor in a thread beside one that trains.
        """
        with changing_hands:
            # One that ran when this began, or one that has begun since.
            if any(run is not None and run.is_busy for run in (self._training, self._compiled.training)):
                return
            _, owners = self._carried.split(self._carried.owners)
            for owner, value in zip(owners, self._carry, strict=True):
                owner.accept(value)


class _Outputs:
    """The outputs of pieces of work, each copied to the host while the next is computed."""

    def __init__(self):
        self._parts: list[Tree] = []
        self._latest: tuple | None = None

    def add(self, piece: Piece, outputs: Tree):
        """Takes the outputs of a piece, which may still be computed."""
        # That of the piece before, which is done or nearly so; copying the last would wait for it.
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


def _any_array(outputs: Tree) -> jax.Array | None:
    return next((leaf for leaf in jax.tree.leaves(outputs) if isinstance(leaf, jax.Array)), None)


def _rows_of(piece: Piece, outputs: Tree) -> Tree:
    """The outputs for the rows that count, without the room for more."""
    if piece.room == 1:
        # Outputs without rows (a scalar for each batch) are stacked as they come.
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


def _fresh_metrics(model, state: RunState) -> tuple:
    fresh = state.fresh_metrics(model)
    owners = state.carried.owners[len(state.carried.owners) - len(fresh) :]
    return metrics_at_start(fresh, lambda index: owners[index].raw)


def train_on_batch(model, batch: tuple, spec: BatchSpec) -> tuple[dict, list[str]]:
    """One step on one batch: the logs of this batch alone, and the metrics' names in Keras's order."""
    state, piece = run_state(model, "train"), single(batch, spec, "train_on_batch")
    program = model.kerax_compilation.train_program(model, state, piece.spec)
    fresh = state.fresh_metrics(model)
    with Interrupts(with_termination=False).guarded():
        store = store_of(model, state.carried.owners)
        try:
            with store.lock:
                store.start_metrics(fresh)
                store.leaves, rows = program((), store.leaves, piece)
        finally:
            store.release()
    numbers = program.kept.unpack(rows)[0]
    return {name: numbers[name] for name in program.kept.names}, state.names


def test_on_batch(model, batch: tuple, spec: BatchSpec) -> tuple[dict, list[str]]:
    """Loss and metrics of one batch alone, and the metrics' names in Keras's order."""
    state, piece = run_state(model, "test"), single(batch, spec, "test_on_batch")
    program = model.kerax_compilation.test_program_for(model, state, piece.spec, False)
    inference = _Inference(model, state.carried, _fresh_metrics(model, state))
    logs = inference.advance(program, piece)
    inference.keep()
    return dict(Logs(logs)), state.names


def predict_on_batch(model, batch: tuple, spec: BatchSpec) -> Tree:
    """The outputs for one batch, as NumPy arrays."""
    state, piece = run_state(model, "predict"), single(batch, spec, "predict_on_batch")
    program = model.kerax_compilation.predict_program(model, state, piece.spec)
    inference = _Inference(model, state.carried)
    outputs = jax.device_get(inference.advance(program, piece))
    inference.keep()
    return jax.tree.map(placement.own, outputs)
