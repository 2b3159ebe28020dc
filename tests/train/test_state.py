"""Who owns the arrays of a training state: nothing a user holds is donated, nothing unshared is copied."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers

X, Y = np.ones((40, 4), np.float32), np.ones((40, 3), np.float32)


@pytest.fixture(scope="module")
def model():
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(3)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(X, Y, verbose=0)
    return model


@pytest.mark.medium
def test_arrays_that_a_user_holds_survive_training(model):
    read = model.layers[0].kernel.value
    given = jnp.ones((3,))
    model.layers[0].bias.assign(given)
    before = np.array(read)
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(read, before)
    np.testing.assert_array_equal(given, np.ones(3))
    assert not np.array_equal(model.layers[0].kernel.value, before)


def test_arrays_that_nobody_else_holds_are_updated_in_place(model):
    model.fit(X, Y, verbose=0)  # from now on the model's arrays are its own
    where = model.layers[0].kernel._value.unsafe_buffer_pointer()
    model.fit(X, Y, verbose=0)
    assert model.layers[0].kernel._value.unsafe_buffer_pointer() == where


def test_the_state_tree_goes_out_and_comes_back(model):
    state = model.get_state_tree()
    assert set(state.metrics) == {"loss", "mae"} and "random_key" in state.state
    model.fit(X, Y, verbose=0)
    model.set_state_tree(state)
    jax.tree.map(np.testing.assert_array_equal, model.get_state_tree(), state)
    with pytest.raises(ValueError, match="another form"):
        model.set_state_tree(state._replace(metrics={}))


def test_frozen_weights_cost_no_optimizer_state():
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(5), layers.Dense(3)])
    model.compile("adam", "mse")
    model.layers[0].trainable = False
    state = model.get_state_tree()
    assert set(state.params) == {"dense_1"} and set(state.state) == {"dense", "random_key"}
    assert set(state.opt_state.slots.momentum) == {"dense_1"}


@pytest.mark.medium
def test_layers_made_untrainable_are_not_trained():
    frozen = layers.LSTM(3, trainable=False)
    model = kerax.Sequential([kerax.Input((2, 4)), frozen, layers.Dense(3)])
    model.compile("sgd", "mse")
    assert frozen.trainable_weights == [] and len(model.trainable_weights) == 2
    assert set(model.get_state_tree().params) == {"dense"}
    whole = kerax.Sequential([kerax.Input((4,)), layers.Dense(3)], trainable=False)
    whole.compile("sgd", "mse")
    before = whole.get_weights()
    whole.fit(X, Y, verbose=0)
    jax.tree.map(np.testing.assert_array_equal, whole.get_weights(), before)
    assert whole.trainable_weights == [] and len(whole.non_trainable_weights) == 2


def test_a_layer_unfrozen_inside_a_frozen_model_is_trained():
    base = kerax.Sequential([kerax.Input((4,)), layers.Dense(5), layers.Dense(5)])
    base.trainable = False
    base.layers[-1].trainable = True
    model = kerax.Sequential([kerax.Input((4,)), base, layers.Dense(3)])
    assert len(model.trainable_weights) == 4
