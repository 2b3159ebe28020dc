"""Optimizers as Keras users write them, against Keras."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from tests.pairs import assert_same_fit

X = np.random.default_rng(0).normal(size=(16, 3)).astype("f")
Y = X.sum(1, keepdims=True)


def define(module):
    """Momentum, a sum of squares, a counter, the step's number: all that an `update_step` can use."""

    class Mine(module.optimizers.Optimizer):
        def __init__(self, learning_rate=0.1, momentum=0.9, **kwargs):
            super().__init__(learning_rate=learning_rate, **kwargs)
            self.momentum = momentum

        def build(self, variables):
            if self.built:
                return
            super().build(variables)
            self.momentums = self.add_optimizer_variables(variables, "momentum")
            self.squares = [self.add_variable_from_reference(v, "square", initializer="ones") for v in variables]
            self.calls = self.add_variable((), name="calls")

        def update_step(self, gradient, variable, learning_rate):
            rate = module.ops.cast(learning_rate, variable.dtype)
            step = module.ops.cast(self.iterations + 1, variable.dtype)
            index = self._get_variable_index(variable)
            momentum, square = self.momentums[index], self.squares[index]
            self.assign(momentum, momentum * self.momentum + gradient)
            self.assign_add(square, module.ops.square(gradient))
            self.assign_add(self.calls, 1.0)
            self.assign_sub(variable, rate * momentum / module.ops.sqrt(square) / step)

        def get_config(self):
            return {**super().get_config(), "momentum": self.momentum}

    return Mine


OURS, THEIRS = define(kerax), define(keras)


def make(**options):
    def model(module):
        stack = [module.layers.Dense(4, "tanh"), module.layers.Dense(1)]
        model = module.Sequential([module.Input((3,)), *stack])
        model.compile((OURS if module is kerax else THEIRS)(**options), "mse")
        return model

    return model


@pytest.mark.medium
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clipnorm": 0.5, "weight_decay": 0.01},
        {"use_ema": True, "ema_overwrite_frequency": 3},
        {"gradient_accumulation_steps": 2},
    ],
    ids=str,
)
def test_training_is_that_of_keras(options):
    ours, theirs = assert_same_fit(make(**options), X, Y, batch_size=4, epochs=3)
    mine, other = ours.optimizer.variables, theirs.optimizer.variables
    assert [variable.shape for variable in mine] == [tuple(variable.shape) for variable in other]
    names = [variable.name.split("kernel")[-1].split("bias")[-1].lstrip("_") for variable in mine]
    assert names[-9:] == ["momentum"] * 4 + ["square"] * 4 + ["calls"]
    for one, two in zip(mine, other, strict=True):
        np.testing.assert_allclose(one.value, two.value, rtol=1e-4, atol=1e-5, err_msg=one.name)
    np.testing.assert_array_equal(ours.optimizer.calls.value, theirs.optimizer.calls.value)


@pytest.mark.medium
def test_schedules_and_changes_of_the_rate_are_seen():
    schedule = lambda module: module.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)

    def scheduled(module):
        model = make()(module)
        model.compile((OURS if module is kerax else THEIRS)(schedule(module)), "mse")
        return model

    assert_same_fit(scheduled, X, Y, batch_size=4, epochs=2)
    model = make()(kerax)
    model.fit(X, Y, verbose=0)
    model.optimizer.learning_rate = 0.0
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.medium
def test_the_pair_of_pure_functions_is_pure():
    optimizer, params = OURS(), {"a": {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}}
    state = optimizer.init(params)
    grads = jax.tree.map(jnp.ones_like, params)
    first = jax.jit(optimizer.update)(grads, state, params)
    second = optimizer.update(grads, state, params)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    np.testing.assert_allclose(first[0]["a"]["bias"], -0.1 / np.sqrt(2), rtol=1e-6)


def test_frozen_weights_keep_what_the_others_gathered():
    model = make()(kerax)
    model.fit(X, Y, verbose=0)
    kept = model.optimizer.momentums[2].numpy()
    model.layers[0].trainable = False
    model.optimizer.learning_rate = 0.0
    model.optimizer.momentum = 1.0
    model.fit(X, model.predict(X, verbose=0), verbose=0)  # no gradient
    assert len(model.optimizer.momentums) == 2
    np.testing.assert_allclose(model.optimizer.momentums[0].numpy(), kept, atol=1e-6)
    assert np.abs(kept).max() > 1e-3


def test_updates_in_place_and_checkpoints_work(tmp_path):
    variable = kerax.Variable(np.ones(2, "f"))
    optimizer = OURS()
    optimizer.apply([jnp.ones(2)], [variable])
    np.testing.assert_allclose(variable.value, 1 - 0.1 / np.sqrt(2), rtol=1e-6)
    other = OURS()
    other.build([variable])
    other.set_weights([v.numpy() for v in optimizer.variables])
    np.testing.assert_array_equal(other.momentums[0].value, [1, 1])
    assert OURS.from_config(optimizer.get_config()).momentum == 0.9


def test_optimizers_without_variables_and_wrong_ones():
    class Plain(kerax.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            variable.assign_sub(learning_rate * gradient)

    variable = kerax.Variable(np.ones(2, "f"))
    Plain(0.5).apply([jnp.ones(2)], [variable])
    np.testing.assert_array_equal(variable.value, [0.5, 0.5])
    with pytest.raises(NotImplementedError, match="`transformation` or `update_step`"):
        kerax.Optimizer(0.1).apply([jnp.ones(2)], [variable])
    with pytest.raises(ValueError, match="call `build"):
        kerax.optimizers.SGD().update_step(1, variable, 0.1)
    with pytest.raises(ValueError, match="added in `build`"):
        Plain(0.5).add_variable(())

    class Twice(Plain):
        def build(self, variables):
            self.add_optimizer_variables(variables, ["a", "a"])

    with pytest.raises(ValueError, match="a variable 'a' already"):
        Twice(0.5).apply([jnp.ones(2)], [variable])

    class Uneven(Plain):
        def build(self, variables):
            self.add_optimizer_variables(variables, ["a", "b"], ["zeros"])

    with pytest.raises(ValueError, match="2 names need as many initializers"):
        Uneven(0.5).apply([jnp.ones(2)], [variable])
