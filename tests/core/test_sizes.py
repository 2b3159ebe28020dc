"""Sizes that are not known yet: as values of a graph, and as they agree in ops."""

import jax
import numpy as np
import pytest

import kerax
from kerax import ops

X = np.random.default_rng(0).normal(size=(4, 6, 8)).astype("float32")


def both(function, array, tmp_path):
    """What a graph of the function gives on data, built, saved and loaded, and cloned; and the function itself."""
    inputs = kerax.Input(batch_shape=(None,) * (array.ndim - 1) + array.shape[-1:])
    model = kerax.Model(inputs, function(inputs))
    model.save(tmp_path / "m.keras")
    models = (model, kerax.models.load_model(tmp_path / "m.keras"), kerax.models.clone_model(model))
    return [each.predict(array, verbose=0) for each in models], function(ops.convert_to_tensor(array))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.reshape(x, (ops.shape(x)[0], -1, 4)),
        lambda x: ops.reshape(x, [ops.shape(x)[0] * ops.shape(x)[1], 8]),
        lambda x: x[:, ops.shape(x)[1] // 2],
        lambda x: x[:, : ops.shape(x)[1] - 2, ..., None],
        lambda x: x[..., 0] * ops.cast(ops.arange(ops.shape(x)[1]), "float32"),
        lambda x: ops.sum(x, 1) / ops.cast(ops.shape(x)[1], "float32"),
        lambda x: ops.broadcast_to(x[:, :1], ops.shape(x)),
        lambda x: x + ops.zeros((ops.shape(x)[0], 1, 8)),
        lambda x: ops.tile(x, (1, ops.shape(x)[1], 1)),
        lambda x: ops.slice(x, (0, 0, 0), (ops.shape(x)[0], 2, 8)),
        lambda x: ops.triu(ops.ones((ops.shape(x)[1], ops.shape(x)[1]))) + x[:, :, :1],
        lambda x: ops.split(x, 3, axis=1)[1],
        lambda x: x[:, [0, 2]],
    ],
)
def test_an_unknown_size_is_a_value_of_the_graph(function, tmp_path):
    found, expected = both(function, X, tmp_path)
    for values in found:
        np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_an_unknown_size_equals_none_as_in_keras():
    assert ops.shape(kerax.Input((None, 3))) == (None, None, 3)
    assert ops.ndim(kerax.Input((None, 3))) == 3


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (ops.add, [(None, 3), (2, None)], (2, 3)),
        (ops.multiply, [(None, None, 3), (None, 3)], (None, None, 3)),
        (ops.maximum, [(None, None), (2, 1)], (2, None)),
        (lambda x, y: ops.where(x > 0, x, y), [(None, None, 3), (2, None)], (None, 2, 3)),
        (ops.matmul, [(None, None), (4, None)], (None, None)),
        (lambda x, y: ops.concatenate([x, y], 1), [(None, 3), (2, None)], (2, 6)),
        (lambda x, y: ops.einsum("ij,jk->ik", x, y), [(None, None), (4, None)], (None, None)),
        (lambda x, y: ops.matmul(x, [[1.0], [2.0]]), [(None, None), (1,)], (None, 1)),
        (lambda x, y: x @ y, [(3, None, None), (None, 5, None)], (3, None, None)),
        (ops.dot, [(None, None), (5,)], (None,)),
        (ops.inner, [(None, None), (4, 5)], (None, 4)),
        (lambda x, y: ops.tensordot(x, y, 1), [(2, None), (4, 5)], (2, 5)),
        (lambda x, y: ops.tensordot(x, y, ([1], [0])), [(2, None, 3), (4, None)], (2, 3, None)),
        (lambda x, y: ops.einsum("bij,bkj->bik", x, y), [(None, None, 3), (7, 2, None)], (7, None, 2)),
        (lambda x, y: kerax.layers.Add()([x, y]), [(None, 3), (2, None)], (2, 3)),
    ],
)
def test_unknown_sizes_agree_with_known_and_unknown_ones(function, shapes, expected):
    assert function(*[kerax.Input(batch_shape=shape) for shape in shapes]).shape == expected


def test_sizes_that_cannot_agree_are_told_in_the_users_own():
    with pytest.raises((TypeError, ValueError), match="3"):
        ops.add(kerax.Input((3,)), kerax.Input((4,)))


def test_dot_shares_no_axes_but_those_it_sums_over():
    """The batch of one is not that of the other, as in `matmul`."""
    x = kerax.Input((3, 4))
    for function, other, shape in (
        (kerax.ops.dot, np.ones((5, 4, 6), "float32"), (None, 3, 5, 6)),
        (kerax.ops.dot, np.ones((4, 6), "float32"), (None, 3, 6)),
        (kerax.ops.inner, np.ones((5, 2, 4), "float32"), (None, 3, 5, 2)),
        (kerax.ops.matmul, np.ones((5, 4, 6), "float32"), (5, 3, 6)),
    ):
        outputs = function(x, other)
        assert outputs.shape == shape
        assert kerax.Model(x, outputs)(np.ones((5, 3, 4), "float32")).shape == (5, *shape[1:])


def tiled(x):
    """The attention mask of many decoders: one for all rows, as often as there are rows."""
    rows, length = ops.shape(x)[0], ops.shape(x)[1]
    mask = ops.reshape(ops.arange(length)[:, None] >= ops.arange(length), (1, length, length))
    sizes = [ops.expand_dims(x=rows, axis=-1), ops.convert_to_tensor([1, 1])]
    return ops.tile(mask, ops.concatenate(xs=sizes, axis=0))


def lengths(x):
    """The lengths of all rows, as losses of sequences want them."""
    rows, length = (ops.cast(size, dtype="int64") for size in ops.shape(x)[:2])
    return length * ops.ones(shape=(rows, 1), dtype="int64")


def stacked(x):
    return ops.reshape(x, ops.stack([ops.shape(x)[0], ops.shape(x)[1] * ops.shape(x)[2]]))


def spread(x):
    sizes = ops.stack([ops.shape(x)[0], 3, ops.shape(x)[2]])
    return ops.broadcast_to(x[:, :1], sizes) + ops.zeros(sizes) + ops.full(sizes, 2.0)


@pytest.mark.parametrize("function", [tiled, lengths, stacked, spread])
def test_shapes_may_be_computed_by_ops_in_a_call(function):
    class Computes(kerax.Layer):
        def call(self, x):
            return function(x)

    inputs = kerax.Input((None, 8))
    outputs = Computes()(inputs)
    assert outputs.shape[0] is None
    expected = function(X)
    assert outputs.ndim == np.ndim(expected)
    np.testing.assert_array_equal(kerax.Model(inputs, outputs).predict(X, batch_size=3, verbose=0), expected)


def test_a_shape_that_depends_on_values_is_refused_by_jax():
    with pytest.raises(jax.errors.TracerIntegerConversionError):
        jax.jit(lambda x, counts: ops.tile(x, counts))(X, np.array([1, 2, 1]))
