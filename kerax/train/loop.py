"""The loop: epochs, batches, callbacks and validation in plain Python around compiled programs.

Order of one epoch: `on_epoch_begin`, metrics to zero, then for each piece of work `on_train_batch_begin`, its steps,
`on_train_batch_end`, the progress display and `on_checkpoint`; then validation, `on_epoch_end` and `on_checkpoint`.

A run that goes on from a checkpoint repeats the hooks that came before it, `on_train_begin` and inside an epoch
`on_epoch_begin`; what they change of the state is then put back.
"""

import os
import signal
import threading
import warnings
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from kerax.core import placement
from kerax.core.tracking import remembering
from kerax.data import ArraySource, BatchSource
from kerax.train import engine, non_finite
from kerax.train.ahead import Ahead
from kerax.train.logs import Logs, Rows, StepLogs
from kerax.train.run import Run
from kerax.train.state import Store, state_variables
from kerax.train.work import ArrayWork, BatchWork, form_of

Tree = Any


class Interrupts:
    """Holds signals back while arrays change hands and callbacks look, unless one comes again.

    `busy` says that they do; it is so at the start and the end of a guarded block, and after an interrupt.

    Args:
        with_termination: Whether SIGTERM, and under Slurm SIGUSR1, end the run as Ctrl-C does, with exit status 143.
    """

    def __init__(self, with_termination: bool):
        self.busy, self.pending = True, None
        self._signals = [signal.SIGINT]
        if with_termination and not jax.distributed.is_initialized():  # else JAX tells all processes of SIGTERM
            self._signals += [signal.SIGTERM, *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else [])]

    @contextmanager
    def guarded(self):
        """Handles the signals for the length of a `with` block, in the main thread; the one held back comes after."""
        self.busy = True
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in self._signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.check()

    def _on_signal(self, number, _):
        if self.busy and self.pending is None:
            self.pending = number
        else:
            self.busy = True  # until someone is ready for another
            self._raise(number)

    def check(self):
        """Raises the interrupt that was held back."""
        self.busy = False
        if self.pending is not None:
            number, self.pending, self.busy = self.pending, None, True
            self._raise(number)

    @staticmethod
    def _raise(number: int):
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signal.SIGTERM)


def fit(model, source, validation, callbacks, epochs, initial_epoch, steps_per_epoch, shuffle, validation_freq):
    """Trains for the epochs from `initial_epoch` up to `epochs`, or from where a callback's checkpoint was made.

    However it ends, by return, exception or Ctrl-C, the model holds the weights of the last finished step.

    Args:
        source: An `ArraySource` or `BatchSource`.
        validation: Function without arguments that evaluates and returns logs, or `None`.
        callbacks: The `CallbackList`.
        steps_per_epoch: Number of batches that make an epoch, or `None` for all there are.
        shuffle: Whether to draw a new order of the rows for each pass.
        validation_freq: Every how many epochs to validate, or the 1-based epochs to validate after.
    """
    form = form_of(source, steps_per_epoch)
    found = callbacks.resume(form)
    with remembering():
        variables, fresh_metrics = state_variables(model), engine.initial_metrics(model)
        if isinstance(source, ArraySource):
            work: Any = ArrayWork(model, variables, source, shuffle)
        else:
            first = initial_epoch if found is None else found["epoch"]
            limit = None if steps_per_epoch is None else steps_per_epoch * max(epochs - first, 0)
            work = BatchWork(model, variables, source, shuffle, limit)
    interrupts = Interrupts(callbacks.saves_on_interrupt)
    with interrupts.guarded():
        outer, store = model._run, Store(jax.tree.leaves(variables))
        try:
            interrupts.check()
            run = model._run = Run(model, store, callbacks, initial_epoch, form)
            logs, resumed, ahead = Logs(), store.leaves, Ahead(store, callbacks)
            num_kept = len(store.leaves) - len(fresh_metrics)
            if found is not None:
                run.go_on(found)
                work.set_position(run.data, run.step)
            callbacks.on_train_begin()
            if run.is_resumed:
                store.leaves = resumed
                callbacks.set_state(found["callbacks"], run.steps_before)
            for epoch in range(run.epoch, epochs):
                if model.stop_training:
                    break
                callbacks.on_epoch_begin(epoch)
                if run.step:
                    store.leaves, latest = resumed, run.logs
                    callbacks.set_state(found["callbacks"], run.steps_before, run.step)
                else:
                    store.leaves, latest = (*store.leaves[:num_kept], *placement.place_numbers(fresh_metrics)), None
                pace, guard = engine.Pace(), non_finite.Guard(model, callbacks)
                for piece in work.pieces(steps_per_epoch, pace, callbacks, run.step):
                    callbacks.before_batches(run.step)
                    interrupts.busy, finished = True, None
                    advance, calls = ahead.calls(piece, run.step)
                    for arguments in calls:
                        store.leaves, rows = advance(store.leaves, *arguments)
                    if calls:
                        latest, count = ahead.did(piece, rows)
                        token = store.read(0) if latest.rows.token is None else latest.rows.token
                        finished = pace.dispatched(piece.program, count, latest, token)
                        if guard.is_on:
                            guard.dispatched(piece, count, run.num_steps, finished)
                    if not calls or count > piece.count:
                        latest = ahead.logs(piece)
                    run.did(piece.count, latest, piece.position)
                    callbacks.after_batches(run.step, latest, finished)
                    if callbacks.savers:
                        callbacks.on_checkpoint(epoch, run.step, latest)
                    interrupts.check()
                    if model.stop_training:
                        break
                if latest is None:
                    warnings.warn(f"fit: the data ran out before epoch {epoch + 1}; training ends here.", stacklevel=4)
                    break
                if callbacks.savers:
                    run.hold()
                guard.finish(latest)
                callbacks.after_last_batch(latest)
                logs = Logs(latest)
                if validation is not None and _is_due(epoch, validation_freq):
                    logs.update({f"val_{name}": value for name, value in validation().items()})
                if placement.reads_host_memory():  # the user's arrays, which hooks may change
                    store.leaves[-1].block_until_ready()
                if isinstance(source, BatchSource):
                    source.on_epoch_end()
                callbacks.on_epoch_end(epoch, logs)
                _warn_of_nan(epoch, logs, guard)
                run.next_epoch()
                callbacks.on_checkpoint(epoch, None, logs)
            if model.optimizer is not None:
                model.optimizer.finalize(variables.params)
            callbacks.on_train_end(logs)
            interrupts.busy = True
        except (KeyboardInterrupt, SystemExit):
            interrupts.busy = False  # another signal ends the saving too
            callbacks.on_interrupt()
            raise
        finally:
            interrupts.busy, model._run = True, outer
            try:
                work.close(store.leaves)
            finally:
                store.release()


def train_on_batch(model, batch: tuple) -> dict:
    """One step on one batch: the logs of this batch alone."""
    variables = state_variables(model)
    batch = placement.place_batch(batch)
    spec = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)
    program = engine.train_program(model, variables, spec)
    for variable, value in zip(jax.tree.leaves(variables.metrics), engine.initial_metrics(model), strict=True):
        variable.assign(value)
    with Interrupts(with_termination=False).guarded():
        store = Store(jax.tree.leaves(variables))
        try:
            store.leaves, rows = program.batch(store.leaves, batch)
        finally:
            store.release()
    return dict(Logs(StepLogs(Rows(program.packing, rows))))


def _warn_of_nan(epoch: int, logs: Logs, guard: non_finite.Guard):
    """Says that the loss is not finite, if the logs have been read."""
    loss = logs.peek("loss")
    if loss is not None and not np.isfinite(loss) and not guard.is_on:
        warnings.warn(
            f"fit: after epoch {epoch + 1} the loss is {loss}. `kerax.callbacks.TerminateOnNaN()` stops at the first "
            "such step, keeps the weights before it and names the layer it comes from.",
            stacklevel=5,
        )


def _is_due(epoch: int, validation_freq) -> bool:
    if isinstance(validation_freq, int):
        return (epoch + 1) % validation_freq == 0
    return epoch + 1 in validation_freq
