"""Errors between real numbers, averaged over all samples."""

import jax.numpy as jnp

from kerax.losses import regression as losses
from kerax.losses.loss import align, to_arrays
from kerax.metrics.reduction import Mean, MeanMetricWrapper


class MeanSquaredError(MeanMetricWrapper):
    """`mean((y_true - y_pred)**2)`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name="mean_squared_error", dtype=None):
        super().__init__(losses.mean_squared_error, name, dtype)


class RootMeanSquaredError(Mean):
    """`sqrt(mean((y_true - y_pred)**2))`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name="root_mean_squared_error", dtype=None):
        super().__init__(name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes in a batch."""
        y_true, y_pred = align(self.name, to_arrays(y_true), to_arrays(y_pred).astype(self.dtype))
        super().update_state(jnp.square(y_pred - y_true), sample_weight)

    def result(self):
        """The root of the mean."""
        return jnp.sqrt(super().result())


class MeanAbsoluteError(MeanMetricWrapper):
    """`mean(|y_true - y_pred|)`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name="mean_absolute_error", dtype=None):
        super().__init__(losses.mean_absolute_error, name, dtype)


class MeanAbsolutePercentageError(MeanMetricWrapper):
    """`100 * mean(|y_true - y_pred| / |y_true|)`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name="mean_absolute_percentage_error", dtype=None):
        super().__init__(losses.mean_absolute_percentage_error, name, dtype)


class MeanSquaredLogarithmicError(MeanMetricWrapper):
    """`mean((log(1 + y_true) - log(1 + y_pred))**2)`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name="mean_squared_logarithmic_error", dtype=None):
        super().__init__(losses.mean_squared_logarithmic_error, name, dtype)


class LogCoshError(MeanMetricWrapper):
    """`mean(log(cosh(y_pred - y_true)))`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name="logcosh", dtype=None):
        super().__init__(losses.log_cosh, name, dtype)


class CosineSimilarity(MeanMetricWrapper):
    """The cosine of the angle between vectors along `axis` (without the loss's minus). Others as `Metric`."""

    _direction = "up"

    def __init__(self, name="cosine_similarity", dtype=None, axis=-1):
        super().__init__(losses.cosine, name, dtype, axis=axis)


class Hinge(MeanMetricWrapper):
    """`mean(max(1 - y_true * y_pred, 0))`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name="hinge", dtype=None):
        super().__init__(losses.hinge, name, dtype)


class SquaredHinge(MeanMetricWrapper):
    """`mean(max(1 - y_true * y_pred, 0)**2)`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name="squared_hinge", dtype=None):
        super().__init__(losses.squared_hinge, name, dtype)


class CategoricalHinge(MeanMetricWrapper):
    """`max(largest wrong score - right score + 1, 0)` for one-hot targets. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name="categorical_hinge", dtype=None):
        super().__init__(losses.categorical_hinge, name, dtype)
