"""IoU metrics: by hand, weights, ignored classes, layouts, overflow, wrong input."""

import jax.numpy as jnp
import keras
import numpy as np
import pytest

from kerax import metrics

TRUE, PRED = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])


@pytest.mark.medium
def test_values_by_hand():
    assert float(metrics.IoU(2, [0])(TRUE, PRED)) == pytest.approx(1 / 3, rel=1e-6)
    assert float(metrics.MeanIoU(3)(TRUE, PRED)) == pytest.approx(1 / 3, rel=1e-6)  # class 2 never occurs
    scores = np.float32([0.1, 0.2, 0.4, 0.7])
    assert float(metrics.BinaryIoU(threshold=0.3)([0, 1, 0, 1], scores)) == pytest.approx(1 / 3, rel=1e-6)
    assert float(metrics.BinaryIoU([1], threshold=0.2)([0, 1, 0, 1], scores)) == pytest.approx(2 / 3, rel=1e-6)
    assert float(metrics.MeanIoU(2).result()) == 0
    np.testing.assert_array_equal(metrics.IoU(2, [0]).total_cm.value, np.zeros((2, 2), "int32"))


@pytest.mark.medium
def test_weights_of_any_rank_are_counted_per_position():
    images = np.random.default_rng(0).integers(0, 3, (2, 2, 4, 5))
    full = np.broadcast_to(np.array([2, 3])[:, None, None], (2, 4, 5))
    results = []
    for weights in (full, full.reshape(-1), full[..., None], np.array([2, 3]), np.array([[[2]], [[3]]])):
        metric = metrics.MeanIoU(3)
        metric.update_state(*images, weights)
        results.append(np.asarray(metric.total_cm.value))
    theirs = keras.metrics.MeanIoU(3)
    theirs.update_state(*images, full.reshape(-1))
    for result in results:
        np.testing.assert_array_equal(result, theirs.total_cm.value)
    metric = metrics.MeanIoU(3, dtype="float32")
    metric.update_state(TRUE, PRED, np.float32([0.5, 0.25, 0.125, 2]))
    np.testing.assert_array_equal(metric.total_cm.value, [[0.5, 0.25, 0], [0.125, 2, 0], [0, 0, 0]])
    with pytest.warns(UserWarning, match="mean_io_u: float `sample_weight` loses its fractions.*dtype='float32'"):
        metrics.MeanIoU(2).update_state(TRUE, PRED, np.float32([0.5, 1, 1, 1]))


def test_classes_outside_and_ignored_ones_do_not_count():
    metric = metrics.MeanIoU(3, ignore_class=255)
    metric.update_state([0, 255, 1, 2, -1, 2], [0, 0, 1, 5, 0, -7])
    np.testing.assert_array_equal(metric.total_cm.value, np.diag([1, 1, 0]))


def test_scores_and_one_hot_labels_along_any_axis():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(2, 4, 5, 3)), rng.integers(0, 3, (2, 4, 5))
    one_hot = np.eye(3)[labels]
    expected = metrics.MeanIoU(3)(labels, scores.argmax(-1))
    first = {"axis": 1, "num_classes": 3}
    for metric, y_true, y_pred in [
        (metrics.MeanIoU(3, sparse_y_pred=False), labels, scores),
        (metrics.OneHotMeanIoU(3), one_hot, scores),
        (metrics.OneHotMeanIoU(3, sparse_y_pred=True), one_hot, scores.argmax(-1)),
        (
            metrics.OneHotIoU(target_class_ids=[0, 1, 2], **first),
            np.moveaxis(one_hot, -1, 1),
            np.moveaxis(scores, -1, 1),
        ),
        (metrics.MeanIoU(sparse_y_true=False, **first), np.moveaxis(one_hot, -1, 1), scores.argmax(-1)),
    ]:
        assert float(metric(y_true, y_pred)) == pytest.approx(float(expected), rel=1e-6)


def test_counts_stay_exact_beyond_what_float32_holds():
    metric = metrics.BinaryIoU()
    metric.total_cm.assign(jnp.array([[2**24, 0], [0, 0]]))
    metric.update_state([0], [0.0])
    assert int(metric.total_cm.value[0, 0]) == 2**24 + 1


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.IoU(2, [2]), r"io_u: `target_class_ids` must be class indices in \[0, 2\). Got \[2\]"),
        (lambda: metrics.IoU(2, [-1]), "`target_class_ids`"),
        (lambda: metrics.IoU(2, []), "`target_class_ids`"),
        (lambda: metrics.MeanIoU(0), "mean_io_u: `num_classes` must be at least 1"),
        (lambda: metrics.MeanIoU(3)(TRUE, np.ones((4, 3))), r"`y_true` has shape \(4,\).*`sparse_y_pred=False`"),
        (lambda: metrics.MeanIoU(3)(TRUE, PRED, np.ones(3, int)), r"`sample_weight` of shape \(3,\) does not fit"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
