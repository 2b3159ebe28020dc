"""Losses on lists of values, against Keras, and a training loop written with them."""

import jax
import numpy as np
import pytest

import kerax
from tests.pairs import make_pair

X = np.random.default_rng(0).normal(size=(8, 3)).astype("f")
Y = np.random.default_rng(1).normal(size=(8, 2)).astype("f")


def make(module):
    regularized = module.layers.Dense(4, "relu", kernel_regularizer="l2")
    model = module.Sequential(
        [module.Input((3,)), regularized, module.layers.BatchNormalization(), module.layers.Dense(2)]
    )
    model.compile("sgd", "mse")
    return model


def values(variables):
    return [variable.value for variable in variables]


def all_values(model):
    return tuple(map(values, (model.trainable_variables, model.non_trainable_variables, model.metrics_variables)))


@pytest.mark.medium
def test_losses_and_updates_are_those_of_keras():
    ours, theirs = make_pair(make)
    theirs.fit(X, Y, epochs=1, verbose=0)  # Keras makes its metrics then
    ours.set_weights(theirs.get_weights())
    results = []
    for model in (ours, theirs):
        given = (
            values(model.trainable_variables),
            values(model.non_trainable_variables),
            values(model.metrics_variables),
        )
        optimizer = values(model.optimizer.variables)
        loss, (unscaled, y_pred, frozen, _) = model.compute_loss_and_updates(
            *given, X, Y, None, training=True, optimizer_variables=optimizer
        )
        again, (weights, _, _) = model.stateless_compute_loss(*given, x=X, y=Y, y_pred=y_pred)
        results.append([loss, unscaled, y_pred, *[value for value in frozen if value.shape == (4,)]])
        assert weights is given[0] and np.isfinite(again)
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_a_loop_of_ones_own_learns():
    model = make(kerax)
    weights, frozen, metrics = all_values(model)
    before = [np.asarray(value) for value in weights]

    @jax.jit
    def step(weights, frozen):
        def loss_fn(weights):
            loss, (_, _, frozen_now, _) = model.compute_loss_and_updates(weights, frozen, metrics, X, Y, None, True)
            return loss, frozen_now

        (loss, frozen), grads = jax.value_and_grad(loss_fn, has_aux=True)(weights)
        return loss, [weight - 0.1 * grad for weight, grad in zip(weights, grads, strict=True)], frozen

    losses = []
    for _ in range(20):
        loss, weights, frozen = step(weights, frozen)
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
    for old, new in zip(before, values(model.trainable_variables), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.jax_state_sync() is None


def test_random_layers_take_a_key():
    model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dropout(0.5)])
    model.compile("sgd", "mse")
    given = all_values(model)
    outputs = [
        model.compute_loss_and_updates(*given, X, X, None, training=True, key=key)[1][1]
        for key in (jax.random.key(0), jax.random.key(0), jax.random.key(1))
    ]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])
    with pytest.raises(ValueError, match="expected 0 `trainable_variables`. Got 1"):
        model.compute_loss_and_updates([1], *given[1:], X, X, None)
