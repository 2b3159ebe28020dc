"""How often predictions are right."""

import jax.numpy as jnp

from kerax import config as settings
from kerax.losses.loss import align, class_indices
from kerax.losses.probabilistic import fix_categorical
from kerax.metrics.metric import FUNCTIONS
from kerax.metrics.reduction import MeanMetricWrapper


def _as_float(matches):
    return matches.astype(settings.floatx())


@FUNCTIONS.add
def accuracy(y_true, y_pred):
    """1 where `y_pred` equals `y_true`, else 0."""
    y_true, y_pred = align("accuracy", y_true, y_pred)
    return _as_float(y_true == y_pred)


@FUNCTIONS.add
def binary_accuracy(y_true, y_pred, threshold: float = 0.5):
    """1 where `y_pred > threshold` is what the label 0 or 1 says, else 0."""
    y_true, y_pred = align("binary_accuracy", y_true, y_pred)
    # Strictly above: a score of just `threshold` is a no.
    return _as_float(y_true == (y_pred > threshold))


@FUNCTIONS.add
def categorical_accuracy(y_true, y_pred):
    """1 where the largest of the last axis is at the same index in one-hot `y_true` and in `y_pred`, else 0."""
    y_true, y_pred = align("categorical_accuracy", y_true, y_pred, fix_categorical)
    return _as_float(jnp.argmax(y_true, axis=-1) == jnp.argmax(y_pred, axis=-1))


@FUNCTIONS.add
def sparse_categorical_accuracy(y_true, y_pred):
    """1 where the largest of the last axis of `y_pred` is at the index `y_true`, else 0."""
    y_pred = jnp.asarray(y_pred)
    return _as_float(class_indices("sparse_categorical_accuracy", y_true, y_pred) == jnp.argmax(y_pred, axis=-1))


@FUNCTIONS.add
def top_k_categorical_accuracy(y_true, y_pred, k: int = 5):
    """1 where the class of one-hot `y_true` is among the `k` largest of `y_pred`, else 0."""
    y_true, y_pred = align("top_k_categorical_accuracy", y_true, y_pred, fix_categorical)
    return _as_float(_in_top_k(jnp.argmax(y_true, axis=-1), y_pred, k))


@FUNCTIONS.add
def sparse_top_k_categorical_accuracy(y_true, y_pred, k: int = 5, from_sorted_ids: bool = False):
    """1 where the class index `y_true` is among the `k` largest of `y_pred`, else 0.

    With `from_sorted_ids`, `y_pred` holds class indices in falling order of their scores.
    """
    y_pred = jnp.asarray(y_pred)
    labels = class_indices("sparse_top_k_categorical_accuracy", y_true, y_pred)  # (batch, ...)
    if from_sorted_ids:
        return _as_float(jnp.any(labels[..., None] == y_pred[..., :k], axis=-1))
    return _as_float(_in_top_k(labels, y_pred, k))


def _in_top_k(labels, scores, k):
    # Counting larger scores needs no sort. Of classes with equal scores all are in.
    own = jnp.take_along_axis(scores, labels[..., None], axis=-1)
    # NaN compares false with every score, which would put it among the best.
    own = jnp.where(jnp.isnan(own), -jnp.inf, own)
    return jnp.sum(scores > own, axis=-1) < k


class Accuracy(MeanMetricWrapper):
    """Fraction of values of `y_pred` that equal `y_true`. Arguments as `Metric`."""

    _direction = "up"

    def __init__(self, name: str = "accuracy", dtype=None):
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """Fraction of right yes/no predictions: `y_pred > threshold` against labels 0 and 1. Others as `Metric`."""

    _direction = "up"

    def __init__(self, name: str = "binary_accuracy", dtype=None, threshold: float = 0.5):
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


class CategoricalAccuracy(MeanMetricWrapper):
    """Fraction of samples whose class (one-hot) has the largest score. Arguments as `Metric`."""

    _direction = "up"

    def __init__(self, name: str = "categorical_accuracy", dtype=None):
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """Fraction of samples whose class (an integer) has the largest score. Arguments as `Metric`."""

    _direction = "up"

    def __init__(self, name: str = "sparse_categorical_accuracy", dtype=None):
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """Fraction of samples whose class (one-hot) is among the `k` largest scores. Others as `Metric`."""

    _direction = "up"

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy", dtype=None):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """Fraction of samples whose class (an integer) is among the `k` largest scores.

    `from_sorted_ids` says that `y_pred` holds class indices in falling order of their scores. Others as `Metric`.
    """

    _direction = "up"

    def __init__(self, k=5, name="sparse_top_k_categorical_accuracy", dtype=None, from_sorted_ids=False):
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k, from_sorted_ids=from_sorted_ids)

    def get_config(self) -> dict:
        """The constructor's arguments; `from_sorted_ids` only if it is set, as Keras writes it."""
        config = super().get_config()
        if not config["from_sorted_ids"]:
            del config["from_sorted_ids"]
        return config
