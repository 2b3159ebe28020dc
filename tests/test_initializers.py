"""Initializers: distributions, fans, keys and seeds, configs that Keras reads."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from kerax import initializers
from kerax.core.seed_generator import SeedGenerator
from kerax.core.variable import Variable

RANDOM = ("RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "Orthogonal") + tuple(
    scheme + shape for scheme in ("Glorot", "He", "Lecun") for shape in ("Normal", "Uniform")
)
ALL = ("Zeros", "Ones", "Constant", "Identity", *RANDOM)


@pytest.mark.medium
def test_spread_and_range_are_those_of_keras(key):
    shape = (3, 3, 40, 60)
    cases = [(name, {}) for name in RANDOM if name != "Orthogonal"]
    cases += [
        ("VarianceScaling", {"scale": 3.0, "mode": mode, "distribution": distribution})
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("uniform", "truncated_normal", "untruncated_normal")
    ]
    cases += [("GlorotUniform", {"input_axes": [0, 2], "output_axes": [3]})]
    for name, options in cases:
        ours = np.asarray(getattr(initializers, name)(**options)(shape, key=key))
        theirs = np.asarray(getattr(keras.initializers, name)(**options, seed=1)(shape))
        message = f"{name} {options}"
        np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.02, err_msg=message)
        np.testing.assert_allclose(ours.mean(), 0, atol=0.03 * ours.std(), err_msg=message)
        if "untruncated" not in str(options) and name != "RandomNormal":
            np.testing.assert_allclose(np.abs(ours).max(), np.abs(theirs).max(), rtol=0.01, err_msg=message)


def test_fans_are_those_of_keras():
    from keras.src.initializers.random_initializers import compute_fans

    for shape in [(), (7,), (3, 4), (5, 3, 4), (2, 3, 4, 5), (2, 2, 2, 3, 4)]:
        assert initializers.compute_fans(shape) == compute_fans(shape)


def test_glorot_uniform_limit_by_hand(key):
    values = np.asarray(initializers.get("glorot_uniform")((100, 200), key=key))
    limit = np.sqrt(6 / 300)
    assert np.abs(values).max() <= limit and np.abs(values).max() > 0.99 * limit


def test_constants():
    np.testing.assert_array_equal(initializers.get("zeros")((2,)), [0, 0])
    np.testing.assert_array_equal(initializers.get("ones")((2,), "int32"), [1, 1])
    np.testing.assert_array_equal(initializers.Constant([1.0, 2.0])((3, 2)), [[1, 2]] * 3)
    np.testing.assert_array_equal(initializers.Identity(2.0)((2, 3)), 2 * np.eye(2, 3))
    with pytest.raises(ValueError, match="2 axes"):
        initializers.Identity()((2, 2, 2))


def test_orthogonal_has_orthonormal_rows_or_columns(key):
    for shape in [(6, 4), (4, 6), (3, 2, 4)]:
        values = np.asarray(initializers.Orthogonal(gain=2.0)(shape, key=key)).reshape(-1, shape[-1]) / 2
        product = values.T @ values if values.shape[0] >= values.shape[1] else values @ values.T
        np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-5)
    with pytest.raises(ValueError, match="at least 2 axes"):
        initializers.Orthogonal()((3,))


@pytest.mark.medium
def test_same_key_gives_the_same_bits_and_an_own_seed_wins(key):
    other = jax.random.key(1)
    for name in RANDOM:
        cls = getattr(initializers, name)
        drawn = cls()((4, 5), key=key)
        np.testing.assert_array_equal(drawn, cls()((4, 5), key=key))
        assert not np.array_equal(drawn, cls()((4, 5), key=other))
        seeded = cls(seed=7)
        np.testing.assert_array_equal(seeded((4, 5), key=key), seeded((4, 5), key=other))
    unseeded = initializers.GlorotUniform()
    assert not np.array_equal(unseeded((4, 5)), unseeded((4, 5)))


def test_a_seed_generator_is_mixed_into_the_weights_key(key):
    initializer = initializers.GlorotUniform(SeedGenerator(3))
    drawn = jax.jit(lambda key: initializer((2, 3), key=key))(key)
    np.testing.assert_array_equal(drawn, initializer((2, 3), key=key))
    assert not np.array_equal(drawn, initializers.GlorotUniform()((2, 3), key=key))
    restored = initializers.deserialize(initializers.serialize(initializer))
    np.testing.assert_array_equal(restored((2, 3), key=key), drawn)


@pytest.mark.medium
def test_half_precision_keeps_its_dtype(key):
    for name in ALL:
        assert getattr(initializers, name)()((4, 4), "bfloat16", key=key).dtype == jnp.bfloat16, name


def test_configs_are_those_of_keras():
    for name in ALL:
        ours, theirs = getattr(initializers, name)(), getattr(keras.initializers, name)()
        extra = {"gain": 1.0} if name == "Identity" else {}  # which Keras forgets
        assert ours.get_config() == theirs.get_config() | extra, name
        assert keras.initializers.deserialize(initializers.serialize(ours)).get_config() == theirs.get_config()
        restored = initializers.deserialize(keras.initializers.serialize(theirs))
        assert type(restored) is type(ours) and restored.get_config() == ours.get_config(), name
        assert type(ours.clone()) is type(ours)


def test_get_takes_names_functions_and_numbers():
    assert isinstance(initializers.get("he_normal"), initializers.HeNormal)
    assert isinstance(initializers.get(initializers.Ones), initializers.Ones)
    assert initializers.get(None) is None
    assert initializers.get(2.5).value == 2.5
    jax_initializer = jax.nn.initializers.lecun_normal()
    assert initializers.get(jax_initializer) is jax_initializer
    assert Variable(jax_initializer, (3, 4)).value.shape == (3, 4)
    with pytest.raises(ValueError, match="Did you mean 'zeros'"):
        initializers.get("zeross")


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`mode` must be one of"):
        initializers.VarianceScaling(mode="fan")
    with pytest.raises(ValueError, match="`distribution` must be one of"):
        initializers.VarianceScaling(distribution="flat")
    with pytest.raises(ValueError, match="`scale` must be above 0"):
        initializers.VarianceScaling(scale=0)
    with pytest.raises(ValueError, match="RandomNormal: `seed`"):
        initializers.RandomNormal(seed=1.5)


@pytest.mark.parametrize("side", ["real", "imag"])
def test_stft_kernels_are_those_of_keras(side):
    for options in (
        {},
        {"window": None},
        {"window": "hamming", "scaling": "spectrum", "periodic": True},
        {"window": np.arange(1.0, 9.0), "scaling": None},
    ):
        ours = initializers.STFT(side, **options)((8, 1, 5))
        theirs = keras.initializers.STFT(side, **options)((8, 1, 5), "float32")
        np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=str(options))
    assert initializers.STFT().get_config() == keras.initializers.STFT().get_config()
    assert isinstance(initializers.get("stft"), initializers.STFTInitializer)
    with pytest.raises(ValueError, match="`side`"):
        initializers.STFT("both")
    with pytest.raises(ValueError, match="`window` must have shape"):
        initializers.STFT(window=np.ones(3))((8, 1, 5))
