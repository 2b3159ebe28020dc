"""Ops that Keras has since 3.15, and what its ops refuse or infer of symbolic tensors."""

import keras
import numpy as np
import pytest
from scipy import special

import kerax
from kerax import KerasTensor, ops


@pytest.mark.parametrize("shape, size", [((2, 8, 6, 3), (4, 3)), ((2, 7, 6, 3), 3), ((2, 4, 4, 6, 2), (2, 2, 3))])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_images_come_back_from_their_patches(shape, size, padding, data_format):
    images = np.random.default_rng(0).normal(size=shape).astype("float32")
    images = images if data_format == "channels_last" else np.moveaxis(images, -1, 1)
    sizes = images.shape[1:-1] if data_format == "channels_last" else images.shape[2:]
    patches = ops.image.extract_patches(images, size, padding=padding, data_format=data_format)
    options = dict(padding=padding, data_format=data_format)
    if padding == "valid":
        found = ops.image.reconstruct_patches(patches, size, **options)  # what patches cover, from the first corner
        np.testing.assert_allclose(found, images[tuple(slice(n) for n in found.shape)], atol=1e-6)
        options["output_size"] = None
    else:
        found = ops.image.reconstruct_patches(patches, size, sizes, **options)
        np.testing.assert_allclose(found, images, atol=1e-6)
        single = ops.image.reconstruct_patches(patches[0], size, sizes, **options)
        np.testing.assert_allclose(single, images[0], atol=1e-6)


@pytest.mark.medium
def test_patches_that_overlap_are_averaged_and_wrong_ones_refused():
    image = np.random.default_rng(0).normal(size=(1, 7, 7, 2)).astype("float32")
    patches = ops.image.extract_patches(image, 3, 2)
    np.testing.assert_allclose(ops.image.reconstruct_patches(patches, 3, (7, 7), 2), image, atol=1e-6)
    assert ops.image.reconstruct_patches(KerasTensor((None, 2, 2, 48)), 4, (8, 8)).shape == (None, 8, 8, 3)
    with pytest.raises(ValueError, match="needs `output_size`"):
        ops.image.reconstruct_patches(patches, 3, padding="same")
    with pytest.raises(ValueError, match="have shape"):
        ops.image.reconstruct_patches(patches, 3, (12, 12))


def test_new_functions():
    np.testing.assert_allclose(ops.gammainc([0.5, 2.0], [1.0, 3.0]), special.gammainc([0.5, 2.0], [1.0, 3.0]), 1e-5)
    np.testing.assert_array_equal(ops.column_stack([[1, 2], [3, 4]]), [[1, 3], [2, 4]])
    assert ops.column_stack([KerasTensor((4,)), KerasTensor((4, 2))]).shape == (4, 3)
    matrix = np.array([[2.0, 1.0], [0.0, 1.0]], "float32")
    for n in (-2, 0, 3):
        np.testing.assert_allclose(ops.linalg.matrix_power(matrix, n), np.linalg.matrix_power(matrix, n), rtol=1e-5)
    values, indices = ops.top_k([1.0, 3.0, 3.0, 2.0], 3, is_stable=True)
    assert values.tolist() == [3, 3, 2] and indices.tolist() == [1, 2, 3]


X = np.arange(12.0, dtype="float32").reshape(3, 4)
SHAPES = {
    "nonzero": lambda k, t: k.ops.nonzero(t(None, 3)),
    "unique": lambda k, t: k.ops.unique(t(2, 3), return_index=True, return_inverse=True, return_counts=True),
    "unique of an axis": lambda k, t: k.ops.unique(t(2, 3, 4), axis=1, return_inverse=True, return_counts=True),
    "broadcast_to": lambda k, t: k.ops.broadcast_to(t(None, 3), (2, 3, 3)),
    "repeat": lambda k, t: k.ops.repeat(t(None, 3), [1, 2, 3], axis=1),
    "diff": lambda k, t: k.ops.diff(t(None, 3), n=2, axis=0),
    "array_split": lambda k, t: k.ops.array_split(t(None, 3), 2, axis=0),
    "meshgrid": lambda k, t: k.ops.meshgrid(t(2, 3), t(2, 3, 4)),
    "unstack": lambda k, t: k.ops.unstack(t(2, None), num=3, axis=1),
    "slice": lambda k, t: k.ops.slice(t(5, 4), (1, 1), (-1, 2)),
    "take": lambda k, t: k.ops.take(t(5, 4), t(2, 3), axis=0),
    "take_along_axis": lambda k, t: k.ops.take_along_axis(t(5, 4), t(5, 1), axis=1),
    "bitwise_and": lambda k, t: k.ops.bitwise_and(t(None, 3), t(3)),
    "gcd": lambda k, t: k.ops.gcd(t(None, 3), t(3)),
    "segment_sum": lambda k, t: k.ops.segment_sum(t(None, 4), t(None)),
    "segment_max": lambda k, t: k.ops.segment_max(t(5, 4), t(5), 3),
    "scatter": lambda k, t: k.ops.scatter(t(2, 1), t(2), (5,)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_inferred_as_by_keras(name):
    found = []
    for module in (keras, kerax):
        given = SHAPES[name](module, lambda *shape, k=module: k.KerasTensor(shape))
        found.append([tensor.shape for tensor in (given if isinstance(given, (list, tuple)) else [given])])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "use",
    [
        lambda o, t: o.matmul(t(2, 3), t(2, 3)),
        lambda o, t: o.dot(t(2, 3), t(2, 3)),
        lambda o, t: o.inner(t(5, 3), t(4)),
        lambda o, t: o.transpose(t(2, 3), (0, 0)),
        lambda o, t: o.reshape(t(2, 3), (-2, 3)),
        lambda o, t: o.reshape(X, (-2, 12)),
        lambda o, t: o.reshape(X, (-1, -1, 2)),
        lambda o, t: o.swapaxes(t(2, 3), 0, 9),
        lambda o, t: o.argmax(t(2, 3), axis=9),
        lambda o, t: o.concatenate([t(2, 3), t(3, 2)], axis=0),
        lambda o, t: o.get_item(t(2, 3), 5),
        lambda o, t: o.get_item(t(None, 3), (0, 7)),
        lambda o, t: o.get_item(t(None, 3), (..., 7)),
        lambda o, t: o.histogram(X),
        lambda o, t: o.histogram(t(2), range=(1,)),
        lambda o, t: o.depth_to_space(t(1, 2, 2, 4), 0),
        lambda o, t: o.space_to_depth(t(1, 2, 2, 4), 0),
        lambda o, t: o.scatter_update(X, [[0, 0]], [1.0], reduction="power"),
        lambda o, t: o.unstack(t(2, None), axis=1),
        lambda o, t: o.stft(np.ones(10, "float32"), 4, 0, 4),
        lambda o, t: o.istft((X, X), 4, 2.0, 6),
        lambda o, t: o.view_as_complex(X),
        lambda o, t: o.cdist(X, X[:, :2]),
        lambda o, t: o.segment_sum(t(5, 4), t(6), 3),
        lambda o, t: o.segment_max(t(5, 4), t(6)),
        lambda o, t: o.cholesky(t(None, 20, 15)),
        lambda o, t: o.cholesky(X),
        lambda o, t: o.matrix_rank(t(3)),
        lambda o, t: o.solve_triangular(t(10, 20, 15), t(10, 20, 5)),
        lambda o, t: o.eigh(t(10, 20, 15)),
        lambda o, t: o.normalize(X, order=0),
        lambda o, t: o.normalize(X, order=1.5),
    ],
)
def test_what_does_not_fit_is_a_value_error_as_in_keras(use):
    for module in (keras, kerax):
        with pytest.raises(ValueError):
            use(module.ops, lambda *shape, k=module: k.KerasTensor(shape))


@pytest.mark.medium
def test_values_of_more_arguments_are_those_of_keras():
    for module in (keras, kerax):
        o = module.ops
        np.testing.assert_array_equal(o.slice(X, (1, 1), (-1, 2)), X[1:, 1:3])
        assert np.isnan(o.unique(np.array([np.nan, 1.0, np.nan]))).sum() == 2
    np.testing.assert_array_equal(ops.repeat(X, [2, 0, 1], axis=0), X[[0, 0, 2]])
    np.testing.assert_array_equal(ops.broadcast_to(X, (2, None, 4)), np.stack([X, X]))


def test_a_gradient_of_ones_own_takes_variables():
    @ops.custom_gradient
    def doubled(x):
        return 2 * x, lambda upstream: (upstream * 5,)

    assert float(doubled(kerax.Variable(3.0))) == 6


@pytest.mark.parametrize("index, axis", [([0, 4], 1), ([-4], 0), ([[12]], None)])
def test_an_index_out_of_range_is_told(index, axis):
    with pytest.raises(ValueError, match=r"take: index .* is out of range for axis .* of size"):
        ops.take(X, index, axis=axis)
    np.testing.assert_array_equal(ops.take(X, [-1, 0], axis=axis), np.take(X, [-1, 0], axis=axis))


@pytest.mark.parametrize(
    "product",
    [
        lambda k, x, y: k.ops.matmul(x, y),
        lambda k, x, y: k.ops.einsum("ij,jk->ik", x, y),
        lambda k, x, y: k.Variable(x, dtype="int8") @ k.Variable(y, dtype="int8"),
    ],
)
def test_products_of_8_bit_integers_do_not_overflow(product):
    x, y = np.full((2, 40), 100, "int8"), np.full((40, 3), 100, "int8")
    found = product(kerax, x, y)
    assert found.dtype == "int32" and found.dtype.name == product(keras, x, y).dtype.name
    np.testing.assert_array_equal(found, x.astype("int32") @ y.astype("int32"))


def test_symbolic_products_of_8_bit_integers():
    x, y = kerax.KerasTensor((2, 5), "int8"), kerax.KerasTensor((5, 3), "int8")
    assert [found.dtype for found in (x @ y, kerax.ops.einsum("ij,jk->ik", x, y))] == ["int32", "int32"]
    assert kerax.ops.matmul(x, kerax.KerasTensor((5, 3), "uint8")).dtype == "int16"


@pytest.mark.parametrize("name", ["ceil", "floor"])
@pytest.mark.parametrize("dtype", ["int8", "uint32", "bool", "float16"])
def test_roundings_give_floats(name, dtype):
    found, expected = getattr(ops, name)(np.ones(2, dtype)), getattr(keras.ops, name)(np.ones(2, dtype))
    assert found.dtype.name == expected.dtype.name == getattr(ops, name)(KerasTensor((2,), dtype)).dtype
