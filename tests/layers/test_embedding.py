import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kerax import layers
from kerax.core import masks


def test_embedding_picks_rows():
    table = np.arange(6.0).reshape(3, 2)
    layer = layers.Embedding(3, 2, weights=[table])
    np.testing.assert_array_equal(layer(jnp.array([[2, 0]])), table[[[2, 0]]])
    assert "weights" not in layer.get_config()


def test_embedding_marks_zeros_as_padding():
    ids = jnp.array([[1, 0, 2]])
    assert masks.get_mask(layers.Embedding(3, 2)(ids)) is None
    np.testing.assert_array_equal(masks.get_mask(layers.Embedding(3, 2, mask_zero=True)(ids)), [[True, False, True]])


def test_embedding_rows_out_of_range_are_not_hidden():
    assert np.isnan(jax.jit(layers.Embedding(3, 2))(jnp.array([7]))).all()


def test_embedding_refuses_empty_tables():
    with pytest.raises(ValueError, match="`output_dim` must be an integer of at least 1"):
        layers.Embedding(3, 0)


def test_masking_zeroes_padding_and_says_so():
    x = jnp.array([[[1.0, 2.0], [9.0, 9.0], [9.0, 1.0]]])
    outputs = layers.Masking(9.0)(x)
    np.testing.assert_array_equal(outputs[0], [[1, 2], [0, 0], [9, 1]])
    np.testing.assert_array_equal(masks.get_mask(outputs), [[True, False, True]])


class Tagger(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(9, 4, mask_zero=True)
        self.dropout = layers.Dropout(0.5)
        self.lstm = layers.LSTM(3, return_sequences=True)
        self.pool = layers.GlobalAveragePooling1D()

    def call(self, inputs):
        return self.pool(self.lstm(self.dropout(self.embedding(inputs))))


@pytest.mark.medium
def test_masks_travel_through_layers_and_transformations(key):
    short, long = jnp.array([[3, 4, 5]]), jnp.array([[3, 4, 5, 0, 0]])
    layer = Tagger()
    variables = layer.init(key, short)
    np.testing.assert_allclose(layer.apply(variables, short)[0], layer.apply(variables, long)[0], rtol=1e-5)
    before = set(masks._of_tracers)
    with jax.checking_leaks():
        compiled = jax.jit(lambda v, x: layer.apply(v, x)[0])(variables, long)
    np.testing.assert_allclose(compiled, layer.apply(variables, short)[0], rtol=1e-5)
    assert set(masks._of_tracers) <= before  # nothing of the trace is kept


def test_reversible_embedding_goes_both_ways(key):
    layer = layers.ReversibleEmbedding(5, 3, mask_zero=True, logit_soft_cap=2.0)
    rows = layer(jnp.array([[0, 4]]))
    np.testing.assert_array_equal(masks.get_mask(rows), [[False, True]])
    vectors = jax.random.normal(key, (1, 2, 3))
    logits = layer(vectors, reverse=True)
    expected = 2 * np.tanh(np.asarray(vectors) @ layer.embeddings.numpy().T / 2)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert masks.get_mask(logits) is None
    half = layers.ReversibleEmbedding(5, 3, dtype="mixed_bfloat16", reverse_dtype="float32")
    assert half(vectors, reverse=True).dtype == "float32" and half(jnp.array([[1]])).dtype == "bfloat16"
    with pytest.raises(ValueError, match=r"in reverse, inputs must have shape \(..., 3\)"):
        layer(jnp.ones((1, 4)), reverse=True)
    with pytest.raises(ValueError, match="`logit_soft_cap` must be above 0"):
        layers.ReversibleEmbedding(5, 3, logit_soft_cap=0)


def test_a_table_shared_with_a_dense_layer_is_the_one_rows_are_picked_from():
    dense, embedding = layers.Dense(4, use_bias=False), layers.Embedding(7, 4)
    dense(np.ones((1, 7), "float32")), embedding(np.zeros((1,), "int32"))
    embedding.embeddings = dense.kernel
    picked = np.asarray(embedding(np.array([2, 5])))
    np.testing.assert_array_equal(picked, np.asarray(dense.kernel.value)[[2, 5]])
    np.testing.assert_allclose(picked, np.asarray(dense(np.eye(7, dtype="float32")[[2, 5]])), rtol=1e-6)
    assert len(embedding.weights) == 1 and embedding.weights[0] is dense.kernel


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_reversible_table_starts_with_given_weights(is_tied):
    table, reverse = np.arange(15, dtype="f4").reshape(5, 3), np.ones((3, 5), "f4")
    weights = [table] if is_tied else [table, reverse]
    layer = layers.ReversibleEmbedding(5, 3, tie_weights=is_tied, weights=weights)
    np.testing.assert_array_equal(layer(np.array([[2]]))[0, 0], table[2])
    expected = np.ones((1, 3), "f4") @ (table.T if is_tied else reverse)
    np.testing.assert_allclose(layer(np.ones((1, 3), "f4"), reverse=True), expected)


@pytest.mark.parametrize("make", [layers.Embedding, layers.ReversibleEmbedding])
@pytest.mark.parametrize("index", [5, -6])
def test_indices_that_are_no_rows_are_refused_where_they_are_known(make, index):
    layer = make(5, 2, name="words")
    with pytest.raises(ValueError, match=rf"name=words>: index {index} is out of range for a table of size 5"):
        layer(np.array([[1, index]]))
    assert np.isnan(jax.jit(layer)(np.array([[1, 5]]))[0, 1]).all()  # a program cannot raise
    assert np.isfinite(layer(np.array([[0, 4]]))).all()
