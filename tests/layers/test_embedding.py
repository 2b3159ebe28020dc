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
    assert np.isnan(layers.Embedding(3, 2)(jnp.array([7]))).all()


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


def test_masks_travel_through_layers_and_transformations(key):
    short, long = jnp.array([[3, 4, 5]]), jnp.array([[3, 4, 5, 0, 0]])
    layer = Tagger()
    variables = layer.init(key, short)
    np.testing.assert_allclose(layer.apply(variables, short)[0], layer.apply(variables, long)[0], rtol=1e-5)
    with jax.checking_leaks():
        compiled = jax.jit(lambda v, x: layer.apply(v, x)[0])(variables, long)
    np.testing.assert_allclose(compiled, layer.apply(variables, short)[0], rtol=1e-5)
    assert not any(isinstance(mask, jax.core.Tracer) for _, mask in masks._masks.values())
