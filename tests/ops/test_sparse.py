"""Sparse arrays, JAX's BCOO, in and out of ops, layers, graphs and models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

import kerax
from kerax import layers, ops
from kerax.core import sparse

DENSE = np.array([[0, 1.5, -2], [3, 0, 0]], "float32")
OTHER = np.array([[0, 5, 0], [3, -4, 0]], "float32")
FULL = np.full((2, 3), 2, "float32")


def of(array):
    return BCOO.fromdense(jnp.asarray(array))


STAY_SPARSE = {
    "relu": lambda x, y: ops.relu(x),
    "tanh": lambda x, y: ops.tanh(x),
    "leaky_relu": lambda x, y: ops.leaky_relu(x, 0.1),
    "round": lambda x, y: ops.round(x),
    "isnan": lambda x, y: ops.isnan(x),
    "cast": lambda x, y: ops.cast(x, "int32"),
    "add": lambda x, y: ops.add(x, y),
    "subtract": lambda x, y: ops.subtract(x, y),
    "multiply": lambda x, y: ops.multiply(x, y),
    "maximum": lambda x, y: ops.maximum(x, y),
    "minimum": lambda x, y: ops.minimum(x, y),
    "times full": lambda x, y: ops.multiply(FULL, x),
    "divided": lambda x, y: ops.divide(x, FULL),
    "times number": lambda x, y: ops.multiply(x, 3),
    "sum": lambda x, y: ops.sum(x, axis=1),
    "sum kept": lambda x, y: ops.sum(x, axis=0, keepdims=True),
    "reshape": lambda x, y: ops.reshape(x, (3, 2)),
    "transpose": lambda x, y: ops.transpose(x),
    "concatenate": lambda x, y: ops.concatenate([x, y], axis=1),
    "expand_dims": lambda x, y: ops.expand_dims(x, 1),
    "squeeze": lambda x, y: ops.squeeze(ops.expand_dims(x, 0)),
    "matmul": lambda x, y: ops.matmul(x, ops.transpose(y)),
}
BECOME_DENSE = {
    "exp": lambda x, y: ops.exp(x),
    "sigmoid": lambda x, y: ops.sigmoid(x),
    "plus number": lambda x, y: ops.add(x, 1.0),
    "plus full": lambda x, y: ops.add(x, FULL),
    "matmul full": lambda x, y: ops.matmul(x, FULL.T),
    "max": lambda x, y: ops.max(x, axis=1),
    "softmax": lambda x, y: ops.softmax(x),
    "where": lambda x, y: ops.where(FULL > 1, x, y),
    "cumsum": lambda x, y: ops.cumsum(x, axis=1),
    "argmax": lambda x, y: ops.argmax(x, axis=1),
    "less": lambda x, y: ops.less(x, y),
}


@pytest.mark.parametrize("is_jitted", [False, True])
@pytest.mark.parametrize("name", [*STAY_SPARSE, *BECOME_DENSE])
def test_ops_give_what_they_give_of_dense_arrays(name, is_jitted):
    function = (STAY_SPARSE | BECOME_DENSE)[name]
    found = (jax.jit(function) if is_jitted else function)(of(DENSE), of(OTHER))
    assert isinstance(found, BCOO) == (name in STAY_SPARSE)
    expected = function(DENSE, OTHER)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(sparse.to_dense(found), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [2, None])
@pytest.mark.parametrize("name", ["relu", "add", "sum", "exp", "transpose", "concatenate", "plus number"])
def test_symbolic_tensors_know_whether_they_are_sparse(name, rows):
    x, y = (kerax.KerasTensor((rows, 3), sparse=True) for _ in range(2))
    found = (STAY_SPARSE | BECOME_DENSE)[name](x, y)
    assert found.sparse == (name in STAY_SPARSE)


@pytest.mark.medium
def test_an_element_listed_twice_counts_as_the_sum():
    x = BCOO((jnp.array([3.0, -5.0]), jnp.array([[0, 1], [0, 1]])), shape=(1, 2))
    assert float(sparse.to_dense(ops.relu(x))[0, 1]) == 0
    assert float(ops.exp(x)[0, 1]) == pytest.approx(np.exp(-2))


@pytest.mark.parametrize(
    "make",
    [
        lambda **o: ops.one_hot(np.array([1, 2, 7]), 4, **o),
        lambda **o: ops.multi_hot(np.array([[1, 2], [0, 0]]), 4, **o),
        lambda **o: ops.bincount(np.array([[1, 2], [0, 0]]), minlength=4, **o),
        lambda **o: layers.CategoryEncoding(4, **o)(np.array([[1, 2], [0, 0]])),
        lambda **o: layers.CategoryEncoding(4, "count", **o)(np.array([[1, 2], [0, 0]])),
        lambda **o: layers.CategoryEncoding(4, "one_hot", **o)(np.array([1, 2])),
        lambda **o: layers.Discretization([1.0, 2.0], output_mode="one_hot", **o)(np.array([[0.5], [2.5]])),
        lambda **o: layers.IntegerLookup(vocabulary=[1, 2], output_mode="multi_hot", **o)(np.array([[1, 2], [5, 5]])),
        lambda **o: layers.StringLookup(vocabulary=["a", "b"], output_mode="count", **o)(np.array([["a", "a"]])),
        lambda **o: layers.Hashing(4, output_mode="multi_hot", **o)(np.array([["a", "c"]])),
        lambda **o: layers.HashedCrossing(4, output_mode="one_hot", **o)((np.array([1, 2]), np.array([3, 4]))),
    ],
)
def test_vectors_of_categories(make):
    found, expected = make(sparse=True), make(sparse=False)
    assert isinstance(found, BCOO) and found.shape == expected.shape
    np.testing.assert_array_equal(found.todense(), expected)


def test_indices_are_not_sparse():
    with pytest.raises(ValueError, match="sparse"):
        layers.Hashing(4, sparse=True)


LAYERS = {
    "Dense": (lambda: layers.Dense(4), 1, False),
    "Dense with activation": (lambda: layers.Dense(4, "relu"), 1, False),
    "Flatten": (layers.Flatten, 1, True),
    "Reshape": (lambda: layers.Reshape((3, 1)), 1, True),
    "Activation": (lambda: layers.Activation("tanh"), 1, True),
    "Dropout": (lambda: layers.Dropout(0.5), 1, True),
    "BatchNormalization": (layers.BatchNormalization, 1, False),
    "Add": (layers.Add, 2, True),
    "Subtract": (layers.Subtract, 2, True),
    "Multiply": (layers.Multiply, 2, True),
    "Average": (layers.Average, 2, True),
    "Concatenate": (layers.Concatenate, 2, True),
    "Maximum": (layers.Maximum, 2, True),
    "Dot": (lambda: layers.Dot(1), 2, True),
    "Dot of unit vectors": (lambda: layers.Dot(1, normalize=True), 2, False),
}


@pytest.mark.parametrize("way", ["called", "in a graph", "jitted"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, way):
    make, count, stays_sparse = LAYERS[name]
    layer = make()
    dense = [DENSE, OTHER][:count] if count > 1 else DENSE
    given = [of(array) for array in dense] if count > 1 else of(DENSE)
    expected = layer(dense)
    if way == "in a graph":
        inputs = [layers.Input((3,), sparse=True) for _ in range(count)]
        outputs = layer(inputs if count > 1 else inputs[0])
        assert outputs.sparse == stays_sparse
        found = kerax.Model(inputs, outputs)(given)
    elif way == "jitted":
        found = jax.jit(layer)(given)
    else:
        found = layer(given)
    assert isinstance(found, BCOO) == stays_sparse
    np.testing.assert_allclose(sparse.to_dense(found), expected, rtol=1e-5, atol=1e-6)


def test_a_users_layer_gets_what_it_is_called_on():
    seen = []

    class Seen(layers.Layer):
        def call(self, inputs):
            seen.append(type(inputs))
            return ops.matmul(inputs, FULL.T)

    np.testing.assert_allclose(Seen()(of(DENSE)), DENSE @ FULL.T)
    assert seen[-1] is BCOO


def test_gradients_with_respect_to_weights():
    layer = layers.Dense(2)
    layer.build((None, 3))
    kernel = layer.kernel.value

    def loss(kernel, x):
        return ops.sum(ops.square(ops.matmul(x, kernel)))

    np.testing.assert_allclose(jax.grad(loss)(kernel, of(DENSE)), jax.grad(loss)(kernel, DENSE), rtol=1e-5)


@pytest.mark.medium
def test_a_model_with_a_sparse_input_trains_predicts_and_is_saved(tmp_path):
    inputs = layers.Input((3,), sparse=True)
    model = kerax.Model(inputs, layers.Dense(1)(layers.Dense(4, "relu")(inputs)))
    model.compile("sgd", "mse")
    model.fit(of(DENSE), np.ones((2, 1)), verbose=0)
    expected = model.predict(DENSE, verbose=0)
    np.testing.assert_allclose(model.predict(of(DENSE), verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose(model(of(DENSE)), expected, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = kerax.saving.load_model(tmp_path / "model.keras")
    assert loaded.inputs[0].sparse
    np.testing.assert_allclose(loaded(of(DENSE)), expected, rtol=1e-5)


@pytest.mark.medium
def test_arrays_are_converted_as_told():
    assert kerax.ops.is_tensor(of(DENSE))
    assert isinstance(ops.convert_to_tensor(of(DENSE)), BCOO)
    np.testing.assert_array_equal(ops.convert_to_tensor(of(DENSE), sparse=False), DENSE)
    np.testing.assert_array_equal(ops.convert_to_numpy(of(DENSE)), DENSE)
    np.testing.assert_array_equal(sparse.to_dense(of(DENSE > 0)), DENSE > 0)
    inputs = layers.Input((3,), sparse=True)
    outputs = ops.convert_to_tensor(inputs, sparse=False)
    assert not outputs.sparse
    np.testing.assert_allclose(kerax.Model(inputs, ops.exp(outputs))(of(DENSE)), np.exp(DENSE), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_the_values_of_a_sparse_array_on_the_host(dtype):
    dense = np.array([[0, 1, 0], [1, 0, 0]], dtype)
    found = kerax.ops.convert_to_numpy(BCOO.fromdense(dense))
    assert type(found) is np.ndarray and found.flags.writeable
    np.testing.assert_array_equal(found, dense)
