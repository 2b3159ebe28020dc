"""Pixels as each family expects them, and names of classes."""

import importlib
import json

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax.applications import imagenet_utils

FAMILIES = [name for name in kerax.applications.__all__ if name.islower() and name != "imagenet_utils"]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first", None])
@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_preprocessing_is_keras_s(mode, data_format):
    rng = np.random.default_rng(0)
    for shape in ((2, 4, 5, 3), (4, 5, 3)):
        shape = (*shape[:-3], 3, *shape[-3:-1]) if data_format == "channels_first" else shape
        for dtype in ("float32", "float64", "uint8"):
            x = rng.uniform(0, 255, size=shape).astype(dtype)
            before = x.copy()
            found = imagenet_utils.preprocess_input(x, data_format, mode)
            np.testing.assert_array_equal(x, before)  # Keras's writes over floats
            expected = keras.applications.imagenet_utils.preprocess_input(x.copy(), data_format, mode)
            assert isinstance(found, np.ndarray) and found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)
            symbolic = kerax.Input(shape, batch_size=1, dtype="float32" if dtype == "float64" else dtype)
            assert imagenet_utils.preprocess_input(symbolic, data_format, mode).shape == (1, *shape)
        np.testing.assert_allclose(
            imagenet_utils.preprocess_input(jnp.asarray(x), data_format, mode), found, rtol=1e-5, atol=1e-4
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_keras_s_mode(family):
    x = np.random.default_rng(0).uniform(0, 255, size=(1, 2, 2, 3)).astype("float32")
    ours = importlib.import_module(f"kerax.applications.{family}").preprocess_input(x)
    theirs = importlib.import_module(f"keras.applications.{family}").preprocess_input(x.copy())
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-5)


def test_wrong_modes_and_layouts_are_named():
    x = np.zeros((1, 2, 2, 3))
    with pytest.raises(ValueError, match="'caffe', 'tf' or 'torch'. Got 'tensorflow'"):
        imagenet_utils.preprocess_input(x, mode="tensorflow")
    with pytest.raises(ValueError, match="data_format"):
        imagenet_utils.preprocess_input(x, "channels_middle")


@pytest.fixture
def classes(tmp_path, monkeypatch):
    """Made-up names in the place of the file that is downloaded."""
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({str(index): [f"n{index:08}", f"thing {index}"] for index in range(1000)}))
    asked = []

    def get_file(*args, **kwargs):
        asked.append((args, kwargs))
        return str(path)

    monkeypatch.setattr(imagenet_utils, "get_file", get_file)
    monkeypatch.setattr(imagenet_utils, "_class_index", {})
    return asked


def test_predictions_are_decoded_likeliest_first(classes):
    scores = np.zeros((2, 1000), "float32")
    scores[0, [7, 3]] = 0.25, 0.75
    scores[1, 999] = 1
    first, second = kerax.applications.resnet50.decode_predictions(jnp.asarray(scores), top=2)
    assert first == [("n00000003", "thing 3", 0.75), ("n00000007", "thing 7", 0.25)]
    assert second[0] == ("n00000999", "thing 999", 1.0) and len(second) == 2
    imagenet_utils.decode_predictions(scores)
    assert len(classes) == 1  # the file is read once
    assert classes[0][1]["file_hash"] == keras_s_checksum()


def keras_s_checksum():
    import inspect

    from keras.src.applications import imagenet_utils as theirs

    return inspect.getsource(theirs).split('file_hash="')[1].split('"')[0]


def test_predictions_of_another_shape_are_refused():
    for shape in ((1000,), (1, 10)):
        with pytest.raises(ValueError, match=r"\(rows, 1000\). Got " + str(shape).replace("(", r"\(").split(",")[0]):
            imagenet_utils.decode_predictions(np.zeros(shape))
