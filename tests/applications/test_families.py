"""Every application is Keras's: layers, weights and outputs."""

import importlib
import inspect
import subprocess
import sys

import jax
import keras
import numpy as np
import pytest

import kerax
from tests.applications import models

CASES = {
    "ConvNeXtTiny": (32, {}),
    "DenseNet121": (32, {}),
    "EfficientNetB0": (33, {}),
    "EfficientNetV2B0": (32, {}),
    "InceptionResNetV2": (75, {}),
    "InceptionV3": (75, {}),
    "MobileNet": (33, {"alpha": 0.25, "depth_multiplier": 2}),
    "MobileNetV2": (33, {"alpha": 0.35}),
    "MobileNetV3Large": (32, {"alpha": 0.25}),
    "NASNetMobile": (32, {}),
    "ResNet50": (33, {}),
    "ResNet50V2": (33, {}),
    "VGG16": (32, {"include_top": False, "pooling": "avg"}),
    "Xception": (71, {}),
}


def assert_same_outputs(name, size, **kwargs):
    """Equal weights in, equal logits out."""
    kwargs = {"classes": 7, "classifier_activation": None, "input_shape": (size, size, 3), **kwargs}
    theirs = models.build_keras(name, **kwargs)
    ours = getattr(kerax.applications, name)(weights=None, **kwargs)
    assert models.describe(ours) == models.describe(theirs)
    values = models.likely_weights(theirs)
    ours.set_weights(values)
    theirs.set_weights(values)
    x = np.random.default_rng(1).uniform(0, 1, size=(2, size, size, 3)).astype("float32")
    # One program each compiles several times faster than operation by operation.
    expected = np.asarray(models.jitted(theirs)(x))
    found = jax.jit(lambda x: ours.apply(ours.variables_tree(), x)[0])(x)
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.medium
def test_a_small_model_computes_what_keras_computes():
    assert_same_outputs("MobileNetV3Small", 32, alpha=0.25, minimalistic=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_models_compute_what_keras_computes(name):
    size, kwargs = CASES[name]
    assert_same_outputs(name, size, **kwargs)


@pytest.mark.parametrize("name", ["ResNet50", "VGG16", "MobileNet"])
def test_layers_and_weights_are_those_of_keras(name):
    assert models.describe(getattr(kerax.applications, name)(weights=None)) == models.TABLE[name]


@pytest.mark.slow
def test_layers_and_weights_of_all_models_are_those_of_keras():
    found = {name: models.describe(getattr(kerax.applications, name)(weights=None)) for name in models.TABLE}
    assert found == models.TABLE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VGG19", "ResNet101", "EfficientNetV2B1"])
def test_the_table_is_what_keras_builds(name):
    assert models.describe(models.build_keras(name)) == models.TABLE[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetB0", "ConvNeXtTiny"])
def test_features_without_the_classifier_have_keras_layers(name):
    kwargs = {"include_top": False, "pooling": "max"}
    ours, theirs = getattr(kerax.applications, name)(weights=None, **kwargs), models.build_keras(name, **kwargs)
    assert models.describe(ours) == models.describe(theirs)
    assert (ours.input_shape, ours.output_shape, ours.name) == (theirs.input_shape, theirs.output_shape, theirs.name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "EfficientNetB0", "InceptionV3"])
def test_channels_may_come_first(name):
    try:
        kerax.config.set_image_data_format("channels_first")
        keras.config.set_image_data_format("channels_first")
        ours, theirs = getattr(kerax.applications, name)(weights=None), models.build_keras(name)
        assert models.describe(ours) == models.describe(theirs)
        assert ours.input_shape == theirs.input_shape
        for mine, other in zip(ours.layers, theirs.layers):
            assert mine.output.shape == other.output.shape, mine.name
        with pytest.raises(ValueError, match="channels_last"):
            kerax.applications.NASNetMobile(weights=None)
    finally:
        kerax.config.set_image_data_format("channels_last")
        keras.config.set_image_data_format("channels_last")


def with_own_layers(k, convnext, inception_resnet_v2):
    x = k.Input((3,))
    scaled = convnext.LayerScale(0.5, 3)(x)
    return k.Model(x, inception_resnet_v2.CustomScaleLayer(0.1)([scaled, x]))


@pytest.mark.medium
def test_layers_that_only_applications_have_go_both_ways_in_keras_files(tmp_path):
    from keras.src.applications import convnext, inception_resnet_v2

    ours = with_own_layers(kerax, kerax.applications.convnext, kerax.applications.inception_resnet_v2)
    theirs = with_own_layers(keras, convnext, inception_resnet_v2)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    ours.save(tmp_path / "ours.keras")
    theirs.save(tmp_path / "theirs.keras")
    for model in (
        keras.saving.load_model(tmp_path / "ours.keras"),
        kerax.saving.load_model(tmp_path / "theirs.keras"),
        kerax.saving.load_model(tmp_path / "ours.keras"),
    ):
        np.testing.assert_allclose(model(x), 0.6 * x, rtol=1e-6)
    script = "import sys, kerax; print([layer.name for layer in kerax.saving.load_model(sys.argv[1]).layers])"
    command = [sys.executable, "-c", script, str(tmp_path / "theirs.keras")]  # where no application was imported before
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "custom_scale_layer" in shown.stdout


def arguments(function) -> list[tuple]:
    """Names, kinds and defaults; Keras's have no annotations."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_names_and_signatures_are_those_of_keras():
    modules = [name for name in dir(keras.applications) if inspect.ismodule(getattr(keras.applications, name))]
    assert len(modules) == 17
    for home in ("", *modules):
        theirs = importlib.import_module(f"keras.applications{'.' + home if home else ''}")
        ours = importlib.import_module(f"kerax.applications{'.' + home if home else ''}")
        for name in dir(theirs):
            if inspect.isfunction(getattr(theirs, name)):
                function = getattr(ours, name)
                assert arguments(function) == arguments(getattr(theirs, name))
                assert function.__doc__


def test_importing_the_package_loads_no_model():
    code = """
import sys, kerax.applications
print([name for name in sys.modules if name.startswith(("kerax.applications.", "jax"))])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
