"""How well predictions move with the targets, per sample along an axis, averaged over samples."""

import jax.numpy as jnp

from kerax import config as settings
from kerax.losses.loss import align
from kerax.metrics.metric import FUNCTIONS
from kerax.metrics.reduction import MeanMetricWrapper


def _moments(name: str, y_true, y_pred, axis):
    """Both means, both variances and the covariance along `axis`, which keeps size 1."""
    y_true, y_pred = align(name, y_true, y_pred)
    true_mean, pred_mean = (jnp.mean(values, axis=axis, keepdims=True) for values in (y_true, y_pred))
    true_rest, pred_rest = y_true - true_mean, y_pred - pred_mean
    pairs = ((true_rest, true_rest), (pred_rest, pred_rest), (true_rest, pred_rest))
    # Of the centred values: the mean of squares minus the square of the mean would cancel in float32.
    return true_mean, pred_mean, *(jnp.mean(first * second, axis=axis, keepdims=True) for first, second in pairs)


@FUNCTIONS.add
def pearson_correlation(y_true, y_pred, axis: int = -1):
    """`covariance / (std(y_true) * std(y_pred))` along `axis`; NaN where either is constant."""
    *_, true_var, pred_var, covariance = _moments("pearson_correlation", y_true, y_pred, axis)
    # Two roots, not the root of the product, which overflows earlier.
    return jnp.squeeze(covariance / (jnp.sqrt(true_var) * jnp.sqrt(pred_var)), axis)


@FUNCTIONS.add
def concordance_correlation(y_true, y_pred, axis: int = -1):
    """`2 * covariance / (var(y_true) + var(y_pred) + (mean(y_true) - mean(y_pred))**2)` along `axis`.

    Source: Lin 1989, https://doi.org/10.2307/2532051
    """
    moments = _moments("concordance_correlation", y_true, y_pred, axis)
    true_mean, pred_mean, true_var, pred_var, covariance = moments
    spread = true_var + pred_var + jnp.square(true_mean - pred_mean)
    # Two constant sequences give 0, not NaN.
    return jnp.squeeze(2 * covariance / (spread + settings.epsilon()), axis)


class PearsonCorrelation(MeanMetricWrapper):
    """Mean over samples of `pearson_correlation` along `axis`. Others as `Metric`."""

    _direction = "up"

    def __init__(self, name: str = "pearson_correlation", dtype=None, axis: int = -1):
        super().__init__(pearson_correlation, name, dtype, axis=axis)


class ConcordanceCorrelation(MeanMetricWrapper):
    """Mean over samples of `concordance_correlation` along `axis`. Others as `Metric`."""

    _direction = "up"

    def __init__(self, name: str = "concordance_correlation", dtype=None, axis: int = -1):
        super().__init__(concordance_correlation, name, dtype, axis=axis)
