"""Losses against Keras over grids of arguments, ranks, axes, weights, masks and dtypes, with gradients.

In float64, where the two may differ by their formulas but hardly by rounding.
"""

import inspect
from itertools import product

import jax
import keras
import numpy as np
import pytest

from kerax import losses
from tests.losses.test_losses import CLASSES, batch, made

pytestmark = pytest.mark.slow

GRID = {
    "from_logits": (False, True),
    "label_smoothing": (0.0, 0.2),
    "axis": (-1, 1),
    "ignore_class": (None, 2),
    "delta": (0.3, 1.0),
    "apply_class_balancing": (False, True),
    "alpha": (0.7,),
    "beta": (0.9,),
    "gamma": (1.5,),
    "q": (0.2, 0.8),
    "margin": (0.4, 0.1),
    "remove_diagonal": (True, False),
}


def options_of(cls):
    names = [name for name in GRID if name in inspect.signature(cls.__init__).parameters]
    return [dict(zip(names, values, strict=True)) for values in product(*(GRID[name] for name in names))]


@pytest.mark.parametrize("name", CLASSES)
def test_values_and_gradients_are_those_of_keras(name):
    rng, cases = np.random.default_rng(0), []
    # Both axes of size 5: Keras spreads smoothed labels over the size of the last axis, whichever holds the classes.
    shapes = {"CTC": [(4, 5)], "Circle": [(4, 5)]}.get(name, [(4, 5), (4, 5, 5)])
    if "Generalized" in name:
        shapes = shapes[:1]
    for options, shape in product(options_of(getattr(losses, name)), shapes):
        if options.get("axis") == 1 and name == "SparseCategoricalCrossentropy":
            continue  # Keras has no such argument of the class
        y_true, y_pred = (np.float64(array) for array in batch(name, rng, options, shape))
        has_rows = name not in ("Dice", "Tversky")
        fits = [None, rng.uniform(0, 2, (4, 1) if len(shape) == 3 else 4)][: 1 + has_rows]
        cases += [(options, y_true, y_pred, weights) for weights in fits]

    def run(module):
        def values(y_preds):
            outputs = []
            for (options, y_true, _, weights), y_pred in zip(cases, y_preds, strict=True):
                outputs.append(made(module, name, {"dtype": "float64", **options})(y_true, y_pred, weights))
            return sum(outputs), outputs

        (_, outputs), gradients = jax.jit(jax.value_and_grad(values, has_aux=True))([case[2] for case in cases])
        return outputs, gradients

    with jax.enable_x64(True):
        ours, theirs = run(losses), run(keras.losses)
    rtol = 1e-4 if name == "CTC" else 1e-6  # which Keras computes in float32
    for case, value, gradient, expected, expected_gradient in zip(cases, *ours, *theirs, strict=True):
        message = f"{name} {case[0]} {np.shape(case[2])} weights={case[3] is not None}"
        assert np.asarray(value).dtype == np.asarray(expected).dtype, message
        np.testing.assert_allclose(value, expected, rtol=rtol, err_msg=message)
        known = np.isfinite(expected_gradient)
        np.testing.assert_allclose(
            np.asarray(gradient)[known], expected_gradient[known], rtol=rtol, atol=1e-9, err_msg=message
        )
        assert np.isfinite(gradient).all(), message
