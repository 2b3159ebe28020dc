"""R2 and correlations: by hand, against Keras and SciPy, adjusted scores, weights, edges, wrong input."""

from functools import partial

import jax
import keras
import numpy as np
import pytest

from kerax import metrics

RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(6, 4)).astype("f")
PRED = (TRUE + 0.5 * RNG.normal(size=(6, 4))).astype("f")


@pytest.mark.medium
def test_r2_by_hand_with_weights():
    weights = np.float32([1, 2, 0, 1, 0.5, 3])
    mean = np.average(TRUE, 0, weights)
    expected = 1 - (weights @ (TRUE - PRED) ** 2) / (weights @ (TRUE - mean) ** 2)
    metric = metrics.R2Score(class_aggregation=None)
    metric.update_state(TRUE[:2], PRED[:2], weights[:2])
    metric.update_state(TRUE[2:], PRED[2:], weights[2:])
    np.testing.assert_allclose(metric.result(), expected, rtol=1e-5)
    assert float(metric.num_samples.value) == TRUE.size
    metric = metrics.R2Score()
    assert float(metric([1.0, 2.0, 4.0], [[1.0], [2.0], [3.0]])) == pytest.approx(1 - 1 / (14 / 3), rel=1e-5)


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore:.*R2 score")
def test_adjusted_r2_is_that_of_keras_also_under_jit():
    for aggregation in (None, "uniform_average", "variance_weighted_average"):
        for regressors in (0, 2, 22, 23, 40):  # 24 values: from 23 on the plain score
            ours, theirs = (module.R2Score(aggregation, regressors) for module in (metrics, keras.metrics))
            for metric in (ours, theirs):
                metric.update_state(TRUE, PRED)
            values = [variable.value for variable in ours.variables]
            np.testing.assert_allclose(jax.jit(ours.stateless_result)(values), theirs.result(), rtol=2e-6)


@pytest.mark.medium
def test_correlations_along_any_axis():
    for axis in (-1, 0, 1):
        for name, reference in (("pearson_correlation", _pearson), ("concordance_correlation", _concordance)):
            actual = getattr(metrics, name)(TRUE, PRED, axis=axis)
            np.testing.assert_allclose(actual, reference(TRUE.T, PRED.T) if not axis else reference(TRUE, PRED), 2e-5)
            np.testing.assert_allclose(actual, getattr(keras.metrics, name)(TRUE, PRED, axis=axis), rtol=2e-5)
    assert np.isnan(metrics.pearson_correlation(np.ones((1, 3), "f"), PRED[:1, :3]))
    assert float(metrics.concordance_correlation(np.ones((1, 3), "f"), np.ones((1, 3), "f"))[0]) == 0
    large = TRUE + 1000  # centred before squaring
    np.testing.assert_allclose(metrics.pearson_correlation(large, PRED), _pearson(large, PRED), rtol=1e-4)


def _pearson(first, second):
    return [np.corrcoef(a, b)[0, 1] for a, b in zip(np.float64(first), np.float64(second), strict=True)]


def _concordance(first, second):
    pairs = zip(np.float64(first), np.float64(second), strict=True)
    return [2 * np.cov(a, b, bias=True)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2) for a, b in pairs]


@pytest.mark.parametrize(
    "call, message",
    [
        (partial(metrics.R2Score, "mean"), "r2_score: `class_aggregation` must be one of"),
        (partial(metrics.R2Score, num_regressors=-1), "r2_score: `num_regressors` must be at least 0. Got -1"),
        (lambda: metrics.R2Score()(TRUE[0], PRED[0]), r"r2_score: `y_pred` must have shape \(batch, outputs\)"),
        (lambda: metrics.R2Score()(TRUE, PRED[:, :3]), r"r2_score: `y_true` has shape \(6, 4\) but `y_pred`"),
        (lambda: metrics.R2Score()(TRUE, PRED, np.ones(5)), r"r2_score: `sample_weight` of shape \(5,\)"),
        (lambda: metrics.PearsonCorrelation()(TRUE, PRED[:5]), "pearson_correlation: `y_true`.*number of samples"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
