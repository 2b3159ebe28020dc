import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import Input, config, layers


def test_rescaling_makes_floats_of_integers():
    outputs = layers.Rescaling(1 / 255, offset=-0.5)(jnp.array([[0, 255]], jnp.uint8))
    np.testing.assert_allclose(outputs, [[-0.5, 0.5]], rtol=1e-6)
    assert outputs.dtype == "float32"


def test_adapt_finds_mean_and_variance(key):
    data = np.asarray(3 + 2 * jax.random.normal(key, (100, 4)))
    for source in (data, jnp.asarray(data), [data[:30], data[30:]], [(data[:99], None), (data[99:], None)]):
        layer = layers.Normalization()
        layer.adapt(source)
        np.testing.assert_allclose(layer.mean, data.mean(0, keepdims=True), rtol=1e-5)
        np.testing.assert_allclose(layer.variance, data.var(0, keepdims=True), rtol=1e-4)
        np.testing.assert_allclose(layer(data).std(0), 1, rtol=1e-4)


def test_adapt_is_seen_by_a_pure_call(key):
    data = np.asarray(jax.random.normal(key, (10, 2)))
    layer = layers.Normalization()
    layer.adapt(data)
    outputs, _ = jax.jit(layer.apply)(layer.variables_tree(), data)
    np.testing.assert_allclose(outputs, layer(data), rtol=1e-5)


def test_invert_undoes(key):
    data = jax.random.normal(key, (10, 2))
    there, back = (
        layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 9.0], invert=invert) for invert in (False, True)
    )
    np.testing.assert_allclose(back(there(data)), data, rtol=1e-5, atol=1e-6)


def test_one_statistic_for_all():
    layer = layers.Normalization(axis=None)
    layer.adapt(np.array([[1.0, 3.0], [5.0, 7.0]]))
    assert layer.adapt_mean.shape == ()
    assert float(layer.adapt_mean) == 4


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="must be given together"):
        layers.Normalization(mean=1.0)
    with pytest.raises(ValueError, match="`adapt` got no data"):
        layers.Normalization().adapt([])
    with pytest.raises(ValueError, match="Leave them out"):
        layers.Normalization(mean=1.0, variance=1.0).adapt(np.ones((2, 2)))
    layer = layers.Normalization()
    layer.build((None, 3))
    with pytest.raises(ValueError, match=r"data must have sizes \(3,\)"):
        layer.adapt(np.ones((2, 4)))


def test_scales_of_channels_that_come_first():
    keras = pytest.importorskip("keras")
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype("float32")
    try:
        for module in (config, keras.config):
            module.set_image_data_format("channels_first")
        expected = keras.layers.Rescaling([1.0, 2.0, 3.0], 0.5)(x)
        np.testing.assert_allclose(layers.Rescaling([1.0, 2.0, 3.0], 0.5)(x), expected, rtol=1e-6)
    finally:
        for module in (config, keras.config):
            module.set_image_data_format("channels_last")


def test_statistics_that_were_never_set_change_nothing_in_a_model_and_set_ones_work_on_symbols():
    """EfficientNet has such a layer, whose statistics come with its weights."""
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    layer = layers.Normalization()
    with pytest.raises(ValueError, match="statistics are not known yet"):
        layer(x)
    model = kerax.Sequential([Input((3,)), layer])
    np.testing.assert_array_equal(model(x), x)
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)
    layer.adapt(x)
    assert layer(Input((3,))).shape == (None, 3)
    np.testing.assert_allclose(np.std(layer(x), axis=0), 1, rtol=1e-5)


def test_an_adapted_normalization_stands_in_a_graph():
    data, layer, inputs = np.arange(6, dtype="f").reshape(3, 2), layers.Normalization(), kerax.Input((2,))
    layer.adapt(data)
    model = kerax.Model(inputs, layer(inputs))
    np.testing.assert_allclose(model.predict(data, verbose=0), layer(data), rtol=1e-6)
