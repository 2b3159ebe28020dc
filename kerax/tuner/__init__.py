"""Search for hyperparameters: Keras Tuner's names on Optuna's algorithms and storage."""

import importlib
from typing import TYPE_CHECKING

from kerax.errors import suggest
from kerax.tuner.hypermodel import HyperModel, Objective
from kerax.tuner.hyperparameters import HyperParameters

_LAZY = {
    "BayesianOptimization": "tuners",
    "GridSearch": "tuners",
    "Hyperband": "tuners",
    "RandomSearch": "tuners",
    "Trial": "trials",
    "Tuner": "tuner",
}
__all__ = ["HyperModel", "HyperParameters", "Objective", *_LAZY]


if TYPE_CHECKING:
    from kerax.tuner.trials import Trial as Trial
    from kerax.tuner.tuner import Tuner as Tuner
    from kerax.tuner.tuners import BayesianOptimization as BayesianOptimization
    from kerax.tuner.tuners import GridSearch as GridSearch
    from kerax.tuner.tuners import Hyperband as Hyperband
    from kerax.tuner.tuners import RandomSearch as RandomSearch
else:

    def __getattr__(name):
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{suggest(name, __all__)}")
        try:
            return getattr(importlib.import_module(f"kerax.tuner.{_LAZY[name]}"), name)
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            raise ImportError(f"{name} needs Optuna: pip install 'kerax[tune]'") from None


def __dir__():
    return __all__
