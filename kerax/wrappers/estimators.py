"""scikit-learn estimators around models. This module needs scikit-learn; `kerax.wrappers` asks for it by name."""

import copy
import inspect
from typing import Any, cast

import numpy as np
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from kerax.core.registry import deserialize_keras_object, serialize_keras_object
from kerax.models import Model, clone_model

_ARGUMENTS = """

    Args:
        model: A compiled model, of which each `fit` trains a copy with fresh weights; or a function
            `(X, y, **model_kwargs)` that returns one.
        warm_start: Whether a second `fit` goes on training the same model.
        model_kwargs: Arguments of that function.
        fit_kwargs: Arguments of `Model.fit`, such as `epochs`.

    Attributes: `model_`, the trained model, and `history_`, its `History`.
"""


class _Estimator(BaseEstimator):
    """What the three share: checks, making the model, training."""

    def __init__(self, model, warm_start: bool = False, model_kwargs=None, fit_kwargs=None):
        # Each as it was given and nowhere checked: `clone` compares them with the originals by `is`.
        self.model = model
        self.warm_start = warm_start
        self.model_kwargs = model_kwargs
        self.fit_kwargs = fit_kwargs

    def _builder_arguments(self) -> dict:
        """The arguments of a function that makes the model, with their values, for searches over them by name."""
        if isinstance(self.model, Model) or not callable(self.model):
            return {}
        try:
            parameters = inspect.signature(self.model).parameters
        except (TypeError, ValueError):  # one of C has none
            return {}
        own = {"X", "y", *super().get_params(deep=False)}
        given = {name: p.default for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD and name not in own}
        given = {name: None if value is inspect.Parameter.empty else value for name, value in given.items()}
        known = self.model_kwargs if isinstance(self.model_kwargs, dict) else {}  # `fit` tells of anything else
        return given | {name: value for name, value in known.items() if name not in own}

    def get_params(self, deep: bool = True) -> dict:
        """The parameters; with `deep` also the arguments of a function that makes the model, by their names."""
        found = super().get_params(deep)
        return (self._builder_arguments() | found) if deep else found

    def set_params(self, **params):
        """Sets parameters, and arguments of a function that makes the model."""
        if "model" in params:
            self.model = params.pop("model")
        own = {name: params.pop(name) for name in list(params) if name in self._builder_arguments()}
        super().set_params(**params)
        if own:
            self.model_kwargs = {**(self.model_kwargs or {}), **own}
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        return tags

    @property
    def epoch_(self) -> int:
        """Number of epochs of the last `fit`."""
        return len(self.history_.epoch) if hasattr(self, "history_") else 0

    # scikit-learn's own returns the estimator too, which its annotations do not say.
    def set_fit_request(self, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Says which arguments of `fit` metadata routing shall hand over, by name."""
        if not sklearn.get_config().get("enable_metadata_routing", False):
            raise RuntimeError("set_fit_request needs sklearn.set_config(enable_metadata_routing=True).")
        self._metadata_request = MetadataRequest(owner=self)
        for name, alias in kwargs.items():
            self._metadata_request.fit.add_request(param=name, alias=alias)
        return self

    def fit(self, X, y, **kwargs):
        """Trains a model. `kwargs` go to `Model.fit`, before `fit_kwargs`.

        Raises:
            RuntimeError: if the model is not compiled with a loss and an optimizer.
        """
        # scikit-learn takes a column for a slip, and warns; more of them are several targets.
        several = y is not None and np.asarray(y).ndim == 2 and np.asarray(y).shape[1] > 1
        X, y = validate_data(self, X, cast(Any, y), multi_output=several, reset=True)
        y = self._encode(y)
        goes_on = self.warm_start and hasattr(self, "model_")
        model = self.model_ if goes_on else self._new_model(X, y)
        if not model.compiled or model.loss is None or model.optimizer is None:
            raise RuntimeError(f"{model} must be compiled with a loss and an optimizer.")
        self.history_ = model.fit(X, y, **{"verbose": 0, **(self.fit_kwargs or {}), **kwargs})
        self.model_ = model
        return self

    def __getstate__(self) -> dict:
        """What pickles take along: models as their descriptions and weights."""
        state: dict[str, Any] = dict(cast(dict, super().__getstate__()))
        for name in ("model", "model_"):
            if isinstance(state.get(name), Model):
                state[name] = _PackedModel(state[name])
        if "history_" in state:
            # A copy: the fitted estimator keeps its model.
            history = state["history_"] = copy.copy(state["history_"])
            history.set_model(None)
        return state

    def __setstate__(self, state: dict):
        models = {name: value.unpack() for name, value in state.items() if isinstance(value, _PackedModel)}
        super().__setstate__(state | models)

    def _new_model(self, X, y) -> Model:
        if not isinstance(self.model, Model):
            return self.model(X=X, y=y, **(self.model_kwargs or {}))
        model = clone_model(self.model)  # `fit` must not change what the estimator was made of
        if self.model.compiled:
            model.compile_from_config(self.model.get_compile_config())
        return model

    def _encode(self, y) -> np.ndarray:
        """The targets as the model gets them, `(n, outputs)`."""
        type_of_target(y, raise_unknown=True)
        # Predictions come back in the form of the targets.
        self._is_flat = np.ndim(y) == 1
        return np.reshape(y, (-1, 1)) if self._is_flat else y

    def _decode(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0] if self._is_flat and outputs.ndim == 2 and outputs.shape[1] == 1 else outputs

    def _outputs(self, X) -> np.ndarray:
        check_is_fitted(self)
        return self.model_.predict(validate_data(self, X, reset=False), verbose=0)

    def predict(self, X):
        """The model's outputs for `X`, in the form of the targets."""
        return self._decode(self._outputs(X))


class _PackedModel:
    """A model as plain data."""

    def __init__(self, model: Model):
        self.description, self.weights = serialize_keras_object(model), model.get_weights()
        self.compile_config = model.get_compile_config()

    def unpack(self) -> Model:
        """The model again."""
        model = deserialize_keras_object(self.description)
        model.set_weights(self.weights)
        if self.compile_config is not None:
            model.compile_from_config(self.compile_config)
        return model


class SKLearnClassifier(ClassifierMixin, _Estimator):
    __doc__ = f"""A model as a scikit-learn classifier.

    The model gets targets `(n, classes)` with a one for the class, and gives a score for each class.{_ARGUMENTS}
    """

    def decision_function(self, X):
        """The model's outputs for `X`, `(n, classes)`."""
        return self._outputs(X)

    def _encode(self, y):
        kind = type_of_target(y, raise_unknown=True)
        if kind not in ("binary", "multiclass"):
            raise ValueError(f"Only binary and multiclass targets are supported. Unknown label type: {kind}")
        self.classes_, indices = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        # The words that scikit-learn's own checks of estimators look for.
        if len(self.classes_) == 1:
            raise ValueError("Classifier can't train when only one class is present.")
        return (indices[:, None] == np.arange(len(self.classes_))).astype(np.float32)

    def _decode(self, outputs):
        return self.classes_[np.argmax(outputs, axis=-1)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags


class SKLearnRegressor(RegressorMixin, _Estimator):
    __doc__ = f"""A model as a scikit-learn regressor.

    The model gets targets `(n, outputs)`.{_ARGUMENTS}
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags


class SKLearnTransformer(TransformerMixin, _Estimator):
    __doc__ = f"""A model as a scikit-learn transformer: `transform` gives its outputs.{_ARGUMENTS}
    """

    def transform(self, X):
        """The model's outputs for `X`."""
        return self._outputs(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
