"""Texts by a transformer block of one's own, by a bidirectional LSTM, and by a causal one that makes text."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(45)
maxlen, vocab_size, embed_dim = 10, 30, 8
sequences = [list(map(int, numbers.integers(1, vocab_size, numbers.integers(3, 14)))) for _ in range(32)]
x_train = keras.utils.pad_sequences(sequences, maxlen=maxlen)
y_train = np.array([int(3 in row) for row in x_train])


class TransformerBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.0):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential([layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)])
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        attn_output = self.dropout1(self.att(inputs, inputs))
        out1 = self.layernorm1(inputs + attn_output)
        return self.layernorm2(out1 + self.dropout2(self.ffn(out1)))


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, maxlen, vocab_size, embed_dim):
        super().__init__()
        self.token_emb = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=embed_dim)

    def call(self, x):
        maxlen = ops.shape(x)[-1]
        positions = self.pos_emb(ops.arange(start=0, stop=maxlen, step=1))
        return self.token_emb(x) + positions


def causal_attention_mask(n_dest, n_src, dtype):
    i = ops.arange(n_dest)[:, None]
    j = ops.arange(n_src)
    return ops.reshape(ops.cast(i >= j - n_src + n_dest, dtype), [1, n_dest, n_src])


class CausalBlock(TransformerBlock):
    def call(self, inputs):
        input_shape = ops.shape(inputs)
        mask = causal_attention_mask(input_shape[1], input_shape[1], "bool")
        out1 = self.layernorm1(inputs + self.att(inputs, inputs, attention_mask=mask))
        return self.layernorm2(out1 + self.ffn(out1))


def classifier():
    inputs = layers.Input(shape=(maxlen,))
    x = TransformerBlock(embed_dim, 2, 16)(TokenAndPositionEmbedding(maxlen, vocab_size, embed_dim)(inputs))
    x = layers.Dropout(0.0)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs=inputs, outputs=layers.Dense(2, activation="softmax")(x))


def recurrent():
    inputs = keras.Input(shape=(None,), dtype="int32")
    x = layers.Embedding(vocab_size, 16, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(8))(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


results = {}
for make, loss in ((classifier, "sparse_categorical_crossentropy"), (recurrent, "binary_crossentropy")):
    model = make()
    start(model)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    history = model.fit(x_train, y_train, batch_size=8, epochs=2, shuffle=False, verbose=0, validation_split=0.25)
    results[make.__name__] = {"history": history.history, "outputs": model.predict(x_train[:3], verbose=0)}

inputs = layers.Input(shape=(maxlen,), dtype="int32")
x = CausalBlock(embed_dim, 2, 16)(TokenAndPositionEmbedding(maxlen, vocab_size, embed_dim)(inputs))
gpt = keras.Model(inputs=inputs, outputs=[layers.Dense(vocab_size)(x), x])
start(gpt)
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
gpt.compile("adam", loss=[loss_fn, None])
history = gpt.fit(x_train, np.roll(x_train, -1, 1), batch_size=8, epochs=1, shuffle=False, verbose=0)
results["gpt"] = {"history": history.history, "logits": gpt.predict(x_train[:8], verbose=0)[0]}
