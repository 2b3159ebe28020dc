import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax import layers


def test_attention_follows_its_formula(key):
    query, value = jax.random.normal(key, (2, 3, 4)), jax.random.normal(key, (2, 5, 4))
    outputs, weights = layers.Attention()([query, value], return_attention_scores=True)
    scores = np.einsum("bqd,bkd->bqk", query, value)
    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs, expected @ np.asarray(value), rtol=1e-5, atol=1e-5)


def test_masks_hide_values_and_zero_queries(key):
    x = jax.random.normal(key, (1, 3, 4))
    layer = layers.AdditiveAttention()
    kept = jnp.array([[True, True, False]])
    outputs = layer([x, x], mask=[kept, kept])
    np.testing.assert_array_equal(outputs[:, 2], 0)
    np.testing.assert_allclose(outputs[:, :2], layer([x[:, :2], x[:, :2]]), rtol=1e-5)


def test_causal_attention_does_not_see_the_future(key):
    x = jax.random.normal(key, (1, 4, 3))
    for layer in (layers.Attention(), layers.AdditiveAttention()):
        before, after = (layer([y, y], use_causal_mask=True) for y in (x, x.at[:, 3].add(1.0)))
        np.testing.assert_allclose(before[:, :3], after[:, :3], rtol=1e-6)


def test_groups_of_heads_equal_repeated_heads(key):
    x = jax.random.normal(key, (2, 5, 6))
    grouped, full = layers.GroupQueryAttention(3, 4, 2), layers.GroupQueryAttention(3, 4, 4)
    grouped(x, x)
    full(x, x)
    for name in ("query_dense", "output_dense"):
        getattr(full, name).set_weights(getattr(grouped, name).get_weights())
    for name in ("key_dense", "value_dense"):
        kernel, bias = getattr(grouped, name).get_weights()
        getattr(full, name).set_weights([np.repeat(kernel, 2, 1), np.repeat(bias, 2, 0)])
    np.testing.assert_allclose(grouped(x, x), full(x, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: layers.Attention(score_mode="cosine"), "`score_mode` must be one of"),
        (lambda: layers.Attention(dropout=2), "`dropout` must be between 0 and 1"),
        (lambda: layers.Attention()(jnp.zeros((1, 2, 3))), r"call it on a list \[query, value\]"),
        (lambda: layers.Attention()([jnp.zeros((1, 2, 3))]), r"call it on a list \[query, value\]"),
        (lambda: layers.AdditiveAttention()([jnp.zeros((1, 2, 3)), jnp.zeros((1, 2, 4))]), "query must have shape"),
        (lambda: layers.Attention()([jnp.zeros((1, 2, 3))] * 2, mask=jnp.ones((1, 2))), "`mask` must be a list"),
        (lambda: layers.GroupQueryAttention(3, 4, 3), "`num_query_heads` must be a multiple"),
        (lambda: layers.GroupQueryAttention(3, 4, 0), "`num_key_value_heads` must be an integer of at least 1"),
        (lambda: layers.GroupQueryAttention(3, 4, 2, sliding_window=0), "`sliding_window` must be"),
        (lambda: layers.GroupQueryAttention(3, 4, 2)(jnp.zeros((1, 2)), jnp.zeros((1, 2))), "must have shape"),
        (
            lambda: layers.GroupQueryAttention(3, 2, 2)(*(jnp.zeros((1, n, 4)) for n in (5, 3, 2))),
            "equally many positions",
        ),
    ],
)
def test_bad_arguments_and_inputs_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
