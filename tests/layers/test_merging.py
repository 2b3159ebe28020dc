import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core import masks

ONE, TWO = jnp.array([[1.0, 5.0]]), jnp.array([[3.0, 2.0]])


@pytest.mark.parametrize(
    "function, expected",
    [
        (layers.add, [[4, 7]]),
        (layers.subtract, [[-2, 3]]),
        (layers.multiply, [[3, 10]]),
        (layers.average, [[2, 3.5]]),
        (layers.maximum, [[3, 5]]),
        (layers.minimum, [[1, 2]]),
        (layers.concatenate, [[1, 5, 3, 2]]),
        (layers.dot, [[13]]),
    ],
)
def test_functions_merge_two_arrays(function, expected):
    np.testing.assert_allclose(function([ONE, TWO]), expected)


def test_inputs_of_fewer_axes_are_aligned_behind_the_batch():
    outputs = layers.Add()([jnp.zeros((2, 3, 4)), jnp.arange(8.0).reshape(2, 4)])
    np.testing.assert_array_equal(outputs[:, 1], jnp.arange(8.0).reshape(2, 4))


@pytest.mark.parametrize(
    "layer, shapes, message",
    [
        (layers.Add(), [(2, 3), (2, 4)], r"equal shapes.*\(2, 3\), \(2, 4\)"),
        (layers.Add(), [(2, 3), (1, 3)], "same batch size"),
        (layers.Subtract(), [(2, 3)] * 3, "expected exactly 2 inputs. Got 3"),
        (layers.Concatenate(), [(2, 3), (3, 3)], "equal sizes but along axis -1"),
        (layers.Concatenate(axis=2), [(2, 3), (2, 3)], "among them axis 2"),
        (layers.Dot(axes=1), [(2, 3), (2, 4)], "the sizes of `axes`=1 must be equal"),
        (layers.Dot(axes=2), [(2, 3), (2, 3)], "must be an axis after the batch axis"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(layer, shapes, message):
    with pytest.raises(ValueError, match=message):
        layer([jnp.zeros(shape) for shape in shapes])


def test_a_single_array_is_refused():
    with pytest.raises(ValueError, match="call it on a list of inputs"):
        layers.Add()(ONE)


def test_dot_refuses_the_batch_axis():
    with pytest.raises(ValueError, match="`axes` must be an axis other than 0"):
        layers.Dot(axes=(0, 1))


def masked(values, kept):
    outputs = jnp.asarray(values)[None, :, None]
    masks.set_mask(outputs, jnp.asarray(kept)[None])
    return outputs


@pytest.mark.parametrize(
    "layer, expected, expected_mask",
    [
        (layers.Add(), [4.0, 6.0, 4.0], [True, True, True]),
        (layers.Multiply(), [3.0, 4.0, 1.0], [True, True, True]),
        (layers.Maximum(), [3.0, 4.0, 1.0], [True, True, True]),
        (layers.Minimum(), [1.0, 4.0, 1.0], [True, True, True]),
        (layers.Concatenate(axis=1), [1, 2, 1, 3, 4, 3], [True, False, True, True, True, False]),
    ],
)
def test_masked_positions_do_not_count(layer, expected, expected_mask):
    first, second = masked([1.0, 2.0, 1.0], [True, False, True]), masked([3.0, 4.0, 3.0], [True, True, False])
    outputs = layer([first, second])
    np.testing.assert_allclose(outputs.ravel(), expected)
    np.testing.assert_array_equal(masks.get_mask(outputs)[0], expected_mask)


@pytest.mark.parametrize("axis", [1, -1, 2, -2])
@pytest.mark.parametrize("given", ["both", "first", "second", "of features"])
def test_masks_of_a_concatenation_are_kerass(axis, given):
    x, mask = np.ones((2, 3, 4), "float32"), np.array([[True, False, True], [False, False, True]])
    wide = np.repeat(mask[..., None], 4, -1)
    found = {"both": [mask, mask], "first": [mask, None], "second": [None, mask], "of features": [wide, mask[:, ::-1]]}
    ours, theirs = (k.layers.Concatenate(axis).compute_mask([x, x], found[given]) for k in (kerax, keras))
    np.testing.assert_array_equal(ours, theirs)
    if all(one is not None for one in found[given]):
        symbolic = kerax.Input((3, 4))  # of an unknown batch size
        assert kerax.layers.Concatenate(axis).compute_mask([symbolic, symbolic], found[given]).ndim == 2


@pytest.mark.parametrize("layer", ["Add", "Concatenate", "Maximum"])
@pytest.mark.parametrize("inputs, num_masks", [(2, 1), (1, 2), (3, 2)])
def test_merging_refuses_masks_that_are_not_one_for_each_input(layer, inputs, num_masks):
    x, mask = np.ones((2, 3, 4), "float32"), np.ones((2, 3), bool)
    for k in (kerax, keras):
        with pytest.raises(ValueError):
            getattr(k.layers, layer)().compute_mask([x] * inputs, [mask] * num_masks)
        with pytest.raises(ValueError):
            getattr(k.layers, layer)().compute_mask(x, mask)


@pytest.mark.medium
@pytest.mark.parametrize("name", ["Maximum", "Minimum", "Add"])
@pytest.mark.parametrize("is_graph", [False, True])
def test_sparse_inputs_stay_sparse(name, is_graph):
    from jax.experimental.sparse import BCOO

    first, second = np.array([[1, 0, -2], [0, 3, 0]], "f4"), np.array([[0, 1, -3], [0, 4, 0]], "f4")
    arrays = [BCOO.fromdense(first), BCOO.fromdense(second)]
    layer = getattr(kerax.layers, name)()
    if not is_graph:
        batched = layer([BCOO.fromdense(one[None], n_batch=1) for one in (first, second)])
        assert isinstance(batched, BCOO) and batched.shape == (1, 2, 3)
        layer = getattr(kerax.layers, name)()
    expected = {"Maximum": np.maximum, "Minimum": np.minimum, "Add": np.add}[name](first, second)
    if is_graph:
        inputs = [kerax.Input((3,), sparse=True), kerax.Input((3,), sparse=True)]
        symbolic = layer(inputs)
        assert symbolic.sparse
        layer = kerax.Model(inputs, symbolic)
    outputs = layer(arrays)
    assert isinstance(outputs, BCOO)
    np.testing.assert_array_equal(outputs.todense(), expected)
    np.testing.assert_array_equal(getattr(kerax.layers, name)()([arrays[0], second]), expected)  # with a dense one


@pytest.mark.medium
def test_one_batch_of_a_sparse_array_may_stand_for_all():
    from jax.experimental.sparse import BCOO

    first, second = (
        BCOO((jnp.array([values]), jnp.array([[[0], [place]]])), shape=(2, 3))
        for values, place in (([1.0, 2.0], 2), ([4.0, 5.0], 1))
    )
    outputs = layers.Maximum()([first, second])
    np.testing.assert_array_equal(outputs.todense(), [[4, 5, 2]] * 2)
