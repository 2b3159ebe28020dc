# What `kerax.wrappers` hands out on first use: the one list of it, see `kerax/lazy.py`.

from .estimators import SKLearnClassifier as SKLearnClassifier
from .estimators import SKLearnRegressor as SKLearnRegressor
from .estimators import SKLearnTransformer as SKLearnTransformer
