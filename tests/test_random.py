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
        np.testing.assert_array_equal(draw(3), draw(jax.random.key(3)), err_msg=name)
        assert not np.array_equal(draw(3), draw(4)), name
    np.testing.assert_array_equal(DRAWS["normal"](3), DRAWS["normal"](jax.random.PRNGKey(3)))


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


def test_dropout_scales_broadcasts_and_keeps_the_dtype():
    dropped = random.dropout(np.ones((4, 5, 6), "float32"), 0.5, noise_shape=(None, 1, 6), seed=0)
    assert set(np.unique(dropped)) == {0, 2}
    np.testing.assert_array_equal(dropped, np.broadcast_to(dropped[:, :1], dropped.shape))
    assert random.dropout(jnp.ones(3, jnp.bfloat16), 0.5, seed=0).dtype == jnp.bfloat16
    np.testing.assert_array_equal(random.dropout(np.ones(3, "f"), 1.0, seed=0), np.zeros(3))
    np.testing.assert_array_equal(random.dropout(np.ones(3, "f"), 0.0), np.ones(3))


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
