"""`compile(dtype=)`: mixed precision in one argument."""

import numpy as np
import pytest

import kerax
from kerax import layers


def functional():
    inputs = kerax.Input((8,))
    hidden = layers.BatchNormalization()(layers.Dense(16, activation="relu")(inputs))
    return kerax.Model(inputs, layers.Dense(1)(hidden))


def nested():
    return kerax.Sequential([kerax.Input((8,)), functional(), layers.Dense(1)])


class Subclass(kerax.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = layers.Dense(4), layers.Dense(1)

    def call(self, x):
        return self.last(self.hidden(x))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.random((64, 8), "float32"), rng.random((64, 1), "float32")


def trained(make, data, before=None, **options):
    kerax.utils.set_random_seed(0)
    kerax.config.set_dtype_policy(before or "float32")
    try:
        model = make()
        model.compile("adam", "mse", **options)
        return model, model.fit(*data, epochs=2, verbose=0).history["loss"]
    finally:
        kerax.config.set_dtype_policy("float32")


@pytest.mark.medium
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("make", [functional, nested, Subclass])
def test_it_is_as_a_policy_from_the_start(make, policy, data):
    _, expected = trained(make, data, policy)
    model, losses = trained(make, data, dtype=policy)
    assert losses == expected
    assert all(weight.dtype == "float32" for weight in model.trainable_weights)
    assert isinstance(model.optimizer, kerax.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")


@pytest.mark.medium
def test_it_can_be_taken_back_and_is_saved(data, tmp_path):
    model, _ = trained(functional, data, dtype="mixed_bfloat16")
    model.save(tmp_path / "model.keras")
    assert kerax.saving.load_model(tmp_path / "model.keras").layers[1].compute_dtype == "bfloat16"
    assert model.predict(data[0], verbose=0).dtype.name == "bfloat16"
    model.compile("adam", "mse", dtype="float32")
    assert model.predict(data[0], verbose=0).dtype == np.float32


@pytest.mark.medium
def test_layers_with_a_policy_of_their_own_keep_it(data):
    def make():
        return kerax.Sequential([kerax.Input((8,)), layers.Dense(4), layers.Dense(1, dtype="float16")])

    model, _ = trained(make, data, dtype="mixed_bfloat16")
    assert [layer.compute_dtype for layer in model.layers] == ["bfloat16", "float16"]


def test_weights_are_not_given_another_dtype(data):
    model = functional()
    with pytest.raises(ValueError, match="are there in float32. Give a mixed policy"):
        model.compile("adam", "mse", dtype="bfloat16")
    assert model.dtype_policy.name == "float32" and not model.compiled
    kerax.Sequential([layers.Dense(1)]).compile("adam", "mse", dtype="bfloat16")  # nothing is built yet
    with pytest.raises(ValueError):
        model.compile("adam", "mse", dtype="mixed_bfloat61")
