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
        (lambda: layers.ZeroPadding1D((1, 2, 3)), "or 2 of them"),
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


@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.ZeroPadding1D(2),
        lambda m: m.ZeroPadding2D((1, 2), data_format="channels_first"),
        lambda m: m.ZeroPadding3D(1),
        lambda m: m.Cropping2D(1),
        lambda m: m.UpSampling2D(2),
        lambda m: m.Conv2D(2, 3, strides=2),
        lambda m: m.SeparableConv1D(2, 3),
        lambda m: m.MaxPooling2D(),
        lambda m: m.Reshape([2, -1]),
        lambda m: m.SpatialDropout2D(0.1),
    ],
)
def test_configs_hold_what_keras_reads(make):
    import keras

    ours, theirs = make(layers).get_config(), make(keras.layers).get_config()
    for name in {*theirs} - {"name", "dtype", "activation"}:
        if not name.endswith("_initializer"):
            assert ours[name] == theirs[name], name


@pytest.mark.medium
@pytest.mark.parametrize("size", [np.int64(2), np.int32(3)])
def test_numpy_integers_are_sizes(size):
    x = np.ones((2, 6, 4), "float32")
    assert layers.Conv1D(size, size)(x).shape == (2, 7 - size, size)
    assert layers.LSTM(size)(x).shape == (2, size)
    assert layers.Reshape((size, -1))(x).shape == (2, size, 24 // size)
    assert layers.Input((size,)).shape == (None, size)


@pytest.mark.parametrize("make", [lambda: layers.RepeatVector("3"), lambda: layers.UpSampling1D("2")])
@pytest.mark.parametrize("kind", [TypeError, ValueError])
def test_text_for_a_size_is_of_the_wrong_type(make, kind):
    with pytest.raises(kind, match="must be an integer"):
        make()


def test_one_axis_takes_one_pair():
    for make in (layers.ZeroPadding1D, layers.Cropping1D):
        for wrong in ((1,), ((1, 2),), (1, 2, 3)):
            with pytest.raises(ValueError):
                make(wrong)
