import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.quantizers import lora

MAKE = {
    "Dense": (lambda L, **kw: L.Dense(3, **kw), jnp.ones((2, 4)), "kernel"),
    "EinsumDense": (lambda L, **kw: L.EinsumDense("abc,cde->abde", (None, 2, 3), **kw), jnp.ones((2, 5, 4)), "kernel"),
    "Embedding": (lambda L, **kw: L.Embedding(5, 4, **kw), jnp.array([[1, 2]]), "embeddings"),
    "Conv1D": (lambda L, **kw: L.Conv1D(3, 2, **kw), jnp.ones((2, 5, 4)), "kernel"),
    "Conv2D": (lambda L, **kw: L.Conv2D(4, 2, groups=2, **kw), jnp.ones((2, 4, 4, 2)), "kernel"),
    "ReversibleEmbedding": (lambda L, **kw: L.ReversibleEmbedding(5, 4, **kw), jnp.array([[1, 2]]), "embeddings"),
}


@pytest.mark.parametrize("name", MAKE)
def test_enabled_later_agrees_with_keras(name):
    import keras

    make, x, weight = MAKE[name]
    ours, theirs = make(layers), make(keras.layers)
    for layer in (ours, theirs):
        layer(x)
        layer.enable_lora(2, lora_alpha=6)
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [w.trainable for w in ours.weights] == [w.trainable for w in theirs.weights]
    assert not getattr(ours, "_" + weight).trainable
    generator = np.random.default_rng(0)
    values = [generator.normal(size=w.shape) for w in ours.weights]
    ours.set_weights(values)
    theirs.set_weights(values)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    assert {"lora_rank": 2, "lora_alpha": 6}.items() <= ours.get_config().items()
    assert set(ours.get_config()) <= set(theirs.get_config())


def test_alpha_scales_the_update():
    layer = layers.Dense(3, use_bias=False, lora_rank=2, lora_alpha=8)
    layer(jnp.ones((1, 4)))
    kernel, a, b = (np.asarray(w) + 1 for w in layer.get_weights())
    layer.set_weights([kernel, a, b])
    np.testing.assert_allclose(layer(jnp.eye(4)), kernel + 4 * a @ b, rtol=1e-5)


def test_files_hold_the_merged_weight_and_training_goes_on(tmp_path):
    import keras

    def make(module, **kwargs):
        return module.Sequential([module.Input((4,)), module.layers.Dense(3, **kwargs)])

    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model = make(kerax, lora_rank=2)
    model.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in model.weights])
    outputs, path = model(x), str(tmp_path / "w.weights.h5")
    model.save_weights(path)
    for other in (make(kerax), make(keras), make(kerax, lora_rank=2), make(keras, lora_rank=2)):
        other.load_weights(path)
        np.testing.assert_allclose(other(x), outputs, rtol=1e-5, atol=1e-5)
    model.load_weights(path)
    before = model.get_weights()
    model.compile("sgd", "mse")
    model.fit(x, x[:, :3], epochs=1, verbose=0)
    changed = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert changed == [False, True, False, True]  # kernel, bias, a (whose gradient is 0 while b is), b


@pytest.mark.medium
def test_attention_uses_the_update_of_its_projections():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4))
    layer = layers.MultiHeadAttention(2, 3)
    before = layer(x, x)
    layer.query_dense.enable_lora(1, b_initializer="ones")
    np.testing.assert_allclose(layer(x, x), layer(x, x + 0), rtol=1e-5, atol=1e-6)
    assert not np.allclose(layer(x, x), before)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: layers.Dense(2).enable_lora(2), "needs a built layer"),
        (lambda: layers.Dense(2, lora_rank=0), "`lora_rank` must be an integer of at least 1"),
        (lambda: layers.Dense(2, lora_rank=1, kernel_constraint="non_neg")(jnp.ones((1, 2))), "`kernel_constraint`"),
        (lambda: layers.Embedding(3, 2, embeddings_constraint="non_neg", lora_rank=1).build(), "embeddings_constraint"),
    ],
)
def test_mistakes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_lora_is_enabled_once():
    layer = layers.Dense(2, lora_rank=1)
    layer(jnp.ones((1, 2)))
    with pytest.raises(ValueError, match="already enabled, with rank 1"):
        layer.enable_lora(2)


@pytest.mark.parametrize("name", MAKE)
def test_the_attribute_reads_as_the_weight_that_is_used(name):
    make, x, weight = MAKE[name]
    layer = make(layers)
    layer(x)
    assert getattr(layer, weight) is getattr(layer, "_" + weight)
    layer.enable_lora(2, lora_alpha=4)
    layer.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in layer.weights])
    a, b = getattr(layer, f"lora_{weight}_a"), getattr(layer, f"lora_{weight}_b")
    merged = getattr(layer, "_" + weight).value + 2 * a.value @ b.value
    np.testing.assert_allclose(getattr(layer, weight), merged, rtol=1e-5, atol=1e-5)
    layer.quantize("int8")
    assert getattr(layer, "_" + weight).dtype == "int8" and getattr(layer, weight).dtype == "float32"
    np.testing.assert_allclose(getattr(layer, weight), merged, atol=0.1)


def _beside(base=None):
    x = jax.random.normal(jax.random.key(0), (2, 3, 4))
    layer = layers.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de")
    layer(x)
    if base is not None:
        layer.quantize(base)
    lora.enable(layer, 2, 8, "he_uniform", "ones", dtype="bfloat16", is_beside=True)
    return layer, x


@pytest.mark.medium
@pytest.mark.parametrize("base", [None, "int4"])
def test_an_update_beside_the_outputs_is_that_of_matrices(base):
    layer, x = _beside(base)
    a, b = layer.lora_kernel_a, layer.lora_kernel_b
    assert (a.shape, b.shape, a.stored_dtype) == ((4, 2), (2, 2, 4), "bfloat16")
    kernel = layer.representations["kernel"].base.value + 4 * jnp.einsum("cr,rde->cde", a.value, b.value)
    np.testing.assert_allclose(layer.kernel, kernel, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(layer(x), np.einsum("abc,cde->abde", x, kernel), rtol=1e-2, atol=5e-2)


def test_merging_keeps_the_outputs_and_forgets_the_update():
    layer, x = _beside()
    before = layer(x)
    lora.merge(layer)
    np.testing.assert_allclose(layer(x), before, rtol=1e-2, atol=1e-2)
    assert [weight.name for weight in layer.trainable_weights] == ["kernel", "bias"] and not layer.lora_enabled
    layer.enable_lora(2)  # and another one may follow
