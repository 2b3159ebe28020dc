"""Rematerialization changes what is kept for the gradient, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers

X = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(12, 3)).astype("float32")


class Block(layers.Layer):
    """A step with everything that has effects: a random draw, moving averages, a loss, a mask."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(6, activation="tanh")
        self.norm = layers.BatchNormalization()
        self.drop = layers.Dropout(0.3, seed=5)

    def call(self, inputs):
        hidden = self.drop(self.norm(self.inner(inputs)))
        self.add_loss(1e-2 * jnp.sum(hidden**2))
        return hidden


def trained(make):
    kerax.utils.set_random_seed(3)
    model = kerax.Sequential([kerax.Input((6,)), make(name="block"), layers.Dense(3)])
    model.compile(kerax.optimizers.SGD(0.1), "mse")
    history = model.fit(X, Y, batch_size=6, epochs=2, verbose=0).history
    return model, history["loss"]


def num_saved(model):
    """Bytes that the gradient of a model's loss keeps from its forward pass."""

    def loss(params):
        variables = model.variables_tree() | {"params": params}
        return jnp.sum(model.apply(variables, X, training=True, key=jax.random.key(0))[0])

    _, pull = jax.vjp(loss, model.variables_tree()["params"])
    return sum(leaf.nbytes for leaf in jax.tree.leaves(pull))


class Wrapped(layers.Layer):
    """A layer whose call goes through `kerax.remat`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.block = Block()

    def call(self, inputs):
        return kerax.remat(self.block)(inputs)


class Plain(Wrapped):
    def call(self, inputs):
        return self.block(inputs)


@pytest.mark.medium
def test_training_is_the_same_with_state_losses_and_draws():
    (one, losses), (two, other_losses) = trained(Plain), trained(Wrapped)
    np.testing.assert_allclose(losses, other_losses, rtol=1e-5)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert not np.allclose(two.layers[0].block.norm.moving_mean.value, 0)


@pytest.mark.medium
def test_less_is_kept_for_the_gradient():
    def deep(remat):
        blocks = [kerax.remat(layers.Dense(6, activation="gelu")) if remat else layers.Dense(6, activation="gelu")]

        class Deep(kerax.Model):
            def __init__(self):
                super().__init__()
                self.blocks = [layers.Dense(6, activation="gelu") for _ in range(4)]

            def call(self, inputs):
                for block in self.blocks:
                    inputs = (kerax.remat(block) if remat else block)(inputs)
                return inputs

        assert blocks
        model = Deep()
        model(X)
        return model

    assert num_saved(deep(True)) < num_saved(deep(False))


@pytest.mark.parametrize(
    "mode, rematerialized",
    [
        (dict(mode="full"), True),
        (dict(mode=None), False),
        (dict(mode="activations"), True),
        (dict(mode="larger_than", output_size_threshold=20), True),
        (dict(mode="larger_than", output_size_threshold=2000), False),
        (dict(mode="list_of_layers", layer_names=["hidden"]), True),
        (dict(mode="list_of_layers", layer_names=["other"]), False),
    ],
)
def test_scopes(mode, rematerialized):
    with kerax.RematScope(**mode):
        layer = layers.Dense(4, activation="tanh", name="hidden")
    variables = layer.init(0, X)
    text = str(jax.make_jaxpr(lambda v: layer.apply(v, X)[0])(variables))
    assert ("checkpoint" in text or "remat" in text) == rematerialized
    np.testing.assert_allclose(layer.apply(variables, X)[0], jnp.tanh(X @ variables["params"]["kernel"]), rtol=1e-5)


def test_a_plain_function_and_a_policy():
    function = kerax.remat(lambda x: jnp.sin(jnp.cos(x)), policy=jax.checkpoint_policies.everything_saveable)
    np.testing.assert_allclose(
        jax.grad(lambda x: function(x).sum())(X), jax.grad(lambda x: jnp.sin(jnp.cos(x)).sum())(X)
    )


@pytest.mark.medium
def test_masks_pass_through():
    tokens = np.array([[1, 2, 0], [3, 0, 0]])
    embed = layers.Embedding(5, 4, mask_zero=True)
    with kerax.RematScope("full"):
        recurrent = layers.LSTM(3)
    plain = layers.LSTM(3)
    model = kerax.Sequential([embed, recurrent])
    twin = kerax.Sequential([embed, plain])
    model(tokens), twin(tokens)
    plain.set_weights(recurrent.get_weights())
    np.testing.assert_allclose(model(tokens), twin(tokens), rtol=1e-6)
    variables = model.variables_tree()
    np.testing.assert_allclose(jax.jit(model.apply)(variables, tokens)[0], twin(tokens), rtol=1e-5)


def test_an_unknown_mode():
    with pytest.raises(ValueError, match="`mode` must be one of"):
        kerax.RematScope("everything")
