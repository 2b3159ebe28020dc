"""Metrics: against Keras over a grid, by hand, under jit in a scope, masks, weights, configs."""

import inspect
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from kerax import metrics
from kerax.core import masks
from kerax.core.scope import Scope
from kerax.train.programs import only_adds

ABSTRACT = ("Metric", "MeanMetricWrapper", "Mean", "Sum")
CLASSES = [name for name in metrics.__all__ if inspect.isclass(getattr(metrics, name)) and name not in ABSTRACT]
REQUIRED = {
    "IoU": {"num_classes": 5, "target_class_ids": [0, 3]},
    "MeanIoU": {"num_classes": 5},
    "OneHotIoU": {"num_classes": 5, "target_class_ids": [0, 3]},
    "OneHotMeanIoU": {"num_classes": 5},
    "SensitivityAtSpecificity": {"specificity": 0.6},
    "SpecificityAtSensitivity": {"sensitivity": 0.6},
    "PrecisionAtRecall": {"recall": 0.6},
    "RecallAtPrecision": {"precision": 0.6},
}
WEIGHTS = np.random.default_rng(1).uniform(0, 2, 8).astype("float32")
OPTIONS = [
    {},
    {"thresholds": [0.2, 0.8, 0.5]},
    {"thresholds": list(np.linspace(0, 1, 11))},
    {"top_k": 2},
    {"class_id": 1},
    {"top_k": 2, "thresholds": 0.3},
    {"k": 2},
    {"threshold": 0.4},
    {"average": "micro"},
    {"average": "weighted"},
    {"average": "macro", "threshold": 0.5},
    {"from_logits": True},
    {"label_smoothing": 0.1},
    {"curve": "PR"},
    {"curve": "PR", "summation_method": "minoring"},
    {"curve": "PRGAIN"},
    {"multi_label": True},
    {"multi_label": True, "curve": "PR", "label_weights": [1.0, 2.0, 3.0, 4.0, 5.0], "num_labels": 5},
    {"summation_method": "majoring", "num_thresholds": 20},
    {"label_weights": [1.0, 2.0, 3.0, 4.0, 5.0]},
    {"num_thresholds": 1, "class_id": 1},
    {"num_thresholds": 7, "class_id": None},
    {"class_aggregation": None},
    {"class_aggregation": "variance_weighted_average"},
    {"ignore_class": 1, "dtype": "float32", "sparse_y_pred": False},
    {"target_class_ids": [1], "threshold": 0.3},
]


def batch(name, rng, options):
    y_pred = rng.uniform(0.02, 0.98, (8, 5)).astype("float32")
    y_true = (rng.uniform(0, 1, (8, 5)) > 0.5).astype("float32")
    if "Sparse" in name:
        y_true = rng.integers(0, 5, (8,))
    elif "Categorical" in name or "OneHot" in name or name in ("F1Score", "FBetaScore"):
        y_true = np.eye(5, dtype="float32")[rng.integers(0, 5, 8)]
    elif name in ("IoU", "MeanIoU"):
        y_true = rng.integers(0, 5, (8,))
        y_pred = y_pred if "sparse_y_pred" in options else rng.integers(0, 5, (8,))
    elif name == "BinaryIoU":
        y_true, y_pred = y_true[:, 0], y_pred[:, 0]
    return y_true, y_pred * 4 - 2 if options.get("from_logits") else y_pred


def make(name, /, **options):
    return getattr(metrics, name)(**REQUIRED.get(name, {}) | options)


@pytest.mark.slow
def test_results_and_states_are_those_of_keras():
    rng, cases, pairs = np.random.default_rng(0), [], []
    for name, options in product(CLASSES, OPTIONS):
        cls = getattr(metrics, name)
        if set(options) <= set(inspect.signature(cls.__init__).parameters):
            weights = WEIGHTS.astype("int32") if "IoU" in name and not options.get("dtype") else WEIGHTS
            cases.append((name, options, [(*batch(name, rng, options), w) for w in (None, weights)]))
            pair = make(name, **options), getattr(keras.metrics, name)(**REQUIRED.get(name, {}) | options)
            if not pair[0].built:
                pair[0].build((8, 5), (8, 5))
                pair[1]._build((8, 5), (8, 5)) if name != "AUC" else pair[1]._build((8, 5))
            pairs.append(pair)

    @partial(jax.jit, static_argnums=0)  # one compilation for all cases of a library
    def states_and_results(which):
        outputs = []
        for (_, _, batches), pair in zip(cases, pairs, strict=True):
            state = pair[which].stateless_reset_state()
            for arguments in batches:
                state = pair[which].stateless_update_state(state, *arguments)
            outputs.append((state, pair[which].stateless_result(state)))
        return outputs

    ours, theirs = states_and_results(0), states_and_results(1)
    for case, pair, (state, result), (their_state, their_result) in zip(cases, pairs, ours, theirs, strict=True):
        message = f"{case[0]} {case[1]}"
        np.testing.assert_allclose(result, their_result, rtol=2e-5, atol=1e-6, err_msg=message)
        for value, expected in zip(state, their_state, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5, err_msg=message)
        for variable, expected in zip(pair[0].variables, pair[1].variables, strict=True):
            assert variable.name == expected.name and variable.dtype == expected.dtype, message
            assert not variable.trainable and not variable.autocast


def built_ones():
    """Every metric with a batch for it, and no NaN in what it results in."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        metric, (y_true, y_pred) = make(name), batch(name, rng, {})
        metric.build(y_true.shape, y_pred.shape) if not metric.built else None
        yield metric, y_true, y_pred


def with_rests(metric):
    return [*metric.variables, *(variable.rest for variable in metric.variables if hasattr(variable, "rest"))]


def update(metric, values, *arguments):
    with Scope(zip(with_rests(metric), values, strict=True)) as scope:
        metric.update_state(*arguments)
        return [scope.value_of(variable) for variable in with_rests(metric)]


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore:.*loses its fractions")
def test_every_metric_is_pure_and_only_adds_so_that_batches_can_be_computed_at_once():
    for metric, *arrays in built_ones():
        variables = with_rests(metric)
        specs = [jax.ShapeDtypeStruct(variable.shape, variable.dtype) for variable in variables]
        places = {id(variable): place for place, variable in enumerate(variables)}
        rests = {places[id(owner)]: places[id(owner.rest)] for owner in metric.variables if hasattr(owner, "rest")}
        for weights in ((), (WEIGHTS,)):
            with jax.checking_leaks():
                step = jax.make_jaxpr(partial(update, metric))(specs, *arrays, *weights)
            assert only_adds(step.jaxpr, 0, len(specs), rests), metric
        assert not any(np.any(variable.value) for variable in metric.variables), metric


@pytest.mark.slow
def test_results_are_the_same_without_jit():
    cases = list(built_ones())

    def results(batches):
        for (metric, *_), arrays in zip(cases, batches, strict=True):
            values = metric.stateless_reset_state()
            for _ in range(2):
                values = metric.stateless_update_state(values, *arrays)
            yield metric.stateless_result(values)

    expected = jax.jit(lambda batches: list(results(batches)))([tuple(arrays) for _, *arrays in cases])
    for (metric, *arrays), result in zip(cases, expected, strict=True):
        metric.update_state(*arrays)
        metric.update_state(*arrays)
        np.testing.assert_allclose(result, metric.result(), rtol=1e-5, atol=1e-6, err_msg=metric.name)
        metric.reset_state()
        assert not any(np.any(variable.value) for variable in metric.variables), metric


def test_sums_do_not_stall_in_half_precision():
    for metric in (metrics.Mean(dtype="bfloat16"), metrics.BinaryAccuracy(dtype="float16")):
        for _ in range(2):
            arguments = (np.ones(3000),) if type(metric) is metrics.Mean else (np.ones((3000, 1)),) * 2
            metric.update_state(*arguments)
        assert metric.count.dtype == "float32" and float(metric.count.value) == 6000 and float(metric.result()) == 1


@pytest.mark.medium
def test_mean_and_sum_with_weights_are_those_of_keras():
    rng = np.random.default_rng(0)
    for name, shape in product(("Mean", "Sum"), [(), (4,), (4, 3), (4, 3, 2)]):
        values = rng.normal(size=shape).astype("float32")
        for weights in (None, 0.3, rng.uniform(size=shape[:1]), rng.uniform(size=shape[:2]), rng.uniform(size=shape)):
            ours, theirs = getattr(metrics, name)(), getattr(keras.metrics, name)()
            ours.update_state(values, weights)
            theirs.update_state(values, weights)
            assert float(ours.result()) == pytest.approx(float(theirs.result()), rel=1e-5), (name, shape)
            for variable, expected in zip(ours.variables, theirs.variables, strict=True):
                np.testing.assert_allclose(variable.value, expected.value, rtol=1e-5)
    assert float(metrics.Mean().result()) == 0
    with pytest.raises(ValueError, match=r"mean: `sample_weight` of shape \(3,\) does not fit"):
        metrics.Mean().update_state(np.ones(4), np.ones(3))


def test_masks_count_as_weights():
    y_true, y_pred = np.zeros((2, 3, 1), "f"), jnp.asarray(np.arange(6, dtype="f").reshape(2, 3, 1))
    mask = jnp.asarray([[True, True, False], [True, False, False]])
    masks.set_mask(y_pred, mask)
    keras.src.backend.set_keras_mask(y_pred, mask)
    for weights in (None, np.float32([1, 2])):
        ours, theirs = metrics.MeanSquaredError(), keras.metrics.MeanSquaredError()
        ours.update_state(y_true, y_pred, None if weights is None else weights[:, None])
        theirs.update_state(y_true, y_pred, None if weights is None else weights[:, None])
        assert float(ours.result()) == pytest.approx(float(theirs.result()))
    ours = metrics.MeanSquaredError()
    assert float(ours(y_true, y_pred)) == pytest.approx((0 + 1 + 9) / 3)


@pytest.mark.medium
def test_values_by_hand():
    assert float(metrics.BinaryAccuracy()([0, 1, 1, 1], [0.2, 0.9, 0.4, 0.6])) == 0.75
    assert float(metrics.SparseCategoricalAccuracy()([[1], [0]], np.float32([[0.1, 0.9], [0.3, 0.7]]))) == 0.5
    assert float(metrics.Precision()([0, 1, 1, 1], [1, 0, 1, 1])) == pytest.approx(2 / 3)
    assert float(metrics.Recall()([0, 1, 1, 1], [1, 0, 1, 1])) == pytest.approx(2 / 3)
    assert float(metrics.AUC(num_thresholds=3)([0, 0, 1, 1], [0, 0.5, 0.3, 0.9])) == pytest.approx(0.75)
    assert float(metrics.RootMeanSquaredError()([[0.0], [0.0]], [[3.0], [4.0]])) == pytest.approx(np.sqrt(12.5))
    assert float(metrics.TruePositives(thresholds=0.5)([1, 1, 0], [0.6, 0.4, 0.9])) == 1
    ignoring = metrics.SparseCategoricalCrossentropy(ignore_class=-1)
    assert float(ignoring([0, -1], np.float32([[0.5, 0.5], [0.1, 0.9]]))) == pytest.approx(np.log(2), rel=1e-6)


@pytest.mark.medium
def test_auc_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    scores = np.clip(labels * 0.2 + rng.uniform(0, 0.8, 2000), 0, 1).astype("f")
    ours = metrics.AUC(num_thresholds=500)
    ours.update_state(labels, scores)
    assert float(ours.result()) == pytest.approx(roc_auc_score(labels, scores), abs=1e-4)


def test_shapes_that_do_not_fit_are_refused():
    for metric, true, pred, message in [
        (metrics.BinaryAccuracy(), (8,), (8, 4), "binary_accuracy: `y_true`"),
        (metrics.CategoricalAccuracy(), (8,), (8, 4), "'sparse_categorical_crossentropy'"),
        (metrics.SparseCategoricalAccuracy(), (8, 4), (8, 4), "use 'categorical_accuracy'"),
        (metrics.Precision(), (8,), (8, 4), "precision: `y_true`"),
        (metrics.F1Score(), (8, 2, 3), (8, 2, 3), r"f1_score: `y_pred` must have shape \(batch, classes\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            metric.update_state(np.zeros(true, "f"), np.zeros(pred, "f"))


def test_wrong_arguments_are_named():
    for make, message in [
        (lambda: metrics.Precision(thresholds=2.0), r"precision: `thresholds` must be in \[0, 1\]"),
        (lambda: metrics.AUC(curve="X"), "auc: `curve` must be one of"),
        (lambda: metrics.AUC(num_thresholds=1), "at least 2"),
        (lambda: metrics.F1Score(average="all"), "`average`"),
        (lambda: metrics.get("accurracy"), "Did you mean 'accuracy'"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


def test_plain_functions_become_metrics():
    def my_error(y_true, y_pred):
        return jnp.abs(y_true - y_pred)[..., 0]

    metric = metrics.as_metric(my_error)
    assert metric.name == "my_error" and float(metric(np.zeros((2, 1)), np.ones((2, 1)), [1.0, 3.0])) == 1
    assert metrics.as_metric("mse").name == "mse"
    assert isinstance(metrics.as_metric("mse"), metrics.MeanSquaredError)
    assert metrics.as_metric(None) is None
    own = metrics.Mean()
    assert metrics.as_metric(own) is own
    restored = metrics.deserialize(metrics.serialize(metrics.MeanMetricWrapper(metrics.mean_squared_error)))
    assert float(restored([[0.0]], [[2.0]])) == 4
    wrapper = metrics.MeanMetricWrapper(metrics.binary_accuracy, threshold=0.1)
    assert float(metrics.deserialize(metrics.serialize(wrapper))([1.0], [0.2])) == 1


def test_accuracy_and_crossentropy_are_chosen_by_shape():
    assert metrics.accuracy_for((8,), (8, 1)) is metrics.BinaryAccuracy
    assert metrics.accuracy_for((8, 1), (8, 1)) is metrics.BinaryAccuracy
    assert metrics.accuracy_for((8,), (8, 3)) is metrics.SparseCategoricalAccuracy
    assert metrics.accuracy_for((8, 1), (8, 3)) is metrics.SparseCategoricalAccuracy
    assert metrics.accuracy_for((8, 3), (8, 3)) is metrics.CategoricalAccuracy
    assert metrics.crossentropy_for((8, 3), (8, 3)) is metrics.CategoricalCrossentropy


def test_half_precision_predictions_are_averaged_in_float32():
    metric = metrics.MeanSquaredError()
    metric.update_state(np.zeros((1, 4096), "f"), jnp.full((1, 4096), 0.1, jnp.bfloat16))
    assert float(metric.result()) == pytest.approx(float(jnp.bfloat16(0.1)) ** 2, rel=1e-5)


def test_configs_are_those_of_keras():
    for name, options in product((*CLASSES, "Mean", "Sum"), [*OPTIONS, {"name": "mine"}]):
        cls = getattr(metrics, name)
        if not set(options) <= set(inspect.signature(cls.__init__).parameters):
            continue
        theirs = getattr(keras.metrics, name)(**REQUIRED.get(name, {}) | options)
        ours = make(name, **options)
        config, expected = ours.get_config(), theirs.get_config()
        assert set(config) == set(expected) | ({"axis"} if name == "CosineSimilarity" else set())
        skipped = {"label_weights"} if "label_weights" in options else set()  # a list here, an array there
        skipped |= set() if "name" in options else {"name"}  # which Keras numbers
        assert all(config[key] == value for key, value in expected.items() if key not in skipped), (name, options)
        assert metrics.deserialize(metrics.serialize(ours)).get_config() == config
        assert metrics.get(metrics.serialize(ours)).get_config() == config
        assert keras.metrics.deserialize(metrics.serialize(ours)).name == ours.name
        restored = metrics.deserialize(keras.metrics.serialize(theirs))
        assert type(restored) is cls
        again = restored.get_config()
        assert all(again[key] == value for key, value in expected.items() if key not in skipped), (name, options)


def test_every_name_of_keras_is_known():
    from keras.src.metrics import ALL_OBJECTS_DICT

    for name, theirs in ALL_OBJECTS_DICT.items():
        ours = metrics.METRICS.find(name) if theirs.__name__ != "Metric" else theirs
        assert ours.__name__ == theirs.__name__
        if "__init__" in vars(theirs) and theirs.__name__ not in (*REQUIRED, *ABSTRACT):
            assert type(metrics.get(name)) is ours and metrics.as_metric(name).name == name
    functions = [name for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))]
    for name in set(functions) & set(vars(keras.metrics)) - {"get", "serialize", "deserialize"}:
        wrapper = metrics.MeanMetricWrapper(getattr(metrics, name))
        theirs = keras.metrics.MeanMetricWrapper(getattr(keras.metrics, name))
        for config in (metrics.serialize(wrapper), keras.metrics.serialize(theirs)):
            assert metrics.deserialize(config)._fn is getattr(metrics, name)
            assert keras.metrics.deserialize(config)._fn is getattr(keras.metrics, name)


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore:.*loses its fractions")
def test_rows_without_weight_are_as_good_as_left_out():
    """An evaluation fills its last batch up with such rows."""
    num_checked = 0
    for metric, y_true, y_pred in built_ones():
        if not metric.tells_rows_apart(y_true, y_pred):
            continue
        half = len(y_true) // 2
        weights = jnp.asarray(np.arange(len(y_true)) < half, "float32")
        rows = np.minimum(np.arange(len(y_true)), half - 1)  # copies of the last row that counts
        start = metric.stateless_reset_state()
        filled = metric.stateless_update_state(start, y_true[rows], y_pred[rows], weights)
        alone = metric.stateless_update_state(start, y_true[:half], y_pred[:half])
        for one, two in zip(filled, alone, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6, err_msg=str(metric))
        num_checked += 1
    assert num_checked > 30
