"""`Callback`: hooks into training."""

from typing import Any, NamedTuple

import numpy as np

from kerax.core.tracking import unique

Logs = Any  # a mapping of names to numbers, which the engine always gives; a hook may add to it


class When(NamedTuple):
    """When a callback wants to look. Batches are counted through all epochs of a `fit`.

    Attributes:
        every: After every so many batches; `None`: not by their number.
        at: Numbers of batches after which besides.
        seconds: As soon as so many seconds have gone by since the last time.
        in_lockstep: Whether the device must have done the steps up to this batch and no more, as for a profiler.
            Otherwise up to 32 steps, 10 ms at most, may be done ahead; if a hook reads or sets variables of the model,
            it finds them as they are after its step all the same.
    """

    every: int | None = None
    at: tuple[int, ...] = ()
    seconds: float | None = None
    in_lockstep: bool = False


class Callback:
    """Hooks that `fit`, `evaluate` and `predict` call. Override those that are needed.

    `logs` is a mapping of names to numbers that are fetched from the device only when read. A callback without batch
    hooks costs nothing per step; `on_progress` is called for free between dispatches with numbers that are ready. With
    `on_non_finite`, training stops at the first step that makes a number of its state NaN or infinite, and keeps the
    state before that step.

    Attributes:
        model: The model being trained.
        params: `{"epochs", "steps", "verbose"}` of the call.
        sees_batches: When its batch hooks on training are called. Default: at every batch.
        saves_run: When `on_checkpoint` is called besides the ends of epochs. Default: never.
        first_process_only: Whether, of several processes, only the first one's hooks are called: for what writes or
            shows. It must not ask for weights that are spread over the processes.
        kept_attributes: Names of the attributes that are its state in a checkpoint of a run.
    """

    sees_batches = When(every=1)
    saves_run = When()
    first_process_only: bool = False
    kept_attributes: tuple[str, ...] = ()

    def __init__(self):
        self.params: dict = {}
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The model being trained."""
        return self._model

    def set_params(self, params: dict):
        """Receives the call's parameters."""
        self.params = params

    def set_model(self, model):
        """Receives the model."""
        self._model = model

    @property
    def is_resuming(self) -> bool:
        """Whether the running `fit` goes on from a checkpoint."""
        # A callback may be asked before it has a model.
        run = None if self._model is None else self._model.kerax_compilation.training
        return run is not None and run.is_resumed

    def get_state(self) -> dict:
        """What a checkpoint of a run keeps of this callback: plain data and arrays. Default: `kept_attributes`."""
        return {name: getattr(self, name) for name in self.kept_attributes}

    def set_state(self, state: dict):
        """Takes what `get_state` gave, after `on_train_begin` (inside an epoch also after `on_epoch_begin`)."""
        vars(self).update((name, state[name]) for name in self.kept_attributes)

    def resume(self, form: dict) -> dict | None:
        """Before training on data of a form: puts a saved run's state into the model and returns the run; `None` if
        there is none."""
        return None

    def on_checkpoint(self, epoch: int, batch: int | None, logs: Logs = None):
        """When the run can be saved so that it goes on exactly: after `batch` batches of an epoch, or for `None` after
        the epoch and every callback's `on_epoch_end`. `model.save` and its kin, called elsewhere, do not keep the run.
        """

    def on_interrupt(self):
        """When the run was interrupted by Ctrl-C or the system, and can still be saved as in `on_checkpoint`."""

    def on_train_begin(self, logs: Logs = None):
        """Before the first epoch."""

    def on_train_end(self, logs: Logs = None):
        """After the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs = None):
        """Before an epoch; epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs = None):
        """After an epoch and its validation."""

    def on_progress(self, step: int, logs: Logs):
        """Between two pieces of work: the number of batches done in this epoch, and their logs, ready to be read."""

    def on_test_progress(self, step: int, total: int | None, logs: Logs):
        """The same in an evaluation, also of an epoch: the number of batches done, that of all if it is known, logs."""

    def on_predict_progress(self, step: int, total: int | None):
        """The same in a prediction."""

    def on_non_finite(self, message: str):
        """When a number of the training state became NaN or infinite."""

    def close(self):
        """Releases files and displays; called last, however the call ends."""

    def on_batch_begin(self, batch: int, logs: Logs = None):
        """Another name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs = None):
        """Another name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Logs = None):
        """Before a training batch, counted from 0 in each epoch."""
        # Keras's older name: one who overrides that alone is called too.
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None):
        """After a training batch."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Logs = None):
        """Before an evaluation, also the validation of an epoch."""

    def on_test_end(self, logs: Logs = None):
        """After an evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Logs = None):
        """Before an evaluation batch."""

    def on_test_batch_end(self, batch: int, logs: Logs = None):
        """After an evaluation batch."""

    def on_predict_begin(self, logs: Logs = None):
        """Before a prediction."""

    def on_predict_end(self, logs: Logs = None):
        """After a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Logs = None):
        """Before a prediction batch."""

    def on_predict_batch_end(self, batch: int, logs: Logs = None):
        """After a prediction batch; `logs` holds its `outputs`."""


def with_rates(optimizer) -> dict[str, Any]:
    """The optimizers that have a learning rate each, by the rate's name in the logs: `learning_rate`, and of the parts
    of a `MultiOptimizer`, as in Keras, `learning_rate_` and the part's name."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not hasattr(inner, "optimizers"):
        return {"learning_rate": optimizer}
    found: dict[str, Any] = {}
    for part in inner.optimizers:
        found[unique(f"learning_rate_{part.name}", found)] = part
    return found


def read_rates(optimizer) -> dict[str, float]:
    """The learning rates now; without that of an optax transformation that keeps its own to itself."""
    # `OptaxOptimizer` raises `AttributeError` for a rate that it does not know.
    rates = {name: getattr(one, "learning_rate", None) for name, one in with_rates(optimizer).items()}
    return {name: float(np.asarray(rate)) for name, rate in rates.items() if rate is not None}


def num_iterations(model) -> int:
    """Number of steps that a model's optimizer has taken; 0 without one. Waits until the device is done."""
    # `peek`: a number that is read at once needs no copy of its array.
    iterations = getattr(getattr(model, "optimizer", None), "_iterations", None)
    return 0 if iterations is None else int(iterations.peek())


def flat_numbers(logs) -> dict[str, float]:
    """Logs as floats by name; of an array each element, under the name and its indices: `recall/0`."""
    return {
        "/".join([name, *map(str, index)]): float(element)
        for name, value in dict(logs or {}).items()
        for index, element in np.ndenumerate(np.asarray(value, np.float64))
    }


class Muted(Callback):
    """In the place of a callback that the first process speaks for: what is done at which batch stays the same.

    Args:
        callback: The callback.
    """

    def __init__(self, callback: Callback):
        super().__init__()
        # All processes must cut the epoch into the same pieces of work.
        self.of, self.sees_batches = callback, callback.sees_batches
