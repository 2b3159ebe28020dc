import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers


@pytest.mark.medium
def test_batch_statistics_while_training_and_moving_ones_otherwise(key):
    layer = layers.BatchNormalization(momentum=0.9, epsilon=0.0)
    x = 3 + 2 * jax.random.normal(key, (50, 4))
    outputs = layer(x, training=True)
    np.testing.assert_allclose(outputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(outputs.var(0), 1, atol=1e-4)
    np.testing.assert_allclose(layer.moving_mean.value, 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.value, 0.9 + 0.1 * x.var(0), rtol=1e-5)
    moving = layer.get_weights()
    expected = (x - layer.moving_mean.value) / jnp.sqrt(layer.moving_variance.value)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(moving[2], layer.moving_mean.value)


def test_frozen_batch_normalization_is_in_inference_mode(key):
    layer = layers.BatchNormalization()
    x = jax.random.normal(key, (8, 4))
    layer(x)
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), layer(x))
    np.testing.assert_array_equal(layer.moving_mean.value, 0)


def test_pure_batch_normalization_returns_its_moving_statistics(key):
    layer = layers.BatchNormalization(momentum=0.0)
    x = jax.random.normal(key, (8, 4))
    variables = layer.init(key, x)
    _, state = jax.jit(lambda v: layer.apply(v, x, training=True))(variables)
    np.testing.assert_allclose(state["moving_mean"], x.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(variables["state"]["moving_mean"], 0)


def test_masked_steps_do_not_count():
    layer = layers.BatchNormalization(momentum=0.0)
    x = jnp.array([[[1.0], [3.0], [100.0]]])
    layer(x, training=True, mask=jnp.array([[True, True, False]]))
    np.testing.assert_allclose(layer.moving_mean.value, [2.0], rtol=1e-5)
    with pytest.raises(ValueError, match="`mask` must have the inputs' axes but the last"):
        layer(x, mask=jnp.ones(3, bool))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"axis": [1, 2]}, "`axis` must be an integer"),
        ({"momentum": 1.5}, "`momentum` must be between 0 and 1"),
        ({"renorm_clipping": {"max": 1}}, "`renorm_clipping` may hold"),
        ({"renorm_clipping": {"rmin": 2.0, "rmax": 1.0}}, "rmin <= rmax"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        layers.BatchNormalization(**kwargs)


@pytest.mark.medium
def test_half_precision_statistics_are_taken_in_single(key):
    x = (300 * jax.random.normal(key, (64, 256))).astype("float16")
    for layer in (layers.BatchNormalization, layers.LayerNormalization, layers.RMSNormalization):
        outputs = layer(dtype="mixed_float16")(x, training=True)
        assert outputs.dtype == "float16"
        assert np.isfinite(outputs).all()
        np.testing.assert_allclose(outputs.astype("float32").std(), 1, atol=0.05)


def test_layer_normalization_takes_each_sample_alone(key):
    x = 5 + jax.random.normal(key, (3, 4, 6))
    outputs = layers.LayerNormalization([1, 2], epsilon=0.0)(x)
    np.testing.assert_allclose(outputs.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(outputs.var((1, 2)), 1, atol=1e-4)
    with pytest.raises(ValueError, match="`axis` is out of range"):
        layers.LayerNormalization(3)(x)


def test_group_normalization_takes_each_group_alone(key):
    x = jax.random.normal(key, (2, 5, 6)) * jnp.arange(1.0, 7)
    outputs = layers.GroupNormalization(3, epsilon=0.0)(x).reshape(2, 5, 3, 2)
    np.testing.assert_allclose(outputs.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(outputs.var((1, 3)), 1, atol=1e-4)
    with pytest.raises(ValueError, match="a multiple of `groups`=4"):
        layers.GroupNormalization(4)(x)
    with pytest.raises(ValueError, match="`groups` must be"):
        layers.GroupNormalization(0)


def test_unit_normalization_gives_norms_of_one_and_keeps_zeros():
    outputs = layers.UnitNormalization()(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(outputs, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    with pytest.raises(TypeError, match="`axis` must be an integer or a list"):
        layers.UnitNormalization("last")
    with pytest.raises(ValueError, match="`axis` is out of range"):
        layers.UnitNormalization(3)(jnp.ones((1, 2)))


@pytest.mark.parametrize("name", ["LayerNormalization", "RMSNormalization"])
def test_a_built_layer_takes_other_ranks(name):
    import keras

    ours, theirs = getattr(layers, name)(), getattr(keras.layers, name)()
    x = np.random.default_rng(0).normal(size=(4, 2, 3, 2)).astype("float32")
    for layer in (ours, theirs):
        layer.build((2, 2, 2))
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="to have size 2"):
        ours(x[..., :1])


@pytest.mark.parametrize("name", ["LayerNormalization", "UnitNormalization"])
@pytest.mark.parametrize("axis", [-1, (1, 2), [1, 2]], ids=str)
def test_axes_are_kept_as_a_list_as_in_keras(name, axis):
    import keras

    found, expected = (getattr(library.layers, name)(axis).get_config()["axis"] for library in (kerax, keras))
    assert found == expected and isinstance(found, (int, list))
