"""Losses between probability distributions at the ends of their range, and what weighs what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax import losses

DTYPES = ("float32", "bfloat16", "float16")
PROBABILITIES = {
    "all zero": np.zeros((2, 3)),
    "all one": np.ones((2, 3)),
    "right": np.eye(3)[:2],
    "wrong": np.eye(3)[1:],
}
LOGITS = {"right": 1000 * np.eye(3)[:2], "wrong": -1000 * np.eye(3)[:2], "equal": np.zeros((2, 3))}
OF_PROBABILITIES = {
    "binary_crossentropy": losses.BinaryCrossentropy(),
    "binary_focal": losses.BinaryFocalCrossentropy(),
    "binary_focal, steep": losses.BinaryFocalCrossentropy(gamma=0.5, apply_class_balancing=True),
    "categorical_crossentropy": losses.CategoricalCrossentropy(label_smoothing=0.1),
    "categorical_focal": losses.CategoricalFocalCrossentropy(gamma=0.5),
    "sparse": losses.SparseCategoricalCrossentropy(),
    "kl_divergence": losses.KLDivergence(),
    "dice": losses.Dice(),
    "tversky": losses.Tversky(),
}
OF_LOGITS = {
    "binary_crossentropy": losses.BinaryCrossentropy(from_logits=True),
    "binary_focal": losses.BinaryFocalCrossentropy(from_logits=True, gamma=0.5),
    "categorical_crossentropy": losses.CategoricalCrossentropy(from_logits=True),
    "categorical_focal": losses.CategoricalFocalCrossentropy(from_logits=True),
    "sparse": losses.SparseCategoricalCrossentropy(from_logits=True),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "loss", "scores"),
    [(name, loss, PROBABILITIES) for name, loss in OF_PROBABILITIES.items()]
    + [(f"{name} of logits", loss, LOGITS) for name, loss in OF_LOGITS.items()],
)
def test_saturated_outputs_have_finite_losses_and_gradients(name, loss, scores, dtype):
    labels = np.array([0, 1]) if name.startswith("sparse") else jnp.asarray(np.eye(3)[:2], dtype)
    for case, values in scores.items():
        value, slope = jax.value_and_grad(lambda y: jnp.asarray(loss(labels, y), "float32"))(jnp.asarray(values, dtype))
        assert np.isfinite(value) and np.all(np.isfinite(np.asarray(slope, "float32"))), case


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (1.0, 0.0), (0.0, 1.0)])
def test_tversky_weighs_false_positives_by_alpha(alpha, beta):
    y_true, y_pred = np.array([[0, 1, 1, 0]], "f4"), np.array([[0.9, 0.6, 0.2, 0.1]], "f4")
    overlap, invented, missed = (y_true * y_pred).sum(), ((1 - y_true) * y_pred).sum(), (y_true * (1 - y_pred)).sum()
    expected = 1 - overlap / (overlap + alpha * invented + beta * missed)
    assert float(losses.Tversky(alpha, beta)(y_true, y_pred)) == pytest.approx(expected, rel=1e-5)
