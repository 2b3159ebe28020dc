import jax.numpy as jnp
import numpy as np
import pytest

from kerax import layers


def test_upsampling_repeats_rows_and_columns():
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    expected = np.repeat(np.repeat(np.asarray(x), 2, 1), 3, 2)
    np.testing.assert_array_equal(layers.UpSampling2D((2, 3))(x), expected)
    np.testing.assert_array_equal(layers.UpSampling1D(2)(x[0]), np.repeat(np.asarray(x[0]), 2, 1))


def test_zero_padding_keeps_the_order_of_its_sides():
    outputs = layers.ZeroPadding2D(((1, 0), (0, 2)))(jnp.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(outputs[0, :, :, 0], [[0, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(layers.ZeroPadding1D((1, 2))(jnp.ones((1, 1, 1))).ravel(), [0, 1, 0, 0])


def test_cropping_undoes_zero_padding():
    x, pairs = jnp.ones((1, 2, 3, 4, 1)), ((1, 2), (0, 1), (3, 0))
    np.testing.assert_array_equal(layers.Cropping3D(pairs)(layers.ZeroPadding3D(pairs)(x)), x)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: layers.Cropping1D(3)(jnp.zeros((1, 5, 1))), r"Cropping1D.*leaves nothing of the input.*\(1, 5, 1\)"),
        (lambda: layers.Cropping2D(((3, 2), (0, 0)))(jnp.zeros((1, 5, 6, 1))), "Cropping2D.*leaves nothing"),
        (lambda: layers.Cropping1D(-1), "`cropping` must be an integer of at least 0"),
        (lambda: layers.Cropping2D((1, 2, 3)), "or 2 numbers or pairs"),
        (lambda: layers.ZeroPadding1D((1, 2, 3)), "or 1 numbers or pairs"),
        (lambda: layers.ZeroPadding3D((1, -2, 3)), "`padding` must be an integer of at least 0"),
        (lambda: layers.ZeroPadding3D(1)(jnp.zeros((1, 5, 6, 1))), "expected an input with ndim=5"),
        (lambda: layers.UpSampling1D(0), "`size` must be an integer of at least 1"),
        (lambda: layers.UpSampling3D((1, 2)), "or 3 of them"),
        (lambda: layers.UpSampling2D(2, interpolation="cubic"), "`interpolation` must be one of"),
    ],
)
def test_bad_arguments_and_inputs_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_cropping_of_sequences_takes_no_data_format():
    with pytest.raises(TypeError, match="Cropping1D: unknown argument 'data_format'"):
        layers.Cropping1D(1, data_format="channels_first")
