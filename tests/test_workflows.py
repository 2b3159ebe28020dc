"""The classic workflows on real handwritten digits, each with the accuracy it must reach."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kerax
from kerax import layers, ops

(X_TRAIN, Y_TRAIN), (X_TEST, Y_TEST) = kerax.datasets.digits.load_data()
X_TRAIN, X_TEST = X_TRAIN.astype("float32") / 16, X_TEST.astype("float32") / 16


@pytest.fixture(autouse=True)
def seed():
    kerax.utils.set_random_seed(0)


def train(model, x=X_TRAIN, epochs=12, **kwargs):
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.fit(x, Y_TRAIN, epochs=epochs, verbose=0, **kwargs)


def accuracy(model, x=X_TEST):
    return model.evaluate(x, Y_TEST, verbose=0, return_dict=True)["accuracy"]


def dense_stack():
    return kerax.Sequential(
        [
            kerax.Input((8, 8)),
            layers.Flatten(),
            layers.Dense(48, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.mark.medium
def test_sequential():
    model = dense_stack()
    history = train(model)
    assert history.history["loss"][-1] < history.history["loss"][0] / 4
    assert accuracy(model) >= 0.93


@pytest.mark.medium
def test_functional_with_branches():
    image = kerax.Input((8, 8))
    rows = layers.Dense(12, activation="relu")(image)
    columns = layers.Dense(12, activation="relu")(layers.Permute((2, 1))(image))
    merged = layers.concatenate([layers.Flatten()(rows), layers.Flatten()(columns)])
    model = kerax.Model(image, layers.Dense(10, activation="softmax")(merged))
    train(model)
    assert accuracy(model) >= 0.93


@pytest.mark.slow
def test_two_inputs_and_two_outputs():
    top, bottom = kerax.Input((4, 8), name="top"), kerax.Input((4, 8), name="bottom")
    joined = layers.Concatenate()([layers.Flatten()(top), layers.Flatten()(bottom)])
    hidden = layers.Dense(48, activation="relu")(joined)
    digit = layers.Dense(10, activation="softmax", name="digit")(hidden)
    is_even = layers.Dense(1, activation="sigmoid", name="is_even")(hidden)
    model = kerax.Model({"top": top, "bottom": bottom}, {"digit": digit, "is_even": is_even})
    model.compile(
        "adam",
        loss={"digit": "sparse_categorical_crossentropy", "is_even": "binary_crossentropy"},
        loss_weights={"is_even": 0.3},
        metrics={"digit": "accuracy", "is_even": ["accuracy"]},
    )
    halves = {"top": X_TRAIN[:, :4], "bottom": X_TRAIN[:, 4:]}
    model.fit(halves, {"digit": Y_TRAIN, "is_even": Y_TRAIN % 2 == 0}, epochs=20, verbose=0)
    test = {"top": X_TEST[:, :4], "bottom": X_TEST[:, 4:]}
    logs = model.evaluate(test, {"digit": Y_TEST, "is_even": Y_TEST % 2 == 0}, verbose=0, return_dict=True)
    assert logs["digit_accuracy"] >= 0.93 and logs["is_even_accuracy"] >= 0.9
    assert model.predict(test, verbose=0)["digit"].shape == (360, 10)


@pytest.mark.slow
def test_subclassing_and_a_custom_layer():
    class Linear(kerax.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_uniform")
            self.b = self.add_weight(shape=(self.units,), initializer="zeros")

        def call(self, inputs):
            return ops.matmul(inputs, self.w) + self.b

    class Net(kerax.Model):
        def __init__(self):
            super().__init__()
            self.flatten = layers.Flatten()
            self.hidden = [Linear(48), layers.ReLU(), layers.Dropout(0.1)]
            self.head = Linear(10)

        def call(self, x, training=False):
            x = self.flatten(x)
            for layer in self.hidden:
                x = layer(x)
            return ops.softmax(self.head(x))

    model = Net()
    train(model, epochs=15)
    assert accuracy(model) >= 0.93
    assert len(model.weights) == 4


@pytest.mark.slow
def test_early_stopping_with_a_validation_split():
    model = dense_stack()
    stopping = kerax.callbacks.EarlyStopping(monitor="val_loss", patience=2, min_delta=0.01, restore_best_weights=True)
    history = train(model, epochs=100, validation_split=0.2, callbacks=[stopping])
    losses = history.history["val_loss"]
    assert len(losses) < 100 and stopping.stopped_epoch == len(losses) - 1
    held_out = slice(int(len(X_TRAIN) * 0.8), None)
    restored = model.evaluate(X_TRAIN[held_out], Y_TRAIN[held_out], verbose=0, return_dict=True)["loss"]
    assert restored == pytest.approx(losses[stopping.best_epoch], rel=1e-5)
    assert accuracy(model) >= 0.9


@pytest.mark.slow
def test_weights_saved_here_load_in_a_new_process(tmp_path):
    model = dense_stack()
    train(model, epochs=4)
    model.save_weights(tmp_path / "digits.weights.h5")
    expected = accuracy(model)
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_workflows import accuracy, dense_stack
model = dense_stack()
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.load_weights({str(tmp_path / "digits.weights.h5")!r})
print(accuracy(model))
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert float(shown) == expected


@pytest.mark.slow
def test_convolutions():
    model = kerax.Sequential(
        [
            kerax.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    train(model, X_TRAIN[..., None], epochs=20)
    assert accuracy(model, X_TEST[..., None]) >= 0.95
    assert np.argmax(model.predict(X_TEST[:5, ..., None], verbose=0), -1).shape == (5,)
