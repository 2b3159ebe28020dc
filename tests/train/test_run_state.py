"""What a call works with is kept until something in the model changes: then the next call sees it."""

import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core.tracking import descendants

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


class Own(kerax.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(3, activation="tanh"), layers.Dense(1)

    def call(self, inputs):
        return self.second(self.first(inputs))


def nested():
    inner = kerax.Sequential([kerax.Input((4,)), layers.Dense(3, activation="tanh")])
    return kerax.Sequential([kerax.Input((4,)), inner, layers.Dense(1)])


def shared():
    dense, x = layers.Dense(4), kerax.Input((4,))
    return kerax.Model(x, layers.Dense(1)(dense(dense(x))))


@pytest.fixture(params=[Own, nested, shared])
def model(request):
    kerax.utils.set_random_seed(0)
    model = request.param()
    model.compile("adam", "mse", metrics=["mae"])
    model.train_on_batch(X, Y)
    step(model)
    return model


def step(model):
    """Which weights a step changes."""
    before = [weight.numpy() for weight in model.weights]
    model.train_on_batch(X, Y)
    return [bool((one != weight.numpy()).any()) for one, weight in zip(before, model.weights, strict=True)]


@pytest.mark.medium
def test_freezing(model):
    assert all(step(model))
    layer = model.layers[0]
    layer.trainable = False
    changed = step(model)
    assert changed.count(False) == len(layer.weights) and not any(changed[: len(layer.weights)])
    model.trainable = False
    assert not any(step(model))
    model.trainable = True
    assert all(step(model))


@pytest.mark.medium
def test_compiled_anew(model):
    model.compile(kerax.optimizers.SGD(0.0), "mae", metrics=[])
    assert not any(step(model))
    loss = model.test_on_batch(X, Y)
    assert loss == pytest.approx(np.abs(model.predict_on_batch(X) - Y).mean(), rel=1e-5)
    model.optimizer.learning_rate = 0.1
    assert any(step(model))


def test_values_set_by_hand(model):
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    assert not model.predict_on_batch(X).any()
    assert model.test_on_batch(X, Y, return_dict=True)["loss"] == pytest.approx((Y**2).mean(), rel=1e-5)


@pytest.mark.medium
def test_metrics_compiled_later(model):
    model.compile("adam", "mse", metrics=["mae", "mse"])
    assert set(model.test_on_batch(X, Y, return_dict=True)) == {"loss", "mae", "mse"}
    assert len(model.train_on_batch(X, Y)) == 3 and all(step(model))


def test_low_rank_updates(model):
    layer = next(layer for layer in descendants(model) if isinstance(layer, layers.Dense))
    kernel = layer.kernel.numpy()
    layer.enable_lora(2)
    step(model)
    trained = [weight.path.rsplit("/", 1)[1] for weight in layer.trainable_weights]
    assert any("lora" in name for name in trained) and (np.asarray(layer.kernel) != kernel).any()


@pytest.mark.medium
def test_other_calls_between(model):
    for _ in range(2):
        model.fit(X, Y, verbose=0)
        before = model.test_on_batch(X, Y)
        assert model.evaluate(X, Y, verbose=0) == pytest.approx(before, rel=1e-5)
        assert all(step(model))
        np.testing.assert_allclose(model.predict_on_batch(X), model.predict(X, verbose=0), rtol=1e-6)
