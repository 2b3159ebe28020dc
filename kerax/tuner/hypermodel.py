"""`HyperModel`, a model with hyperparameters, and `Objective`, the number that a search improves."""

import inspect
import math
from typing import NamedTuple

from kerax.callbacks import History
from kerax.callbacks.monitors import Monitor

DEFAULT_OBJECTIVE = "default_objective"


class HyperModel:
    """A model with hyperparameters: subclass it and write `build`, and `fit` where training has some too.

    Args:
        name: A name for messages.
        tunable: Whether hyperparameters are searched; `False` keeps their defaults.
    """

    def __init__(self, name: str | None = None, tunable: bool = True):
        self.name, self.tunable = name, tunable

    def build(self, hp):
        """A compiled model for the values in `hp`, a `HyperParameters`."""
        raise NotImplementedError(f"{type(self).__name__}: write `build(self, hp)`, which returns a compiled model.")

    def fit(self, hp, model, *args, **kwargs):
        """Trains the model with what `search` was given. Pass `kwargs["callbacks"]` on: they prune and keep weights.

        Returns: a `History`, a number to be minimised, or a dict with the objective in it.
        """
        return model.fit(*args, **kwargs)


class _Built(HyperModel):
    """A build function as a `HyperModel`."""

    def __init__(self, function):
        super().__init__(getattr(function, "__name__", None))
        self.build = function


def as_hypermodel(hypermodel, who: str) -> HyperModel | None:
    """`hypermodel`, or a function `build(hp)` as one.

    Raises:
        TypeError: for anything else.
    """
    if hypermodel is None or isinstance(hypermodel, HyperModel):
        return hypermodel
    # A class is callable too: passed without its parentheses it would be built as if it were a function.
    if not callable(hypermodel) or inspect.isclass(hypermodel):
        raise TypeError(f"{who}: `hypermodel` must be a HyperModel or a function `build(hp)`. Got {hypermodel!r}.")
    return _Built(hypermodel)


class Objective(NamedTuple):
    """The number that a search improves.

    Attributes:
        name: Its name in the logs, such as `"val_loss"`.
        direction: `"min"` or `"max"`.
    """

    name: str
    direction: str

    def is_better(self, value: float, than: float) -> bool:
        """Whether `value` beats `than`; NaN beats nothing."""
        return value < than if self.direction == "min" else value > than

    @property
    def worst(self) -> float:
        """What every number beats."""
        return math.inf if self.direction == "min" else -math.inf


def as_objective(objective, who: str) -> Objective:
    """An `Objective`; of a name with the direction that it says.

    Raises:
        ValueError: for a name that does not say whether more is better, or a direction that is none.
    """
    if objective is None:
        return Objective(DEFAULT_OBJECTIVE, "min")
    if isinstance(objective, str):
        monitor = Monitor(objective)
        if not monitor.is_known:
            raise ValueError(
                f"{who}: it is not known whether {objective!r} is better when it is more or less. Pass "
                f"`objective=kerax.tuner.Objective({objective!r}, 'min')` or 'max'."
            )
        return Objective(objective, "max" if monitor.sign > 0 else "min")
    if not isinstance(objective, Objective) or objective.direction not in ("min", "max"):
        raise ValueError(
            f"{who}: `objective` must be a name or `kerax.tuner.Objective(name, 'min' or 'max')`. Got {objective!r}."
        )
    return objective


class EndsSearch(ValueError):
    """A mistake that every trial would make."""


def best_numbers(result, objective: Objective, who: str) -> dict[str, float]:
    """The numbers of one training: those of a `History`'s best epoch, a dict's, or a number as the objective.

    Raises:
        EndsSearch: if the objective is not among them, or there are none.
    """
    if isinstance(result, History):
        values = result.history.get(objective.name)
        if not values:
            raise EndsSearch(missing(objective, result.history, who))
        best = next_best(values, objective)
        # Validation may run more seldom than training: columns of other lengths have no number for that epoch.
        at_best = {name: column[best] for name, column in result.history.items() if len(column) == len(values)}
        return {name: float(value) for name, value in at_best.items() if _is_number(value)}
    if isinstance(result, dict):
        if objective.name not in result:
            raise EndsSearch(missing(objective, result, who))
        return {name: float(value) for name, value in result.items() if _is_number(value)}
    if _is_number(result):
        return {objective.name: float(result)}
    raise EndsSearch(
        f"{who}: training must return a History, a number, or a dict with {objective.name!r}. Got {result!r}."
    )


def next_best(values, objective: Objective) -> int:
    """Position of the best value; 0 if all are NaN."""
    best = 0
    for index, value in enumerate(values):
        # NaN beats nothing and nothing beats it: once it is the best so far, any number takes its place.
        if objective.is_better(value, values[best]) or (math.isnan(values[best]) and not math.isnan(value)):
            best = index
    return best


def missing(objective: Objective, names, who: str) -> str:
    """What to say where the objective is not among the names of the logs."""
    if objective.name == DEFAULT_OBJECTIVE:
        return f"{who}: pass `objective`, one of {sorted(names)}, or let training return one number."
    fix = " Pass `validation_data` to `search`." if objective.name.startswith("val_") else ""
    return f"{who}: the objective {objective.name!r} is not among the logs {sorted(names)}.{fix}"


def _is_number(value) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
