import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core import masks


@kerax.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """A little of everything: products, averages, dropout, penalties on weights and activities."""

    def __init__(self, width, rate=0.0, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(width, "tanh", kernel_regularizer="l2", dtype=self.dtype_policy)
        self.norm = layers.BatchNormalization(momentum=0.5)
        self.drop = layers.Dropout(rate)
        self.penalty = layers.ActivityRegularization(l2=0.1)

    def call(self, inputs):
        return inputs + self.penalty(self.drop(self.norm(self.dense(inputs))))


class InARow(layers.Layer):
    """The same blocks one after the other."""

    def __init__(self, blocks):
        super().__init__()
        self.blocks = blocks

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return inputs


@pytest.fixture
def x(key):
    return jax.random.normal(key, (4, 3))


def pair(x, depth=3, **kwargs):
    """A stack, and blocks in a row with the same weights."""
    stack, row = layers.Stack(Block(3), depth, **kwargs), InARow([Block(3) for _ in range(depth)])
    stack(x), row(x)
    for index, block in enumerate(row.blocks):
        block.set_weights(stack.get_block_weights(index))
    return stack, row


def loss_and_gradients(layer, x):
    """Loss, gradients and new state of a training call, with the penalties."""
    variables = layer.variables_tree()

    def loss(params):
        with layer.bind_variables(variables | {"params": params}, jax.random.key(0)) as scope:
            total = jnp.sum(jnp.sin(layer(x, training=True))) + sum(layer.losses)
        return total, layer.collect_state(scope, variables["state"])

    (total, state), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return total, gradients, state


@pytest.mark.medium
@pytest.mark.parametrize("keep", ["everything", "dots", "nothing", "dots_saveable"])
def test_a_stack_equals_its_blocks_in_a_row(x, keep):
    stack, row = pair(x, keep=keep)
    np.testing.assert_allclose(stack(x), row(x), rtol=1e-5, atol=1e-6)
    total, gradients, state = loss_and_gradients(stack, x)
    row_total, row_gradients, row_state = loss_and_gradients(row, x)
    np.testing.assert_allclose(total, row_total, rtol=1e-5)
    for kind, part, row_part in (("params", gradients, row_gradients), ("state", state, row_state)):
        expected = jax.tree.map(lambda *values: jnp.stack(values), *row_part["blocks"].values())
        assert jax.tree.structure(part) == jax.tree.structure(expected)
        for value, wanted in zip(jax.tree.leaves(part), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(value, wanted, rtol=2e-4, atol=1e-5, err_msg=kind)


def test_initial_values_and_moving_averages_are_each_blocks_own(x):
    stack = layers.Stack(Block(3), 3)
    stack(x)
    kernel = np.asarray(stack.weights[0].value)
    assert kernel.shape == (3, 3, 3)
    assert len(np.unique(kernel)) == kernel.size
    assert abs(kernel).max() <= 1.0  # sqrt(6 / (3 + 3)): the fans are those of one block
    stack(x, training=True)
    means = next(np.asarray(w.value) for w in stack.weights if w.path.endswith("norm/moving_mean"))
    assert len(np.unique(means[:, 0])) == 3


@pytest.mark.medium
def test_dropout_differs_between_blocks_and_calls(x, key):
    for block in (layers.Dropout(0.5), layers.Dropout(0.5, seed=1)):
        stack = layers.Stack(block, 2)
        ones = jnp.ones((1, 4000))
        kept_by_both = float(jnp.mean(stack(ones, training=True) > 0))
        assert 0.2 < kept_by_both < 0.3  # one mask twice would keep half
        assert not np.array_equal(stack(ones, training=True), stack(ones, training=True))
        np.testing.assert_array_equal(stack(ones), ones)
    stack = layers.Stack(layers.Dropout(0.5), 2)
    first, second = (stack.apply(stack.init(key, x), x, training=True, key=key)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="was given no key"):
        stack.apply(stack.init(key, x), x, training=True)


@pytest.mark.medium
def test_nothing_leaks_and_every_transformation_works(x, key):
    stack = layers.Stack(Block(3, 0.5), 2, keep="nothing")
    variables = stack.init(key, x)
    with jax.checking_leaks():
        outputs, _ = jax.jit(lambda v, x: stack.apply(v, x, training=True, key=key))(variables, x)
    batched = jax.vmap(lambda x: stack.apply(variables, x)[0])(jnp.stack([x, x]))
    np.testing.assert_allclose(batched[1], stack.apply(variables, x)[0], rtol=1e-5, atol=1e-6)
    assert outputs.shape == x.shape


@pytest.mark.medium
def test_symbolic_shapes_half_precision_and_masks(x):
    stack = layers.Stack(layers.Dense(3, dtype="mixed_bfloat16"), 2)
    assert stack(kerax.Input((None, 3))).shape == (None, None, 3)
    assert stack(x).dtype == jnp.bfloat16
    assert stack.weights[0].value.dtype == jnp.float32
    kept = jnp.array([[True, True, False]] * 2)
    inputs = jnp.ones((2, 3, 4))
    masks.set_mask(inputs, kept)
    recurrent = layers.Stack(layers.GRU(4, return_sequences=True), 2)
    outputs = recurrent(inputs)
    np.testing.assert_array_equal(masks.get_mask(outputs), kept)
    np.testing.assert_allclose(outputs[:, 1], outputs[:, 2], rtol=1e-6)  # a masked step repeats the one before
    assert not np.allclose(outputs[:, 0], outputs[:, 1])


@pytest.mark.medium
def test_saved_loaded_and_trained(x, tmp_path):
    model = kerax.Sequential([kerax.Input((3,)), layers.Stack(Block(3, 0.1), 3, keep="dots"), layers.Dense(1)])
    model.compile("sgd", "mse")
    before = model.layers[0].get_block_weights(2)
    model.fit(x, jnp.ones((4, 1)), epochs=4, verbose=0)
    for old, new in zip(before, model.layers[0].get_block_weights(2), strict=True):
        assert not np.array_equal(old, new)
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "folder")
    for path in (tmp_path / "model.keras", tmp_path / "folder"):
        loaded = kerax.saving.load_model(path) if path.suffix else kerax.checkpoint.load_model(path)
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
        assert loaded.layers[0].get_config() == model.layers[0].get_config()


@pytest.mark.medium
def test_frozen_blocks_keep_weights_and_averages(x):
    stack, _ = pair(x)
    inner = kerax.Sequential([stack])
    model = kerax.Sequential([inner, layers.Dense(1)])
    model(x)
    before = stack.get_weights()
    inner.trainable = False
    assert not stack.trainable_weights and not model.layers[0].trainable_weights
    model.compile("sgd", "mse")
    model.fit(x, jnp.ones((4, 1)), verbose=0)
    for old, new in zip(before, stack.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_program_does_not_grow_with_the_depth(x):
    def size(depth):
        stack = layers.Stack(Block(3), depth, keep="dots")
        variables = jax.eval_shape(lambda: stack.init(0, x))
        step = jax.grad(lambda params, state: stack.apply({"params": params, "state": state}, x)[0].sum())
        return len(jax.jit(step).lower(variables["params"], variables["state"]).as_text())

    assert size(48) < 1.05 * size(2)


@pytest.mark.medium
def test_wrong_arguments():
    with pytest.raises(TypeError, match="`block` must be a layer"):
        layers.Stack("dense", 2)
    with pytest.raises(ValueError, match="`depth` must be an integer of at least 1"):
        layers.Stack(layers.Dense(3), 0)
    with pytest.raises(ValueError, match="`keep` must be one of"):
        layers.Stack(layers.Dense(3), 2, keep="some")
    with pytest.raises(ValueError, match="must have the shape of its inputs"):
        layers.Stack(layers.Dense(3), 2)(jnp.ones((2, 4)))
    stack = layers.Stack(layers.Dense(3), 2)
    stack(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="weights have shapes"):
        stack.set_block_weights(0, [np.ones(3)])
    stack.set_block_weights(1, [np.ones((3, 3)), np.zeros(3)])
    np.testing.assert_array_equal(stack.get_block_weights(1)[0], 1)
