"""A layer, an activation, a metric and a loss of one's own, saved with the model and found again by their names."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(9)
x = numbers.normal(size=(96, 5)).astype("float32")
y = (x[:, :1] * x[:, 1:2] > 0).astype("float32")


@keras.saving.register_keras_serializable(package="Ported")
class Quadratic(layers.Layer):
    def __init__(self, units=8, activation=None, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.scale = scale

    def build(self, input_shape):
        self.w = self.add_weight(
            name="w",
            shape=(input_shape[-1], self.units),
            initializer=keras.initializers.RandomNormal(stddev=0.1),
            regularizer=keras.regularizers.L2(1e-3),
            trainable=True,
        )
        self.b = self.add_weight(name="b", shape=(self.units,), initializer="zeros", trainable=True)
        self.calls = self.add_weight(name="calls", shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call(self, inputs, training=False):
        if training:
            self.calls.assign_add(1)
        linear = ops.matmul(inputs, self.w) + self.b
        return self.activation(self.scale * (linear + ops.square(linear)))

    def get_config(self):
        config = super().get_config()
        config.update(
            {"units": self.units, "activation": keras.activations.serialize(self.activation), "scale": self.scale}
        )
        return config


@keras.saving.register_keras_serializable(package="Ported")
def squash(x):
    return x / (1 + ops.abs(x))


@keras.saving.register_keras_serializable(package="Ported")
class Balance(keras.metrics.Metric):
    """The share of positive predictions."""

    def __init__(self, threshold=0.5, name="balance", **kwargs):
        super().__init__(name=name, **kwargs)
        self.threshold = threshold
        self.positives = self.add_variable(shape=(), initializer="zeros", name="positives")
        self.count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        positive = ops.cast(y_pred > self.threshold, self.dtype)
        self.positives.assign(self.positives + ops.sum(positive))
        self.count.assign_add(ops.cast(ops.size(y_pred), self.dtype))

    def result(self):
        return self.positives / (self.count + keras.config.epsilon())

    def reset_state(self):
        self.positives.assign(0.0)
        self.count.assign(0.0)

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}


@keras.saving.register_keras_serializable(package="Ported")
class WeightedSquares(keras.losses.Loss):
    def __init__(self, factor=2.0, name="weighted_squares", **kwargs):
        super().__init__(name=name, **kwargs)
        self.factor = factor

    def call(self, y_true, y_pred):
        y_true = ops.cast(y_true, y_pred.dtype)
        weight = ops.where(y_true > 0.5, self.factor, 1.0)
        return ops.mean(weight * ops.square(y_true - y_pred), axis=-1)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def mean_error(y_true, y_pred):
    return ops.mean(y_pred - y_true, axis=-1)


inputs = keras.Input((5,))
hidden = Quadratic(6, activation="tanh", name="quadratic")(inputs)
hidden = layers.Dense(4, activation=squash)(hidden)
hidden = ops.concatenate([hidden, ops.square(inputs[:, :2])], axis=-1)
outputs = layers.Dense(1, activation="sigmoid")(hidden)
model = keras.Model(inputs, outputs)
start(model)
model.compile("adam", loss=WeightedSquares(3.0), metrics=[Balance(0.4), "accuracy", mean_error])
history = model.fit(x, y, epochs=2, shuffle=False, verbose=0)

model.save("parts.keras")
loaded = keras.saving.load_model("parts.keras", custom_objects={"mean_error": mean_error})
again = loaded.fit(x, y, epochs=1, shuffle=False, verbose=0)
rebuilt = keras.Model.from_config(model.get_config())

results = {
    "history": history.history,
    "loaded": [type(layer).__name__ for layer in loaded.layers],
    "again": again.history,
    "calls": int(loaded.get_layer("quadratic").calls.numpy()),
    "config": {name: loaded.get_layer("quadratic").get_config()[name] for name in ["units", "activation", "scale"]},
    "rebuilt": [list(weight.shape) for weight in rebuilt.weights],
    "found": keras.saving.get_registered_object("Ported>squash") is squash,
    "iterations": int(loaded.optimizer.iterations),
    "registered": keras.saving.get_registered_name(Quadratic),
    "weights": [weight.name for weight in model.get_layer("quadratic").weights],
}
