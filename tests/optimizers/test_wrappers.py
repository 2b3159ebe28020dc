"""`LossScaleOptimizer`: the scale, skipped steps, and training in float16."""

import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import dtype_policies
from kerax.optimizers import LossScaleOptimizer


def run(module, gradients, inner="SGD", inner_arguments=None, **arguments):
    """Weights, scale and iterations after each step, by the pure functions of both libraries."""
    inner = getattr(module.optimizers, inner)(**(inner_arguments or {"learning_rate": 1.0}))
    optimizer = module.optimizers.LossScaleOptimizer(inner, **arguments)
    variable = module.Variable(np.array([1.0, 2.0], "float32"), name="w")
    optimizer.build([variable])
    names = [v.path.split("/")[-1] for v in optimizer.variables]
    params, values, seen = [variable.value], [v.value for v in optimizer.variables], []
    step = jax.jit(optimizer.stateless_apply)
    for gradient in gradients:
        out = step(values, [jnp.asarray(gradient)], params)
        params, values = out if module is kerax else (out[0], out[1])
        seen.append([*params[0], values[names.index("dynamic_scale")], values[4]])
    return np.array(seen)


@pytest.mark.parametrize(
    "arguments",
    [
        dict(initial_scale=4.0, dynamic_growth_steps=2),
        dict(initial_scale=1.0, dynamic_growth_steps=1),
        dict(initial_scale=8.0, inner="Adam", inner_arguments=dict(learning_rate=0.1, clipnorm=0.5)),
        dict(initial_scale=8.0, inner_arguments=dict(learning_rate=0.1, use_ema=True, ema_overwrite_frequency=2)),
    ],
)
def test_scale_and_weights_are_those_of_keras(arguments):
    gradients = [[4.0, 1.0]] * 3 + [[np.nan, 1.0], [4.0, np.inf]] + [[4.0, 2.0]] * 5
    np.testing.assert_allclose(run(kerax, gradients, **arguments), run(keras, gradients, **arguments), rtol=1e-5)


@pytest.mark.medium
def test_a_skipped_step_halves_the_scale_and_changes_nothing_else():
    optimizer = LossScaleOptimizer(kerax.optimizers.Adam(0.1, use_ema=True), initial_scale=16.0)
    params = {"w": jnp.ones(2)}
    params, state = optimizer.update({"w": jnp.ones(2)}, optimizer.init(params), params)
    new, skipped = optimizer.update({"w": jnp.array([1.0, jnp.inf])}, state, params)
    np.testing.assert_array_equal(new["w"], params["w"])
    jax.tree.map(np.testing.assert_array_equal, skipped.slots.inner, state.slots.inner)
    assert float(skipped.slots.dynamic_scale) == 8.0 and int(skipped.slots.step_counter) == 0
    assert int(skipped.iterations) == 2 and int(skipped.slots.inner.iterations) == 1


@pytest.mark.parametrize("start, gradient", [(3e38, 0.0), (1e-38, np.nan)])
def test_the_scale_never_leaves_where_it_can_come_back_from(start, gradient):
    optimizer = LossScaleOptimizer(kerax.optimizers.SGD(0.1), initial_scale=start, dynamic_growth_steps=1)
    params = {"w": jnp.ones(1)}
    state = optimizer.init(params)
    for _ in range(3):
        params, state = optimizer.update({"w": jnp.full(1, gradient, jnp.float32)}, state, params)
        assert 0 < float(state.slots.dynamic_scale) < np.inf
    params, state = optimizer.update({"w": jnp.zeros(1)}, state, params)
    assert int(state.slots.inner.iterations) > 0


def test_the_loss_is_scaled_by_the_state_given_or_by_the_own_variables():
    optimizer = LossScaleOptimizer(kerax.optimizers.SGD(0.1, loss_scale_factor=3.0), initial_scale=4.0)
    assert float(optimizer.scale_loss(2.0)) == 8.0  # the inner optimizer's own factor is taken away
    params = {"w": jnp.ones(1)}
    _, state = optimizer.update({"w": jnp.full(1, jnp.nan)}, optimizer.init(params), params)
    assert float(optimizer.scale_loss(2.0, state)) == 4.0
    variable = kerax.Variable(np.ones(1, "float32"))
    optimizer.apply([np.full(1, np.inf, "float32")], [variable])
    assert float(optimizer.scale_loss(2.0)) == 4.0
    optimizer.apply([np.full(1, float(optimizer.scale_loss(1.0)), "float32")], [variable])
    np.testing.assert_allclose(variable.numpy(), 0.9)  # the gradient of the loss itself is 1
    assert int(optimizer.iterations) == 1


def test_the_learning_rate_is_the_inner_one_and_can_be_set_in_training():
    inner = kerax.optimizers.SGD(0.5)
    optimizer = LossScaleOptimizer(inner)
    optimizer.learning_rate = 0.25
    assert float(inner.learning_rate) == float(optimizer.learning_rate) == 0.25

    class Halve(kerax.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.25 * 0.5**epoch

    model = kerax.Sequential([kerax.Input((1,)), kerax.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(optimizer, lambda y, y_pred: y_pred)
    model.fit(np.ones((2, 1)), np.ones((2, 1)), batch_size=2, epochs=3, verbose=0, callbacks=[Halve()])
    np.testing.assert_allclose(model.get_weights()[0], [[-(0.25 + 0.125 + 0.0625)]], rtol=1e-6)
    assert int(optimizer.iterations) == 3 and int(optimizer.dynamic_scale) == 2**15


@pytest.mark.medium
def test_float16_training_recovers_from_a_scale_that_is_too_large():
    model = kerax.Sequential(
        [kerax.Input((4,)), kerax.layers.Dense(8, dtype="mixed_float16"), kerax.layers.Dense(1, dtype="mixed_float16")]
    )
    optimizer = kerax.optimizers.for_policy(kerax.optimizers.Adam(0.01), dtype_policies.get("mixed_float16"))
    model.compile(LossScaleOptimizer(optimizer.inner_optimizer, initial_scale=2.0**40), "mse")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    logs = model.fit(x, x.sum(1, keepdims=True), epochs=30, verbose=0).history
    assert np.isfinite(logs["loss"]).all() and logs["loss"][-1] < 0.5 * logs["loss"][0]
    scale = float(model.optimizer.dynamic_scale)
    assert scale < 2.0**30
    assert int(model.optimizer._iterations) - int(model.optimizer.iterations) == 40 - np.log2(scale)
    assert np.isfinite(model.get_weights()[0]).all()


def test_only_mixed_float16_needs_a_scale():
    adam = kerax.optimizers.Adam()
    wrapped = kerax.optimizers.for_policy(adam, dtype_policies.get("mixed_float16"))
    assert isinstance(wrapped, LossScaleOptimizer) and wrapped.inner_optimizer is adam
    assert wrapped.name == "loss_scale_optimizer"
    assert kerax.optimizers.for_policy(wrapped, dtype_policies.get("mixed_float16")) is wrapped
    for policy in ("float32", "mixed_bfloat16", "float16"):
        assert kerax.optimizers.for_policy(adam, dtype_policies.get(policy)) is adam
    assert kerax.optimizers.for_policy(None, dtype_policies.get("mixed_float16")) is None


def test_config_is_that_of_keras_and_makes_an_equal_optimizer():
    ours, theirs = (
        module.optimizers.LossScaleOptimizer(module.optimizers.Adam(0.5, name="a"), initial_scale=8.0, name="s")
        for module in (kerax, keras)
    )
    assert json.loads(json.dumps(ours.get_config())) == theirs.get_config()
    copy = kerax.optimizers.deserialize(keras.optimizers.serialize(theirs))
    assert copy.get_config() == ours.get_config()
    assert keras.optimizers.deserialize(kerax.optimizers.serialize(ours)).get_config() == theirs.get_config()


def test_averages_of_the_inner_optimizer_replace_the_weights():
    model = kerax.Sequential([kerax.Input((1,)), kerax.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(LossScaleOptimizer(kerax.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)), lambda y, p: p)
    model.fit(np.ones((2, 1)), np.ones((2, 1)), batch_size=1, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], [[-1.5]])


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: LossScaleOptimizer("adam"), TypeError, "must be an optimizer"),
        (lambda: LossScaleOptimizer(LossScaleOptimizer(kerax.optimizers.SGD())), TypeError, "another kind"),
        (lambda: LossScaleOptimizer(kerax.optimizers.SGD(), initial_scale=0.0), ValueError, "initial_scale"),
        (lambda: LossScaleOptimizer(kerax.optimizers.SGD(), dynamic_growth_steps=0), ValueError, "growth_steps"),
        (lambda: LossScaleOptimizer(kerax.optimizers.SGD(), clipnorm=1.0), ValueError, "on the `inner_optimizer`"),
        (lambda: LossScaleOptimizer(kerax.optimizers.SGD(), scale=1.0), TypeError, "unknown argument"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
