"""Convolutions and attention mixed: MobileViT's unfolded patches, a Perceiver's latents, pooling by attention."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(69)
x = numbers.uniform(size=(16, 16, 16, 3)).astype("float32")
y = numbers.integers(0, 3, 16)


def correct_pad(inputs, kernel_size):
    input_size = inputs.shape[1:3]
    adjust = (1, 1) if input_size[0] is None else (1 - input_size[0] % 2, 1 - input_size[1] % 2)
    correct = (kernel_size // 2, kernel_size // 2)
    return ((correct[0] - adjust[0], correct[0]), (correct[1] - adjust[1], correct[1]))


def conv_block(x, filters=8, kernel_size=3, strides=2):
    return layers.Conv2D(filters, kernel_size, strides=strides, activation=keras.activations.swish, padding="same")(x)


def inverted_residual_block(x, expanded_channels, output_channels, strides=1):
    m = layers.Conv2D(expanded_channels, 1, padding="same", use_bias=False)(x)
    m = keras.activations.swish(layers.BatchNormalization()(m))
    if strides == 2:
        m = layers.ZeroPadding2D(padding=correct_pad(m, 3))(m)
    m = layers.DepthwiseConv2D(3, strides=strides, padding="same" if strides == 1 else "valid", use_bias=False)(m)
    m = keras.activations.swish(layers.BatchNormalization()(m))
    m = layers.BatchNormalization()(layers.Conv2D(output_channels, 1, padding="same", use_bias=False)(m))
    if keras.ops.equal(x.shape[-1], output_channels) and strides == 1:
        return layers.Add()([m, x])
    return m


def mobilevit_block(x, num_blocks, projection_dim, strides=1):
    local_features = conv_block(x, filters=projection_dim, strides=strides)
    local_features = conv_block(local_features, filters=projection_dim, kernel_size=1, strides=strides)
    num_patches = int((local_features.shape[1] * local_features.shape[2]) / 4)
    folded = layers.Reshape((4, num_patches, projection_dim))(local_features)
    for _ in range(num_blocks):
        x1 = layers.LayerNormalization(epsilon=1e-6)(folded)
        x2 = layers.Add()([layers.MultiHeadAttention(num_heads=2, key_dim=projection_dim)(x1, x1), folded])
        x3 = layers.Dense(projection_dim * 2, activation=keras.activations.swish)(layers.LayerNormalization()(x2))
        folded = layers.Add()([layers.Dense(projection_dim)(x3), x2])
    folded = layers.Reshape((*local_features.shape[1:-1], projection_dim))(folded)
    folded = conv_block(folded, filters=x.shape[-1], kernel_size=1, strides=strides)
    return conv_block(layers.Concatenate(axis=-1)([x, folded]), filters=projection_dim, strides=strides)


def mobile_vit():
    inputs = keras.Input((16, 16, 3))
    h = conv_block(layers.Rescaling(scale=1.0)(inputs), filters=6)
    h = inverted_residual_block(h, 12, 6)
    h = inverted_residual_block(h, 12, 8, strides=2)
    h = mobilevit_block(h, 1, 8)
    h = layers.GlobalAvgPool2D()(h)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(h))


class Perceiver(keras.Model):
    def __init__(self, latent_dim, projection_dim, num_iterations):
        super().__init__()
        self.latent_dim, self.projection_dim, self.num_iterations = latent_dim, projection_dim, num_iterations

    def build(self, input_shape):
        self.latents = self.add_weight(
            shape=(self.latent_dim, self.projection_dim), initializer="random_normal", trainable=True
        )
        self.project = layers.Dense(self.projection_dim)
        self.cross_attention = layers.Attention(use_scale=True)
        self.query = layers.Dense(self.projection_dim)
        self.norm = layers.LayerNormalization(epsilon=1e-6)
        self.latent_attention = layers.GroupQueryAttention(head_dim=4, num_query_heads=4, num_key_value_heads=2)
        self.head = layers.Dense(3, activation="softmax")
        super().build(input_shape)

    def call(self, inputs):
        patches = ops.reshape(ops.image.extract_patches(inputs, (4, 4)), (-1, 16, 48))
        encoded = self.project(patches)
        latents = ops.expand_dims(self.latents, 0)
        latents = ops.repeat(latents, ops.shape(inputs)[0], axis=0)
        for _ in range(self.num_iterations):
            latents = latents + self.cross_attention([self.query(self.norm(latents)), encoded])
            latents = latents + self.latent_attention(latents, latents)
        return self.head(ops.mean(latents, axis=1))


class AttentionPooling(layers.Layer):
    def __init__(self, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.projection_dim = projection_dim

    def build(self, input_shapes):
        self.attention = layers.MultiHeadAttention(num_heads=1, key_dim=self.projection_dim)
        self.cls = self.add_weight(shape=(1, 1, self.projection_dim), initializer="ones", name="cls")
        self.flatten = layers.Flatten()

    def call(self, x):
        batch_size = ops.shape(x)[0]
        x = ops.reshape(x, (batch_size, -1, self.projection_dim))
        out = [self.attention(ops.repeat(self.cls, batch_size, axis=0), x, return_attention_scores=True)][0]
        return self.flatten(out[0]), ops.squeeze(out[1], (1, 2))


results = {}
for name, model in {"mobile_vit": mobile_vit(), "perceiver": Perceiver(4, 8, 2)}.items():
    model(x[:1])
    start(model)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    history = model.fit(x, y, epochs=1, batch_size=8, shuffle=False, verbose=0)
    results[name] = {"history": history.history, "outputs": model.predict(x[:3], verbose=0)}
pooling_inputs = keras.Input((4, 4, 6))
pooled, weights = AttentionPooling(6)(pooling_inputs)
pooling = keras.Model(pooling_inputs, [layers.Dense(2)(pooled), weights])
start(pooling)
results["pooling"] = pooling.predict(numbers.normal(size=(2, 4, 4, 6)), verbose=0)
