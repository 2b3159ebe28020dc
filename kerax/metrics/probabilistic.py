"""Crossentropies and relatives, averaged over all samples."""

from kerax.losses import probabilistic as losses
from kerax.metrics.reduction import MeanMetricWrapper


class BinaryCrossentropy(MeanMetricWrapper):
    """Crossentropy of yes/no labels. Arguments as the loss's and `Metric`'s."""

    _direction = "down"

    def __init__(self, name="binary_crossentropy", dtype=None, from_logits=False, label_smoothing: float = 0):
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing}
        super().__init__(losses.binary_crossentropy, name, dtype, **options)


class CategoricalCrossentropy(MeanMetricWrapper):
    """Crossentropy of one-hot labels. Arguments as the loss's and `Metric`'s."""

    _direction = "down"

    def __init__(
        self, name="categorical_crossentropy", dtype=None, from_logits=False, label_smoothing: float = 0, axis: int = -1
    ):
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(losses.categorical_crossentropy, name, dtype, **options)


class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """Crossentropy of integer labels. Arguments as the loss's and `Metric`'s.

    Positions of `ignore_class` do not count, as in the loss; Keras counts them as 0 when no weights are given.
    """

    _direction = "down"

    def __init__(
        self, name="sparse_categorical_crossentropy", dtype=None, from_logits=False, ignore_class=None, axis: int = -1
    ):
        options = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(losses.sparse_categorical_crossentropy, name, dtype, **options)


class KLDivergence(MeanMetricWrapper):
    """`sum(y_true * log(y_true / y_pred))`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name: str = "kl_divergence", dtype=None):
        super().__init__(losses.kl_divergence, name, dtype)


class Poisson(MeanMetricWrapper):
    """`mean(y_pred - y_true * log(y_pred))`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name: str = "poisson", dtype=None):
        super().__init__(losses.poisson, name, dtype)
