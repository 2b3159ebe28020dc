import keras
import numpy as np
import pytest

import kerax
from tests.pairs import make_pair

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(20, 3)).astype("float32")
Y = (X @ np.array([[1.0], [2.0], [-1.0]])).astype("float32")


def make(module, **arguments):
    model = module.Sequential([module.Input((3,)), module.layers.Dense(1)])
    model.compile(module.optimizers.SGD(0.05, **({"use_ema": True, "ema_momentum": 0.8} | arguments)), "mse")
    return model


def saver(module, weights):
    """A callback that keeps the model's weights at the end of each epoch."""

    class Save(module.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weights.append(self.model.get_weights())

    return Save()


@pytest.mark.medium
@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_validation_and_saved_weights_are_those_of_keras(swap_on_epoch):
    found = []
    for module, model in zip((kerax, keras), make_pair(make)):
        saved = []
        callbacks = [module.callbacks.SwapEMAWeights(swap_on_epoch), saver(module, saved)]
        fit = dict(epochs=3, batch_size=4, shuffle=False, verbose=0, validation_data=(X, Y), callbacks=callbacks)
        found.append((model.fit(X, Y, **fit).history, saved, model.get_weights()))
    ours, theirs = found
    for name, values in theirs[0].items():
        np.testing.assert_allclose(ours[0][name], values, rtol=1e-4, err_msg=name)
    for mine, other in zip((*ours[1], ours[2]), (*theirs[1], theirs[2])):
        for one, two in zip(mine, other):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


@pytest.fixture
def trained():
    """A model in which weights and average differ, as in the middle of training."""
    model = make(kerax)
    model.fit(X, Y, verbose=0)
    model.set_weights([weight + 1 for weight in model.get_weights()])
    return model


@pytest.mark.medium
def test_training_goes_on_with_its_own_weights(trained):
    other = make(kerax)
    other.set_state_tree(trained.get_state_tree())
    fit = dict(epochs=3, batch_size=4, shuffle=False, verbose=0, validation_data=(X, Y))
    swapped = trained.fit(X, Y, **fit, callbacks=[kerax.callbacks.SwapEMAWeights(swap_on_epoch=True)]).history
    plain = other.fit(X, Y, **fit).history
    np.testing.assert_array_equal(swapped["loss"], plain["loss"])
    assert np.all(np.array(swapped["val_loss"]) != plain["val_loss"])
    np.testing.assert_array_equal(trained.get_weights()[0], other.get_weights()[0])


def test_evaluate_and_predict_use_the_average_and_put_the_weights_back(trained):
    weights = trained.get_weights()
    average = [np.asarray(variable.value) for variable in trained.optimizer.state_variables.average["dense"].values()]
    kernel, bias = sorted(average, key=np.ndim, reverse=True)
    callback = kerax.callbacks.SwapEMAWeights()
    outputs = trained.predict(X, verbose=0, callbacks=[callback])
    np.testing.assert_allclose(outputs, X @ kernel + bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(trained.get_weights()[0], weights[0])
    loss = trained.evaluate(X, Y, verbose=0, callbacks=[callback])
    assert loss == pytest.approx(float(np.mean((X @ kernel + bias - Y) ** 2)), rel=1e-4)
    np.testing.assert_array_equal(trained.get_weights()[0], weights[0])


def test_weights_come_back_after_an_error(trained):
    class Fail(kerax.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    weights = trained.get_weights()
    with pytest.raises(KeyboardInterrupt):
        trained.evaluate(X, Y, verbose=0, callbacks=[kerax.callbacks.SwapEMAWeights(), Fail()])
    np.testing.assert_array_equal(trained.get_weights()[0], weights[0])


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_training_that_ends_early_ends_with_the_average(swap_on_epoch):
    class Stop(kerax.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    model, other = make(kerax), make(kerax)
    other.set_weights(model.get_weights())
    fit = dict(batch_size=4, shuffle=False, verbose=0)
    model.fit(X, Y, epochs=9, callbacks=[kerax.callbacks.SwapEMAWeights(swap_on_epoch), Stop()], **fit)
    other.fit(X, Y, epochs=2, **fit)
    for state in ("params", "opt_state"):
        mine, theirs = getattr(model.get_state_tree(), state), getattr(other.get_state_tree(), state)
        for one, two in zip(kerax.tree.flatten(mine), kerax.tree.flatten(theirs)):
            np.testing.assert_array_equal(one, two)


def test_before_the_first_step_the_weights_stay():
    model = make(kerax)
    expected = model.predict(X, verbose=0)
    outputs = model.predict(X, verbose=0, callbacks=[kerax.callbacks.SwapEMAWeights()])
    np.testing.assert_array_equal(outputs, expected)


def test_an_optimizer_without_an_average_is_refused():
    model = make(kerax, use_ema=False)
    with pytest.raises(ValueError, match="SwapEMAWeights.*use_ema=True"):
        model.fit(X, Y, verbose=0, validation_data=(X, Y), callbacks=[kerax.callbacks.SwapEMAWeights()])
