import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers


def count(params, state, rng, inputs, training):
    noise = 0 if rng is None else jax.random.normal(rng, inputs.shape)
    return (inputs + noise) @ params["w"], {"calls": state["calls"] + (1 if training else 0)}


def start(rng, inputs):
    return {"w": jax.random.normal(rng, (inputs.shape[-1], 3))}, {"calls": jnp.zeros((), "int32")}


@pytest.mark.medium
def test_function_with_state_and_noise(key):
    layer = layers.JaxLayer(count, start)
    x = jnp.ones((2, 4))
    variables = layer.init(key, x)
    outputs, _ = layer.apply(variables, x)
    np.testing.assert_allclose(outputs, x @ variables["params"]["w"], rtol=1e-5)
    noisy, state = layer.apply(variables, x, training=True, key=key)
    assert not np.allclose(noisy, outputs)
    assert state["calls"] == 1 and state["calls"].dtype == jnp.int32


def test_given_params_need_no_init():
    layer = layers.JaxLayer(lambda params, inputs: inputs * params, params=np.array([1.0, 2.0]))
    np.testing.assert_array_equal(layer(jnp.ones((3, 2))), [[1, 2]] * 3)
    assert layers.JaxLayer(lambda inputs: inputs + 1)(jnp.zeros(2)).tolist() == [1, 1]


@pytest.mark.slow
def test_flax_module_trains_in_a_model(key):
    nn = pytest.importorskip("flax.linen")

    class Module(nn.Module):
        @nn.compact
        def __call__(self, inputs, training=False):
            x = nn.BatchNorm(use_running_average=not training)(nn.Dense(5)(inputs))
            return nn.Dense(1)(nn.Dropout(0.1, deterministic=not training)(x))

    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    module = Module()
    variables = module.init(key, x)
    layer = layers.FlaxLayer(module, variables=variables)
    np.testing.assert_allclose(layer(x), module.apply(variables, x), rtol=1e-5, atol=1e-6)
    assert [w.trainable for w in layer.weights] == [True] * 6 + [False] * 2
    model = kerax.Sequential([kerax.Input((4,)), layers.FlaxLayer(module)])
    model.compile(kerax.optimizers.Adam(0.05), "mse")
    loss = model.fit(x, x[:, :1], epochs=8, verbose=0).history["loss"]
    assert loss[-1] < 0.5 * loss[0]
    assert np.abs(model.get_weights()[6]).max() > 0  # moving means


def test_flax_method_by_name_and_by_function():
    nn = pytest.importorskip("flax.linen")

    class Module(nn.Module):
        def setup(self):
            self.dense = nn.Dense(3)

        def encode(self, inputs):
            return self.dense(inputs)

    x, module = jnp.ones((2, 4)), Module()
    named = layers.FlaxLayer(module, method="encode")
    function = layers.FlaxLayer(module, method=lambda module, inputs: module.encode(inputs) + 1)
    named(x)
    function(x)
    function.set_weights(named.get_weights())
    np.testing.assert_allclose(function(x), named(x) + 1, rtol=1e-5)
    with pytest.raises(TypeError, match="'module' cannot be serialized"):
        named.get_config()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: layers.JaxLayer(lambda x: x), "`call_fn` must take `inputs`"),
        (lambda: layers.JaxLayer(lambda params, inputs: inputs), "`init_fn`, `params` or `state` must be given"),
        (
            lambda: layers.JaxLayer(lambda params, inputs: inputs, lambda key, inputs: {}),
            "`init_fn` must take `inputs`",
        ),
        (
            lambda: layers.JaxLayer(lambda state, inputs: (inputs, []), state={"n": np.zeros(1)})(jnp.ones(2)),
            "a state of another structure",
        ),
    ],
)
def test_mistakes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_params_and_state_are_readable_as_the_trees_that_the_function_takes():
    def scale(params, state, inputs):
        return inputs * params["w"][0], {**state, "calls": state["calls"] + 1}

    layer = kerax.layers.JaxLayer(
        scale, lambda rng, inputs: ({"w": [jnp.ones(())]}, {"calls": 0, "mode": "a", "no": None})
    )
    assert layer.params is None and layer.state is None
    np.testing.assert_array_equal(layer(np.full((1, 2), 3.0)), np.full((1, 2), 3.0))
    assert layer.params["w"][0] is layer.trainable_variables[0]
    assert layer.state["calls"].numpy() == 1 and layer.state["mode"] == "a" and layer.state["no"] is None
