"""Saving to one's own liking: build and compile configs, own variables and assets, layers that hold other objects."""

import os
import pickle

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(58)
x, y = numbers.normal(size=(16, 4)).astype("float32"), numbers.normal(size=(16, 1)).astype("float32")


@keras.saving.register_keras_serializable(package="my_custom_package")
class LayerWithCustomBuild(layers.Layer):
    def __init__(self, units=32, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b

    def get_config(self):
        return dict(units=self.units, **super().get_config())

    def build(self, input_shape, layer_init):
        self.layer_init = layer_init
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer=layer_init, trainable=True)
        self.b = self.add_weight(shape=(self.units,), initializer=layer_init, trainable=True)

    def get_build_config(self):
        return {"layer_init": self.layer_init, "input_shape": (2, 4)}

    def build_from_config(self, config):
        self.build(config["input_shape"], config["layer_init"])


@keras.saving.register_keras_serializable(package="my_custom_package")
class LayerWithAssets(layers.Layer):
    def __init__(self, vocab=None, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.vocab = vocab

    def save_assets(self, inner_path):
        with open(os.path.join(inner_path, "vocabulary.txt"), "w") as f:
            f.write(self.vocab)

    def load_assets(self, inner_path):
        with open(os.path.join(inner_path, "vocabulary.txt")) as f:
            self.vocab = f.read().upper()

    def call(self, inputs):
        return inputs


@keras.saving.register_keras_serializable(package="my_custom_package")
class LayerWithOwnVariables(layers.Dense):
    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["variables"] = np.random.default_rng(0).random(10)

    def load_own_variables(self, store):
        self.loaded = np.array(store["variables"])
        del_free = {key: store[key] for key in ("0", "1")}
        for i, variable in enumerate(self.weights):
            variable.assign(del_free[str(i)])


@keras.saving.register_keras_serializable(package="my_custom_package")
class Wrapper(layers.Layer):
    def __init__(self, sublayer, fn=None, **kwargs):
        super().__init__(**kwargs)
        self.sublayer = sublayer
        self.fn = fn

    def call(self, x):
        return self.fn(self.sublayer(x))

    def get_config(self):
        config = super().get_config()
        config["sublayer"] = keras.saving.serialize_keras_object(self.sublayer)
        config["fn"] = keras.saving.serialize_keras_object(self.fn)
        return config

    @classmethod
    def from_config(cls, config):
        sublayer = keras.saving.deserialize_keras_object(config.pop("sublayer"))
        fn = keras.saving.deserialize_keras_object(config.pop("fn"))
        return cls(sublayer, fn, **config)


@keras.saving.register_keras_serializable(package="my_custom_package")
def twice(x):
    return x * 2


@keras.saving.register_keras_serializable(package="my_custom_package", name="squares")
def my_squares(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


@keras.saving.register_keras_serializable(package="my_custom_package")
class CustomModel(keras.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)
        self.wrapped = Wrapper(layers.Dense(2), twice)
        self.own = LayerWithOwnVariables(1)
        self.assets = LayerWithAssets("these are words")

    def call(self, inputs):
        return self.own(self.assets(self.wrapped(self.dense(inputs))))

    def get_config(self):
        return {"units": self.units, **super().get_config()}

    def compile(self, my_optimizer, scale=1.0):
        super().compile(optimizer=my_optimizer, loss=my_squares, metrics=["mae", keras.metrics.MeanSquaredError("m")])
        self.my_optimizer, self.scale = my_optimizer, scale

    def get_compile_config(self):
        # As they are, one within a list.
        return {"my_optimizer": self.my_optimizer, "losses": ["mse", my_squares], "scale": self.scale}

    def compile_from_config(self, config):
        assert keras.saving.deserialize_keras_object(config["losses"]) == ["mse", my_squares]
        self.compile(keras.saving.deserialize_keras_object(config["my_optimizer"]), config["scale"])


layer = LayerWithCustomBuild(units=16)
layer.build(input_shape=(8, 4), layer_init="ones")
rebuilt = LayerWithCustomBuild.from_config(layer.get_config())
rebuilt.build_from_config(layer.get_build_config())

model = CustomModel(5)
model(x[:1])
start(model)
model.compile(keras.optimizers.RMSprop(0.01), 2.0)
history = model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
model.save("custom.keras")
loaded = keras.models.load_model("custom.keras")
again = loaded.fit(x, y, epochs=1, batch_size=8, shuffle=False, verbose=0)
copied = pickle.loads(pickle.dumps(keras.Sequential([keras.Input((4,)), layers.Dense(2, kernel_initializer="ones")])))
json = keras.models.model_from_json(copied.to_json())
with keras.saving.custom_object_scope({"other": twice}):
    found = keras.saving.get_registered_object("other")
results = {
    "built": np.asarray(rebuilt(x[:2])),
    "history": history.history,
    "again": again.history,
    "vocabulary": loaded.assets.vocab,
    "own": loaded.own.loaded,
    "scale": loaded.scale,
    "copied": np.asarray(copied(x[:2])),
    "json": json.count_params(),
    "found": found is twice,
    "names": [keras.saving.get_registered_name(each) for each in (twice, my_squares, Wrapper)],
    "optimizer": loaded.optimizer.get_config()["name"],
}
