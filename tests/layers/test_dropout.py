import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import layers

ONES = jnp.ones((64, 32, 16))


@pytest.fixture(params=[layers.Dropout(0.25), layers.GaussianDropout(0.2), layers.GaussianNoise(0.5)], ids=str)
def noisy(request):
    return request.param


def test_noise_keeps_the_mean_and_has_its_variance(noisy, key):
    outputs, _ = noisy.apply({}, ONES, training=True, key=key)
    variance = {"Dropout": 1 / 3, "GaussianDropout": 0.25, "GaussianNoise": 0.25}[type(noisy).__name__]
    np.testing.assert_allclose(outputs.mean(), 1, atol=0.02)
    np.testing.assert_allclose(outputs.var(), variance, atol=0.02)


def test_noise_is_a_function_of_the_key(noisy, key):
    first, second, other = (noisy.apply({}, ONES, training=True, key=k)[0] for k in (key, key, jax.random.key(1)))
    assert (first == second).all()
    assert not (first == other).all()


def test_nothing_is_drawn_outside_training(noisy):
    assert noisy(ONES) is ONES
    assert noisy.apply({}, ONES, training=False)[0] is ONES


def test_training_without_a_key_is_refused(noisy):
    with pytest.raises(ValueError, match="was given no key"):
        noisy.apply({}, ONES, training=True)


def test_a_seed_gives_a_stream_that_is_part_of_the_state():
    def draw(seed):
        layer = layers.Dropout(0.5, seed=seed)
        return [layer(ONES[0], training=True) for _ in range(2)]

    first, second = draw(3)
    assert not (first == second).all()
    assert all((one == other).all() for one, other in zip((first, second), draw(3)))
    layer = layers.Dropout(0.5, seed=3)
    variables = layer.init(0, ONES[0])
    outputs, state = layer.apply(variables, ONES[0], training=True)
    assert (outputs == first).all()
    again, _ = layer.apply({"state": state}, ONES[0], training=True)
    assert (again == second).all()
    assert layer.get_weights() == []


def test_dropped_fraction_and_scale(key):
    outputs, _ = layers.Dropout(0.25).apply({}, ONES, training=True, key=key)
    np.testing.assert_allclose((outputs == 0).mean(), 0.25, atol=0.02)
    np.testing.assert_allclose(outputs.max(), 4 / 3, rtol=1e-6)
    assert (layers.Dropout(1.0).apply({}, ONES, training=True, key=key)[0] == 0).all()


def test_noise_shape_shares_the_draw(key):
    outputs, _ = layers.Dropout(0.5, noise_shape=(None, 1, None)).apply({}, ONES, training=True, key=key)
    assert (outputs == outputs[:, :1]).all()


def test_spatial_dropout_drops_whole_channels(key):
    outputs, _ = layers.SpatialDropout1D(0.5).apply({}, ONES, training=True, key=key)
    assert (outputs == outputs[:, :1]).all()
    images = jnp.ones((8, 4, 5, 6))
    last, _ = layers.SpatialDropout2D(0.5).apply({}, images, training=True, key=key)
    first, _ = layers.SpatialDropout2D(0.5, data_format="channels_first").apply({}, images, training=True, key=key)
    assert (last == last[:, :1, :1]).all()
    assert (first == first[:, :, :1, :1]).all()


@pytest.mark.parametrize("make", [layers.Dropout, layers.SpatialDropout1D, layers.GaussianDropout])
def test_rates_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="`rate` must be"):
        make(1.5)


def test_alpha_dropout_keeps_mean_and_variance_and_drops_to_the_lowest(key):
    x = jax.random.normal(key, (100, 1000))
    outputs, _ = layers.AlphaDropout(0.3).apply({}, x, training=True, key=key)
    assert abs(outputs.mean()) < 0.02 and abs(outputs.var() - 1) < 0.02
    values, counts = np.unique(np.asarray(outputs), return_counts=True)
    assert abs(counts.max() / x.size - 0.3) < 0.01 and values[counts.argmax()] < -1
    with pytest.raises(ValueError, match="`rate` must be at least 0 and below 1"):
        layers.AlphaDropout(1.0)


def built_attention(k, strength):
    layer = k.layers.MultiHeadAttention(1, 2, dropout=strength, seed=3)
    layer.build((1, 3, 2), (1, 3, 2))
    return layer


@pytest.mark.parametrize("strength", [0, 0.3])
@pytest.mark.parametrize(
    "make",
    [
        lambda k, strength: k.layers.Dropout(strength, seed=3),
        lambda k, strength: k.layers.SpatialDropout2D(strength, seed=3),
        lambda k, strength: k.layers.GaussianNoise(strength, seed=3),
        lambda k, strength: k.layers.GaussianDropout(strength, seed=3),
        lambda k, strength: k.layers.AlphaDropout(strength, seed=3),
        built_attention,
    ],
)
def test_what_draws_nothing_holds_no_state_as_in_keras(make, strength):
    ours, theirs = make(kerax, strength), make(keras, strength)
    assert len(ours.non_trainable_variables) == len(theirs.non_trainable_variables)
    assert ours.get_config()["seed"] == 3
