import pytest

from kerax import layers


def test_input_is_the_output_of_an_input_layer():
    x = layers.Input((28, None), name="image")
    assert x.shape == (None, 28, None)
    assert x.dtype == "float32"
    layer, node, tensor = x._keras_history
    assert isinstance(layer, layers.InputLayer)
    assert (node, tensor, layer.name, layer.output) == (0, 0, "image", x)


def test_input_shapes_and_dtypes():
    assert layers.Input((3,), batch_size=8).shape == (8, 3)
    assert layers.Input(batch_shape=(4, None)).shape == (4, None)
    assert layers.Input((), dtype="int32").dtype == "int32"
    assert layers.Input(5).shape == (None, 5)


def test_input_around_a_tensor():
    x = layers.Input((3,))
    y = layers.Dense(2)(x)
    again = layers.Input(tensor=y)
    assert again is y
    assert isinstance(y._keras_history[0], layers.InputLayer)


def test_config_makes_the_same_input():
    layer = layers.InputLayer((3, 4), dtype="int32", name="ids", optional=True)
    config = layer.get_config()
    assert list(config) == ["batch_shape", "dtype", "sparse", "ragged", "name", "optional"]
    assert layers.InputLayer.from_config(config).get_config() == config


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({}, "`shape` is missing"),
        ({"shape": (3,), "batch_shape": (2, 3)}, "pass either `batch_shape` or `shape`"),
        ({"shape": (-3,)}, "sizes of at least 0"),
        ({"shape": (3,), "ragged": True}, "`ragged` is not supported"),
    ],
)
def test_mistakes_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        layers.Input(**kwargs)
