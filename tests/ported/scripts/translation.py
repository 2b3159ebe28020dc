"""An encoder and a decoder of attention layers with padding masks and causal masks, which reverse sequences."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(15)
num_words, length, width = 12, 7, 8
source = np.zeros((96, length), "int32")
target = np.zeros((96, length + 1), "int32")
for row in range(96):
    words = numbers.integers(2, num_words, numbers.integers(3, length + 1))
    source[row, : len(words)] = words
    target[row, 0] = 1
    target[row, 1 : len(words) + 1] = words[::-1]


class PositionalEmbedding(layers.Layer):
    def __init__(self, length, num_words, width, **kwargs):
        super().__init__(**kwargs)
        self.tokens = layers.Embedding(num_words, width)
        self.positions = layers.Embedding(length, width)

    def call(self, inputs):
        return self.tokens(inputs) + self.positions(ops.arange(ops.shape(inputs)[-1]))

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0)


class Encoder(layers.Layer):
    def __init__(self, width, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.attention = layers.MultiHeadAttention(num_heads, key_dim=width // num_heads)
        self.dense = keras.Sequential([layers.Dense(16, activation="relu"), layers.Dense(width)])
        self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]

    def call(self, inputs, mask=None):
        padding_mask = None if mask is None else ops.cast(mask[:, None, :], "int32")
        attended = self.attention(query=inputs, value=inputs, key=inputs, attention_mask=padding_mask)
        x = self.norms[0](inputs + attended)
        return self.norms[1](x + self.dense(x))


class Decoder(layers.Layer):
    def __init__(self, width, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.self_attention = layers.MultiHeadAttention(num_heads, key_dim=width // num_heads)
        self.cross_attention = layers.MultiHeadAttention(num_heads, key_dim=width // num_heads)
        self.norms = [layers.LayerNormalization() for _ in range(2)]
        self.add = layers.Add()

    def call(self, inputs, mask=None):
        x, encoded = inputs
        source_mask = None if mask is None else mask[1]
        x = self.norms[0](self.add([x, self.self_attention(query=x, value=x, use_causal_mask=True)]))
        padding = None if source_mask is None else source_mask[:, None, :]
        attended, _ = self.cross_attention(query=x, value=encoded, attention_mask=padding, return_attention_scores=True)
        return self.norms[1](self.add([x, attended]))


encoder_inputs = keras.Input((None,), dtype="int64", name="encoder_inputs")
decoder_inputs = keras.Input((None,), dtype="int64", name="decoder_inputs")
encoded = Encoder(width, 2)(PositionalEmbedding(length, num_words, width)(encoder_inputs))
x = PositionalEmbedding(length, num_words, width)(decoder_inputs)
x = Decoder(width, 2)([x, encoded])
outputs = layers.Dense(num_words, activation="softmax")(layers.Dropout(0.0)(x))
transformer = keras.Model([encoder_inputs, decoder_inputs], outputs)
start(transformer)
transformer.compile("rmsprop", loss=keras.losses.SparseCategoricalCrossentropy(ignore_class=0), metrics=["accuracy"])
history = transformer.fit(
    {"encoder_inputs": source, "decoder_inputs": target[:, :-1]},
    target[:, 1:],
    epochs=2,
    shuffle=False,
    validation_split=1 / 3,
    verbose=0,
)
predictions = transformer.predict([source[:4], target[:4, :-1]], verbose=0)
del history.history["accuracy"]  # Keras on JAX forgets the mask there, as it does not in validation
results = {
    "history": history.history,
    "predictions": predictions * (target[:4, :-1, None] != 0),  # where only padding is attended, softmax has no meaning
    "weights": [list(weight.shape) for weight in transformer.weights],
}
