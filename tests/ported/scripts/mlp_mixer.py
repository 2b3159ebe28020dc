"""The all-MLP models: mixing over patches, Fourier transforms in place of attention, and gated units."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(27)
x = numbers.normal(size=(24, 9, 16)).astype("float32")
y = numbers.integers(0, 5, 24)


class MLPMixerLayer(layers.Layer):
    def __init__(self, num_patches, hidden_units, dropout_rate, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.mlp1 = keras.Sequential(
            [layers.Dense(num_patches, activation="gelu"), layers.Dense(num_patches), layers.Dropout(dropout_rate)]
        )
        self.mlp2 = keras.Sequential(
            [layers.Dense(num_patches, activation="gelu"), layers.Dense(hidden_units), layers.Dropout(dropout_rate)]
        )
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        return super().build(input_shape)

    def call(self, inputs):
        channels = keras.ops.transpose(self.normalize(inputs), axes=(0, 2, 1))
        x = keras.ops.transpose(self.mlp1(channels), axes=(0, 2, 1)) + inputs
        return x + self.mlp2(self.normalize(x))


class FNetLayer(layers.Layer):
    def __init__(self, embedding_dim, dropout_rate, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ffn = keras.Sequential([layers.Dense(embedding_dim, activation="gelu"), layers.Dropout(dropout_rate)])
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        real_part, _im_part = keras.ops.fft2((inputs, keras.ops.zeros_like(inputs)))
        x = self.normalize1(real_part + inputs)
        return self.normalize2(x + self.ffn(x))


class GMLPLayer(layers.Layer):
    def __init__(self, num_patches, embedding_dim, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.channel_projection1 = keras.Sequential([layers.Dense(embedding_dim * 2, activation="gelu")])
        self.channel_projection2 = layers.Dense(embedding_dim)
        self.spatial_projection = layers.Dense(num_patches, bias_initializer="Ones")
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def spatial_gating_unit(self, x):
        u, v = keras.ops.split(x, indices_or_sections=2, axis=2)
        v = keras.ops.transpose(self.normalize2(v), axes=(0, 2, 1))
        return u * keras.ops.transpose(self.spatial_projection(v), axes=(0, 2, 1))

    def call(self, inputs):
        projected = self.channel_projection1(self.normalize1(inputs))
        return inputs + self.channel_projection2(self.spatial_gating_unit(projected))


results = {}
blocks = {
    "mixer": keras.Sequential([MLPMixerLayer(9, 16, 0.0) for _ in range(2)]),
    "fnet": keras.Sequential([FNetLayer(16, 0.0) for _ in range(2)]),
    "gmlp": keras.Sequential([GMLPLayer(9, 16) for _ in range(2)]),
}
for name, block in blocks.items():
    inputs = keras.Input((9, 16))
    representation = layers.GlobalAveragePooling1D()(block(inputs))
    model = keras.Model(inputs, layers.Dense(5)(layers.Dropout(0.0)(representation)))
    start(model)
    model.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["acc"]
    )
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1)
    fitted = model.fit(
        x, y, batch_size=8, epochs=2, validation_split=0.3, shuffle=False, callbacks=[plateau], verbose=0
    )
    results[name] = {
        "history": fitted.history,
        "outputs": model.predict(x[:2], verbose=0),
        "size": model.count_params(),
    }
