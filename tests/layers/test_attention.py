import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core import masks


@pytest.fixture
def x(key):
    return jax.random.normal(key, (2, 5, 4))


@pytest.mark.medium
def test_self_attention_equals_attention_to_a_copy(x):
    layer = layers.MultiHeadAttention(2, 3, value_dim=2, bias_initializer="uniform")
    np.testing.assert_allclose(layer(x, x), layer(x, x + 0), rtol=1e-5, atol=1e-6)
    jitted = jax.jit(lambda v, x: layer.apply(v, x, x)[0])
    np.testing.assert_allclose(jitted(layer.variables_tree(), x), layer(x, x), rtol=1e-5, atol=1e-6)


def test_causal_attention_does_not_see_the_future(x):
    layer = layers.MultiHeadAttention(2, 3)
    changed = x.at[:, 3].add(1.0)
    before, after = (layer(inputs, inputs, use_causal_mask=True) for inputs in (x, changed))
    np.testing.assert_allclose(before[:, :3], after[:, :3], rtol=1e-5, atol=1e-6)
    assert not np.allclose(before[:, 3:], after[:, 3:])


@pytest.mark.medium
def test_fused_attention_is_told_that_a_mask_is_causal(x, monkeypatch):
    layer = layers.MultiHeadAttention(2, 3)
    mask = jnp.ones((2, 5, 5), bool)
    expected = [layer(x, x, use_causal_mask=True), layer(x, x, use_causal_mask=True, attention_mask=mask)]
    told, attend = [], jax.nn.dot_product_attention

    def spy(*args, mask, scale, is_causal, implementation):
        told.append((mask is None, is_causal, implementation))
        return attend(*args, mask=mask, scale=scale, is_causal=is_causal)

    monkeypatch.setattr(jax.nn, "dot_product_attention", spy)
    monkeypatch.setattr("kerax.ops.attention.uses_fused_attention", lambda *_: True)
    got = [layer(x, x, use_causal_mask=True), layer(x, x, use_causal_mask=True, attention_mask=mask)]
    assert told == [(True, True, "cudnn"), (False, False, "cudnn")]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.medium
def test_window_limits_the_distance(x):
    layer = layers.MultiHeadAttention(1, 3, sliding_window=2)
    _, scores = layer(x, x, use_causal_mask=True, return_attention_scores=True)
    expected = np.tril(np.ones((5, 5))) * (np.arange(5)[:, None] - np.arange(5) < 2)
    np.testing.assert_array_equal(np.asarray(scores[0, 0]) > 0, expected > 0)


@pytest.mark.medium
def test_masks_of_the_inputs_are_joined_and_handed_on(x):
    kept = jnp.array([[True, True, True, False, False]] * 2)
    masked = x + 0
    masks.set_mask(masked, kept)
    layer = layers.MultiHeadAttention(2, 3)
    outputs, scores = layer(masked, masked, return_attention_scores=True)
    np.testing.assert_array_equal(scores[:, :, :3, 3:], 0)
    np.testing.assert_array_equal(masks.get_mask(outputs), kept)
    np.testing.assert_allclose(outputs[:, :3], layer(x[:, :3], x[:, :3]), rtol=1e-5, atol=1e-6)
    given = layer(x, x, key_mask=kept)
    np.testing.assert_allclose(given[:, :3], outputs[:, :3], rtol=1e-5, atol=1e-6)


def test_attention_mask_may_differ_by_head(x):
    layer = layers.MultiHeadAttention(2, 3)
    mask = jnp.ones((2, 2, 5, 5), bool).at[:, 1, :, 0].set(False)
    _, scores = layer(x, x, attention_mask=mask, return_attention_scores=True)
    assert (scores[:, 1, :, 0] == 0).all()
    assert (scores[:, 0, :, 0] > 0).all()


@pytest.mark.medium
def test_dropout_of_weights_needs_training_and_a_key(x, key):
    layer = layers.MultiHeadAttention(2, 3, dropout=0.5)
    variables = layer.init(key, x, x)
    plain = layer.apply(variables, x, x)[0]
    first, second = (layer.apply(variables, x, x, training=True, key=k)[0] for k in (key, jax.random.key(1)))
    assert not np.allclose(plain, first)
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"num_heads": 0}, "`num_heads` must be an integer"),
        ({"key_dim": -1}, "`key_dim` must be an integer"),
        ({"value_dim": 0}, "`value_dim` must be an integer"),
        ({"sliding_window": 0}, "`sliding_window` must be an integer"),
        ({"dropout": 0.5, "flash_attention": True}, "`flash_attention` has no dropout"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        layers.MultiHeadAttention(**({"num_heads": 2, "key_dim": 3} | kwargs))


def test_key_and_value_must_fit():
    with pytest.raises(ValueError, match="key and value must have equal axes but the last"):
        layers.MultiHeadAttention(2, 3)(jnp.zeros((1, 5, 4)), jnp.zeros((1, 3, 4)), jnp.zeros((1, 2, 4)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_dividing_after_the_product_changes_no_numbers(x, dtype, tolerance):
    layer = layers.MultiHeadAttention(2, 4, dtype=dtype)
    variables = layer.init(jax.random.key(1), x, x)
    mask = jnp.ones((5, 5), bool).at[2].set(False)[None]

    def both(returns_scores):
        def loss(x):
            found = layer.apply(variables, x, x, attention_mask=mask, return_attention_scores=returns_scores)[0]
            outputs = (found[0] if returns_scores else found).astype("float32")
            return jnp.sum(outputs**2), outputs

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(x)

    for one, other in zip(jax.tree.leaves(both(True)), jax.tree.leaves(both(False))):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_projections_are_called_as_layers(platform, x, monkeypatch):
    called, call = [], layers.EinsumDense.call

    def spy(self, inputs):
        called.append(self.name)
        return call(self, inputs)

    monkeypatch.setattr(layers.EinsumDense, "call", spy)
    with kerax.config.compiling_for(platform):
        for layer in (layers.MultiHeadAttention(2, 3), layers.GroupQueryAttention(3, 4, 2)):
            called.clear()
            layer(x, x)
            assert called == ["query", "key", "value", "attention_output"]
