"""Models as scikit-learn estimators: `SKLearnClassifier`, `SKLearnRegressor`, `SKLearnTransformer`."""

from kerax import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__, "sklearn", "scikit-learn", "sklearn")
