"""Metrics of decisions at thresholds: operating points by hand, scores at the thresholds, names of wrong input."""

from functools import partial

import jax
import keras
import numpy as np
import pytest

from kerax import metrics

LABELS, SCORES = np.array([0, 0, 0, 1, 1]), np.float32([0, 0.3, 0.8, 0.3, 0.8])


@pytest.mark.medium
def test_operating_points_by_hand():
    for metric, expected in [
        (metrics.SensitivityAtSpecificity(0.5), 0.5),
        (metrics.SpecificityAtSensitivity(0.5), 2 / 3),
        (metrics.PrecisionAtRecall(0.5), 0.5),
        (metrics.RecallAtPrecision(0.5), 1.0),
        (metrics.RecallAtPrecision(0.9), 0.0),  # never reached
        (metrics.SensitivityAtSpecificity(0.5, num_thresholds=1), 0.5),
    ]:
        assert float(metric(LABELS, SCORES)) == pytest.approx(expected, rel=1e-6), metric
    columns = metrics.RecallAtPrecision(0.5, class_id=1)
    assert float(columns(np.stack([1 - LABELS, LABELS], 1), np.stack([1 - SCORES, SCORES], 1))) == 1
    weighted = metrics.SensitivityAtSpecificity(0.5)
    assert float(weighted(LABELS, SCORES, [1, 1, 2, 2, 1])) == pytest.approx(1 / 3, rel=1e-6)


@pytest.mark.medium
def test_scores_at_the_thresholds_are_decided_as_in_keras():
    scores = np.float32([0, 0.5, 1, 0.25, 0, 0.5, 1, 0.75])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])

    @partial(jax.jit, static_argnums=0)  # one compilation for a library
    def states_and_results(module):
        outputs = []
        for metric in [
            module.FalsePositives([0.0, 0.5, 1.0]),
            module.FalsePositives([0.0, 0.4, 1.0]),
            module.FalsePositives([0.5]),
            module.Recall([0.0, 0.25, 0.5, 0.75, 1.0]),
            module.Precision([0.0, 1.0]),
            module.AUC(num_thresholds=5),
            module.AUC(thresholds=[0.5, 0.25, 0.75], curve="PR"),
            module.SensitivityAtSpecificity(0.7, num_thresholds=5),
            module.SpecificityAtSensitivity(1.0, num_thresholds=2),
            module.PrecisionAtRecall(1.0, num_thresholds=5),
            module.PrecisionAtRecall(0.5, num_thresholds=1),
        ]:
            state = metric.stateless_update_state(metric.stateless_reset_state(), labels, scores)
            outputs.append((state, metric.stateless_result(state)))
        return outputs

    pairs = zip(states_and_results(metrics), states_and_results(keras.metrics), strict=True)
    for number, ((state, result), (expected, their_result)) in enumerate(pairs):
        np.testing.assert_allclose(result, their_result, rtol=1e-6, err_msg=f"metric {number}")
        for value, their_value in zip(state, expected, strict=True):
            np.testing.assert_array_equal(value, their_value, err_msg=f"metric {number}")


@pytest.mark.parametrize(
    "call, message",
    [
        (partial(metrics.RecallAtPrecision, 1.5), r"recall_at_precision: `precision` must be in \[0, 1\]. Got 1.5"),
        (partial(metrics.PrecisionAtRecall, -1), "precision_at_recall: `recall` must be"),
        (partial(metrics.SensitivityAtSpecificity, 2), "sensitivity_at_specificity: `specificity` must be"),
        (partial(metrics.SpecificityAtSensitivity, 0.5, 0), "`num_thresholds` must be at least 1. Got 0"),
        (lambda: metrics.RecallAtPrecision(0.5, class_id=1)(LABELS, SCORES), "`class_id` needs `y_pred` of shape"),
        (lambda: metrics.RecallAtPrecision(0.5)(LABELS, SCORES[:3]), "recall_at_precision: `y_true` has shape"),
        (lambda: metrics.Precision(class_id=7)(np.eye(3), np.eye(3)), r"`class_id` must be in \[0, 3\). Got 7"),
        (lambda: metrics.Precision(top_k=4)(np.eye(3), np.eye(3)), "`top_k` must be at most 3.*Got 4"),
        (lambda: metrics.AUC()(LABELS, SCORES, np.ones(4)), r"auc: `sample_weight` of shape \(4,\) does not fit"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
