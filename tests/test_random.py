"""Random arrays: reproducible by key, distributions, pure inside a scope."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import random
from kerax.core.scope import Scope
from kerax.core.seeds import set_random_seed

pytestmark = pytest.mark.optimized

DRAWS = {
    "normal": lambda seed: random.normal((50, 60), 1.0, 2.0, seed=seed),
    "truncated_normal": lambda seed: random.truncated_normal((50, 60), 1.0, 2.0, seed=seed),
    "uniform": lambda seed: random.uniform((50, 60), -1.0, 3.0, seed=seed),
    "randint": lambda seed: random.randint((50, 60), 0, 3, seed=seed),
    "categorical": lambda seed: random.categorical(np.log([[0.5, 0.0001, 0.5]] * 2).astype("f"), 1500, seed=seed),
    "dropout": lambda seed: random.dropout(np.ones((50, 60), "f"), 0.25, seed=seed),
    "shuffle": lambda seed: random.shuffle(np.arange(3000.0), seed=seed),
    "gamma": lambda seed: random.gamma((50, 60), 2.0, seed=seed),
    "beta": lambda seed: random.beta((50, 60), 2.0, 2.0, seed=seed),
    "binomial": lambda seed: random.binomial((50, 60), 4.0, 0.5, seed=seed),
}
MEANS = {"normal": 1, "truncated_normal": 1, "uniform": 1, "randint": 1, "categorical": 1, "dropout": 1}
MEANS |= {"shuffle": 1499.5, "gamma": 2, "beta": 0.5, "binomial": 2}


@pytest.mark.slow
def test_an_integer_or_a_key_always_draws_the_same_bits(key):
    for name, draw in DRAWS.items():
        # The key that Keras makes of an integer.
        np.testing.assert_array_equal(draw(3), draw(np.array([3, 0], np.uint32)), err_msg=name)
        np.testing.assert_array_equal(draw(3), draw(random.SeedGenerator(3)), err_msg=name)
        assert not np.array_equal(draw(3), draw(4)), name
    np.testing.assert_array_equal(DRAWS["normal"](jax.random.key(3)), DRAWS["normal"](jax.random.PRNGKey(3)))


@pytest.mark.medium
def test_means_are_those_of_the_distributions():
    for name, draw in DRAWS.items():
        np.testing.assert_allclose(np.mean(draw(0)), MEANS[name], atol=0.12, rtol=0.03, err_msg=name)


def test_a_seed_generator_moves_on():
    generator = random.SeedGenerator(5)
    first, second = random.normal((3,), seed=generator), random.normal((3,), seed=generator)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, random.normal((3,), seed=random.SeedGenerator(5)))


def test_none_follows_the_process_wide_seed_and_the_scope(key):
    set_random_seed(1)
    first = random.uniform((3,))
    set_random_seed(1)
    np.testing.assert_array_equal(first, random.uniform((3,)))
    draws = []
    for _ in range(2):
        with Scope(key=key):
            draws.append((random.uniform((3,)), random.uniform((3,))))
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(*draws[0])
    with Scope(), pytest.raises(ValueError, match="Pass `key="):
        random.uniform((3,))


@pytest.mark.medium
def test_dropout_scales_broadcasts_and_keeps_the_dtype():
    dropped = random.dropout(np.ones((4, 5, 6), "float32"), 0.5, noise_shape=(None, 1, 6), seed=0)
    assert set(np.unique(dropped)) == {0, 2}
    np.testing.assert_array_equal(dropped, np.broadcast_to(dropped[:, :1], dropped.shape))
    assert random.dropout(jnp.ones(3, jnp.bfloat16), 0.5, seed=0).dtype == jnp.bfloat16
    np.testing.assert_array_equal(random.dropout(np.ones(3, "f"), 1.0, seed=0), np.zeros(3))
    np.testing.assert_array_equal(random.dropout(np.ones(3, "f"), 0.0), np.ones(3))


@pytest.mark.medium
def test_dtypes():
    assert random.normal((2,), dtype="bfloat16", seed=0).dtype == jnp.bfloat16
    assert random.binomial((2,), 300.0, 1.0, dtype="float32", seed=0)[0] == 300
    assert random.randint((2,), 0, 5, seed=0).dtype == jnp.int32


def test_a_stream_gives_the_keys_of_keras():
    ours, theirs = kerax.random.SeedGenerator(42), keras.random.SeedGenerator(42)
    for _ in range(3):
        found, expected = ours.next(), theirs.next()
        np.testing.assert_array_equal(found, expected)
    assert found.dtype == "uint32" and jax.random.normal(found, (2,)).shape == (2,)
    np.testing.assert_allclose(
        kerax.random.normal((3,), seed=kerax.random.SeedGenerator(7)),
        keras.random.normal((3,), seed=keras.random.SeedGenerator(7)),
    )
    np.testing.assert_array_equal(kerax.random.uniform((3,), seed=found), kerax.random.uniform((3,), seed=found))
    for wrong in (1.5, "seed", np.float32(1)):
        with pytest.raises(ValueError, match="seed"):
            kerax.random.normal((2,), seed=wrong)


@pytest.mark.medium
@pytest.mark.parametrize("library", [keras, kerax])
def test_a_stream_in_a_layer_moves_on_by_every_way_to_run_it(library):
    class Noise(library.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.generator = library.random.SeedGenerator(7)

        def call(self, inputs):
            return inputs + library.random.normal(library.ops.shape(inputs), seed=self.generator)

    model = library.Sequential([library.Input((2,)), Noise()])
    model.compile("sgd", "mse")
    x = np.zeros((6, 2), "float32")
    stream = model.layers[-1].generator.state
    draws = {
        "predict": lambda: model.predict(x, batch_size=2, verbose=0),
        "evaluate": lambda: model.evaluate(x, x, batch_size=2, verbose=0),
        "predict_on_batch": lambda: model.predict_on_batch(x),
        "test_on_batch": lambda: model.test_on_batch(x, x),
        "fit": lambda: model.fit(x, x, batch_size=2, verbose=0),
        "train_on_batch": lambda: model.train_on_batch(x, x),
        "call": lambda: model(x),
    }
    first = draws["predict"]()
    assert not np.allclose(first, draws["predict"]()) and not np.allclose(first[:2], first[2:4])
    for name, draw in draws.items():
        before = int(stream.numpy()[1])
        draw()
        assert stream.numpy()[1] - before == (3 if name in ("predict", "evaluate", "fit") else 1), name


OF_KERAS = {
    "normal": lambda k: k.random.normal((3,), np.array([0.0, 1.0, 100.0]), 2.0, seed=3),
    "truncated_normal": lambda k: k.random.truncated_normal((2, 2), seed=3),
    "uniform": lambda k: k.random.uniform((2,), np.array([0.0, 5.0]), 6.0, seed=3),
    "randint": lambda k: k.random.randint((4,), 0, 100, dtype="int8", seed=3),
    "categorical": lambda k: k.random.categorical(np.log([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]), 5, seed=3),
    "dropout": lambda k: k.random.dropout(np.ones((2, 4), "float32"), 0.5, (2, 1), seed=3),
    "shuffle": lambda k: k.random.shuffle(np.arange(6), seed=3),
    "gamma": lambda k: k.random.gamma((2, 2), np.array([[1.0, 2.0]]), seed=3),
    "beta": lambda k: k.random.beta((2, 3), [[7.0, 0.5, 1.5]], [[1.0], [2.0]], seed=3),
    "binomial": lambda k: k.random.binomial((2, 2), [[10.0, 20.0], [3.0, 4.0]], [[0.5, 0.2], [0.1, 0.9]], seed=3),
    "initializer": lambda k: k.initializers.HeNormal(seed=3)((3, 2)),
    "layer": lambda k: k.layers.Dense(2, kernel_initializer=k.initializers.GlorotUniform(3))(np.ones((1, 3))),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", OF_KERAS)
def test_an_integer_gives_the_numbers_of_keras(name):
    expected, found = (np.asarray(OF_KERAS[name](library)) for library in (keras, kerax))
    assert expected.dtype == found.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "draw",
    [
        lambda k: k.random.randint((2,), 0, 5, dtype="float32"),
        lambda k: k.random.randint((2,), 0, 5, dtype="bool"),
        lambda k: k.random.categorical(np.ones(5), 3),
        lambda k: k.random.categorical(np.ones((2, 3, 5)), 3),
        lambda k: k.random.uniform((2,), dtype="int32"),
        lambda k: k.random.normal((2,), seed="three"),
    ],
)
def test_what_cannot_be_drawn_is_refused_as_in_keras(draw):
    for library in (keras, kerax):
        with pytest.raises(ValueError):
            draw(library)


@pytest.mark.medium
@pytest.mark.parametrize("ones", [kerax.Variable(np.ones(3, "float32")), [1.0, 1.0, 1.0], 1.0])
def test_arguments_may_be_variables_lists_or_numbers(ones):
    twos = 2.0 * np.asarray(ones)
    for values in (
        kerax.random.uniform((3,), ones, twos, seed=1),
        kerax.random.normal((3,), ones, twos - 2, seed=1),
        kerax.random.binomial((3,), ones, ones, seed=1),
        kerax.random.randint((3,), ones, twos, seed=1),
        kerax.random.gamma((3,), ones, seed=1) * 0 + 1,
        kerax.random.beta((3,), ones, twos, seed=1) + 1,
    ):
        assert values.shape == (3,) and np.all((values >= 1) & (values < 2))
