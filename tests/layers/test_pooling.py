import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.core import masks
from kerax.core.symbolic import KerasTensor


def test_max_pooling_drops_what_is_left_over():
    x = jnp.arange(5.0).reshape(1, 5, 1)
    np.testing.assert_array_equal(layers.MaxPooling1D(2)(x).ravel(), [1, 3])
    np.testing.assert_array_equal(layers.MaxPooling1D(2, padding="same")(x).ravel(), [1, 3, 4])


def test_average_pooling_does_not_count_padding():
    x = jnp.ones((1, 5, 5, 1))
    np.testing.assert_allclose(layers.AveragePooling2D(3, strides=2, padding="same")(x), jnp.ones((1, 3, 3, 1)))


@pytest.mark.medium
def test_tiles_and_windows_agree(key):
    x = jax.random.normal(key, (2, 9, 7, 3))
    for cls in (layers.MaxPooling2D, layers.AveragePooling2D):
        small, large = cls((2, 3)), cls((2, 3))
        large._is_tiling = lambda: False
        np.testing.assert_allclose(small(x), large(x), rtol=1e-5)


def test_unknown_sizes_stay_unknown():
    for kwargs in (
        {},
        {"padding": "same"},
        {"pool_size": 3, "strides": 2},
        {"pool_size": 3, "strides": 2, "padding": "same"},
    ):
        assert layers.MaxPooling2D(**kwargs)(KerasTensor((None, None, None, 3))).shape == (None, None, None, 3)


def test_max_pooling_of_integers():
    x = jnp.arange(6).reshape(1, 6, 1)
    outputs = layers.MaxPooling1D(3, strides=2, padding="same", dtype="int32")(x)
    np.testing.assert_array_equal(outputs.ravel(), [2, 4, 5])


def test_max_pooling_shares_the_gradient_of_equal_values():
    gradient = jax.grad(lambda x: layers.MaxPooling1D(2)(x).sum())(jnp.ones((1, 2, 1)))
    np.testing.assert_allclose(gradient.ravel(), [0.5, 0.5])


def test_masked_steps_do_not_count():
    x = jnp.array([[[1.0], [5.0], [3.0]]])
    outputs = layers.GlobalAveragePooling1D()(layers.Masking(5.0)(x))
    np.testing.assert_allclose(outputs, [[2.0]])
    assert masks.get_mask(outputs) is None


def test_bad_arguments_and_inputs_are_refused():
    with pytest.raises(ValueError, match="`pool_size` must be"):
        layers.MaxPooling2D(0)
    with pytest.raises(ValueError, match="`padding` must be one of"):
        layers.MaxPooling2D(2, padding="causal")
    with pytest.raises(ValueError, match=r"the window is larger than the input.*\(1, 1, 4, 1\)"):
        layers.MaxPooling2D(2)(jnp.zeros((1, 1, 4, 1)))
    with pytest.raises(ValueError, match="`data_format` must be"):
        layers.MaxPooling2D(2, data_format="channels")


def test_aliases_are_the_same_classes():
    assert layers.MaxPool2D is layers.MaxPooling2D
    assert layers.GlobalAvgPool1D is layers.GlobalAveragePooling1D
    assert layers.Convolution2D is layers.Conv2D


@pytest.mark.medium
def test_tiles_and_windows_agree_in_volumes_and_sequences(key):
    for shape, size, classes in (
        ((2, 5, 4, 3, 2), 2, (layers.MaxPooling3D, layers.AveragePooling3D)),
        ((2, 12, 2), 5, (layers.MaxPooling1D, layers.AveragePooling1D)),
    ):
        x = jax.random.normal(key, shape)
        for cls in classes:
            tiles, reduce = cls(size)(x), np.max if cls.reduction == "max" else np.mean
            rank = len(shape) - 2
            whole = np.asarray(x)[(slice(None), *(slice(n // size * size) for n in shape[1:-1]))]
            split = [part for n in whole.shape[1:-1] for part in (n // size, size)]
            expected = reduce(whole.reshape(shape[0], *split, shape[-1]), tuple(range(2, 2 * rank + 1, 2)))
            np.testing.assert_allclose(tiles, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.medium
def test_a_maximum_shares_its_gradient_among_equal_values_in_layer_and_op():
    x = jnp.array([[3.0, 3.0, 1.0, 2.0]]).reshape(1, 2, 2, 1)
    by_layer = jax.grad(lambda x: jnp.sum(layers.MaxPooling2D(2)(x)))(x)
    by_op = jax.grad(lambda x: jnp.sum(kerax.ops.max_pool(x, 2)))(x)
    np.testing.assert_allclose(by_layer.ravel(), [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(by_op, by_layer)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_adaptive_windows_cover_every_position(size):
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    starts = [i * 5 // size for i in range(size)]
    ends = [-(-(i + 1) * 5 // size) for i in range(size)]
    for cls, reduce in ((layers.AdaptiveAveragePooling1D, np.mean), (layers.AdaptiveMaxPooling1D, np.max)):
        expected = np.stack([reduce(x[:, a:b], 1) for a, b in zip(starts, ends, strict=True)], 1)
        np.testing.assert_allclose(cls(size)(x), expected, rtol=1e-5, atol=1e-6)


def test_adaptive_pooling_knows_its_size_where_the_input_does_not():
    assert layers.AdaptiveMaxPooling2D((2, 4))(KerasTensor((None, None, None, 3))).shape == (None, 2, 4, 3)


def test_bad_adaptive_and_3d_pooling_is_refused():
    with pytest.raises(ValueError, match="`output_size` must be an integer of at least 1, or 2 of them"):
        layers.AdaptiveAveragePooling2D((2, None))
    with pytest.raises(ValueError, match="expected an input with ndim=5"):
        layers.AdaptiveMaxPooling3D(2)(jnp.zeros((1, 2, 2, 1)))
    with pytest.raises(ValueError, match="MaxPooling3D.*the window is larger than the input"):
        layers.MaxPooling3D(2)(jnp.zeros((1, 2, 1, 2, 1)))
    assert layers.AvgPool3D is layers.AveragePooling3D and layers.GlobalMaxPool3D is layers.GlobalMaxPooling3D


@pytest.mark.parametrize(
    "make", [layers.MaxPooling2D, layers.AveragePooling1D, layers.Conv2D], ids=lambda cls: cls.__name__
)
@pytest.mark.parametrize("padding", [2, "full", None], ids=str)
def test_padding_is_a_word(make, padding):
    with pytest.raises(ValueError, match="`padding` must be one of"):
        make(2, 3, padding=padding)
    assert make(2, 3, padding="SAME").padding == "same"


@pytest.mark.parametrize("interpolation", [2, "cubic", None], ids=str)
def test_interpolation_is_a_word(interpolation):
    with pytest.raises(ValueError, match="`interpolation` must be one of"):
        layers.UpSampling2D(2, interpolation=interpolation)
