"""Callbacks that watch a number: `EarlyStopping`, `ReduceLROnPlateau`, `LearningRateScheduler`, `TerminateOnNaN`."""

import inspect
import math
import warnings

import numpy as np

from kerax.callbacks.callback import Callback
from kerax.errors import suggest

_GROWING = (
    "acc",
    "auc",
    "precision",
    "recall",
    "f1",
    "fbeta",
    "iou",
    "r2",
    "top_k",
    "true_positives",
    "true_negatives",
)


class Monitor(Callback):
    """Base of callbacks that compare one logged number with its best value so far.

    Args:
        monitor: Name in the logs.
        mode: `"min"`, `"max"`, or `"auto"`: max for accuracies and their kin, min for everything else.
        min_delta: Least change that counts as better.
    """

    def __init__(self, monitor="val_loss", mode="auto", min_delta=0.0):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{type(self).__name__}: `mode` must be 'auto', 'min' or 'max'. Got {mode!r}.")
        self.monitor = monitor
        growing = mode == "max" or (mode == "auto" and any(part in monitor.lower() for part in _GROWING))
        self.sign = 1.0 if growing else -1.0
        self.min_delta = abs(min_delta)

    @property
    def worst(self) -> float:
        """What any number is better than."""
        return -self.sign * math.inf

    def is_better(self, value: float, than: float) -> bool:
        """Whether `value` is better than another by more than `min_delta`."""
        return self.sign * (value - than) > self.min_delta

    def read(self, logs) -> float | None:
        """The monitored number, or `None` after a warning."""
        if logs is None or self.monitor not in logs:
            names = list(logs or {})
            warnings.warn(
                f"{type(self).__name__}: {self.monitor!r} is not among the logs {names}.{suggest(self.monitor, names)}",
                stacklevel=2,
            )
            return None
        return float(logs[self.monitor])


class EarlyStopping(Monitor):
    """Stops when a number has not become better for `patience` epochs.

    Args:
        monitor: Name in the logs.
        min_delta: Least change that counts as better.
        patience: Number of epochs to wait.
        verbose: 1 prints when it stops.
        mode: `"min"`, `"max"` or `"auto"`.
        baseline: Value that must be beaten at all.
        restore_best_weights: Whether to put the weights of the best epoch back.
        start_from_epoch: Epochs to let pass before watching.
    """

    def __init__(
        self,
        monitor="val_loss",
        min_delta=0,
        patience=0,
        verbose=0,
        mode="auto",
        baseline=None,
        restore_best_weights=False,
        start_from_epoch=0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best: float | None = None
        self.best_weights: list | None = None

    def on_train_begin(self, logs=None):
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best, self.best_weights = self.worst, None

    def on_epoch_end(self, epoch, logs=None):
        value = self.read(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._keep(epoch)
        self.wait += 1
        if self.is_better(value, self.best):
            self.best = value
            if self.restore_best_weights:
                self._keep(epoch)
            self.best_epoch = epoch
            if self.baseline is None or self.is_better(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def _keep(self, epoch: int):
        """Copies the weights on the device, without waiting for it."""
        self.best_weights = [weight.value for weight in self.model.weights]
        self.best_epoch = epoch

    def on_train_end(self, logs=None):
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                print(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)


class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate by `factor` when a number has not become better for `patience` epochs.

    Args:
        monitor: Name in the logs.
        factor: Below 1.
        patience: Number of epochs to wait.
        verbose: 1 prints each reduction.
        mode: `"min"`, `"max"` or `"auto"`.
        min_delta: Least change that counts as better.
        cooldown: Epochs after a reduction in which nothing is counted.
        min_lr: Lowest learning rate.
    """

    def __init__(
        self,
        monitor="val_loss",
        factor=0.1,
        patience=10,
        verbose=0,
        mode="auto",
        min_delta=0.0001,
        cooldown=0,
        min_lr=0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau: `factor` must be below 1. Got {factor}.")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self.wait = self.cooldown_counter = 0
        self.best = self.worst

    def on_train_begin(self, logs=None):
        self.wait = self.cooldown_counter = 0
        self.best = self.worst

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = rate = float(np.asarray(self.model.optimizer.learning_rate))
        value = self.read(logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_better(value, self.best):
            self.best, self.wait = value, 0
        elif self.cooldown_counter <= 0:
            self.wait += 1
            if self.wait >= self.patience and rate > np.float32(self.min_lr):
                rate = max(rate * self.factor, self.min_lr)
                self.model.optimizer.learning_rate = rate
                if self.verbose:
                    print(f"Epoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {rate}.")
                self.cooldown_counter, self.wait = self.cooldown, 0


class LearningRateScheduler(Callback):
    """Sets the learning rate at the start of each epoch.

    Args:
        schedule: Function of (epoch, learning rate), or of the epoch, that returns a float.
        verbose: 1 prints each value.
    """

    def __init__(self, schedule, verbose=0):
        super().__init__()
        self.schedule, self.verbose = schedule, verbose
        try:
            inspect.signature(schedule).bind(0, 0.0)
            self._takes_rate = True
        except TypeError:
            self._takes_rate = False

    def on_epoch_begin(self, epoch, logs=None):
        current = float(np.asarray(self.model.optimizer.learning_rate))
        rate = self.schedule(epoch, current) if self._takes_rate else self.schedule(epoch)
        if not isinstance(rate, (float, np.floating)):
            raise ValueError(f"LearningRateScheduler: `schedule` must return a float. Got {rate!r}.")
        if self.verbose:
            print(f"Epoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.")
        self.model.optimizer.learning_rate = float(rate)

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))


class TerminateOnNaN(Callback):
    """Stops when the loss is NaN or infinite.

    The loss is looked at when it is ready between two dispatches, so the device is never waited for: training ends
    within about 0.2 seconds of the first such batch.

    Args:
        raise_error: Whether to raise `RuntimeError` instead of ending `fit`.
    """

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = raise_error

    def on_progress(self, step, logs):
        self._check(f"batch {step}", logs)

    def on_epoch_end(self, epoch, logs=None):
        self._check(f"epoch {epoch + 1}", logs)

    def _check(self, where: str, logs):
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss) or self.model.stop_training:
            return
        message = f"{where}: the loss is {loss}, terminating training."
        if self.raise_error:
            raise RuntimeError(message)
        print(message)
        self.model.stop_training = True
