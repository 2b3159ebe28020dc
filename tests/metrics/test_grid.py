"""Metrics against Keras over grids of arguments, ranks, weights and masks, in float64 where rounding hides nothing."""

import inspect
from itertools import product

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from kerax import metrics
from kerax.core import masks

pytestmark = pytest.mark.slow

GRID = {
    "from_logits": (False, True),
    "label_smoothing": (0.0, 0.2),
    "axis": (-1, 1),
    "threshold": (0.5, 0.3),
    "k": (5, 1, 3),
    "thresholds": (None, 0.3, [0.7, 0.2], np.linspace(0, 1, 12).tolist()),
    "top_k": (None, 2),
    "class_id": (None, 3),
    "average": (None, "micro", "macro", "weighted"),
    "beta": (0.5, 2.0),
    "curve": ("ROC", "PR", "PRGAIN"),
    "summation_method": ("interpolation", "minoring", "majoring"),
    "num_thresholds": (30,),
    "class_aggregation": (None, "uniform_average", "variance_weighted_average"),
}
POINTS = {name: name.lower().split("at")[-1] for name in metrics.__all__ if "At" in name}
FLAT = {"AUC", "F1Score", "FBetaScore", "R2Score", "RootMeanSquaredError", *POINTS}
CLASSES = [
    name
    for name in metrics.__all__
    if inspect.isclass(getattr(metrics, name))
    and "IoU" not in name
    and name not in ("Metric", "MeanMetricWrapper", "Mean", "Sum")
]


def options_of(name):
    parameters = inspect.signature(getattr(metrics, name).__init__).parameters
    grid = {key: values for key, values in GRID.items() if key in parameters} | {POINTS.get(name): (0.3, 0.8)}
    grid.pop(None, None)
    if name == "FBetaScore":
        grid["threshold"] = (None, 0.3)
    if name == "AUC":
        grid["thresholds"] = (None, [0.7, 0.2])
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def batch(name, options, shape, rng):
    y_pred = rng.uniform(0.02, 0.98, shape)
    y_true = (rng.uniform(size=shape) > 0.5).astype(float)
    axis = options.get("axis", -1) if "Crossentropy" in name else -1
    labels = rng.integers(0, shape[axis], np.delete(shape, axis))
    if "Sparse" in name:
        y_true = labels
    elif "Categorical" in name or name in ("F1Score", "FBetaScore"):
        y_true = np.moveaxis(np.eye(shape[axis])[labels], -1, axis)
    return y_true, 8 * y_pred - 4 if options.get("from_logits") else y_pred


@pytest.mark.parametrize("name", CLASSES)
def test_results_are_those_of_keras(name):
    rng, cases = np.random.default_rng(0), []
    for options, rank in product(options_of(name), (2, 3)):
        shape = (4, 5, 5)[3 - rank :] if rank == 3 else (6, 5)
        if (rank == 3 and (name in FLAT or "thresholds" in options)) or (options.get("axis") == 1 and rank == 2):
            continue
        rows = (6,) if rank == 2 else (4, 5)
        for weights, mask in product((None, rng.uniform(0, 2, rows)), (None, rng.uniform(size=rows) > 0.4)):
            if mask is None or not (name in FLAT or "thresholds" in options):
                cases.append((options, *batch(name, options, shape, rng), weights, mask))

    def results(module, set_mask):
        outputs = []
        for options, y_true, y_pred, weights, mask in cases:
            metric = getattr(module, name)(dtype="float64", **options)
            y_pred = jnp.asarray(y_pred) * 1  # traced, and new for each mask
            set_mask(y_pred, mask)
            for build in ("build", "_build"):
                if not getattr(metric, "built", True) or not getattr(metric, "_built", True):
                    getattr(metric, build, lambda *_: None)(y_true.shape, y_pred.shape)
            state = [jnp.zeros(variable.shape, variable.dtype) for variable in metric.variables]
            for _ in range(2):
                state = metric.stateless_update_state(state, y_true, y_pred, weights)
            outputs.append(metric.stateless_result(state))
        return outputs

    with jax.enable_x64(True):
        ours = jax.jit(lambda: results(metrics, masks.set_mask))()
        theirs = jax.jit(lambda: results(keras.metrics, keras.src.backend.set_keras_mask))()
    tolerance = {"rtol": 1e-6, "atol": 1e-9}
    if name in FLAT or "thresholds" in cases[0][0]:
        tolerance = {"rtol": 1e-5, "atol": 1e-5}  # Keras sums these in float32
    for case, result, expected in zip(cases, ours, theirs, strict=True):
        message = f"{name} {case[0]} {case[2].shape} weights={case[3] is not None} mask={case[4] is not None}"
        np.testing.assert_allclose(result, expected, **tolerance, err_msg=message)
