"""Videos by tubelets through a transformer, by (2+1)D convolutions, and frame by frame under `TimeDistributed`."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(34)
x = numbers.normal(size=(16, 4, 8, 8, 1)).astype("float32")
y = numbers.integers(0, 3, 16)


class TubeletEmbedding(layers.Layer):
    def __init__(self, embed_dim, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.projection = layers.Conv3D(filters=embed_dim, kernel_size=patch_size, strides=patch_size, padding="VALID")
        self.flatten = layers.Reshape(target_shape=(-1, embed_dim))

    def call(self, videos):
        return self.flatten(self.projection(videos))


class PositionalEncoder(layers.Layer):
    def __init__(self, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim

    def build(self, input_shape):
        _, num_tokens, _ = input_shape
        self.position_embedding = layers.Embedding(input_dim=num_tokens, output_dim=self.embed_dim)
        self.positions = ops.arange(0, num_tokens, 1)

    def call(self, encoded_tokens):
        return encoded_tokens + self.position_embedding(self.positions)


class Conv2Plus1D(keras.layers.Layer):
    def __init__(self, filters, kernel_size, padding):
        super().__init__()
        self.seq = keras.Sequential(
            [
                layers.Conv3D(filters=filters, kernel_size=(1, kernel_size[1], kernel_size[2]), padding=padding),
                layers.Conv3D(filters=filters, kernel_size=(kernel_size[0], 1, 1), padding=padding),
            ]
        )

    def call(self, x):
        return self.seq(x)


class ResizeVideo(keras.layers.Layer):
    def __init__(self, height, width):
        super().__init__()
        self.height, self.width = height, width
        self.resizing_layer = layers.Resizing(self.height, self.width)

    def call(self, video):
        old_shape = ops.shape(video)
        images = ops.reshape(video, (-1, old_shape[2], old_shape[3], old_shape[4]))
        images = self.resizing_layer(images)
        return ops.reshape(images, (-1, old_shape[1], self.height, self.width, old_shape[4]))


def vivit():
    inputs = layers.Input(shape=(4, 8, 8, 1))
    patches = TubeletEmbedding(embed_dim=16, patch_size=(2, 4, 4))(inputs)
    encoded = PositionalEncoder(embed_dim=16)(patches)
    x1 = layers.LayerNormalization(epsilon=1e-6)(encoded)
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=8, dropout=0.0)(x1, x1)
    x2 = layers.Add()([attention, encoded])
    x3 = keras.Sequential([layers.Dense(units=32, activation=ops.gelu), layers.Dense(units=16, activation=ops.gelu)])(
        layers.LayerNormalization(epsilon=1e-6)(x2)
    )
    representation = layers.GlobalAvgPool1D()(layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x3, x2])))
    return keras.Model(inputs=inputs, outputs=layers.Dense(units=3, activation="softmax")(representation))


def two_plus_one():
    inputs = layers.Input(shape=(4, 8, 8, 1))
    h = Conv2Plus1D(filters=4, kernel_size=(3, 3, 3), padding="same")(inputs)
    h = layers.ReLU()(layers.BatchNormalization()(h))
    h = ResizeVideo(4, 4)(h)
    h = layers.Flatten()(layers.GlobalAveragePooling3D()(h))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(h))


def frames():
    inputs = layers.Input(shape=(4, 8, 8, 1))
    h = layers.TimeDistributed(layers.Conv2D(4, 3, strides=2, activation="relu"))(inputs)
    h = layers.TimeDistributed(layers.Flatten())(h)
    mask = layers.Input((4,), dtype="bool")
    h = layers.GRU(8, return_sequences=True)(h, mask=mask)
    h = layers.Dropout(0.0)(layers.GRU(4)(h))
    return keras.Model([inputs, mask], layers.Dense(3, activation="softmax")(h))


results = {}
mask = np.arange(4) < numbers.integers(1, 5, (16, 1))
for name, make in {"vivit": vivit, "two_plus_one": two_plus_one, "frames": frames}.items():
    model = make()
    start(model)
    data = [x, mask] if name == "frames" else x
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    fitted = model.fit(data, y, epochs=1, batch_size=8, shuffle=False, verbose=0)
    results[name] = {"history": fitted.history, "outputs": model.predict(data, verbose=0)[:2]}
