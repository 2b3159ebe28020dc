"""A Swin transformer: windows by reshaping, shifted by `roll`, a table of relative positions, a mask of regions."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(26)
x = numbers.uniform(size=(16, 16, 16, 3)).astype("float32")
y = keras.utils.to_categorical(numbers.integers(0, 3, 16), 3)


def window_partition(x, window):
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, height // window, window, width // window, window, channels))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, window, window, channels))


def window_reverse(windows, window, height, width, channels):
    x = ops.reshape(windows, (-1, height // window, width // window, window, window, channels))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, height, width, channels))


class WindowAttention(layers.Layer):
    def __init__(self, dim, window_size, num_heads, qkv_bias=True, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.window_size, self.num_heads = dim, window_size, num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = layers.Dense(dim * 3, use_bias=qkv_bias)
        self.proj = layers.Dense(dim)
        self.relative_position_bias_table = self.add_weight(
            shape=((2 * window_size - 1) ** 2, num_heads), initializer=keras.initializers.Zeros(), trainable=True
        )
        coords = np.stack(np.meshgrid(np.arange(window_size), np.arange(window_size), indexing="ij")).reshape(2, -1)
        relative = (coords[:, :, None] - coords[:, None, :]).transpose([1, 2, 0]) + window_size - 1
        relative[:, :, 0] *= 2 * window_size - 1
        self.relative_position_index = keras.Variable(
            initializer=relative.sum(-1), shape=relative.shape[:2], dtype="int", trainable=False
        )

    def call(self, x, mask=None):
        _, size, channels = x.shape
        qkv = ops.reshape(self.qkv(x), (-1, size, 3, self.num_heads, channels // self.num_heads))
        q, k, v = ops.transpose(qkv, (2, 0, 3, 1, 4))
        attention = (q * self.scale) @ ops.transpose(k, (0, 1, 3, 2))
        index = ops.reshape(self.relative_position_index, (-1,))
        bias = ops.take(self.relative_position_bias_table, index, axis=0)
        bias = ops.transpose(ops.reshape(bias, (size, size, -1)), (2, 0, 1))
        attention = attention + ops.expand_dims(bias, 0)
        if mask is not None:
            windows = mask.shape[0]
            mask = ops.cast(ops.expand_dims(ops.expand_dims(mask, 1), 0), "float32")
            attention = ops.reshape(attention, (-1, windows, self.num_heads, size, size)) + mask
            attention = ops.reshape(attention, (-1, self.num_heads, size, size))
        attention = keras.activations.softmax(attention, axis=-1)
        x = ops.reshape(ops.transpose(attention @ v, (0, 2, 1, 3)), (-1, size, channels))
        return self.proj(x)


class SwinTransformer(layers.Layer):
    def __init__(self, dim, num_patch, num_heads, window_size=2, shift_size=0, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.num_patch, self.window_size, self.shift_size = dim, num_patch, window_size, shift_size
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.attn = WindowAttention(dim, window_size, num_heads)
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)
        self.mlp = keras.Sequential([layers.Dense(2 * dim), layers.Activation("gelu"), layers.Dense(dim)])

    def build(self, input_shape):
        if self.shift_size == 0:
            self.attn_mask = None
            return
        height, width = self.num_patch
        slices = (
            slice(0, -self.window_size),
            slice(-self.window_size, -self.shift_size),
            slice(-self.shift_size, None),
        )
        regions = np.zeros((1, height, width, 1))
        count = 0
        for rows in slices:
            for columns in slices:
                regions[:, rows, columns, :] = count
                count += 1
        windows = ops.reshape(
            window_partition(ops.convert_to_tensor(regions), self.window_size), [-1, self.window_size**2]
        )
        mask = ops.expand_dims(windows, 1) - ops.expand_dims(windows, 2)
        mask = ops.where(mask != 0, -100.0, mask)
        mask = ops.where(mask == 0, 0.0, mask)
        self.attn_mask = keras.Variable(initializer=mask, shape=mask.shape, dtype=mask.dtype, trainable=False)

    def call(self, x, training=False):
        height, width = self.num_patch
        _, num_patches, channels = x.shape
        skip = x
        x = ops.reshape(self.norm1(x), (-1, height, width, channels))
        if self.shift_size > 0:
            x = ops.roll(x, shift=[-self.shift_size, -self.shift_size], axis=[1, 2])
        windows = ops.reshape(window_partition(x, self.window_size), (-1, self.window_size**2, channels))
        windows = self.attn(windows, mask=self.attn_mask)
        x = window_reverse(windows, self.window_size, height, width, channels)
        if self.shift_size > 0:
            x = ops.roll(x, shift=[self.shift_size, self.shift_size], axis=[1, 2])
        x = skip + ops.reshape(x, (-1, num_patches, channels))
        return x + self.mlp(self.norm2(x))


class PatchMerging(keras.layers.Layer):
    def __init__(self, num_patch, embed_dim):
        super().__init__()
        self.num_patch = num_patch
        self.linear_trans = layers.Dense(2 * embed_dim, use_bias=False)

    def call(self, x):
        height, width = self.num_patch
        x = ops.reshape(x, (-1, height, width, x.shape[-1]))
        parts = [x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        x = ops.reshape(ops.concatenate(parts, axis=-1), (-1, height // 2 * (width // 2), 4 * x.shape[-1]))
        return self.linear_trans(x)


inputs = layers.Input((16, 16, 3))
patches = layers.Reshape((64, 8))(layers.Conv2D(8, 2, 2)(inputs))
h = SwinTransformer(8, (8, 8), 2, window_size=2, shift_size=0)(patches)
h = SwinTransformer(8, (8, 8), 2, window_size=2, shift_size=1)(h)
h = PatchMerging((8, 8), 8)(h)
model = keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(h)))
start(model)
model.compile(
    loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
    optimizer=keras.optimizers.AdamW(learning_rate=1e-3, weight_decay=1e-4),
    metrics=[
        keras.metrics.CategoricalAccuracy(name="accuracy"),
        keras.metrics.TopKCategoricalAccuracy(2, name="top-2"),
    ],
)
history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
results = {
    "history": history.history,
    "outputs": model.predict(x[:4], verbose=0),
    "weights": [list(weight.shape) for weight in model.weights],
    "num_weights": len(model.non_trainable_weights),
}
