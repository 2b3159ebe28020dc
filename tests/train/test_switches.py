"""Under JAX's own switches `fit`, `evaluate` and `predict` run, with the numbers they have without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers

SWITCHES = {
    "none": lambda: jax.debug_nans(False),
    "disable_jit": jax.disable_jit,
    "rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "dtype_promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "debug_nans": lambda: jax.debug_nans(True),
    "x64": lambda: jax.enable_x64(True),
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
}
RANDOM = np.random.default_rng(0)


def dense():
    inputs = kerax.Input((8,))
    x = layers.BatchNormalization()(layers.Dense(6, activation="relu")(inputs))
    return kerax.Model(inputs, layers.Dense(3, activation="softmax")(x)), "sparse_categorical_crossentropy"


def convolution():
    inputs = kerax.Input((6, 6, 2))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3, activation="relu")(inputs))
    return kerax.Model(inputs, layers.Dense(1, activation="sigmoid")(x)), "binary_crossentropy"


def recurrent():
    inputs = kerax.Input((5,))
    x = layers.LSTM(3)(layers.Embedding(7, 4, mask_zero=True)(inputs))
    return kerax.Model(inputs, layers.Dense(1)(x)), "mse"


def attention():
    inputs = kerax.Input((5, 4))
    x = layers.LayerNormalization()(inputs + layers.MultiHeadAttention(2, 2)(inputs, inputs))
    return kerax.Model(inputs, layers.Dense(2)(layers.Flatten()(x))), "mae"


DATA = {
    dense: (RANDOM.random((12, 8), "float32"), RANDOM.integers(0, 3, 12)),
    convolution: (RANDOM.random((12, 6, 6, 2), "float32"), RANDOM.integers(0, 2, (12, 1))),
    recurrent: (RANDOM.integers(0, 7, (12, 5)), RANDOM.random((12, 1), "float32")),
    attention: (RANDOM.random((12, 5, 4), "float32"), RANDOM.random((12, 2), "float32")),
}


def everything(make, switch: str) -> list:
    """Numbers of all loops; the model itself is made under the switch, too."""
    with SWITCHES[switch]():
        kerax.utils.set_random_seed(0)
        model, loss = make()
        metrics = ["accuracy"] if "crossentropy" in loss else ["mae"]
        model.compile(kerax.optimizers.SGD(0.01), loss, metrics=metrics)
        x, y = DATA[make]
        history = model.fit(x, y, batch_size=8, verbose=0, validation_split=0.25).history
        found = [*history.values(), model.evaluate(x, y, batch_size=8, verbose=0), model.predict(x, verbose=0)]
        found += [model.train_on_batch(x[:4], y[:4]), model.test_on_batch(x, y), model.predict_on_batch(x)]
        return [*found, np.asarray(model(x[:2])), *model.get_weights()]


@pytest.fixture(scope="module")
def plain():
    return {make: everything(make, "none") for make in DATA}


PAIRS = [(make, switch) for switch in SWITCHES for make in DATA if switch != "none"]
# Without compiled programs every operation is dispatched by itself.
SLOW = [(make, "disable_jit") for make in (attention, recurrent, convolution)]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("make", "switch"),
    [
        pytest.param(*pair, marks=pytest.mark.slow if pair in SLOW else (), id="-".join((pair[0].__name__, pair[1])))
        for pair in PAIRS
    ],
)
def test_the_numbers_are_those_without(plain, make, switch):
    for ours, expected in zip(everything(make, switch), plain[make], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.medium
def test_random_numbers_are_drawn_in_a_program_that_a_thread_compiles():
    with jax.enable_x64(True):
        model = kerax.Sequential([kerax.Input((8,)), layers.Dropout(0.1, seed=1), layers.Dense(1)])
        model.compile("sgd", "mse")
        assert np.isfinite(model.fit(DATA[dense][0], np.ones((12, 1)), batch_size=5, verbose=0).history["loss"]).all()


@pytest.mark.medium
def test_the_switches_of_the_user_hold_outside_and_afterwards():
    model, _ = dense()
    with jax.numpy_rank_promotion("raise"):
        model.predict(DATA[dense][0], verbose=0)
        with pytest.raises(ValueError, match="rank_promotion"):
            jnp.ones((2, 3)) + jnp.ones(3)
    with jax.transfer_guard("disallow"):
        model(DATA[dense][0])
        with pytest.raises(Exception, match="[Dd]isallowed"):
            jnp.sin(np.ones(3))
