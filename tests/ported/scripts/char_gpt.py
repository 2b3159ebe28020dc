"""A small GPT over characters: blocks of causal attention written as layers, and greedy generation."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

text = "to be or not to be, that is the question: whether tis nobler in the mind to suffer " * 4
letters = sorted(set(text))
tokens = np.array([letters.index(letter) for letter in text], "int32")
context = 16
windows = np.lib.stride_tricks.sliding_window_view(tokens, context + 1)[::3][:96]
x, y = windows[:, :-1], windows[:, 1:]


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, length, vocabulary_size, width):
        super().__init__()
        self.token = layers.Embedding(vocabulary_size, width)
        self.position = layers.Embedding(length, width)

    def call(self, tokens):
        positions = ops.arange(0, ops.shape(tokens)[-1], 1)
        return self.token(tokens) + self.position(positions)


class CausalSelfAttention(layers.Layer):
    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, input_shape):
        width = input_shape[-1]
        self.qkv = self.add_weight(shape=(width, 3 * width), initializer="glorot_uniform", name="qkv")
        self.out = self.add_weight(shape=(width, width), initializer="glorot_uniform", name="out")
        self.width = width

    def call(self, x):
        batch, length = ops.shape(x)[0], ops.shape(x)[1]
        size = self.width // self.num_heads
        q, k, v = ops.split(ops.matmul(x, self.qkv), 3, axis=-1)
        heads = (batch, length, self.num_heads, size)
        q, k, v = (ops.transpose(ops.reshape(each, heads), (0, 2, 1, 3)) for each in (q, k, v))
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / ops.sqrt(ops.cast(size, x.dtype))
        allowed = ops.tril(ops.ones((length, length), dtype="bool"))
        scores = ops.where(allowed, scores, -1e9)
        mixed = ops.matmul(ops.softmax(scores, axis=-1), v)
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (batch, length, self.width))
        return mixed @ self.out


class Block(layers.Layer):
    def __init__(self, num_heads, width, rate=0.0, **kwargs):
        super().__init__(**kwargs)
        self.norm_1 = layers.LayerNormalization(epsilon=1e-6)
        self.attention = CausalSelfAttention(num_heads)
        self.norm_2 = layers.LayerNormalization(epsilon=1e-6)
        self.mlp = keras.Sequential([layers.Dense(4 * width, activation="gelu"), layers.Dense(width)])
        self.dropout = layers.Dropout(rate)

    def call(self, x, training=None):
        x = x + self.dropout(self.attention(self.norm_1(x)), training=training)
        return x + self.dropout(self.mlp(self.norm_2(x)), training=training)


inputs = keras.Input((context,), dtype="int32")
hidden = TokenAndPositionEmbedding(context, len(letters), 16)(inputs)
for _ in range(2):
    hidden = Block(2, 16)(hidden)
hidden = layers.LayerNormalization()(hidden)
logits = layers.Dense(len(letters))(hidden)
model = keras.Model(inputs, logits)
start(model)

model.compile(
    optimizer=keras.optimizers.AdamW(3e-3, weight_decay=0.01, clipnorm=1.0),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)


class TextGenerator(keras.callbacks.Callback):
    """Goes on with a beginning at the end of each epoch."""

    def __init__(self, beginning, num_tokens):
        super().__init__()
        self.beginning, self.num_tokens = beginning, num_tokens
        self.texts = []

    def on_epoch_end(self, epoch, logs=None):
        tokens = [letters.index(letter) for letter in self.beginning]
        for _ in range(self.num_tokens):
            padded = np.array([tokens + [0] * (context - len(tokens))], "int32")
            logits = self.model.predict(padded, verbose=0)
            tokens.append(int(np.argmax(logits[0, len(tokens) - 1])))
        self.texts.append("".join(letters[token] for token in tokens))


generator = TextGenerator("to be", 6)
history = model.fit(x, y, epochs=2, shuffle=False, batch_size=32, callbacks=[generator], verbose=0)
results = {
    "history": history.history,
    "texts": generator.texts,
    "logits": model.predict(x[:2], verbose=0),
    "weights": [list(weight.shape) for weight in model.get_weights()],
}
