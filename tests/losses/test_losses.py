"""Losses: values and gradients against Keras over a grid, by hand, reductions, weights, masks, shapes, configs."""

import gc
import inspect
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from kerax import losses
from kerax.core import masks
from kerax.core.registry import register_keras_serializable

CLASSES = [
    name
    for name in losses.__all__
    if inspect.isclass(getattr(losses, name)) and name not in ("Loss", "LossFunctionWrapper")
]
OPTIONS = [
    {},
    {"from_logits": True},
    {"label_smoothing": 0.1},
    {"label_smoothing": 0.1, "from_logits": True},
    {"ignore_class": 2},
    {"delta": 0.2},
    {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5},
    {"alpha": 0.3, "beta": 0.9},
    {"q": 0.3},
    {"margin": 0.2, "gamma": 3.0, "remove_diagonal": False},
    {"reduction": "mean_with_sample_weight"},
]
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


def batch(name, rng, options, shape=(4, 5)):
    y_pred = rng.uniform(0.02, 0.98, shape).astype("float32")
    y_true = (rng.uniform(0, 1, shape) > 0.5).astype("float32")
    axis = options.get("axis", -1) if "Categorical" in name else -1
    labels = rng.integers(0, shape[axis], np.delete(shape, axis))
    if name == "CTC":
        return np.array([[1, 2], [2, 2], [1, 0], [0, 0]]), rng.normal(size=(4, 6, 3)).astype("float32")
    if name == "Circle":
        return np.array([0, 1, 0, 1]), np.asarray(jax.nn.standardize(y_pred) / shape[-1] ** 0.5)
    if "Sparse" in name or "Generalized" in name:
        y_true = labels
    elif "Categorical" in name:
        y_true = np.moveaxis(np.eye(shape[axis], dtype="float32")[labels], -1, axis)
    return y_true, y_pred * 8 - 4 if options.get("from_logits") else y_pred


def made(module, name, options):
    """A loss of either library. Keras's Tversky has its weights swapped, against its documentation and the paper."""
    if module is keras.losses and name == "Tversky":
        swapped = {"alpha": "beta", "beta": "alpha"}
        options = {swapped.get(key, key): value for key, value in options.items()}
    return getattr(module, name)(**options)


@pytest.mark.slow
def test_values_and_gradients_are_those_of_keras():
    rng, cases = np.random.default_rng(0), []
    for name, options in product(CLASSES, OPTIONS):
        if set(options) <= set(inspect.signature(getattr(losses, name).__init__).parameters):
            y_true, y_pred = batch(name, rng, options)
            has_weights = [False] if name in ("Dice", "Tversky") else [False, True]
            cases += [(name, options, y_true, y_pred, np.float32([0.1, 2, 0, 0.5]) if w else None) for w in has_weights]

    @partial(jax.jit, static_argnums=0)  # one compilation for all cases of a library
    def values_and_gradients(module):
        results = []
        for name, options, y_true, y_pred, weights in cases:
            loss = partial(lambda loss, y_true, w, y_pred: loss(y_true, y_pred, w), made(module, name, options))
            results.append(jax.value_and_grad(partial(loss, y_true, weights))(y_pred))
        return results

    ours, theirs = values_and_gradients(losses), values_and_gradients(keras.losses)
    for case, (value, gradient), (expected, expected_gradient) in zip(cases, ours, theirs, strict=True):
        message = f"{case[0]} {case[1]}"
        np.testing.assert_allclose(value, expected, rtol=5e-6, atol=1e-6, err_msg=message)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6, err_msg=message)


@pytest.mark.medium
def test_reductions_with_weights_and_masks_are_those_of_keras():
    rng = np.random.default_rng(1)
    y_true, y_pred = (jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32) for _ in range(2))
    mask = jnp.asarray(rng.uniform(size=(3, 4)) > 0.4)
    weights = jnp.asarray(rng.uniform(size=(3, 4)), jnp.float32)
    for reduction, has_mask, weight in product(REDUCTIONS, (False, True), (None, weights, weights[:, :1])):
        if has_mask:
            masks.set_mask(y_pred, mask)
            keras.src.backend.set_keras_mask(y_pred, mask)
        ours = losses.MeanSquaredError(reduction=reduction)(y_true, y_pred, weight)
        theirs = keras.losses.MeanSquaredError(reduction=reduction)(y_true, y_pred, weight)
        masks.set_mask(y_pred, None)
        if has_mask:
            del y_pred._keras_mask
        if reduction == "mean_with_sample_weight" and weight is not None and weight.shape == (3, 1):
            continue  # here Keras divides by the weights before they are broadcast
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, err_msg=f"{reduction} {has_mask}")


@pytest.mark.medium
def test_values_by_hand():
    y_true, y_pred = np.float32([[0, 1], [1, 0]]), np.float32([[0.5, 0.5], [0.8, 0.2]])
    assert float(losses.MeanSquaredError()(y_true, y_pred)) == pytest.approx((0.25 + 0.04) / 2)
    expected = -(np.log(0.5) + np.log(0.8)) / 2
    assert float(losses.CategoricalCrossentropy()(y_true, y_pred)) == pytest.approx(expected, rel=1e-6)
    assert float(losses.SparseCategoricalCrossentropy()([1, 0], y_pred)) == pytest.approx(expected, rel=1e-6)
    assert float(losses.BinaryCrossentropy()(y_true, y_pred)) == pytest.approx(expected, rel=1e-6)
    assert float(losses.Huber(delta=1.0)(np.float32([[0.0]]), np.float32([[3.0]]))) == pytest.approx(2.5)
    weighted = losses.MeanSquaredError(reduction="mean_with_sample_weight")(y_true, y_pred, [1.0, 3.0])
    assert float(weighted) == pytest.approx((0.25 + 3 * 0.04) / 4)


@pytest.mark.medium
def test_derivatives_of_labels_in_clipped_and_unscaled_probabilities_are_those_of_keras():
    certain, unscaled = np.eye(3)[:2], np.array([[0.2, 0.6, 1.2], [3.0, 1.0, 2.0]])
    y_pred = np.concatenate([certain, certain, unscaled, unscaled]).astype("float32")
    y_true = np.array([0, 1, 1, 2, 0, 2, -1, 3])

    def derivatives(module):
        loss = lambda y_pred: jnp.sum(module.sparse_categorical_crossentropy(y_true, y_pred) * jnp.arange(1.0, 9.0))
        return jax.value_and_grad(loss)(y_pred), jax.hessian(loss)(y_pred)

    for value, expected in zip(*map(jax.tree.leaves, map(derivatives, (losses, keras.losses))), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.medium
def test_crossentropies_are_finite_at_the_extremes():
    logits, targets = np.float32([[-1e4], [1e4]] * 2), np.float32([[0], [0], [1], [1]])
    loss = losses.BinaryCrossentropy(from_logits=True)
    value, gradient = jax.jit(jax.value_and_grad(lambda logits: loss(targets, logits)))(logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    for loss, y_true in (("categorical_crossentropy", [[1.0, 0.0]]), ("bce", [[1.0, 0.0]]), ("scce", [0])):
        both = jax.jit(jax.value_and_grad(lambda p: losses.as_loss(loss)(np.asarray(y_true), p)))  # noqa: B023
        for y_pred in (np.float32([[0, 1]]), np.float32([[1, 0]])):
            value, gradient = both(y_pred)
            assert np.isfinite(value) and np.isfinite(gradient).all()
    masked = np.float32([[0.0, 1.0, -np.inf]])
    value = losses.SparseCategoricalCrossentropy(from_logits=True)([1], masked)
    assert float(value) == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-6)
    cosine = jax.jit(jax.value_and_grad(lambda x: losses.CosineSimilarity()(np.ones((1, 3), "f"), x)))
    value, gradient = cosine(np.zeros((1, 3), "f"))
    assert float(value) == 0 and np.isfinite(gradient).all()


@pytest.mark.medium
def test_class_axis_may_be_elsewhere():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 5, 3)).astype("f"), rng.integers(0, 5, (2, 3))
    expected = losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits.transpose(0, 2, 1))
    actual = losses.SparseCategoricalCrossentropy(from_logits=True, axis=1)(labels, logits)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    one_hot = np.eye(5, dtype="f")[labels].transpose(0, 2, 1)
    actual = losses.CategoricalCrossentropy(from_logits=True, axis=1)(one_hot, logits)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_ignored_classes_do_not_count():
    y_pred = np.float32([[0.7, 0.3], [0.2, 0.8], [np.nan, 0.5]])
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    value, gradient = jax.jit(jax.value_and_grad(lambda p: loss(np.array([0, 1, -1]), p)))(y_pred)
    assert float(value) == pytest.approx(-(np.log(0.7) + np.log(0.8)) / 2, rel=1e-6)
    assert np.isfinite(gradient).all() and not np.any(gradient[2])


def test_ranks_that_differ_by_a_last_axis_of_1_are_matched():
    values = np.float32([1, 2, 4])
    for y_true, y_pred in [(values, values[:, None] + 1), (values[:, None], values + 1)]:
        assert float(losses.MeanSquaredError()(y_true, y_pred)) == 1
    probabilities = np.float32([[0.5, 0.5], [0.2, 0.8]])
    for labels in (np.array([0, 1]), np.array([[0], [1]]), np.float32([0, 1])):
        value = losses.SparseCategoricalCrossentropy()(labels, probabilities)
        assert float(value) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2, rel=1e-6)


@pytest.mark.parametrize(
    "loss, y_true, y_pred, message",
    [
        ("mse", (8, 1), (8, 4), r"mean_squared_error: .*\(8, 1\).*\(8, 4\).*1 unit"),
        ("mse", (8,), (8, 4), r"mean_squared_error: .*\(8,\).*\(8, 4\).*1 unit.*4 columns"),
        ("mae", (8, 3), (8, 4), "mean_absolute_error: .*last layer 3 unit"),
        ("huber", (7, 4), (8, 4), "huber: .*same number of samples"),
        ("bce", (8,), (8, 4), "binary_crossentropy: .*'sparse_categorical_crossentropy'.*1 unit"),
        ("categorical_crossentropy", (8,), (8, 4), "'sparse_categorical_crossentropy'.*to_categorical.*num_classes=4"),
        ("categorical_crossentropy", (8, 1), (8, 4), "'sparse_categorical_crossentropy'"),
        ("categorical_crossentropy", (8, 3), (8, 4), "last layer 3 units"),
        ("sparse_categorical_crossentropy", (8, 4), (8, 4), "one-hot: use 'categorical_crossentropy'.*argmax"),
        ("sparse_categorical_crossentropy", (8, 2), (8, 4), r"have shape \(8,\)"),
        ("sparse_categorical_crossentropy", (8, 5), (8, 6, 3), r"have shape \(8, 6\), each in \[0, 3\)"),
        ("kld", (8,), (8, 4), "kl_divergence"),
        ("ctc", (8,), (8, 6, 4), r"ctc: `y_true` has shape \(8,\).*\(batch, length\).*\(batch, frames, classes\)"),
        ("ctc", (8, 3), (8, 4), "ctc: .*logits"),
        ("ctc", (7, 3), (8, 5, 4), "ctc: .*of the same batch"),
        ("circle", (7,), (8, 4), r"circle: .*`y_true` \(batch,\)"),
        ("circle", (8,), (8, 4, 2), "circle: .*embeddings `y_pred`"),
        ("CategoricalGeneralizedCrossEntropy", (8, 4), (8, 4), "class indices"),
    ],
)
def test_shapes_that_would_only_broadcast_by_accident_are_refused(loss, y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        losses.as_loss(loss)(np.zeros(y_true, "float32"), np.zeros(y_pred, "float32"))


def test_weights_count_per_sample_whatever_the_rank():
    y_true, y_pred = np.zeros((3, 3, 2), "f"), np.arange(18, dtype="f").reshape(3, 3, 2)
    per_step = np.mean(y_pred**2, -1)
    weights = np.float32([1, 0, 2])
    expected = np.mean(per_step * weights[:, None])
    np.testing.assert_allclose(losses.MeanSquaredError()(y_true, y_pred, weights), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"mean_squared_error: `sample_weight` of shape \(4,\)"):
        losses.MeanSquaredError()(y_true, y_pred, np.ones(4))


def test_plain_functions_become_losses():
    def my_error(y_true, y_pred):
        return jnp.abs(y_true - y_pred)[..., 0]

    loss = losses.as_loss(my_error)
    assert loss.name == "my_error"
    assert float(loss(np.zeros((2, 1)), np.ones((2, 1)), [1.0, 3.0])) == 2
    assert losses.as_loss("mse").name == "mse"
    assert losses.as_loss(None) is None
    own = losses.Huber(0.5)
    assert losses.as_loss(own) is own
    whole = losses.as_loss(lambda y_true, y_pred: jnp.mean(y_pred))
    assert float(whole(np.zeros(2), np.ones(2))) == 1
    with pytest.raises(ValueError, match="one number for the whole batch"):
        whole(np.zeros(2), np.ones(2), np.ones(2))


@pytest.mark.medium
def test_half_precision_is_computed_in_float32():
    y_pred = jnp.full((1, 4096), 0.1, jnp.bfloat16)
    loss = losses.MeanSquaredError()(np.zeros((1, 4096), "f"), y_pred)
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(float(jnp.bfloat16(0.1)) ** 2, rel=1e-5)
    labels = losses.SparseCategoricalCrossentropy(dtype="bfloat16", reduction=None)(
        [257], np.eye(300, dtype="f")[257:258]
    )
    assert float(labels[0]) < 0.1


def test_configs_are_those_of_keras():
    extra = {"CosineSimilarity": {"axis"}, "Huber": {"delta"}, "SparseCategoricalCrossentropy": {"axis"}}
    for name, options in product(CLASSES, [*OPTIONS, {"reduction": "sum", "name": "mine"}]):
        if not set(options) <= set(inspect.signature(getattr(losses, name).__init__).parameters):
            continue
        ours, theirs = getattr(losses, name)(**options), getattr(keras.losses, name)(**options)
        config, expected = ours.get_config(), theirs.get_config()
        assert set(config) == set(expected) | extra.get(name, set())
        assert all(config[key] == value for key, value in expected.items())
        assert losses.deserialize(losses.serialize(ours)).get_config() == config
        assert losses.get(losses.serialize(ours)).get_config() == config
        assert keras.saving.deserialize_keras_object(losses.serialize(ours)).get_config() == expected
        restored = losses.deserialize(keras.losses.serialize(theirs))
        assert type(restored) is type(ours)
        assert all(restored.get_config()[key] == value for key, value in expected.items())


def test_every_name_of_keras_is_known():
    from keras.src.losses import ALL_OBJECTS_DICT

    for name, theirs in ALL_OBJECTS_DICT.items():
        if name not in ("Loss", "LossFunctionWrapper"):
            ours = losses.get(name)
            assert (type(ours) if inspect.isclass(theirs) else ours).__name__ == theirs.__name__
            assert inspect.isclass(theirs) or losses.deserialize(keras.losses.serialize(theirs)) is ours
            assert inspect.isclass(theirs) or losses.get(losses.serialize(ours)) is ours


def test_own_losses_and_wrappers_are_restored():
    @register_keras_serializable("tests")
    class Scaled(losses.Loss):
        def __init__(self, scale, **kwargs):
            super().__init__(**kwargs)
            self.scale = scale

        def call(self, y_true, y_pred):
            return self.scale * (y_true - y_pred) ** 2

    restored = losses.deserialize(losses.serialize(Scaled(3.0, reduction="sum")))
    assert float(restored(np.zeros(2), np.ones(2))) == 6 and restored.reduction == "sum"
    wrapped = losses.deserialize(losses.serialize(losses.LossFunctionWrapper(losses.huber, delta=0.5)))
    assert wrapped.fn is losses.huber and wrapped.fn_kwargs == {"delta": 0.5}
    theirs = keras.saving.serialize_keras_object(keras.src.losses.LossFunctionWrapper(keras.losses.huber, delta=0.5))
    for config in (theirs["config"], wrapped.get_config()):
        assert losses.LossFunctionWrapper.from_config(config).fn is losses.huber
        assert keras.src.losses.LossFunctionWrapper.from_config(config).fn is keras.losses.huber


def test_names_and_the_choice_of_crossentropy():
    assert losses.get("MSE") is losses.mean_squared_error
    assert isinstance(losses.get("Huber"), losses.Huber)
    with pytest.raises(ValueError, match="Did you mean 'sparse_categorical_crossentropy'"):
        losses.get("sparse_categorical_crossentrop")
    with pytest.raises(ValueError, match="`reduction` must be one of"):
        losses.MeanSquaredError(reduction="avg")
    assert losses.crossentropy_for((8,), (8, 1)) is losses.binary_crossentropy
    assert losses.crossentropy_for((8,), (8, 3)) is losses.sparse_categorical_crossentropy
    assert losses.crossentropy_for((8, 1), (8, 3)) is losses.sparse_categorical_crossentropy
    assert losses.crossentropy_for((8, 3), (8, 3)) is losses.categorical_crossentropy


@pytest.mark.medium
def test_ctc_by_hand():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), (1, 4))
    paths = np.indices((3,) * 4).reshape(4, -1).T  # all ways to label 4 frames with 3 classes
    for label in ([1, 2], [2, 2], [1, 0], [0, 0]):
        ends = [[c for c, before in zip(p, [None, *p], strict=False) if c not in (before, 0)] for p in paths.tolist()]
        fits = paths[[end == [c for c in label if c] for end in ends]]
        expected = -np.log(np.sum(np.prod(probabilities[0, np.arange(4), fits], axis=1)))
        actual = losses.ctc(np.array([label]), np.log(probabilities).astype("f"))
        np.testing.assert_allclose(actual, [expected], rtol=1e-5)


@pytest.mark.medium
def test_circle_counts_only_samples_with_positives_and_has_gradients_for_all():
    embeddings = np.float32([[1, 0], [0.8, 0.6], [0, 1]])
    loss, before = losses.Circle(gamma=2.0), len(masks._of_tracers)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: loss(np.array([0, 0, 1]), x)))(embeddings)
    circle, theirs = jax.jit(losses.circle, static_argnums=4), jax.jit(keras.losses.circle, static_argnums=4)
    each = circle(np.array([[0], [0], [1]]), embeddings, gamma=2.0)
    distance = 1 - embeddings @ embeddings.T
    positive = -2 * (0.4 + distance[0, 1]) * (0.4 - distance[0, 1])
    negative = 2 * np.maximum(1.4 - distance[0, 2], 0) * (0.6 - distance[0, 2])
    np.testing.assert_allclose(each[0], np.log1p(np.exp(positive + negative)), rtol=1e-5)
    assert float(each[2]) == 0 and float(value) == pytest.approx(float(each[0] + each[1]) / 2, rel=1e-6)
    assert np.isfinite(gradient).all() and np.any(gradient[2])
    gc.collect()
    assert len(masks._of_tracers) <= before  # none of a traced array, whose trace would stay in memory
    arguments = np.array([0, 0, 1]), embeddings, np.array([0, 1]), embeddings[1:], False
    np.testing.assert_allclose(circle(*arguments), theirs(*arguments), rtol=1e-5)
    with pytest.raises(ValueError, match="`ref_labels` and `ref_embeddings` belong together"):
        losses.circle(np.array([0, 0, 1]), embeddings, ref_labels=np.array([0]))


@pytest.mark.medium
def test_generalized_crossentropy_by_hand():
    y_pred = np.float32([[0.25, 0.75], [1, 0]])
    loss = losses.CategoricalGeneralizedCrossEntropy(q=0.5, reduction="none")
    for labels in (np.array([0, 1]), np.array([[0], [1]])):
        np.testing.assert_allclose(loss(labels, y_pred), [1, 2], rtol=1e-6)
    gradient = jax.grad(lambda p: jnp.sum(loss(np.array([0, 1]), p)))(y_pred)
    np.testing.assert_allclose(gradient, [[-2, 0], [0, 0]], rtol=1e-6)  # not infinite at 0
    with pytest.raises(ValueError, match="`q` must be above 0 and below 1. Got q=1"):
        losses.CategoricalGeneralizedCrossEntropy(q=1)
