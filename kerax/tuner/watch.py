"""`Watch`: the callback that prunes a trial and keeps the weights of its best epoch."""

import math
import os

import optuna

from kerax.callbacks import Callback
from kerax.places import is_elsewhere
from kerax.tuner.hypermodel import DEFAULT_OBJECTIVE, EndsSearch, Objective, missing


class Watch(Callback):
    """Reports the objective of each epoch, stops a training that is not promising, and saves the best weights.

    Args:
        trial: Optuna's trial.
        objective: The number to watch.
        path: File of the weights of the best epoch of all executions.
    """

    def __init__(self, trial: optuna.Trial, objective: Objective, path: str):
        super().__init__()
        self.trial, self.objective, self.path = trial, objective, path
        self.best = objective.worst
        self.is_pruned = False
        self._epochs, self._may_prune = 0, False

    def begin(self, model, may_prune: bool):
        """Before one execution."""
        self._trained, self._may_prune, self._epochs = model, may_prune, 0

    def on_epoch_end(self, epoch, logs=None):
        name = self.objective.name
        if name == DEFAULT_OBJECTIVE:  # a number that `fit` returns, which no epoch knows
            return
        if name not in logs:
            raise EndsSearch(missing(self.objective, logs, "search"))
        self._epochs += 1
        value = float(logs[name])
        self._keep(value, self.model)
        # One execution only: Optuna takes each step's number once.
        if self._may_prune:
            self.trial.report(value, self._epochs)
            if self.trial.should_prune():
                self.is_pruned = self.model.stop_training = True

    def finish(self, value: float):
        """After one execution, whose result is `value`: keeps the weights if no epoch did."""
        if self._epochs == 0:
            self._keep(value, self._trained)

    def _keep(self, value: float, model):
        if math.isfinite(value) and self.objective.is_better(value, self.best):
            self.best = value
            if not is_elsewhere(self.path):
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
            model.save_weights(self.path, overwrite=True)

    def model_is_gone(self):
        """Lets go of the model."""
        self._model = self._trained = None
