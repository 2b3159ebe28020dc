"""A vision transformer: patches by an op, positions by an embedding, both layers rebuilt from their config."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(25)
x = numbers.uniform(0, 255, (32, 12, 12, 3)).astype("float32")
y = numbers.integers(0, 4, (32, 1))
patch_size, num_patches, width = 4, 9, 16


def mlp(x, hidden_units, dropout_rate):
    for units in hidden_units:
        x = layers.Dense(units, activation=keras.activations.gelu)(x)
        x = layers.Dropout(dropout_rate)(x)
    return x


class Patches(layers.Layer):
    def __init__(self, patch_size):
        super().__init__()
        self.patch_size = patch_size

    def call(self, images):
        input_shape = ops.shape(images)
        batch_size, height, width, channels = input_shape
        patches = keras.ops.image.extract_patches(images, size=self.patch_size)
        return ops.reshape(
            patches,
            (batch_size, height // self.patch_size * (width // self.patch_size), self.patch_size**2 * channels),
        )

    def get_config(self):
        config = super().get_config()
        config.update({"patch_size": self.patch_size})
        return config


class PatchEncoder(layers.Layer):
    def __init__(self, num_patches, projection_dim):
        super().__init__()
        self.num_patches = num_patches
        self.projection = layers.Dense(units=projection_dim)
        self.position_embedding = layers.Embedding(input_dim=num_patches, output_dim=projection_dim)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(start=0, stop=self.num_patches, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)

    def get_config(self):
        config = super().get_config()
        config.update({"num_patches": self.num_patches})
        return config


data_augmentation = keras.Sequential([layers.Normalization(), layers.Resizing(12, 12)], name="data_augmentation")
data_augmentation.layers[0].adapt(x)

inputs = keras.Input(shape=(12, 12, 3))
augmented = data_augmentation(inputs)
encoded = PatchEncoder(num_patches, width)(Patches(patch_size)(augmented))
for _ in range(2):
    x1 = layers.LayerNormalization(epsilon=1e-6)(encoded)
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=width, dropout=0.0)(x1, x1)
    x2 = layers.Add()([attention, encoded])
    x3 = mlp(layers.LayerNormalization(epsilon=1e-6)(x2), [width * 2, width], 0.0)
    encoded = layers.Add()([x3, x2])
representation = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(encoded))
features = mlp(layers.Dropout(0.0)(representation), [24, 16], 0.0)
model = keras.Model(inputs=inputs, outputs=layers.Dense(4)(features))
start(model)
model.compile(
    optimizer=keras.optimizers.AdamW(learning_rate=0.001, weight_decay=0.0001),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[
        keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        keras.metrics.SparseTopKCategoricalAccuracy(2, name="top-2-accuracy"),
    ],
)
checkpoint = keras.callbacks.ModelCheckpoint(
    "checkpoint.weights.h5", monitor="val_accuracy", save_best_only=True, save_weights_only=True
)
history = model.fit(
    x=x, y=y, batch_size=8, epochs=2, validation_split=0.25, shuffle=False, callbacks=[checkpoint], verbose=0
)
last = model.predict(x[:3], verbose=0)
model.load_weights("checkpoint.weights.h5")
results = {
    "history": history.history,
    "last": last,
    "best": model.evaluate(x, y, verbose=0),
    "patches": np.asarray(Patches.from_config({"patch_size": 6})(x[:1])),
    "config": sorted(PatchEncoder(9, 4).get_config()),
    "num_weights": model.count_params(),
}
