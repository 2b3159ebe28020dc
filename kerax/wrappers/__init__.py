"""Models as scikit-learn estimators: `SKLearnClassifier`, `SKLearnRegressor`, `SKLearnTransformer`."""

import importlib
from typing import TYPE_CHECKING

from kerax.errors import suggest

__all__ = ["SKLearnClassifier", "SKLearnRegressor", "SKLearnTransformer"]


if TYPE_CHECKING:
    from kerax.wrappers.estimators import SKLearnClassifier as SKLearnClassifier
    from kerax.wrappers.estimators import SKLearnRegressor as SKLearnRegressor
    from kerax.wrappers.estimators import SKLearnTransformer as SKLearnTransformer
else:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{suggest(name, __all__)}")
        try:
            return getattr(importlib.import_module("kerax.wrappers.estimators"), name)
        except ModuleNotFoundError as error:
            if error.name != "sklearn":
                raise
            raise ImportError(f"{name} needs scikit-learn: pip install 'kerax[sklearn]'") from None


def __dir__():
    return __all__
