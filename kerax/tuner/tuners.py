"""The tuners: `RandomSearch`, `BayesianOptimization`, `Hyperband`, `GridSearch`."""

import math

import optuna

from kerax.errors import check_integers
from kerax.tuner.samplers import InOrder
from kerax.tuner.tuner import Tuner


class RandomSearch(Tuner):
    """Draws the hyperparameters of each trial at random. Arguments as for `Tuner`."""

    def _sampler(self, seed):
        return optuna.samplers.RandomSampler(seed)


class BayesianOptimization(Tuner):
    """Draws hyperparameters where earlier trials were good, by a tree-structured Parzen estimator of all of them
    together. Source: Bergstra et al. 2011,
    https://papers.nips.cc/paper/2011/hash/86e8f7ab32cfd12577bc2619bc635690-Abstract.html

    Args:
        hypermodel, objective, max_trials: As for `Tuner`.
        num_initial_points: Number of random trials at first. Default: 3 for each hyperparameter.
        **kwargs: As for `Tuner`.

    Deviation from Keras Tuner: that has a Gaussian process, with its `alpha` and `beta`, which counts a conditional
    hyperparameter where there is none.
    """

    def __init__(self, hypermodel=None, objective=None, max_trials: int | None = 10, num_initial_points=None, **kwargs):
        is_count = isinstance(num_initial_points, int) and num_initial_points >= 1
        if num_initial_points is not None and not is_count:
            raise ValueError(
                f"BayesianOptimization: `num_initial_points` must be at least 1. Got {num_initial_points!r}."
            )
        self.num_initial_points = num_initial_points
        super().__init__(hypermodel, objective, max_trials, **kwargs)

    def _sampler(self, seed):
        searched = sum(declaration.distribution() is not None for declaration in self._space.space)
        initial = self.num_initial_points or max(1, 3 * searched)
        # Of all together: a good learning rate depends on the number of units, which one by one would not show.
        return optuna.samplers.TPESampler(n_startup_trials=initial, multivariate=True, group=True, seed=seed)


class Hyperband(Tuner):
    """Starts many trials at random and ends those early that fall behind. Source: Li et al. 2018,
    https://jmlr.org/papers/v18/16-558.html

    Args:
        hypermodel, objective: As for `Tuner`.
        max_epochs: Most epochs of a trial, instead of `fit`'s `epochs`.
        factor: A trial goes on at a rung if it is among the best `1/factor`; `factor` times as far to the next.
        hyperband_iterations: How often to go through all brackets.
        **kwargs: As for `Tuner`. The number of trials follows from the arguments above.

    Deviation from Keras Tuner: trials are halved one by one as they come (Li et al. 2020,
    https://arxiv.org/abs/1810.05934) by Optuna's `HyperbandPruner`, so that workers never wait for each other and no
    trial is trained twice from its start.
    """

    def __init__(self, hypermodel=None, objective=None, max_epochs=100, factor=3, hyperband_iterations=1, **kwargs):
        counts = {"max_epochs": (max_epochs, 1), "hyperband_iterations": (hyperband_iterations, 1)}
        check_integers("Hyperband", **counts, factor=(factor, 2))
        for argument in ("max_trials", "pruner"):
            if argument in kwargs:
                raise TypeError(f"Hyperband: `{argument}` follows from `max_epochs` and `factor`.")
        if objective is None:
            raise ValueError("Hyperband: pass `objective`; it decides after each epoch.")
        self.max_epochs, self.factor = max_epochs, factor
        pruner = optuna.pruners.HyperbandPruner(1, max_epochs, factor)
        max_trials = max(1, round(hyperband_iterations * _bracket_trials(max_epochs, factor)))
        super().__init__(hypermodel, objective, max_trials, pruner=pruner, **kwargs)

    def _sampler(self, seed):
        return optuna.samplers.RandomSampler(seed)

    def search(self, *fit_args, **fit_kwargs):
        """As `Tuner.search`, with `epochs=max_epochs`."""
        # The pruner's rungs are epochs up to `max_epochs`: with others it would end trials at the wrong ones.
        super().search(*fit_args, **{**fit_kwargs, "epochs": self.max_epochs})


def _bracket_trials(max_epochs: int, factor: int) -> int:
    """Number of trials that all brackets of Hyperband start with."""
    # Counted by powers: a logarithm of whole numbers is rounded, and would miss a bracket where it comes out even.
    brackets = 1
    while factor**brackets <= max_epochs:
        brackets += 1
    return sum(math.ceil(brackets / (bracket + 1) * factor**bracket) for bracket in range(brackets))


class GridSearch(Tuner):
    """Tries every combination once, in order, the last hyperparameter changing fastest.

    A hyperparameter without `step` gives ten values, a linear `Int` all of its range.

    Args:
        hypermodel, objective: As for `Tuner`.
        max_trials: Most trials. Default: all combinations.
        **kwargs: As for `Tuner`.
    """

    _grid = True

    def __init__(self, hypermodel=None, objective=None, max_trials: int | None = None, **kwargs):
        super().__init__(hypermodel, objective, max_trials, **kwargs)

    def _sampler(self, seed):
        return InOrder()
