"""Search for hyperparameters: Keras Tuner's names on Optuna's algorithms and storage."""

from kerax import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__, "optuna", "Optuna", "tune")
