"""`Tuner`: runs trials until there are enough, and keeps the best."""

import contextlib
import copy
import datetime
import math
import os
import time
import traceback
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from kerax import places
from kerax.callbacks import TensorBoard
from kerax.errors import check_integers
from kerax.models import Model
from kerax.tuner import reports
from kerax.tuner.hypermodel import EndsSearch, as_hypermodel, as_objective, best_numbers
from kerax.tuner.hyperparameters import HyperParameters, discover
from kerax.tuner.samplers import Exhausted, Reseeded, try_again
from kerax.tuner.trials import SKIPPED, Trial, Worker, draw, open_study
from kerax.tuner.watch import Watch
from kerax.utils import clear_session

_MAX_REPEATS = 20  # trials in a row that were there before, after which nothing new is expected


class _Failed(Exception):
    """Marks a trial as failed; the search goes on."""


class Tuner:
    """Base of the tuners: a search over trials, each of which trains one model.

    Trials are kept in a storage, so that a search that was stopped goes on where it was when it is called again, and
    several processes with the same storage, directory and project name work on one search. The weights of a trial's
    best epoch are kept in `directory/project_name/trial_<number>`, as long as it is among the best. Compiled programs
    are dropped after each training.

    Args:
        hypermodel: Function `build(hp)` that returns a compiled model, or a `HyperModel`. `None` for a subclass that
            overrides `run_trial`.
        objective: Name in the logs that says itself whether more is better, or an `Objective`. `None` if training
            returns one number to be minimised.
        max_trials: Number of trials, of all workers together; `None` for as many as there are.
        seed: Integer; the same seed draws the same hyperparameters. Default: another one each time.
        hyperparameters: `HyperParameters` whose declarations replace those of the same names in `hypermodel`.
        tune_new_entries: Whether those that are not in `hyperparameters` are searched; else they keep their defaults.
        allow_new_entries: Whether there may be others than those in `hyperparameters`.
        max_retries_per_trial: How often a training that failed is tried again.
        max_consecutive_failed_trials: How many trials may fail in a row.
        directory: Folder of all projects, or its address, as `s3://bucket/searches`. Default: the current one.
        project_name: Name of the search. Default: `"untitled_project"`.
        overwrite: Whether to begin anew, dropping what is there under that name.
        executions_per_trial: Number of trainings per trial, over whose results is averaged.
        pruner: Pruner of Optuna's, such as `optuna.pruners.MedianPruner()`, that ends trials whose objective, reported
            after each epoch of the first execution, is not promising. Default: none.
        storage: URL such as `"sqlite:///search.db"`, or a storage of Optuna's. Default: a journal file in the project's
            folder.
        max_models_to_keep: Number of best trials whose weights are kept.

    Raises:
        ValueError: for arguments out of range, hyperparameters that disagree, or a project with another objective.
        TypeError: if `hypermodel` is none.

    Deviations from Keras Tuner: search and storage are Optuna's (no oracles, no `tuner_id`); weights are kept for the
    best trials only; training that came to NaN in all epochs counts as the worst result.
    """

    _grid = False

    def __init__(
        self,
        hypermodel=None,
        objective=None,
        max_trials: int | None = 10,
        seed=None,
        hyperparameters=None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int = 3,
        directory=None,
        project_name=None,
        overwrite: bool = False,
        executions_per_trial: int = 1,
        pruner=None,
        storage=None,
        max_models_to_keep: int = 10,
    ):
        who = type(self).__name__
        check_integers(
            who,
            max_trials=(1 if max_trials is None else max_trials, 1),
            executions_per_trial=(executions_per_trial, 1),
            max_retries_per_trial=(max_retries_per_trial, 0),
            max_consecutive_failed_trials=(max_consecutive_failed_trials, 1),
            max_models_to_keep=(max_models_to_keep, 0),
        )
        if hyperparameters is not None and not isinstance(hyperparameters, HyperParameters):
            raise ValueError(f"{who}: `hyperparameters` must be a HyperParameters. Got {hyperparameters!r}.")
        if hyperparameters is None and not (tune_new_entries and allow_new_entries):
            raise ValueError(f"{who}: without `hyperparameters` all entries are new, and must be allowed and tuned.")
        if pruner is not None and not isinstance(pruner, optuna.pruners.BasePruner):
            raise ValueError(f"{who}: `pruner` must be a pruner of Optuna's. Got {pruner!r}.")
        self.hypermodel: Any = as_hypermodel(hypermodel, who)
        if self.hypermodel is None and type(self).run_trial is Tuner.run_trial:
            raise ValueError(f"{who}: pass `hypermodel`, or override `run_trial`.")
        self.objective = as_objective(objective, who)
        self.max_trials, self.executions_per_trial = max_trials, executions_per_trial
        self.max_retries_per_trial = max_retries_per_trial
        self.max_consecutive_failed_trials = max_consecutive_failed_trials
        self.max_models_to_keep = max_models_to_keep
        self.directory = "." if directory is None else places.path_of(directory, who)
        self.project_name = project_name or "untitled_project"
        is_tuned = getattr(self.hypermodel, "tunable", True)
        self._given = (hyperparameters, tune_new_entries and is_tuned, allow_new_entries)
        # What is searched is known before the first trial, so that mistakes in `build` are told here.
        build = (lambda hp: None) if self.hypermodel is None else self._build
        self._space = discover(build, *self._given)
        if overwrite:
            places.remove_folder(self.project_dir)
        sampler = Reseeded(self._sampler, seed)  # Optuna's own would start from its seed again after an interruption
        pruner = pruner or optuna.pruners.NopPruner()
        arguments = (storage, self.project_dir, self.project_name, self.objective, sampler, pruner, overwrite)
        with _quiet():
            self.study = open_study(who, *arguments)
        self._worker = Worker(self.project_dir)
        self._repeats = self._failures = 0
        self._model: Model | None = None  # built for the running trial already
        self._has_trained = False  # whether that has got further

    def _sampler(self, seed: int):
        raise NotImplementedError

    @property
    def project_dir(self) -> str:
        """The folder of the search."""
        return os.path.join(self.directory, self.project_name)

    def get_trial_dir(self, trial_id) -> str:
        """The folder of a trial."""
        return os.path.join(self.project_dir, f"trial_{trial_id}")

    # The search.

    def search(self, *fit_args, **fit_kwargs):
        """Runs trials until there are `max_trials`, or nothing new is left to try.

        Args:
            *fit_args, **fit_kwargs: What `fit` of each model receives. Callbacks are copied for each training, and
                `TensorBoard` gets a folder for each.

        Raises:
            RuntimeError: after `max_consecutive_failed_trials` failures in a row.
            ValueError: if the objective is not among the logs.
        """
        self._repeats = self._failures = 0
        is_verbose = fit_kwargs.get("verbose", "auto") != 0
        with _quiet(), self._worker:
            self._reclaim()
            # Only `_Failed` is a trial's own affair; anything else ends the search.
            objective = lambda trial: self._objective(trial, fit_args, fit_kwargs, is_verbose)
            self.study.optimize(objective, catch=(_Failed,))

    def run_trial(self, trial, *fit_args, **fit_kwargs):
        """Trains the models of one trial. Override it for a search over anything.

        Args:
            trial: A `Trial` with its `hyperparameters`.

        Returns: a `History`, a number, a dict of numbers with the objective in it, or a list of one for each execution.
        """
        watch, results = self._watch, []
        for execution in range(self.executions_per_trial):
            if execution:
                clear_session()
            model = self._model if self._model is not None else self._build(trial.hyperparameters)
            self._model = None
            callbacks = self._callbacks(fit_kwargs.get("callbacks"), trial, execution)
            watch.begin(model, may_prune=execution == 0)
            kwargs = {**fit_kwargs, "callbacks": [*callbacks, watch]}
            result = self.hypermodel.fit(trial.hyperparameters, model, *fit_args, **kwargs)
            results.append(best_numbers(result, self.objective, type(self).__name__))
            watch.finish(results[-1][self.objective.name])
            trial.build_config = model.get_build_config()
            # The next model is built before this function returns: two of them may not fit the device.
            del model, kwargs, callbacks, result
            watch.model_is_gone()
            if watch.is_pruned:
                break
        return results

    def _objective(self, trial: optuna.Trial, fit_args, fit_kwargs, is_verbose: bool) -> float:
        """One trial of Optuna's: the score, or an exception that tells its end."""
        # Other workers may have begun trials meanwhile: Optuna's own limit counts those of this process only.
        if self.max_trials is not None and self._rank(trial.number) >= self.max_trials:
            self.study.stop()
            self._skip(trial, "surplus")
        trial.set_user_attr("worker", self._worker.name)
        started, self._has_trained = time.perf_counter(), False
        error: Exception | None = None
        try:
            for _ in range(1 + self.max_retries_per_trial):
                try:
                    numbers, handle = self._try(trial, fit_args, fit_kwargs, is_verbose)
                    break
                except (EndsSearch, _Failed):
                    raise
                except Exhausted:
                    self.study.stop()
                    self._skip(trial, "surplus")
                except Exception as problem:
                    error = problem
                    trial.set_user_attr("error", "".join(traceback.format_exception(problem)[-8:]))
            else:
                self._fail(trial, error, is_verbose)
        except (KeyboardInterrupt, EndsSearch) as reason:
            trial.set_user_attr(SKIPPED, "abandoned")
            # Its values are tried again first when the search goes on, so that it draws what it would have drawn.
            if isinstance(reason, KeyboardInterrupt):
                try_again(self.study, trial)
            raise
        finally:
            self._model, is_pruned = None, self._watch.is_pruned
            self._watch.model_is_gone()
            if self._has_trained:  # each model has programs of its own, which would fill the memory
                clear_session()
        self._failures = 0
        score = numbers[self.objective.name]
        score = self.objective.worst if math.isnan(score) else score  # Optuna counts a trial with NaN as failed
        for name, value in dict(
            score=score, metrics=numbers, build_config=handle.build_config, values=handle.hyperparameters.values
        ).items():
            trial.set_user_attr(name, value)
        self._remove_weights(trial.number, score)
        if is_verbose:
            self._say(trial, f"{'pruned' if is_pruned else 'done'}: {self.objective.name}={score:.6g}", started)
        if is_pruned:
            raise optuna.TrialPruned
        return score

    def _try(self, trial: optuna.Trial, fit_args, fit_kwargs, is_verbose: bool):
        """Builds and trains once; returns the averaged numbers and the `Trial`."""
        hp = HyperParameters()
        handle = Trial(self._frozen(trial.number), hp)
        folder = self.get_trial_dir(handle.trial_id)
        self._watch = Watch(trial, self.objective, os.path.join(folder, "checkpoint.weights.h5"))
        hp.bind(lambda declaration: draw(trial, declaration, self._grid), *self._given)
        if self.hypermodel is not None:
            self._model = self._build(hp)
        trial.set_user_attr("values", hp.values)  # before training, so that other workers see what is being tried
        if self.hypermodel is not None and self._is_repeat(trial.number, hp.values):
            self._repeats += 1
            if self._repeats >= _MAX_REPEATS:
                self.study.stop()
            self._skip(trial, "repeat")
        self._repeats = 0
        if is_verbose:
            self._say(trial, ", ".join(f"{name}={value}" for name, value in hp.values.items()))
        self._has_trained = True
        results = self.run_trial(handle, *fit_args, **fit_kwargs)
        results = results if isinstance(results, list) else [results]
        numbers = [best_numbers(result, self.objective, type(self).__name__) for result in results]
        # Executions that were pruned or stopped early may lack a number.
        names = [name for name in numbers[0] if all(name in other for other in numbers)]
        return {name: float(np.mean([each[name] for each in numbers])) for name in names}, handle

    def _build(self, hp: HyperParameters):
        model = self.hypermodel.build(hp)
        if not isinstance(model, Model):
            raise EndsSearch(f"{type(self).__name__}: `build` must return a kerax model. Got {model!r}.")
        return model

    def _fail(self, trial: optuna.Trial, error: Exception | None, is_verbose: bool):
        self._failures += 1
        places.remove_folder(self.get_trial_dir(f"{trial.number:04d}"))
        if is_verbose:
            self._say(trial, f"failed: {type(error).__name__}: {error}")
        if self._failures >= self.max_consecutive_failed_trials:
            raise RuntimeError(
                f"{type(self).__name__}: {self._failures} trials failed in a row, the last with "
                f"{type(error).__name__}: {error}"
            ) from error
        raise _Failed(str(error)) from None

    def _skip(self, trial: optuna.Trial, why: str):
        trial.set_user_attr(SKIPPED, why)
        raise _Failed(why)

    def _say(self, trial: optuna.Trial, text: str, started: float | None = None):
        took = "" if started is None else f" ({time.perf_counter() - started:.1f} s)"
        of = "" if self.max_trials is None else f" of {self.max_trials}"
        print(f"Trial {self._rank(trial.number) + 1}{of}: {text}{took}")

    def _callbacks(self, callbacks, trial: Trial, execution: int) -> list:
        """Copies for one training."""
        if callbacks is not None and not isinstance(callbacks, (list, tuple)):
            callbacks = [callbacks]
        copies = copy.deepcopy(
            list(callbacks or [])
        )  # they remember: the patience of one training is not the next one's
        for callback in copies:
            if isinstance(callback, TensorBoard):
                callback.log_dir = os.path.join(callback.log_dir, trial.trial_id, f"execution{execution}")
        return copies

    # The trials.

    def _frozen(self, number: int):
        return next(trial for trial in self._counted() if trial.number == number)

    def _counted(self) -> list:
        """Optuna's trials that count, in order, those that are running too."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if SKIPPED not in trial.user_attrs]

    def _rank(self, number: int) -> int:
        return sum(trial.number < number for trial in self._counted())

    def _is_repeat(self, number: int, values: dict) -> bool:
        """Whether these are all the values of an earlier trial."""
        earlier = (trial for trial in self._counted() if trial.number < number)
        return any(trial.user_attrs.get("values") == values for trial in earlier)

    def _reclaim(self):
        """Gives trials of workers that were killed back to the search."""
        now = datetime.datetime.now()
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            worker = trial.user_attrs.get("worker")
            # A trial that has just begun may not have its worker's name yet.
            is_old = trial.datetime_start is not None and (now - trial.datetime_start).total_seconds() > 60
            if not (self._worker.is_dead(worker) if worker else is_old):
                continue
            with contextlib.suppress(ValueError, RuntimeError):  # another worker was quicker
                # Marked before it is told: a trial that failed without the mark would count.
                self.study._storage.set_trial_user_attr(trial._trial_id, SKIPPED, "abandoned")
                self.study.tell(trial.number, state=TrialState.FAIL)
                try_again(self.study, trial)
                places.remove_folder(self.get_trial_dir(f"{trial.number:04d}"))
                self._worker.forget(str(worker))

    def _remove_weights(self, number: int, score: float):
        """Removes the weights of trials that are not among the best any more, this one's included."""
        done = [trial for trial in self._ranked() if trial.number != number]
        better = sum(trial.score is not None and not self.objective.is_better(score, trial.score) for trial in done)
        kept = [trial.number for trial in done]
        kept.insert(better, number)
        for other in kept[self.max_models_to_keep :]:
            places.remove_folder(self.get_trial_dir(f"{other:04d}"))

    def _ranked(self) -> list[Trial]:
        """Trials with a score, the best first, pruned ones after the others."""
        trials = [Trial(trial) for trial in self._counted() if trial.state.is_finished()]
        sign = 1 if self.objective.direction == "min" else -1
        key = lambda trial: (trial.status == "PRUNED", sign * trial.score, trial.number)
        return sorted((trial for trial in trials if trial.score is not None), key=key)

    # Results.

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order of their numbers."""
        return [Trial(trial) for trial in self._counted()]

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The trials with the best scores, the best first; pruned ones come after all others."""
        return self._ranked()[:num_trials]

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[HyperParameters]:
        """The hyperparameters of the best trials."""
        best = []
        for trial in self.get_best_trials(num_trials):
            hp = self._space.copy()
            hp.values = dict(trial.hyperparameters.values)
            # `_space` holds what is declared for any values; with these only some of it counts.
            hp._active = {name: known for name, known in hp._active.items() if name in hp.values}
            best.append(hp)
        return best

    def get_best_models(self, num_models: int = 1) -> list:
        """The models of the best trials, with the weights of their best epochs.

        Raises:
            ValueError: if weights of one of them were not kept.
        """
        models = []
        for trial in self.get_best_trials(num_models):
            path = os.path.join(self.get_trial_dir(trial.trial_id), "checkpoint.weights.h5")
            if not places.exists(path):
                raise ValueError(
                    f"{type(self).__name__}: there are no weights of trial {trial.trial_id} in {path!r}; they are kept "
                    f"for the best `max_models_to_keep`={self.max_models_to_keep} trials that did not end in NaN."
                )
            hp = HyperParameters()
            hp.values = dict(trial.hyperparameters.values)
            hp.bind(lambda declaration: declaration.default, *self._given)
            model = self._build(hp)
            if not model.built and trial.build_config:
                model.build_from_config(trial.build_config)
            model.load_weights(path)
            models.append(model)
        return models

    def search_space_summary(self, extended: bool = False):
        """Prints what is searched; `extended` is taken for Keras Tuner's sake."""
        reports.print_space(self._space.space)

    def results_summary(self, num_trials: int = 10):
        """Prints the best trials."""
        reports.print_results(self.project_dir, self.objective, self.trials, self._ranked(), num_trials)

    def plot_history(self):
        """A figure of each trial's score in order, with the best so far. Needs matplotlib."""
        return reports.history(self.trials, self.objective)

    def plot_importance(self):
        """A figure of how much each hyperparameter matters for the score, by PED-ANOVA: Watanabe et al. 2023,
        https://arxiv.org/abs/2304.10255. Needs matplotlib and at least two completed trials.
        """
        return reports.importance(self.study, self.objective)


@contextlib.contextmanager
def _quiet():
    """Keeps Optuna from telling what the tuner tells."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
