"""Samplers beside Optuna's: `Reseeded`, which makes another one repeatable, and `InOrder`, for a grid."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from kerax.tuner.trials import SKIPPED


class Exhausted(Exception):
    """There is no combination left that has not been tried."""


class Reseeded(BaseSampler):
    """A sampler that is made anew for each trial, seeded by the number of draws before it.

    So a search that was interrupted draws what it would have drawn, and two workers with one seed do not draw the same.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int | None):
        self._make = make
        self._seed: Any = np.random.SeedSequence(seed).entropy
        self._inner: Any = None  # the sampler of the running trial
        self._number = -1

    def before_trial(self, study, trial):
        self._number = trial.number
        draws = draw_index(study, trial)  # not the trial's number, which also counts trials that were never drawn for
        seed = int(np.random.SeedSequence([self._seed, draws]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._inner = self._make(seed)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study, trial):
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(self, study, trial, search_space):
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study, trial, state, values):
        if trial.number == self._number:  # not that of a worker that died
            self._inner.after_trial(study, trial, state, values)


def draw_index(study, trial) -> int:
    """Number of draws before that of a trial. One that is tried again has the number of the first try; repeats count:
    from the same seed they would come again.
    """
    earlier = (other for other in study.get_trials(deepcopy=False) if other.number < trial.number)
    counted = sum(other.user_attrs.get(SKIPPED) != "surplus" and "draw" not in other.user_attrs for other in earlier)
    return trial.user_attrs.get("draw", counted)


def try_again(study, trial):
    """Lets the next worker that asks for a trial do this one, which was abandoned."""
    study.enqueue_trial(trial.params, user_attrs={"draw": draw_index(study, trial)})


class InOrder(BaseSampler):
    """Tries every combination once, the last hyperparameter changing fastest.

    Optuna's `BruteForceSampler` does not go on after a trial that failed before it had drawn all its hyperparameters.
    """

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        """The first value after which there is something left to try. Raises `Exhausted` if there is none."""
        # The search space is a tree that shows itself trial by trial: what follows a value, earlier trials tell.
        drawn = tuple(trial.params.items())
        paths = [path[len(drawn) :] for path in _paths(study, trial) if _values(path[: len(drawn)]) == drawn]
        for value in _candidates(param_distribution):
            if not _is_exhausted([path[1:] for path in paths if _values(path[:1]) == ((param_name, value),)]):
                return value
        raise Exhausted

    def after_trial(self, study, trial, state, values):
        if _is_exhausted(_paths(study)):
            study.stop()


def _paths(study, but=None) -> list[tuple]:
    """What was drawn in each trial that counts and has drawn all: `(name, value, distribution)` in order."""
    trials = study.get_trials(deepcopy=False)
    return [
        tuple((name, value, trial.distributions[name]) for name, value in trial.params.items())
        for trial in trials
        if SKIPPED not in trial.user_attrs
        and (trial.state.is_finished() or trial.user_attrs.get("values"))
        and (but is None or trial.number != but.number)
    ]


def _values(path) -> tuple:
    return tuple((name, value) for name, value, _ in path)


def _candidates(distribution) -> list:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return list(distribution.choices)
    return list(range(distribution.low, distribution.high + 1, distribution.step))


def _is_exhausted(paths: list[tuple]) -> bool:
    """Whether all that can follow has been tried, given what followed in earlier trials."""
    # Nobody came here yet, or somebody did and nothing followed.
    if not paths or () in paths:
        return bool(paths)
    name, _, distribution = paths[0][0]
    return all(
        _is_exhausted([path[1:] for path in paths if _values(path[:1]) == ((name, value),)])
        for value in _candidates(distribution)
    )
