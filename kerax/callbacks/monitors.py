"""Callbacks that watch a number: `EarlyStopping`, `ReduceLROnPlateau`, `LearningRateScheduler`, `TerminateOnNaN`."""

import inspect
import warnings
from collections.abc import Callable

import numpy as np

from kerax import ops
from kerax.callbacks.callback import Callback, read_rates, with_rates
from kerax.core.terminal import say
from kerax.errors import suggest

_GROWING = tuple(
    "accuracy acc auc precision recall sensitivity specificity f1 fbeta iou io_u r2 top_k similarity correlation "
    "true_positives true_negatives".split()
)
_SHRINKING = tuple(
    "loss error mae mse mape msle rmse entropy divergence hinge poisson logcosh log_cosh huber perplexity "
    "false_positives false_negatives".split()
)


class Monitor(Callback):
    """Base of callbacks that compare one logged number with its best value so far.

    Args:
        monitor: Name in the logs. Of an array among them, the mean is meant; `"val_f1_score/2"` is an entry of it.
        mode: `"min"`, `"max"`, or `"auto"`: what the metric of that name says by its class's `_direction`, `"up"` or
            `"down"`; of others, max for names of accuracies and their kin, min for losses and errors.
        min_delta: Least change that counts as better.

    Attributes:
        best: The best value so far, `None` before the first.
        monitor_op: `ops.greater` or `ops.less`, once the direction is known.

    Raises:
        ValueError: at the end of the first epoch with `"auto"`, if neither metric nor name says whether more is better.
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            # Keras goes on so too.
            warnings.warn(
                f"{type(self).__name__}: `mode` must be 'auto', 'min' or 'max'. Got {mode!r}; 'auto' is taken.",
                stacklevel=3,
            )
            mode = "auto"
        self.monitor, self.mode = monitor, mode
        self.best: float | None = None
        self.monitor_op: Callable | None = None
        self._set_direction({"auto": _direction_of_name(monitor), "max": 1.0, "min": -1.0}[mode])
        # As in Keras, which takes the sign from the mode.
        self.min_delta = abs(min_delta)

    def _set_direction(self, direction: float | None):
        # An unknown direction is an error only at the end of an epoch: the model's metrics may say it.
        self.sign, self.is_known = direction or -1.0, direction is not None

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether `value` is better than another, or than none, by more than `min_delta`."""
        return than is None or self.sign * (value - than) > abs(self.min_delta)

    def get_monitor_value(self, logs) -> float | None:
        """The monitored number, or `None` after a warning."""
        names = list(logs or {})
        name, *index = [self.monitor] if self.monitor in names else self.monitor.split("/")
        if self.monitor_op is None:
            self.find_direction(name, names)
        if name not in names:
            warnings.warn(
                f"{type(self).__name__}: {self.monitor!r} is not among the logs {names}.{suggest(self.monitor, names)}",
                stacklevel=2,
            )
            return None
        value = np.asarray(logs[name])  # here the device is waited for
        return float(value[tuple(map(int, index))] if index else value.mean())

    def find_direction(self, name: str, names: list[str]):
        """Settles whether more is better, for the metric `name` of `names`. Raises `ValueError` if nothing says so."""
        found = getattr(self.model, "metrics", ()) if self.mode == "auto" else ()
        # Those that `compile` was given are one in the model's list.
        each = [one for metric in found for one in (metric.each() if hasattr(metric, "each") else [metric])]
        for metric in each:
            direction = getattr(metric, "_direction", None)
            if direction is not None and name.removeprefix("val_") in (metric.name, self.model.kerax_log_name(metric)):
                self._set_direction(1.0 if direction == "up" else -1.0)
        if not self.is_known:
            absent = "" if name in names else f" It is not among the logs {names}.{suggest(self.monitor, names)}"
            raise ValueError(
                f"{type(self).__name__}: it is not known whether {self.monitor!r} is better when it is more or less. "
                f"Pass `mode='max'` or `mode='min'`, or give the metric's class `_direction = 'up'`.{absent}"
            )
        self.monitor_op = ops.greater if self.sign > 0 else ops.less
        # As in Keras from here on: subclasses compare `monitor_op(value - min_delta, best)`.
        self.min_delta *= self.sign


def _direction_of_name(monitor: str) -> float | None:
    """1 where more is better, -1 where less is, by the last word that says so: `accelerometer_loss` is a loss."""

    def end(words):
        return max(monitor.lower().rfind(word) + len(word) for word in words if word in monitor.lower())

    known = [words for words in (_GROWING, _SHRINKING) if any(word in monitor.lower() for word in words)]
    return (1.0 if max(known, key=end) is _GROWING else -1.0) if known else None


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

    kept_attributes = ("wait", "best", "best_epoch", "best_weights", "stopped_epoch")

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline=None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best_weights: list | None = None

    def on_train_begin(self, logs=None):
        # Used again in another `fit`, it starts anew.
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = self.best_weights = None

    def on_epoch_end(self, epoch, logs=None):
        value = self.get_monitor_value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        # Also where no epoch ever beats `baseline`: then there is something to go back to.
        if self.restore_best_weights and self.best_weights is None:
            self._keep(epoch)
        self.wait += 1
        # `wait` starts over only where `baseline` is beaten as well, as in Keras.
        if self.is_better(value, self.best):
            self.best = value
            if self.restore_best_weights:
                self._keep(epoch)
            self.best_epoch = epoch
            if self.baseline is None or self.is_better(value, self.baseline):
                self.wait = 0
            return
        # Not after the first epoch, even with a patience of 0, as in Keras.
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def _keep(self, epoch: int):
        """Copies the weights on the device, without waiting for it."""
        # A loop of one's own may hand over anything that has Keras's `get_weights`.
        model = self.model
        is_own = hasattr(model, "kerax_compilation")
        self.best_weights = [weight.value for weight in model.weights] if is_own else model.get_weights()
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

    kept_attributes = ("wait", "cooldown_counter", "best")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 0.0001,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau: `factor` must be below 1. Got {factor}.")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self.wait = self.cooldown_counter = 0
        self.best = None

    def on_epoch_end(self, epoch, logs=None):
        # Before any change: the rates of this epoch.
        logs.update(read_rates(self.model.optimizer))
        value = self.get_monitor_value(logs)
        if value is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_better(value, self.best):
            self.best, self.wait = value, 0
        # In the cooldown the wait does not grow, but the best value does.
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int):
        for optimizer in with_rates(self.model.optimizer).values():
            rate = float(np.asarray(optimizer.learning_rate))
            # In float32, as the rate is kept: one at its minimum could otherwise look a little above it.
            if rate > np.float32(self.min_lr):
                optimizer.learning_rate = rate = max(rate * self.factor, self.min_lr)
                if self.verbose:
                    print(f"Epoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {rate}.")
                self.cooldown_counter, self.wait = self.cooldown, 0

    def in_cooldown(self) -> bool:
        """Whether a reduction is so recent that nothing is counted."""
        return self.cooldown_counter > 0


class LearningRateScheduler(Callback):
    """Sets the learning rate at the start of each epoch.

    Args:
        schedule: Function of (epoch, learning rate), or of the epoch, that returns a float.
        verbose: 1 prints each value.
    """

    def __init__(self, schedule, verbose: int = 0):
        super().__init__()
        self.schedule, self.verbose = schedule, verbose
        try:
            # Asked of the signature: calling it to see would swallow a `TypeError` from inside.
            inspect.signature(schedule).bind(0, 0.0)
            self._takes_rate = True
        except TypeError:
            self._takes_rate = False

    def on_epoch_begin(self, epoch, logs=None):
        for optimizer in with_rates(self.model.optimizer).values():
            current = float(np.asarray(optimizer.learning_rate))
            rate = self.schedule(epoch, current) if self._takes_rate else self.schedule(epoch)
            # As in Keras: an int is most likely a mistake.
            if not isinstance(rate, (float, np.floating)):
                raise ValueError(f"LearningRateScheduler: `schedule` must return a float. Got {rate!r}.")
            if self.verbose:
                print(f"Epoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.")
            optimizer.learning_rate = float(rate)

    def on_epoch_end(self, epoch, logs=None):
        logs.update(read_rates(self.model.optimizer))


class TerminateOnNaN(Callback):
    """Stops at the first step after which a weight, a moving average or a metric is NaN or infinite.

    Beyond Keras: the model keeps its state from before that step, and the message says where the first such number came
    from (the batch, a layer's output, the loss, a gradient), found by repeating the step layer by layer. The device is
    never waited for; training stops when the step's logs are ready, about 0.2 seconds later.

    Args:
        raise_error: Whether to raise `RuntimeError` instead of ending `fit`.
    """

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = raise_error

    def on_non_finite(self, message):
        if self.raise_error:
            raise RuntimeError(message)
        say(f"TerminateOnNaN: {message}")
