"""Named entities: a loss that leaves padding out, a subclassed model fed by a generator of ragged batches made even."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(47)
num_tags, vocab_size, maxlen = 4, 20, 12
sentences = [numbers.integers(1, vocab_size, numbers.integers(3, maxlen)) for _ in range(24)]
tags = [sentence % (num_tags - 1) + 1 for sentence in sentences]


def batches(batch_size=8):
    for begin in range(0, len(sentences), batch_size):
        part = slice(begin, begin + batch_size)
        yield tuple(keras.utils.pad_sequences(each[part], padding="post", maxlen=maxlen) for each in (sentences, tags))


class TransformerBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.0):
        super().__init__()
        self.att = keras.layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential([keras.layers.Dense(ff_dim, activation="relu"), keras.layers.Dense(embed_dim)])
        self.layernorm1 = keras.layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = keras.layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs, training=False):
        out1 = self.layernorm1(inputs + self.att(inputs, inputs))
        return self.layernorm2(out1 + self.ffn(out1))


class NERModel(keras.Model):
    def __init__(self, num_tags, vocab_size, maxlen=128, embed_dim=32, num_heads=2, ff_dim=32):
        super().__init__()
        self.token = layers.Embedding(vocab_size, embed_dim)
        self.position = layers.Embedding(maxlen, embed_dim)
        self.transformer_block = TransformerBlock(embed_dim, num_heads, ff_dim)
        self.dropout1 = layers.Dropout(0.0)
        self.ff = layers.Dense(ff_dim, activation="relu")
        self.ff_final = layers.Dense(num_tags, activation="softmax")

    def call(self, inputs, training=False):
        maxlen = keras.ops.shape(inputs)[-1]
        x = self.token(inputs) + self.position(keras.ops.arange(start=0, stop=maxlen, step=1))
        x = self.dropout1(self.transformer_block(x), training=training)
        return self.ff_final(self.ff(x))


class CustomNonPaddingTokenLoss(keras.losses.Loss):
    def __init__(self, name="custom_ner_loss"):
        super().__init__(name=name)

    def call(self, y_true, y_pred):
        loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=False, reduction=None)
        loss = loss_fn(y_true, y_pred)
        mask = ops.cast((y_true > 0), dtype="float32")
        loss = loss * mask
        return ops.sum(loss) / ops.sum(mask)


ner_model = NERModel(num_tags, vocab_size, maxlen, embed_dim=16, num_heads=2, ff_dim=16)
ner_model(np.ones((1, maxlen), "int32"))
start(ner_model)
ner_model.compile(optimizer="adam", loss=CustomNonPaddingTokenLoss(), jit_compile=True)
losses = [ner_model.fit(batches(), epochs=1, verbose=0).history["loss"] for _ in range(2)]


def tokens_of(batch):
    return np.argmax(ner_model.predict(batch, verbose=0), axis=-1)


x, y = next(iter(batches()))
predicted = tokens_of(x)
mask = y > 0
results = {
    "losses": losses,
    "predicted": [int(each) for each in predicted[mask]],
    "outputs": np.asarray(ner_model(x[:2])),
    "single": ner_model.predict_on_batch(x[:1]),
    "f1": float(keras.metrics.F1Score(average="macro")(np.eye(4)[y[mask]], np.eye(4)[predicted[mask]])),
}
