"""Keras's scopes: what variables read and write inside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers


def test_a_stateless_scope_gives_values_and_takes_writes():
    given, other = kerax.Variable(np.ones(2, "f")), kerax.Variable(np.zeros(2, "f"))
    with kerax.StatelessScope([(given, np.array([3.0, 4.0]))]) as scope:
        np.testing.assert_array_equal(given.value, [3, 4])
        given.assign_add(jnp.ones(2))
        other.assign(jnp.full(2, 7.0))  # not among the given ones, and yet it keeps its own value
        np.testing.assert_array_equal(other.value, [7, 7])
    np.testing.assert_array_equal(scope.get_current_value(given), [4, 5])
    np.testing.assert_array_equal(scope.get_current_value(other), [7, 7])
    np.testing.assert_array_equal(given.value, [1, 1])
    np.testing.assert_array_equal(other.value, [0, 0])
    assert kerax.StatelessScope().get_current_value(given) is None
    scope.add_update((given, jnp.zeros(2)))
    np.testing.assert_array_equal(scope.get_current_value(given), [0, 0])


def test_gradients_go_through_a_stateless_scope():
    layer = layers.Dense(1, use_bias=False)
    layer.build((None, 2))

    def loss(kernel):
        with kerax.StatelessScope([(layer.kernel, kernel)]):
            return jnp.sum(layer(jnp.array([[1.0, 2.0]])))

    np.testing.assert_allclose(jax.jit(jax.grad(loss))(jnp.zeros((2, 1))), [[1], [2]])


def test_losses_are_collected_if_asked_for():
    layer = layers.ActivityRegularization(l2=1.0)
    for collects in (True, False):
        with kerax.StatelessScope(collect_losses=collects) as scope:
            layer(jnp.full((1, 2), 2.0))
            scope.add_loss(jnp.float32(5.0))
        assert list(map(float, scope.losses)) == ([8.0, 5.0] if collects else [])


def test_wrong_mappings_are_named():
    variable = kerax.Variable(np.ones(2, "f"))
    with pytest.raises(ValueError, match="keys of `state_mapping`"):
        kerax.StatelessScope([("a", 1)])
    with pytest.raises(ValueError, match=r"must have shape \(2,\)"):
        kerax.StatelessScope([(variable, np.ones(3))])


def test_a_symbolic_scope_drops_writes():
    variable = kerax.Variable("ones", (2,))  # by name, as layers take them
    with kerax.SymbolicScope():
        assert variable.value.shape == (2,)
        variable.assign(jnp.full(2, 9.0))
    np.testing.assert_array_equal(variable.value, [1, 1])


def test_device_and_name_scope():
    with kerax.device("cpu:0"):
        assert jnp.ones(2).devices() == {jax.local_devices(backend="cpu")[0]}
    with kerax.device(jax.devices()[0]):
        pass
    for wrong in ("cpu:99", "tpu:0"):
        with pytest.raises(ValueError, match="there is no"):
            kerax.device(wrong)
    with pytest.raises(ValueError, match="Did you mean 'cpu'"):
        kerax.device("cpus")

    def named(x):
        with kerax.name_scope("inner"):
            return jnp.sin(x)

    assert "inner" in str(jax.make_jaxpr(named)(1.0).eqns[0].source_info.name_stack)
    with pytest.raises(ValueError, match="without '/'"):
        kerax.name_scope("a/b")


@pytest.mark.medium
def test_a_step_of_ones_own_draws_without_a_key():
    model = kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(64), kerax.layers.Dropout(0.5)])
    optimizer = kerax.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    x = np.ones((2, 4), "float32")

    @jax.jit
    def step(trainable, non_trainable, state, x):
        def loss(trainable):
            outputs, updated = model.stateless_call(trainable, non_trainable, x, training=True)
            return kerax.ops.mean(outputs**2), (outputs == 0, updated)

        (_, (dropped, non_trainable)), grads = jax.value_and_grad(loss, has_aux=True)(trainable)
        trainable, state = optimizer.stateless_apply(state, grads, trainable)
        return trainable, non_trainable, state, dropped

    lists = model.trainable_variables, model.non_trainable_variables, optimizer.variables
    carry = tuple([variable.value for variable in variables] for variables in lists)
    drawn = []
    for _ in range(3):
        *carry, dropped = step(*carry, x)
        drawn.append(np.asarray(dropped))
    assert all(0.3 < one.mean() < 0.7 for one in drawn)
    assert not np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[1], drawn[2])
    # A pure call: the same of the same values, others of other inputs, and of the key that is given.
    weights, rest, _ = carry

    def call(x, **kwargs):
        return np.asarray(model.stateless_call(weights, rest, x, training=True, **kwargs)[0]) == 0

    np.testing.assert_array_equal(call(x), call(x))
    assert not np.array_equal(call(x), call(2 * x))
    assert not np.array_equal(call(x), call(x, key=jax.random.key(1)))


class Noisy(kerax.layers.Layer):
    """Counts its calls, draws from a generator of its own and has a penalty."""

    def __init__(self):
        super().__init__()
        self.generator = kerax.random.SeedGenerator(1337)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.scale = self.add_weight(shape=(), initializer="ones", regularizer="l1")

    def call(self, x):
        self.calls.assign(self.calls + 1)
        self.add_loss(kerax.ops.sum(x))
        return self.scale * x + kerax.random.normal((), seed=self.generator)


def test_pure_calls_take_variables_for_their_values():
    x = np.ones((2, 3), "float32")
    expected, layer = Noisy()(x), Noisy()
    given = layer.trainable_variables, layer.non_trainable_variables
    for lists in (given, [[variable.value for variable in variables] for variables in given]):
        outputs, state, losses = layer.stateless_call(*lists, x, return_losses=True)
        np.testing.assert_allclose(outputs, expected)
        assert len(losses) == 2 and len(state) == len(layer.non_trainable_variables)
        assert float(layer.calls.value) == 0 and not any(isinstance(value, kerax.Variable) for value in state)
    optimizer, metric = kerax.optimizers.Adam(0.5), kerax.metrics.Mean()
    optimizer.build(layer.trainable_variables)
    new, _ = optimizer.stateless_apply(optimizer.variables, [np.float32(2)], layer.trainable_variables)
    np.testing.assert_allclose(new, [0.5], rtol=1e-5)
    assert float(metric.stateless_result(metric.stateless_update_state(metric.variables, [1.0, 3.0]))) == 2
