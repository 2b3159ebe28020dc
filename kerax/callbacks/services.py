"""`Logging`, which sends numbers to any logger, and loggers for Weights & Biases and MLflow."""

import importlib
import os
import tempfile
from typing import Any

from kerax.callbacks.callback import Callback, When, flat_numbers, num_iterations


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
        # As many steps go to the device at once as lie between two looks.
        self.every, self.sees_batches = every, When(every)
        self._start = self._before = self._sent = 0  # iterations; batches of earlier epochs, and sent

    def get_state(self):
        return {"start": self._start, "before": self._before}

    def set_state(self, state):
        self._start, self._before = state["start"], state["before"]

    def on_train_begin(self, logs=None):
        self._start, self._before, self._sent = num_iterations(self.model), 0, 0

    def on_train_batch_end(self, batch, logs=None):
        step = self._before + batch + 1
        # Not `step % every`: where steps come in pieces, a look may be late.
        if self.every is not None and step - self._sent >= self.every:
            self._sent = step
            self.logger.log(flat_numbers({f"batch_{name}": value for name, value in dict(logs or {}).items()}), step)

    def on_epoch_end(self, epoch, logs=None):
        steps = num_iterations(self.model) - self._start
        if steps <= self._before:  # a train step of the user's, which does without the optimizer
            steps = self._before + (self.params.get("steps") or 1)
        self._before = steps
        self.logger.log(flat_numbers({**(logs or {}), "epoch": epoch}), steps)

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
        artifacts: Whether to keep the model as an artifact of type `"model"`, named after it, when training ends.
        **options: Of `wandb.init`, such as `project`, `config`, `dir`, and `mode="offline"` for no network.

    Raises:
        ImportError: without wandb.
    """

    def __init__(self, every=None, run=None, artifacts: bool = False, **options):
        super().__init__(self, every)
        self.run: Any = run
        self.artifacts = artifacts
        # A run that was handed over is its owner's to end.
        self.options, self._is_own = options, run is None
        _library("wandb", "WandbLogger")

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if self.run is None:
            self.run = _library("wandb", "WandbLogger").init(**self.options)

    def log(self, numbers, step):
        """Records the numbers of a step."""
        self.run.log(numbers, step=step)

    def on_train_end(self, logs=None):
        if not self.artifacts:
            return
        artifact = _library("wandb", "WandbLogger").Artifact(self.model.name, type="model")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, f"{self.model.name}.keras")
            self.model.save(path)
            artifact.add_file(path)
            self.run.log_artifact(artifact)

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
        _library("mlflow", "MLflowLogger")
        self.tracking_uri = tracking_uri
        self.experiment_name = experiment_name or "Default"
        self.run_name, self.run_id, self.params_to_log = run_name, run_id, params or {}
        self._client: Any = None
        self._is_open = False

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._client = _library("mlflow", "MLflowLogger").MlflowClient(self.tracking_uri)
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
        # `on_train_end` came before if all went well: then this does nothing.
        self._finish("FAILED")

    def _finish(self, status: str):
        if self._is_open:
            self._is_open = False
            self._client.set_terminated(self.run_id, status)


def _library(name: str, who: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The library is there, but something that it needs is not.
        if error.name != name:
            raise
        raise ImportError(f"{who} needs {name}: pip install 'kerax[{name}]'") from None
