"""Tokens of texts of different lengths: padding, masks through recurrent layers, weights of classes and examples."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

generator = np.random.default_rng(4)
num_words, length = 30, 12
texts = [generator.integers(1, num_words, generator.integers(3, length + 4)).tolist() for _ in range(128)]
labels = np.array([int(sum(word > 20 for word in text) > len(text) / 3) for text in texts])
tokens = keras.utils.pad_sequences(texts, maxlen=length, padding="post", truncating="post")
one_hot = keras.utils.to_categorical(labels, num_classes=2)


class Classifier(keras.Model):
    def __init__(self, num_words, **kwargs):
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(num_words, 8, mask_zero=True)
        self.encoder = layers.Bidirectional(layers.LSTM(6, return_sequences=True), merge_mode="concat")
        self.summary_layer = layers.GRU(6, reset_after=False)
        self.dropout = layers.Dropout(0.0)
        self.head = layers.Dense(2)

    def call(self, tokens, training=False):
        x = self.embedding(tokens)
        x = self.encoder(x)
        x = self.summary_layer(x)
        x = self.dropout(x, training=training)
        return self.head(x)


model = Classifier(num_words)
model(tokens[:1])
start(model)
model.compile(
    "adam",
    loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    metrics=["acc"],
    weighted_metrics=[keras.metrics.CategoricalAccuracy(name="weighted")],
)
by_class = model.fit(tokens, one_hot, class_weight={0: 0.5, 1: 2.0}, epochs=1, shuffle=False, verbose=0)
weights = np.linspace(0.2, 1.0, len(tokens))
by_example = model.fit(
    tokens,
    one_hot,
    sample_weight=weights,
    validation_data=(tokens[:64], one_hot[:64], weights[:64]),
    epochs=1,
    shuffle=False,
    verbose=0,
)
results = {
    "by_class": by_class.history,
    "by_example": by_example.history,
    "tokens": tokens,
    "evaluated": model.evaluate(tokens, one_hot, sample_weight=weights, verbose=0),
    "logits": model.predict(tokens[:5], verbose=0),
    "mask": np.asarray(model.embedding.compute_mask(tokens[:3])),
}
