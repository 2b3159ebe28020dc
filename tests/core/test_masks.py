"""Masks travel as the attribute `_keras_mask`, through layers, models and transformations."""

import gc
import warnings
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core import masks

TOKENS = jnp.array([[3, 1, 0, 0], [2, 4, 1, 0]])
KEPT = np.asarray(TOKENS) != 0


class Halving(kerax.Layer):
    """A user's layer that reads the attribute and sets it on its outputs, which have every second step."""

    def call(self, inputs):
        outputs = inputs[:, ::2] * 1.0
        if getattr(inputs, "_keras_mask", None) is not None:
            outputs._keras_mask = inputs._keras_mask[:, ::2]
        return outputs


@pytest.fixture(autouse=True)
def no_warnings():
    """A mask that is passed on is not warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def embedding():
    return layers.Embedding(5, 3, mask_zero=True)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.checkpoint], ids=["eager", "jit", "checkpoint"])
def test_a_users_layer_reads_and_sets_the_attribute(transform):
    model = kerax.Sequential([embedding(), Halving(), layers.GlobalAveragePooling1D()])
    model(TOKENS)
    variables = model.variables_tree()
    rows = np.asarray(variables["params"]["embedding"]["embeddings"])[np.asarray(TOKENS)][:, ::2]
    kept = KEPT[:, ::2, None]
    expected = (rows * kept).sum(1) / kept.sum(1)
    pure = transform(lambda variables, tokens: model.apply(variables, tokens)[0])
    np.testing.assert_allclose(pure(variables, TOKENS), expected, rtol=1e-5)


def test_arrays_and_tracers_have_the_attribute():
    array, mask = jnp.ones((2, 3)), jnp.array([[True, True, False]] * 2)
    assert not hasattr(array, "_keras_mask")
    array._keras_mask = mask
    assert masks.get_mask(array) is mask

    @jax.jit
    def traced(x):
        assert not hasattr(x, "_keras_mask") and masks.get_mask(x) is None
        x._keras_mask = x > 0
        kept = masks.get_mask(x)
        assert kept is x._keras_mask
        masks.set_mask(x, None)
        assert x._keras_mask is None
        return kept

    assert traced(array).all()


def test_what_takes_no_attributes_has_no_mask():
    array = np.ones(3)
    masks.set_mask(array, array > 0)
    assert masks.get_mask(array) is None


def test_symbolic_tensors_have_the_attribute():
    tensor = kerax.Input((4,))
    tensor._keras_mask = "mask"
    assert masks.get_mask(tensor) == "mask"


def build_nested(eye):
    inner = kerax.Sequential([layers.Dense(3), eye()])
    inputs = kerax.Input((4,), dtype="int32")
    return kerax.Model(inputs, inner(embedding()(inputs)))


def build_shared(eye):
    shared, first, second = eye(), kerax.Input((4,), dtype="int32"), kerax.Input((4,), dtype="int32")
    look = embedding()
    model = kerax.Model([first, second], [shared(look(first)), shared(look(second))])
    return lambda tokens: model([tokens, tokens])


@pytest.mark.parametrize("build", [build_nested, build_shared])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_masks_reach_layers_inside_models(build, transform):
    seen = []

    class Eye(kerax.Layer):
        def call(self, inputs, mask=None):
            seen.append(mask)
            return inputs if mask is None else jnp.where(mask[..., None], inputs, 0)

    model = build(Eye)
    outputs = transform(model)(TOKENS)
    for output in jax.tree.leaves(outputs):
        np.testing.assert_array_equal(np.asarray(output).any(-1), KEPT)
    assert all(mask is not None for mask in seen[-1:])


def test_a_carrier_takes_masks_through_transformations():
    x = jnp.arange(6.0).reshape(2, 3)
    masks.set_mask(x, x > 2)

    def double(carrier):
        tree = {"y": carrier.tree * 2}
        masks.set_mask(tree["y"], masks.get_mask(carrier.tree))
        return masks.Carrier(tree)

    for transform in (jax.jit, jax.checkpoint, jax.vmap, lambda f: jax.jit(jax.vmap(f))):
        y = transform(double)(masks.Carrier(x)).tree["y"]
        np.testing.assert_array_equal(y, 2 * x)
        np.testing.assert_array_equal(masks.get_mask(y), x > 2)

    def loss(scale):
        y = x * scale
        masks.set_mask(y, x > 2)
        return y.sum(), masks.Carrier([y, x[:, 0]])

    _, carrier = jax.grad(loss, has_aux=True)(2.0), jax.value_and_grad(loss, has_aux=True)(2.0)[0][1]
    np.testing.assert_array_equal(masks.get_mask(carrier.tree[0]), x > 2)
    assert masks.get_mask(carrier.tree[1]) is None


@pytest.mark.medium
def test_rematerialized_layers_get_and_give_masks(key):
    with kerax.RematScope("full"):
        model = kerax.Sequential([embedding(), layers.LSTM(2, return_sequences=True), layers.GlobalAveragePooling1D()])
    plain = kerax.Sequential([embedding(), layers.LSTM(2, return_sequences=True), layers.GlobalAveragePooling1D()])
    variables = plain.init(key, TOKENS)
    assert list(model.init(key, TOKENS)["params"]) == list(variables["params"])

    def gradient(model):
        return jax.jit(jax.grad(lambda params: model.apply({**variables, "params": params}, TOKENS)[0].sum()))

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        gradient(model)(variables["params"]),
        gradient(plain)(variables["params"]),
    )


def test_training_weighs_the_loss_by_the_mask_of_the_outputs():
    model = kerax.Sequential([embedding(), layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    targets = np.where(KEPT, 1.0, 100.0).astype("float32")[..., None]
    outputs = np.asarray(model(TOKENS))
    logs = model.train_on_batch(np.asarray(TOKENS), targets, return_dict=True)
    errors = np.abs(outputs - targets)[..., 0][KEPT]
    np.testing.assert_allclose(logs["mae"], errors.mean(), rtol=1e-5)


@pytest.mark.medium
def test_nothing_is_kept_alive():
    array, mask = jnp.ones((2, 3)) + 1, jnp.ones((2, 3)) > 0
    masks.set_mask(array, mask)
    alive = [weakref.ref(array), weakref.ref(mask)]
    del array, mask
    gc.collect()
    assert [reference() for reference in alive] == [None, None]

    tracers, before = [], len(masks._of_tracers)

    @jax.jit
    def traced(x):
        y = x * 2
        masks.set_mask(y, x > 0)
        tracers.extend([weakref.ref(y), weakref.ref(masks.get_mask(y))])
        return y

    with jax.checking_leaks():
        traced(jnp.ones(3))
    gc.collect()
    assert [reference() for reference in tracers] == [None, None]
    assert len(masks._of_tracers) <= before
