"""`Logging`, which sends numbers to any logger, and loggers for Weights & Biases and MLflow."""

import importlib
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kerax.callbacks.callback import Callback, When


@runtime_checkable
class Logger(Protocol):
    """Takes numbers. A logger may have `close()` too, which is called when training ends, however it ends."""

    def log(self, numbers: dict, step: int):
        """Records `{name: float}` of a step."""


class Logging(Callback):
    """Sends the logs to a logger: any object with `log(numbers, step)`.

    Of each epoch all logs and `epoch`; with `every`, of every so many batches `batch_<name>`, the mean so far. `step`
    counts batches through all epochs. Logs are fetched from the device then only. Keras has no such callback.

    Args:
        logger: Object with a method `log(numbers: dict, step: int)`, and `close()` where there is something to close.
        every: Number of batches; `None` for epochs only.

    Raises:
        TypeError: if `logger` has no `log`.
        ValueError: if `every` is no number of batches.
    """

    first_process_only = True

    def __init__(self, logger, every=None):
        super().__init__()
        if not callable(getattr(logger, "log", None)):
            raise TypeError(f"{type(self).__name__}: `logger` must have a method `log(numbers, step)`. Got {logger!r}.")
        if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise ValueError(f"{type(self).__name__}: `every` must be a number of batches, or None. Got {every!r}.")
        self.logger = logger
        self.every, self.sees_batches = every, When(every)
        self._start = self._before = self._sent = 0  # iterations; batches of earlier epochs, and sent

    def get_state(self):
        return {"start": self._start, "before": self._before}

    def set_state(self, state):
        self._start, self._before = state["start"], state["before"]

    def on_train_begin(self, logs=None):
        self._start, self._before, self._sent = self._iterations(), 0, 0

    def on_train_batch_end(self, batch, logs=None):
        step = self._before + batch + 1
        if self.every is not None and step - self._sent >= self.every:
            self._sent = step
            self._send({f"batch_{name}": value for name, value in dict(logs or {}).items()}, step)

    def on_epoch_end(self, epoch, logs=None):
        steps = self._iterations() - self._start
        if steps <= self._before:  # a train step of the user's, which does without the optimizer
            steps = self._before + (self.params.get("steps") or 1)
        self._before = steps
        self._send({**(logs or {}), "epoch": epoch}, steps)

    def _send(self, logs: dict, step: int):
        numbers = {}
        for name, value in logs.items():
            for index, element in np.ndenumerate(np.asarray(value, np.float64)):
                numbers["/".join([name, *map(str, index)])] = float(element)
        self.logger.log(numbers, step)

    def _iterations(self) -> int:
        optimizer = getattr(self.model, "optimizer", None)
        iterations = getattr(optimizer, "_iterations", None)
        return 0 if iterations is None else int(iterations.peek())

    def close(self):
        close = getattr(self.logger, "close", None)
        if callable(close):
            close()


class WandbLogger(Logging):
    """Sends the logs to Weights & Biases. Needs `pip install 'kerax[wandb]'`.

    Args:
        every: As for `Logging`.
        run: A running `wandb.Run`, which stays open. Default: `wandb.init(**options)` when training begins, finished at
            its end.
        **options: Of `wandb.init`, such as `project`, `config`, `dir`, and `mode="offline"` for no network.

    Raises:
        ImportError: without wandb.
    """

    def __init__(self, every=None, run=None, **options):
        super().__init__(self, every)
        self.run: Any = run
        self.options, self._is_own = options, run is None
        _library("wandb", "WandbLogger", "wandb")

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if self.run is None:
            self.run = _library("wandb", "WandbLogger", "wandb").init(**self.options)

    def log(self, numbers, step):
        """Records the numbers of a step."""
        self.run.log(numbers, step=step)

    def close(self):
        if self._is_own and self.run is not None:
            self.run.finish()
            self.run = None


class MLflowLogger(Logging):
    """Sends the logs to MLflow. Needs `pip install 'kerax[mlflow]'`.

    Args:
        every: As for `Logging`.
        tracking_uri: Where runs are kept: `"sqlite:///mlflow.db"` for a file, or a server's address. Default: MLflow's.
        experiment_name: Default: MLflow's.
        run_name: Default: one that MLflow makes up.
        run_id: A run to go on with.
        params: `{name: value}` to record once.

    Raises:
        ImportError: without mlflow.
    """

    def __init__(self, every=None, tracking_uri=None, experiment_name=None, run_name=None, run_id=None, params=None):
        super().__init__(self, every)
        _library("mlflow", "MLflowLogger", "mlflow")
        self.tracking_uri = tracking_uri
        self.experiment_name = experiment_name or "Default"
        self.run_name, self.run_id, self.params_to_log = run_name, run_id, params or {}
        self._client: Any = None
        self._is_open = False

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._client = _library("mlflow", "MLflowLogger", "mlflow").MlflowClient(self.tracking_uri)
        if self.run_id is None:
            experiment = self._client.get_experiment_by_name(self.experiment_name)
            number = experiment.experiment_id if experiment else self._client.create_experiment(self.experiment_name)
            self.run_id = self._client.create_run(number, run_name=self.run_name).info.run_id
        for name, value in self.params_to_log.items():
            self._client.log_param(self.run_id, name, value)
        self._is_open = True

    def log(self, numbers, step):
        """Records the numbers of a step."""
        for name, value in numbers.items():
            self._client.log_metric(self.run_id, name, value, step=step)

    def on_train_end(self, logs=None):
        self._finish("FINISHED")

    def close(self):
        self._finish("FAILED")

    def _finish(self, status: str):
        if self._is_open:
            self._is_open = False
            self._client.set_terminated(self.run_id, status)


def _library(name: str, who: str, extra: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f"{who} needs {name}: pip install 'kerax[{extra}]'") from None
