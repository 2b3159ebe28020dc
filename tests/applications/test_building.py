"""Arguments of the applications, and building on tensors of one's own."""

import numpy as np
import pytest

import kerax
from kerax import layers

SMALL = {"alpha": 0.25, "weights": None}


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"input_shape": (31, 64, 3)}, "at least 32 by 32. Got input_shape=.31, 64, 3."),
        ({"input_shape": (64, 64)}, "three sizes, .'height', 'width', 'channels'.. Got .64, 64."),
        ({"input_shape": (None, 64, 3)}, "no None. Got .None, 64, 3."),
        ({"pooling": "mean", "include_top": False}, "`pooling` must be None, 'avg' or 'max'. Got 'mean'"),
        ({"weights": "image-net"}, "a URL or the path of an existing file. Got 'image-net'"),
        ({"weights": "imagenet", "classes": 10}, "1000 classes. Got classes=10"),
        ({"weights": "imagenet", "input_shape": (64, 64, 3)}, "must be .224, 224, 3.. Got .64, 64, 3."),
        ({"weights": "imagenet", "input_shape": (64, 64, 1), "include_top": False}, "3 channels"),
        ({"weights": "imagenet", "classifier_activation": "relu"}, "'softmax' or None. Got 'relu'"),
        ({"input_tensor": np.zeros((1, 64, 64, 3))}, "must be a symbolic tensor"),
    ],
)
def test_arguments_that_do_not_go_together_are_named_before_anything_is_built(kwargs, message):
    with pytest.raises(ValueError, match=f"resnet50: .*{message}"):
        kerax.applications.ResNet50(**{"weights": None} | kwargs)


def test_mobilenets_have_widths_that_weights_exist_for():
    with pytest.raises(ValueError, match="alpha in .0.25, 0.5, 0.75, 1.0.*alpha=0.3"):
        kerax.applications.MobileNet(alpha=0.3)
    with pytest.raises(ValueError, match="alpha=0.3"):
        kerax.applications.MobileNetV2(alpha=0.3)
    with pytest.raises(ValueError, match="alpha=1, or 0.75 unless minimalistic"):
        kerax.applications.MobileNetV3Small(alpha=0.75, minimalistic=True)
    with pytest.raises(ValueError, match="known `input_shape`"):
        kerax.applications.NASNetLarge(include_top=False, input_shape=(None, None, 3))


@pytest.mark.medium
def test_an_unusual_number_of_channels_is_warned_of():
    with pytest.warns(UserWarning, match="1 or 3 input channels"):
        model = kerax.applications.MobileNet(input_shape=(32, 32, 4), **SMALL)
    assert model.input_shape == (None, 32, 32, 4)


@pytest.mark.medium
def test_models_of_any_size_and_their_names():
    model = kerax.applications.MobileNet(include_top=False, **SMALL)
    assert (model.name, model.input_shape, model.output_shape) == (
        "mobilenet_0.25_None",
        (None, None, None, 3),
        (None, None, None, 256),
    )
    model = kerax.applications.MobileNet(include_top=False, pooling="max", input_shape=(64, 96, 3), **SMALL)
    assert (model.name, model.output_shape) == ("mobilenet_0.25_64", (None, 256))
    assert kerax.applications.MobileNet(name="mine", **SMALL).name == "mine"


@pytest.mark.medium
def test_a_model_can_be_built_on_a_tensor():
    image = kerax.Input((40, 40, 1))
    three = layers.Conv2D(3, 1)(image)
    model = kerax.applications.MobileNetV3Small(input_tensor=three, include_top=False, pooling="avg", **SMALL)
    assert model.input_shape == (None, 40, 40, 1)
    assert model.inputs[0] is image
    assert model.layers[1].name == "conv2d"
    assert model.predict(np.zeros((2, 40, 40, 1)), verbose=0).shape == model.output_shape[:0] + (2, 576 // 4)


def test_the_tensor_and_the_shape_must_agree_where_both_are_given():
    with pytest.raises(ValueError, match="differs from input_shape=.64, 64, 3."):
        kerax.applications.MobileNetV2(input_tensor=kerax.Input((32, 32, 3)), input_shape=(64, 64, 3), **SMALL)


@pytest.mark.slow
def test_a_model_is_trained_as_any_other_and_described_by_its_config():
    kerax.utils.set_random_seed(0)
    model = kerax.applications.MobileNet(input_shape=(32, 32, 3), classes=2, dropout=0.0, **SMALL)
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.get_weights()
    x = np.random.default_rng(0).uniform(-1, 1, size=(4, 32, 32, 3)).astype("float32")
    losses = model.fit(x, np.array([0, 1, 0, 1]), epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert any((old != new).any() for old, new in zip(before, model.get_weights()))
    again = kerax.Model.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in model.weights]


@pytest.mark.medium
@pytest.mark.parametrize("name", [pytest.param("InceptionResNetV2", marks=pytest.mark.slow), "ConvNeXtTiny"])
def test_layers_of_their_own_are_found_by_configs(name):
    model = getattr(kerax.applications, name)(weights=None, include_top=False, input_shape=(75, 75, 3))
    again = kerax.Model.from_config(model.get_config())
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in model.weights]


def test_unknown_names_are_suggested():
    with pytest.raises(AttributeError, match="Did you mean 'Xception'"):
        getattr(kerax.applications, "Xeption")  # noqa: B009
    assert "VGG16" in dir(kerax.applications)
