"""Losses between real numbers, and the hinge family between labels and margins."""

import jax
import jax.numpy as jnp

from kerax import config as settings
from kerax import ops
from kerax.losses.loss import LOSSES, LossFunctionWrapper, align


@LOSSES.adding("mse", "MSE")
def mean_squared_error(y_true, y_pred):
    """`mean((y_true - y_pred)**2)` over the last axis. Returns: `(batch, ...)`."""
    y_true, y_pred = align("mean_squared_error", y_true, y_pred)
    return jnp.mean(jnp.square(y_true - y_pred), axis=-1)


@LOSSES.adding("mae", "MAE")
def mean_absolute_error(y_true, y_pred):
    """`mean(|y_true - y_pred|)` over the last axis. Returns: `(batch, ...)`."""
    y_true, y_pred = align("mean_absolute_error", y_true, y_pred)
    return jnp.mean(jnp.abs(y_true - y_pred), axis=-1)


@LOSSES.adding("mape", "MAPE")
def mean_absolute_percentage_error(y_true, y_pred):
    """`100 * mean(|y_true - y_pred| / |y_true|)` over the last axis. Returns: `(batch, ...)`."""
    y_true, y_pred = align("mean_absolute_percentage_error", y_true, y_pred)
    # A target of 0 counts as epsilon: the error is large, not infinite.
    return 100 * jnp.mean(jnp.abs(y_true - y_pred) / jnp.maximum(jnp.abs(y_true), settings.epsilon()), axis=-1)


@LOSSES.adding("msle", "MSLE")
def mean_squared_logarithmic_error(y_true, y_pred):
    """`mean((log(1 + y_true) - log(1 + y_pred))**2)` over the last axis, negative values taken as 0."""
    y_true, y_pred = align("mean_squared_logarithmic_error", y_true, y_pred)
    # `log1p` keeps small values, which `log(1 + x)` rounds away.
    floor = settings.epsilon()
    return jnp.mean(jnp.square(jnp.log1p(jnp.maximum(y_pred, floor)) - jnp.log1p(jnp.maximum(y_true, floor))), axis=-1)


@LOSSES.add
def huber(y_true, y_pred, delta: float = 1.0):
    """Quadratic below an error of `delta`, linear above, averaged over the last axis.

    Source: Huber 1964, https://doi.org/10.1214/aoms/1177703732
    """
    y_true, y_pred = align("huber", y_true, y_pred)
    error = jnp.abs(y_true - y_pred)
    # Both branches are finite, so that `where` has a clean gradient.
    return jnp.mean(jnp.where(error <= delta, 0.5 * jnp.square(error), delta * (error - 0.5 * delta)), axis=-1)


@LOSSES.adding("logcosh")
def log_cosh(y_true, y_pred):
    """`mean(log(cosh(y_pred - y_true)))` over the last axis."""
    y_true, y_pred = align("log_cosh", y_true, y_pred)
    # Equal to `log(cosh(error))`, whose `cosh` overflows from an error of 89 on.
    error = y_pred - y_true
    return jnp.mean(error + jax.nn.softplus(-2 * error) - jnp.log(2.0).astype(error.dtype), axis=-1)


def cosine(y_true, y_pred, axis=-1):
    """The cosine of the angle between the vectors along `axis`; 0 for a vector of zeros."""
    y_true, y_pred = align("cosine_similarity", y_true, y_pred)
    # `normalize` divides by at least a small number: a vector of zeros has cosine 0, and a gradient.
    return jnp.sum(ops.normalize(y_true, axis) * ops.normalize(y_pred, axis), axis=axis)


@LOSSES.add
def cosine_similarity(y_true, y_pred, axis=-1):
    """Minus the cosine of the angle between the vectors along `axis`: -1 for the same direction."""
    return -cosine(y_true, y_pred, axis)


def _signed(labels):
    """Labels 0 and 1 as -1 and 1; other labels unchanged."""
    # Decided by all labels of a batch together, as in Keras: one of -1 leaves zeros as they are.
    return jnp.where(jnp.all((labels == 0) | (labels == 1)), 2 * labels - 1, labels)


@LOSSES.add
def hinge(y_true, y_pred):
    """`mean(max(1 - y_true * y_pred, 0))` over the last axis, labels -1 and 1 (or 0 and 1)."""
    y_true, y_pred = align("hinge", y_true, y_pred)
    return jnp.mean(jnp.maximum(1 - _signed(y_true) * y_pred, 0), axis=-1)


@LOSSES.add
def squared_hinge(y_true, y_pred):
    """`mean(max(1 - y_true * y_pred, 0)**2)` over the last axis, labels -1 and 1 (or 0 and 1)."""
    y_true, y_pred = align("squared_hinge", y_true, y_pred)
    return jnp.mean(jnp.square(jnp.maximum(1 - _signed(y_true) * y_pred, 0)), axis=-1)


@LOSSES.add
def categorical_hinge(y_true, y_pred):
    """`max(largest wrong score - right score + 1, 0)` for one-hot `y_true`."""
    y_true, y_pred = align("categorical_hinge", y_true, y_pred)
    right = jnp.sum(y_true * y_pred, axis=-1)
    # The right class enters as 0 here, as in Keras: wrong scores below 0 count as 0.
    wrong = jnp.max((1 - y_true) * y_pred, axis=-1)
    return jnp.maximum(wrong - right + 1, 0)


class MeanSquaredError(LossFunctionWrapper):
    """`mean((y_true - y_pred)**2)`. Arguments as `Loss`."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "mean_squared_error", dtype=None):
        super().__init__(mean_squared_error, reduction, name, dtype)


class MeanAbsoluteError(LossFunctionWrapper):
    """`mean(|y_true - y_pred|)`. Arguments as `Loss`."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "mean_absolute_error", dtype=None):
        super().__init__(mean_absolute_error, reduction, name, dtype)


class MeanAbsolutePercentageError(LossFunctionWrapper):
    """`100 * mean(|y_true - y_pred| / |y_true|)`. Arguments as `Loss`."""

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_absolute_percentage_error", dtype=None
    ):
        super().__init__(mean_absolute_percentage_error, reduction, name, dtype)


class MeanSquaredLogarithmicError(LossFunctionWrapper):
    """`mean((log(1 + y_true) - log(1 + y_pred))**2)`. Arguments as `Loss`."""

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_squared_logarithmic_error", dtype=None
    ):
        super().__init__(mean_squared_logarithmic_error, reduction, name, dtype)


class Huber(LossFunctionWrapper):
    """Quadratic below an error of `delta`, linear above. Other arguments as `Loss`."""

    def __init__(self, delta=1.0, reduction: str | None = "sum_over_batch_size", name="huber_loss", dtype=None):
        super().__init__(huber, reduction, name, dtype, delta=delta)


class LogCosh(LossFunctionWrapper):
    """`mean(log(cosh(y_pred - y_true)))`. Arguments as `Loss`."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "log_cosh", dtype=None):
        super().__init__(log_cosh, reduction, name, dtype)


class CosineSimilarity(LossFunctionWrapper):
    """Minus the cosine of the angle between the vectors along `axis`. Other arguments as `Loss`."""

    def __init__(self, axis=-1, reduction: str | None = "sum_over_batch_size", name="cosine_similarity", dtype=None):
        super().__init__(cosine_similarity, reduction, name, dtype, axis=axis)


class Hinge(LossFunctionWrapper):
    """`mean(max(1 - y_true * y_pred, 0))`. Arguments as `Loss`."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "hinge", dtype=None):
        super().__init__(hinge, reduction, name, dtype)


class SquaredHinge(LossFunctionWrapper):
    """`mean(max(1 - y_true * y_pred, 0)**2)`. Arguments as `Loss`."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "squared_hinge", dtype=None):
        super().__init__(squared_hinge, reduction, name, dtype)


class CategoricalHinge(LossFunctionWrapper):
    """`max(largest wrong score - right score + 1, 0)` for one-hot targets. Arguments as `Loss`."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "categorical_hinge", dtype=None):
        super().__init__(categorical_hinge, reduction, name, dtype)
