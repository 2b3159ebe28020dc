import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

import kerax
from kerax import layers

SHAPES = [(), (1,), (3,), (3, 1), (3, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
def test_category_encoding_equals_keras_in_every_shape(mode):
    import keras

    more = [(2, 3, 1), (2, 3, 2)] if mode == "one_hot" else []  # else Keras reduces another axis than it documents
    for number, shape in enumerate(SHAPES + more):
        inputs = np.random.default_rng(number).integers(0, 4, shape)
        expected = keras.layers.CategoryEncoding(4, output_mode=mode)(inputs)
        found = layers.CategoryEncoding(4, output_mode=mode)(inputs)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
        binned = keras.layers.Discretization([0.5, 1.5], output_mode=mode)(inputs.astype("float32"))
        np.testing.assert_array_equal(
            layers.Discretization([0.5, 1.5], output_mode=mode)(inputs.astype("float32")), binned
        )


def test_count_weights_are_summed():
    layer = layers.CategoryEncoding(num_tokens=4, output_mode="count")
    weights = np.array([[0.1, 0.2], [0.1, 0.1], [0.2, 0.3], [0.4, 0.2]])
    outputs = layer([[0, 1], [0, 0], [1, 2], [3, 1]], count_weights=weights)
    expected = [[0.1, 0.2, 0, 0], [0.2, 0, 0, 0], [0, 0.2, 0.3, 0], [0, 0.2, 0, 0.4]]
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)


def test_integers_out_of_range_are_left_out():
    outputs = layers.CategoryEncoding(2, output_mode="count")([[-1, 5, 1]])
    np.testing.assert_array_equal(outputs, [[0, 1]])


def test_discretization_puts_boundaries_into_the_upper_range():
    inputs = np.array([[-1.5, 1.0, 3.4, 0.5], [0.0, 3.0, 1.3, 0.0]])
    layer = layers.Discretization(bin_boundaries=[0.0, 1.0, 2.0])
    np.testing.assert_array_equal(layer(inputs), [[0, 2, 3, 1], [1, 3, 2, 1]])
    np.testing.assert_array_equal(jax.jit(layer.__call__)(inputs), layer(inputs))
    np.testing.assert_array_equal(layer([-1, 2, 7]), [0, 3, 3])
    assert layer(np.array([np.nan])) == 3


def test_bfloat16_does_not_move_the_boundaries():
    layer = layers.Discretization([1.001], dtype="bfloat16")
    np.testing.assert_array_equal(layer(np.float32([1.0, 1.0009, 1.0011])), [0, 0, 1])


def test_adapt_finds_the_documented_ranges():
    inputs = np.array([[-1.5, 1.0, 3.4, 0.5], [0.0, 3.0, 1.3, 0.0]])
    layer = layers.Discretization(num_bins=4, epsilon=0.01)
    layer.adapt(inputs)
    np.testing.assert_array_equal(layer(inputs), [[0, 2, 3, 2], [1, 3, 3, 1]])
    again = layers.Discretization.from_config(layer.get_config())
    np.testing.assert_array_equal(again(inputs), layer(inputs))


@pytest.mark.parametrize("epsilon, num_bins", [(0.01, 4), (0.1, 7), (0.3, 3)])
def test_adapt_on_batches_equals_keras(epsilon, num_bins):
    import keras

    generator = np.random.default_rng(0)
    batches = [generator.normal(size=(n, 3)).astype("float32") for n in (500, 7, 1000)]
    layer = layers.Discretization(num_bins=num_bins, epsilon=epsilon)
    layer.adapt(batches)
    theirs = keras.layers.Discretization(num_bins=num_bins, epsilon=epsilon)
    theirs.reset_state()
    for batch in batches:
        theirs.update_state(batch)
    theirs.finalize_state()
    np.testing.assert_allclose(layer.bin_boundaries, theirs.bin_boundaries, rtol=1e-6)
    layer.adapt((batch for batch in batches), steps=1)
    first = layers.Discretization(num_bins=num_bins, epsilon=epsilon)
    first.adapt(jnp.asarray(batches[0]))
    assert layer.bin_boundaries == first.bin_boundaries


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="either `num_bins` or `bin_boundaries`"):
        layers.Discretization()
    with pytest.raises(ValueError, match="in ascending order"):
        layers.Discretization([1.0, 0.0])
    with pytest.raises(ValueError, match="Call `adapt"):
        layers.Discretization(num_bins=2)(np.ones(3))
    with pytest.raises(ValueError, match="Give `num_bins` instead"):
        layers.Discretization([1.0]).adapt(np.ones(3))
    with pytest.raises(ValueError, match="`adapt` got no data"):
        layers.Discretization(num_bins=2).adapt([])
    with pytest.raises(ValueError, match="`sparse=True` needs vectors"):
        layers.Hashing(4, sparse=True)
    with pytest.raises(ValueError, match="`IntegerLookup` finds the categories"):
        layers.CategoryEncoding()
    with pytest.raises(ValueError, match="`output_mode` must be one of"):
        layers.CategoryEncoding(4, output_mode="int")
    with pytest.raises(ValueError, match="Use `StringLookup` for text"):
        layers.CategoryEncoding(4)(["a"])
    with pytest.raises(ValueError, match="32-bit integers"):
        layers.CategoryEncoding(4)([2**40])
    with pytest.raises(ValueError, match="lists must have equal lengths"):
        layers.CategoryEncoding(4)([[1], [1, 2]])
    with pytest.raises(ValueError, match="needs output_mode='count'"):
        layers.CategoryEncoding(4)([[1]], count_weights=[[1.0]])
    with pytest.raises(ValueError, match=r"the inputs' shape \(1, 1\)"):
        layers.CategoryEncoding(4, output_mode="count")([[1]], count_weights=[1.0])


INTEGERS = [np.array([1, 3, 3, 9]), np.array([[1, 3, 3], [0, 2, -1]]), np.array([[[1], [3]], [[2], [2]]]), np.array(2)]


@pytest.mark.medium
@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
@pytest.mark.parametrize("inputs", INTEGERS)
def test_sparse_vectors_are_the_dense_ones(mode, inputs):
    kinds = {
        "CategoryEncoding": {"num_tokens": 4},
        "Discretization": {"bin_boundaries": [0.5, 2.0]},
        "Hashing": {"num_bins": 4},
        "IntegerLookup": {"vocabulary": [1, 2, 3], "num_oov_indices": 2},
    }
    for name, options in kinds.items():
        sparse, dense = (getattr(layers, name)(**options, output_mode=mode, sparse=flag) for flag in (True, False))
        found = sparse(inputs)
        assert isinstance(found, BCOO), name
        np.testing.assert_array_equal(found.todense(), dense(inputs), err_msg=name)
        assert type(sparse).from_config(sparse.get_config()).sparse and sparse.compute_dtype == found.dtype
        # Inside a compiled call there are no values to look at.
        np.testing.assert_array_equal(jax.jit(sparse.call)(jnp.asarray(inputs)), dense(inputs))


@pytest.mark.medium
def test_sparse_weights_and_text():
    inputs, weights = np.array([[1, 1, 2], [0, 0, 0]]), np.array([[1.0, 2, 3], [4, 5, 6]])
    sparse, dense = (layers.CategoryEncoding(4, "count", sparse=flag) for flag in (True, False))
    found = sparse(inputs, count_weights=weights)
    np.testing.assert_array_equal(found.todense(), dense(inputs, count_weights=weights))
    texts = ["a b b", "", "c z z"]
    options = dict(vocabulary=["a", "b", "c"], idf_weights=[0.5, 2.0, 3.0], output_mode="tf_idf")
    sparse, dense = (layers.TextVectorization(**options, sparse=flag) for flag in (True, False))
    np.testing.assert_allclose(sparse(texts).todense(), dense(texts))
    model = kerax.Sequential([kerax.Input((4,)), layers.Dense(1, kernel_initializer="ones")])
    np.testing.assert_allclose(model.predict(sparse(texts), verbose=0), model.predict(dense(texts), verbose=0))


@pytest.mark.parametrize("mode, shape", [("int", (None, 3)), ("one_hot", (None, 3, 4)), ("multi_hot", (None, 4))])
def test_models_may_be_made_before_discretization_is_adapted(mode, shape):
    layer = layers.Discretization(num_bins=4, output_mode=mode)
    outputs = layer(kerax.Input((3,)))
    assert outputs.shape == shape == layer.compute_output_shape((None, 3)) and outputs.dtype == layer.output_dtype
    with pytest.raises(ValueError, match="not known yet"):
        layer(np.zeros((2, 3)))
