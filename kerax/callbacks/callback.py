"""`Callback`: hooks into training, and the list that calls only the hooks that someone wrote."""

from kerax.train.logs import Logs

_BATCH_HOOKS = {
    "train": ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"),
    "test": ("on_test_batch_begin", "on_test_batch_end"),
    "predict": ("on_predict_batch_begin", "on_predict_batch_end"),
}
_FAR = 2**30


class Callback:
    """Hooks that `fit`, `evaluate` and `predict` call. Override those that are needed.

    `logs` is a mapping of names to numbers that are fetched from the device only when read. A callback without batch
    hooks costs nothing per step; `on_progress` is called for free between dispatches with numbers that are ready.

    Attributes:
        model: The model being trained.
        params: `{"epochs", "steps", "verbose"}` of the call.
        every: With a batch hook on training: number of batches between its calls, counted through all epochs of a
            `fit`. 1 for every batch.
    """

    every = 1

    def __init__(self):
        self.params: dict = {}
        self._model = None

    @property
    def model(self):
        """The model being trained."""
        return self._model

    def set_params(self, params: dict):
        """Receives the call's parameters."""
        self.params = params

    def set_model(self, model):
        """Receives the model."""
        self._model = model

    def on_train_begin(self, logs=None):
        """Before the first epoch."""

    def on_train_end(self, logs=None):
        """After the last epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        """Before an epoch; epochs count from 0."""

    def on_epoch_end(self, epoch, logs=None):
        """After an epoch and its validation."""

    def on_progress(self, step, logs):
        """Between two pieces of work: the number of batches done in this epoch, and their logs, ready to be read."""

    def close(self):
        """Releases files and displays; called last, however the call ends."""

    def on_batch_begin(self, batch, logs=None):
        """Another name of `on_train_batch_begin`."""

    def on_batch_end(self, batch, logs=None):
        """Another name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch, logs=None):
        """Before a training batch, counted from 0 in each epoch."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        """After a training batch."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs=None):
        """Before an evaluation, also the validation of an epoch."""

    def on_test_end(self, logs=None):
        """After an evaluation."""

    def on_test_batch_begin(self, batch, logs=None):
        """Before an evaluation batch."""

    def on_test_batch_end(self, batch, logs=None):
        """After an evaluation batch."""

    def on_predict_begin(self, logs=None):
        """Before a prediction."""

    def on_predict_end(self, logs=None):
        """After a prediction."""

    def on_predict_batch_begin(self, batch, logs=None):
        """Before a prediction batch."""

    def on_predict_batch_end(self, batch, logs=None):
        """After a prediction batch; `logs` holds its `outputs`."""


class CallbackList:
    """The callbacks of one call, sorted by the hooks they override.

    Args:
        callbacks: Callbacks, or one.
        model: The model they receive.
        steps_per_execution: Least number of batches between two calls of batch hooks.
        **params: What `set_params` receives.
    """

    def __init__(self, callbacks=None, model=None, steps_per_execution=1, **params):
        if callbacks is None:
            callbacks = []
        self.callbacks: list[Callback] = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"`callbacks` must hold `kerax.callbacks.Callback` objects. Got {callback!r}.")
            callback.set_params(params)
            callback.set_model(model)
        self._watchers = {
            kind: [c for c in self.callbacks if _overrides(c, hooks)] for kind, hooks in _BATCH_HOOKS.items()
        }
        self._progress = [c for c in self.callbacks if _overrides(c, ("on_progress",))]
        self._step = self._steps_before = 0  # batches of this epoch so far, of the epochs before it
        self._least = 1 if steps_per_execution in (None, "auto") else int(steps_per_execution)

    def _until_due(self, callback: Callback, step: int) -> int:
        """Batches from `step` of this epoch to the callback's next look; 0 if it is due now."""
        every = max(int(callback.every), self._least)
        return -(step + (self._steps_before if callback.every > 1 else 0)) % every

    def steps_until_look(self, step: int) -> int:
        """Number of training steps until a callback wants to see a batch."""
        return min((self._until_due(callback, step + 1) + 1 for callback in self._watchers["train"]), default=_FAR)

    def test_steps_until_look(self, step: int) -> int:
        """The same for evaluation."""
        return min((self._least - step % self._least for _ in self._watchers["test"]), default=_FAR)

    def predict_steps_until_look(self, step: int) -> int:
        """The same for prediction."""
        return 1 if self._watchers["predict"] else _FAR

    def before_batches(self, step: int):
        """Before the piece of work that starts with batch `step`."""
        for callback in self._watchers["train"]:
            if self._until_due(callback, step) == 0:
                callback.on_train_batch_begin(step, Logs())

    def after_batches(self, step: int, latest: dict, finished):
        """After a piece of work: `latest` are its logs, `finished` the number of steps and logs of the one before."""
        self._step = step
        for callback in self._watchers["train"]:
            if self._until_due(callback, step) == 0:
                callback.on_train_batch_end(step - 1, Logs(latest))
        self._report(step, latest, finished)

    def after_last_batch(self, latest: dict):
        """After an epoch's batches: the hooks for those since the last full `steps_per_execution`."""
        for callback in self._watchers["train"]:
            if callback.every == 1 and self._until_due(callback, self._step):
                callback.on_train_batch_end(self._step - 1, Logs(latest))

    def _report(self, step: int, latest: dict, finished):
        if finished is not None and self._progress:
            logs = Logs(finished[1])
            for callback in self._progress:
                callback.on_progress(step, logs)

    def before_test_batches(self, step: int):
        """Before a piece of evaluation."""
        for callback in self._watchers["test"]:
            callback.on_test_batch_begin(step, Logs())

    def after_test_batches(self, step: int, latest: dict, finished):
        """After a piece of evaluation."""
        for callback in self._watchers["test"]:
            callback.on_test_batch_end(step - 1, Logs(latest))

    def before_predict_batches(self, step: int):
        """Before a prediction batch."""
        for callback in self._watchers["predict"]:
            callback.on_predict_batch_begin(step, Logs())

    def after_predict_batches(self, step: int, outputs):
        """After a prediction batch."""
        for callback in self._watchers["predict"]:
            callback.on_predict_batch_end(step - 1, {"outputs": outputs})

    def _call(self, hook: str, *args):
        for callback in self.callbacks:
            getattr(callback, hook)(*args)

    def close(self):
        """However the call ends."""
        self._call("close")

    def on_train_begin(self, logs=None):
        """Before the first epoch."""
        self._call("on_train_begin", logs or {})

    def on_train_end(self, logs=None):
        """After the last epoch."""
        self._call("on_train_end", logs or {})

    def on_epoch_begin(self, epoch, logs=None):
        """Before an epoch."""
        self._steps_before, self._step = self._steps_before + self._step, 0
        self._call("on_epoch_begin", epoch, logs or {})

    def on_epoch_end(self, epoch, logs=None):
        """After an epoch."""
        self._call("on_epoch_end", epoch, logs)

    def on_test_begin(self, logs=None):
        """Before an evaluation."""
        self._call("on_test_begin", logs or {})

    def on_test_end(self, logs=None):
        """After an evaluation."""
        self._call("on_test_end", logs)

    def on_predict_begin(self, logs=None):
        """Before a prediction."""
        self._call("on_predict_begin", logs or {})

    def on_predict_end(self, logs=None):
        """After a prediction."""
        self._call("on_predict_end", logs or {})


def _overrides(callback: Callback, hooks: tuple[str, ...]) -> bool:
    watches = getattr(callback, "watches_batches", True)
    return watches and any(
        hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook) for hook in hooks
    )
