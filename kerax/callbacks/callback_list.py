"""`CallbackList`: the callbacks of one call, of which only the hooks that someone wrote are called."""

import time
import warnings

import jax

from kerax.callbacks.callback import Callback, Muted
from kerax.callbacks.checkpoints import BackupAndRestore
from kerax.callbacks.history import History
from kerax.callbacks.progress import ProgbarLogger
from kerax.core.tracking import unique
from kerax.train.logs import Logs

_BATCH_HOOKS = {
    "train": ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"),
    "test": ("on_test_batch_begin", "on_test_batch_end"),
    "predict": ("on_predict_batch_begin", "on_predict_batch_end"),
}
_FAR = 2**30


class CallbackList:
    """The callbacks of one call, sorted by the hooks they override.

    Args:
        callbacks: Callbacks, or one.
        model: The model they receive.
        steps_per_execution: Least number of batches between two calls of batch hooks.
        add_history: Whether to add a `History`, if there is none.
        add_progbar: Whether to add a `ProgbarLogger`, if there is none.
        **params: What `set_params` receives.

    A training loop of one's own calls the hooks of the list, which have the names and arguments of a callback's:

    >>> callbacks = CallbackList([History()], epochs=1, steps=2)
    >>> callbacks.on_train_begin()
    >>> callbacks.on_epoch_begin(0)
    >>> for batch in range(2):
    ...     callbacks.on_train_batch_begin(batch)
    ...     callbacks.on_train_batch_end(batch, {"loss": 0.5})
    >>> callbacks.on_epoch_end(0, {"loss": 0.5})
    >>> callbacks.on_train_end()
    >>> callbacks.close()
    >>> callbacks.callbacks[0].history
    {'loss': [0.5]}
    """

    def __init__(
        self, callbacks=None, add_history=False, add_progbar=False, model=None, steps_per_execution=1, **params
    ):
        self.callbacks: list[Callback] = _listed(callbacks)
        for wanted, kind in ((add_history, History), (add_progbar, ProgbarLogger)):
            if wanted and not any(isinstance(callback, kind) for callback in self.callbacks):
                self.callbacks.append(kind())
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"`callbacks` must hold `kerax.callbacks.Callback` objects. Got {callback!r}.")
        # The others keep its place in the list, so that all see the same batches.
        if jax.process_index():
            self.callbacks = [Muted(c) if c.first_process_only else c for c in self.callbacks]
        self.set_params(params)
        self.set_model(model)
        # Who overrides no batch hook costs no step anything.
        self._watchers = {kind: _overriding(self.callbacks, hooks) for kind, hooks in _BATCH_HOOKS.items()}
        self._progress = _overriding(self.callbacks, ("on_progress",))
        self._test_progress = self._with_own("on_test_progress")
        self._predict_progress = self._with_own("on_predict_progress")
        self.savers = self._with_own("on_checkpoint")
        self._guards = self._with_own("on_non_finite")
        # The first save by seconds is due so many after the start, not at once.
        self._saved_at = dict.fromkeys(self.savers, time.monotonic())
        self._step = self._steps_before = 0  # batches of this epoch so far, of the epochs before it
        self._unseen: dict = {}  # the last batch of evaluation or prediction, and its logs, until hooks are called
        self._least = 1 if steps_per_execution in (None, "auto") else int(steps_per_execution)

    def set_params(self, params: dict):
        """Hands the call's parameters to every callback."""
        for callback in self.callbacks:
            callback.set_params(params)

    def set_model(self, model):
        """Hands the model to every callback."""
        for callback in self.callbacks:
            callback.set_model(model)

    def _until_due(self, callback: Callback, step: int) -> int:
        """Batches from `step` of this epoch to the callback's next look; 0 if it is due now."""
        when = callback.sees_batches
        # The common case: every batch of everyone, without arithmetic.
        if when.every == self._least == 1:
            return 0
        total = self._steps_before + step
        due = _FAR
        if when.every is not None:
            every = max(int(when.every), self._least)
            # `every` of 1 counts in each epoch anew, as Keras counts `steps_per_execution`; others through all epochs.
            due = -(total if when.every > 1 else step) % every
        return min([due, *(look - total for look in when.at if look >= total)])

    def until_look(self, kind: str, step: int) -> int:
        """Number of batches from `step` on until a callback wants to see one.

        Args:
            kind: `"train"`, `"test"` or `"predict"`.
        """
        watchers = self._watchers[kind]
        if kind != "train":
            return self._least - step % self._least if watchers else _FAR
        due = self._until_save(step)
        for callback in watchers:
            due = min(due, self._until_due(callback, step + 1) + 1)
        return due

    def until_boundary(self, step: int) -> int:
        """Number of training batches from `step` on that may be done before the first of them is seen."""
        due = self._until_save(step)
        for callback in self._watchers["train"]:
            # Who sees every batch needs no cut: its hooks are called after the piece, one by one.
            if callback.sees_batches.every != 1:
                due = min(due, self._until_due(callback, step + 1) + 1)
            elif callback.sees_batches.at:
                total = self._steps_before + step
                due = min([due, *(look - total for look in callback.sees_batches.at if look > total)])
        return due

    def _until_save(self, step: int) -> int:
        total = self._steps_before + step
        due = _FAR
        for callback in self.savers:
            every = callback.saves_run.every
            due = due if every is None else min(due, every - total % every)
        return due

    def watches(self, kind: str) -> bool:
        """Whether a callback has batch hooks on `"train"`, `"test"` or `"predict"`."""
        return bool(self._watchers[kind])

    @property
    def in_lockstep(self) -> bool:
        """Whether a callback needs each batch hook at its step."""
        return any(_origin(callback).sees_batches.in_lockstep for callback in self._watchers["train"])

    # Hooks, in the order of a run.

    def on_train_begin(self, logs=None):
        """Before the first epoch."""
        self._call("on_train_begin", logs or {})

    def on_epoch_begin(self, epoch, logs=None):
        """Before an epoch."""
        # Before the hooks, which may ask for the number of batches.
        self._steps_before, self._step = self._steps_before + self._step, 0
        self._call("on_epoch_begin", epoch, logs or {})

    def on_train_batch_begin(self, batch, logs=None):
        """Before the piece of work that starts with a training batch."""
        for callback in self._watchers["train"]:
            if self._until_due(callback, batch) == 0:
                callback.on_train_batch_begin(batch, Logs())

    def on_train_batch_end(self, batch, logs=None, finished=...):
        """After the piece of work that ends with a training batch.

        Args:
            finished: (number of steps, their logs) of a piece that the device has done, or `None`; for
                `on_progress`. Default: this batch.
        """
        # Before the hooks: a checkpoint taken in one holds this batch.
        self._step = batch + 1
        for callback in self._watchers["train"]:
            if self._until_due(callback, batch + 1) == 0:
                callback.on_train_batch_end(batch, Logs(logs))
        if finished is not None and self._progress:
            ready = Logs(logs if finished is ... else finished[1])
            for callback in self._progress:
                callback.on_progress(batch + 1, ready)

    on_batch_begin, on_batch_end = on_train_batch_begin, on_train_batch_end

    def after_last_batch(self, latest):
        """After an epoch's batches: the hooks for those since the last full `steps_per_execution`."""
        for callback in self._watchers["train"]:
            if callback.sees_batches.every == 1 and self._until_due(callback, self._step):
                callback.on_train_batch_end(self._last_of_execution(self._step - 1), Logs(latest))

    def _last_of_execution(self, batch: int) -> int:
        """The number that Keras gives the end of `steps_per_execution` batches, also where the data ends before."""
        return batch + (-(batch + 1)) % self._least

    def _begins_execution(self, batch: int) -> bool:
        """Whether it is the first of `steps_per_execution` batches. They may come in several pieces."""
        return batch % self._least == 0

    def _end_batch(self, kind: str, batch: int, logs):
        self._unseen[kind] = batch, logs
        if self._begins_execution(batch + 1):
            self._end_execution(kind)

    def _end_execution(self, kind: str):
        """The hooks for batches that were done since the last, of evaluation or prediction."""
        if kind in self._unseen:
            batch, logs = self._unseen.pop(kind)
            for callback in self._watchers[kind]:
                getattr(callback, f"on_{kind}_batch_end")(self._last_of_execution(batch), logs)

    def on_test_begin(self, logs=None):
        """Before an evaluation."""
        self._unseen.pop("test", None)  # of one that failed
        self._call("on_test_begin", logs or {})

    def on_test_batch_begin(self, batch, logs=None):
        """Before a piece of evaluation."""
        if self._begins_execution(batch):
            for callback in self._watchers["test"]:
                callback.on_test_batch_begin(batch, Logs())

    def on_test_batch_end(self, batch, logs=None):
        """After a piece of evaluation."""
        self._end_batch("test", batch, Logs(logs))

    def on_test_progress(self, step: int, total: int | None, logs):
        """Between two pieces of evaluation."""
        for callback in self._test_progress:
            callback.on_test_progress(step, total, Logs(logs))

    def on_test_end(self, logs=None):
        """After an evaluation."""
        self._end_execution("test")
        self._call("on_test_end", logs)

    def on_epoch_end(self, epoch, logs=None):
        """After an epoch."""
        self._call("on_epoch_end", epoch, logs)

    def on_train_end(self, logs=None):
        """After the last epoch."""
        self._call("on_train_end", logs or {})

    def on_predict_begin(self, logs=None):
        """Before a prediction."""
        self._unseen.pop("predict", None)
        self._call("on_predict_begin", logs or {})

    def on_predict_batch_begin(self, batch, logs=None):
        """Before a prediction batch."""
        if self._begins_execution(batch):
            for callback in self._watchers["predict"]:
                callback.on_predict_batch_begin(batch, Logs())

    def on_predict_batch_end(self, batch, logs=None):
        """After a prediction batch, whose `outputs` are in the logs."""
        self._end_batch("predict", batch, logs)

    def on_predict_progress(self, step: int, total: int | None):
        """Between two pieces of prediction."""
        for callback in self._predict_progress:
            callback.on_predict_progress(step, total)

    def on_predict_end(self, logs=None):
        """After a prediction."""
        self._end_execution("predict")
        self._call("on_predict_end", logs or {})

    def close(self):
        """However the call ends."""
        self._call("close")

    # Checkpoints of a run.

    @property
    def saves_on_interrupt(self) -> bool:
        """Whether a callback saves when the run is interrupted."""
        return bool(self._with_own("on_interrupt"))

    def resume(self, form: dict) -> dict | None:
        """The run that the first callback with a saved one found; its state is in the model now."""
        for callback in self._with_own("resume"):
            found = callback.resume(form)
            if found is not None:
                return found
        return None

    def get_state(self) -> dict[str, dict]:
        """The callbacks' states by class name, numbered if there are several."""
        states = {name: callback.get_state() for name, callback in self._by_name().items()}
        return {name: state for name, state in states.items() if state}

    def set_state(self, states: dict[str, dict], steps_before: int, step: int = 0):
        """Takes what `get_state` gave, after so many batches of the epochs before, and of this one.

        A callback that was not there is told nothing; one that is not there any more is named in a warning.
        """
        self._steps_before, self._step = steps_before, step
        callbacks = self._by_name()
        for name, state in states.items():
            if name in callbacks:
                callbacks[name].set_state(state)
            elif not step:  # said once, at the start of the epoch
                warnings.warn(
                    f"fit: the run in the checkpoint had the callback {name}, which is not there now.", stacklevel=2
                )

    def _by_name(self) -> dict[str, Callback]:
        found: dict[str, Callback] = {}
        for callback in self.callbacks:
            # By class name, not by place: a run goes on with callbacks in another order, or with more of them.
            found[unique(type(_origin(callback)).__name__, found)] = callback
        return found

    def on_checkpoint(self, epoch: int, batch: int | None, logs):
        """When the run can be saved: hands on to callbacks whose turn it is."""
        for callback in self.savers:
            every, seconds = callback.saves_run.every, callback.saves_run.seconds
            # After an epoch every saver is asked; what it does then is its own choice.
            is_due = batch is None
            if batch is not None and every is not None:
                is_due = (self._steps_before + batch) % every == 0
            if seconds is not None and time.monotonic() - self._saved_at[callback] >= seconds:
                is_due = True
            if is_due:
                callback.on_checkpoint(epoch, batch, Logs(logs))
                self._saved_at[callback] = time.monotonic()

    def on_interrupt(self):
        """When the run was interrupted."""
        self._call("on_interrupt")

    @property
    def guards_numbers(self) -> bool:
        """Whether a callback wants training to stop at NaN."""
        return bool(self._guards)

    def on_non_finite(self, message: str):
        """When training has stopped at NaN."""
        for callback in self._guards:
            callback.on_non_finite(message)

    def _call(self, hook: str, *args):
        for callback in self.callbacks:
            method = getattr(callback, hook)
            if getattr(method, "__func__", None) is not getattr(Callback, hook):  # which does nothing
                method(*args)

    def _with_own(self, hook: str) -> list[Callback]:
        """The callbacks whose class has a hook of its own."""
        return [c for c in self.callbacks if getattr(type(c), hook) is not getattr(Callback, hook)]


def _listed(callbacks) -> list:
    if isinstance(callbacks, (list, tuple)):
        return list(callbacks)
    return [] if callbacks is None else [callbacks]


def for_call(model, callbacks, what: str, verbose, resume=None, **params) -> CallbackList:
    """The callbacks given, with a progress display, for training a `History`, and one that resumes from a folder."""
    if isinstance(callbacks, CallbackList):
        if resume is not None:
            raise ValueError("fit: with a `CallbackList`, put a `BackupAndRestore` into it instead of giving `resume`.")
        return callbacks
    given = _listed(callbacks)
    # Before the display and after the user's own, whose additions to the logs it shall have.
    if what == "fit":
        given.append(History())
    # With `verbose=0` there is no display to be called for nothing.
    if verbose != 0 and not any(isinstance(callback, ProgbarLogger) for callback in given):
        given.append(ProgbarLogger(verbose, what))
    if resume is not None:
        # Last: when it saves, all others have had their say about the epoch.
        given.append(BackupAndRestore(resume, delete_checkpoint=False))
    steps_per_execution = getattr(model, "steps_per_execution", 1)
    return CallbackList(given, model=model, steps_per_execution=steps_per_execution, verbose=verbose, **params)


def _origin(callback: Callback) -> Callback:
    return callback.of if isinstance(callback, Muted) else callback


def _overriding(callbacks: list[Callback], hooks: tuple[str, ...]) -> list[Callback]:
    """The callbacks that look at batches by one of these hooks."""
    found = []
    for callback in callbacks:
        one = _origin(callback)
        if one.sees_batches.every is None and not one.sees_batches.at:
            continue
        for hook in hooks:
            # `LambdaCallback` has its hooks as attributes of the object.
            if hook in vars(one) or getattr(type(one), hook) is not getattr(Callback, hook):
                found.append(callback)
                break
    return found
