"""`set_compatibility`: Keras's way where kerax's is another on purpose, and only where it is asked for."""

import sys

import keras
import numpy as np
import pytest

import kerax
from kerax import config, layers

PREDICTIONS = np.random.default_rng(0).random((6, 3)).astype("f")
SHAPES = [(6, 1), (1, 3), (3,)]
LOSSES = ["mse", "mae", "msle", "huber", "log_cosh", "hinge", "squared_hinge", "poisson"]


def targets(shape):
    return (np.random.default_rng(1).random(shape) > 0.5).astype("f")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_broadcast_as_keras_does(name, shape):
    loss, y = kerax.losses.get(name), targets(shape)
    with config.compatibility_scope("keras"):
        np.testing.assert_allclose(loss(y, PREDICTIONS), keras.losses.get(name)(y, PREDICTIONS), rtol=1e-5)
    with pytest.raises(ValueError, match="`y_true` has shape"):
        loss(y, PREDICTIONS)


@pytest.mark.parametrize("name", ["MeanSquaredError", "MeanAbsoluteError", "BinaryAccuracy"])
def test_metrics_broadcast_as_keras_does(name):
    y, theirs = targets((6, 1)), getattr(keras.metrics, name)()
    theirs.update_state(y, PREDICTIONS)
    with config.compatibility_scope("keras"):
        ours = getattr(kerax.metrics, name)()
        ours.update_state(y, PREDICTIONS)
    np.testing.assert_allclose(ours.result(), theirs.result(), rtol=1e-6)


@pytest.mark.parametrize("name", ["binary_crossentropy", "categorical_crossentropy"])
def test_crossentropies_do_not_broadcast_in_keras_either(name):
    with config.compatibility_scope("keras"), pytest.raises(ValueError, match="y_true"):
        kerax.losses.get(name)(targets((6, 1)), PREDICTIONS)


def test_programs_of_one_way_are_not_used_in_the_other():
    model = kerax.Sequential([kerax.Input((2,)), layers.Dense(3)])
    model.compile("sgd", "mse")
    with config.compatibility_scope("keras"):
        model.fit(np.ones((6, 2)), targets((6, 1)), verbose=0)
    with pytest.raises(ValueError, match="does not broadcast"):
        model.fit(np.ones((6, 2)), targets((6, 1)), verbose=0)


def test_the_setting_holds_until_it_is_changed(monkeypatch):
    monkeypatch.setattr(config, "_compatibility", "kerax")
    assert config.compatibility() == "kerax"
    config.set_compatibility("keras")
    assert config.compatibility() == "keras"
    with config.compatibility_scope("kerax"):
        assert config.compatibility() == "kerax"
    with pytest.raises(ValueError, match="'torch'"):
        config.set_compatibility("torch")


MODULE = """
import {name} as keras

class Twice(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2

def three_times(inputs):
    return inputs * 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user's module that nobody has imported."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_layers.py").write_text(MODULE.format(name="kerax"))
    yield "users_layers"
    sys.modules.pop("users_layers", None)


def test_files_name_modules(module, tmp_path):
    description = {"module": module, "class_name": "Twice", "config": {"name": "a"}, "registered_name": "Twice"}
    with pytest.raises(ValueError, match="Unknown class 'Twice'"):
        kerax.saving.deserialize_keras_object(description)
    assert module not in sys.modules
    function = {"module": module, "class_name": "function", "config": "three_times", "registered_name": "three_times"}
    with config.compatibility_scope("keras"):
        layer = kerax.saving.deserialize_keras_object(description)
        assert layer(np.ones(2)).tolist() == [2, 2]
        assert kerax.saving.deserialize_keras_object(function)(2) == 6
        model = kerax.Sequential(
            [kerax.Input((2,)), layer, layers.Dense(1, activation=sys.modules[module].three_times)]
        )
        model.save(tmp_path / "model.keras")
        loaded = kerax.models.load_model(tmp_path / "model.keras")
    x = np.ones((3, 2), "f")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    with pytest.raises(ValueError, match="Unknown"):
        kerax.models.load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("name", ["os", "subprocess", "shutil"])
def test_nothing_of_pythons_library_is_imported_by_a_file(name):
    description = {"module": name, "class_name": "function", "config": "rmtree", "registered_name": "rmtree"}
    with config.compatibility_scope("keras"), pytest.raises(ValueError, match="Unknown function"):
        kerax.saving.deserialize_keras_object(description)
    missing = {"module": "not_there_at_all", "class_name": "A", "config": {}, "registered_name": "A"}
    with config.compatibility_scope("keras"), pytest.raises(ValueError, match="not_there_at_all"):
        kerax.saving.deserialize_keras_object(missing)
