import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import layers


@pytest.mark.medium
def test_attention_follows_its_formula(key):
    query, value = jax.random.normal(key, (2, 3, 4)), jax.random.normal(key, (2, 5, 4))
    outputs, weights = layers.Attention()([query, value], return_attention_scores=True)
    scores = np.einsum("bqd,bkd->bqk", query, value)
    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs, expected @ np.asarray(value), rtol=1e-5, atol=1e-5)


@pytest.mark.medium
def test_masks_hide_values_and_zero_queries(key):
    x = jax.random.normal(key, (1, 3, 4))
    layer = layers.AdditiveAttention()
    kept = jnp.array([[True, True, False]])
    outputs = layer([x, x], mask=[kept, kept])
    np.testing.assert_array_equal(outputs[:, 2], 0)
    np.testing.assert_allclose(outputs[:, :2], layer([x[:, :2], x[:, :2]]), rtol=1e-5)


@pytest.mark.medium
def test_causal_attention_does_not_see_the_future(key):
    x = jax.random.normal(key, (1, 4, 3))
    for layer in (layers.Attention(), layers.AdditiveAttention()):
        before, after = (layer([y, y], use_causal_mask=True) for y in (x, x.at[:, 3].add(1.0)))
        np.testing.assert_allclose(before[:, :3], after[:, :3], rtol=1e-6)


@pytest.mark.medium
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


@pytest.mark.parametrize("name", ["Attention", "AdditiveAttention"])
@pytest.mark.parametrize("around", [(2,), (2, 8), (1, 2, 3)])
def test_axes_before_the_positions_are_all_batch_axes(name, around):
    rng = np.random.default_rng(0)
    query, value = (rng.normal(size=(*around, size, 4)).astype("float32") for size in (6, 7))
    for options in ({}, {"return_attention_scores": True}, {"use_causal_mask": True}):
        found, expected = (
            getattr(library.layers, name)(use_scale=False)([query, value], **options) for library in (kerax, keras)
        )
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["Attention", "AdditiveAttention"])
def test_the_scores_are_those_that_were_used(name):
    x = np.ones((1, 2, 2), "float32")
    pair = [getattr(library.layers, name)(dropout=0.7, seed=1) for library in (kerax, keras)]
    for _ in range(2):
        found, expected = (layer([x, x], return_attention_scores=True, training=True) for layer in pair)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_shapes_may_be_given_by_name():
    assert layers.Attention().compute_output_shape(input_shape=[(2, 8, 4), (2, 7, 4)]) == (2, 8, 4)
    assert layers.Dense(3).compute_output_shape(input_shape=(2, 4)) == (2, 3)
    assert layers.LSTM(3).compute_output_shape(sequences_shape=(2, 4, 5)) == (2, 3)
    attention = layers.MultiHeadAttention(2, 3)
    assert attention.compute_output_shape(query_shape=(2, 8, 4), value_shape=(2, 7, 5)) == (2, 8, 4)
