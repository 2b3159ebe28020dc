"""Pairs of sentences: two towers that share an encoder, attention between them, and a loss over the whole batch."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(66)
left, right = numbers.integers(1, 30, (2, 24, 7))
right[:12] = left[:12]
left[:, 5:] = 0
score = (left[:, :5] == right[:, :5]).mean(1, keepdims=True).astype("float32")


def encoder():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(30, 8, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.UnitNormalization(axis=1)(layers.Dense(6)(x)), name="encoder")


class RegressionSiamese(keras.Model):
    def __init__(self, encoder, **kwargs):
        inputs = {"sen1": keras.Input((None,), dtype="int32"), "sen2": keras.Input((None,), dtype="int32")}
        u = encoder(inputs["sen1"])
        v = encoder(inputs["sen2"])
        cosine_similarity_scores = ops.matmul(u, ops.transpose(v))
        super().__init__(inputs=inputs, outputs=cosine_similarity_scores, **kwargs)
        self.encoder = encoder

    def get_encoder(self):
        return self.encoder


class MultipleNegatives(keras.losses.Loss):
    def call(self, y_true, y_pred):
        labels = ops.arange(ops.shape(y_pred)[0])
        return ops.mean(keras.losses.sparse_categorical_crossentropy(labels, y_pred * 20, from_logits=True))


class CrossAttention(layers.Layer):
    """Each word of one sentence looks for its like in the other."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.embed = layers.Embedding(30, units, mask_zero=True)
        self.additive = layers.AdditiveAttention(use_scale=False)
        self.dot = layers.Attention(use_scale=True, score_mode="dot")

    def call(self, inputs):
        one, two = (self.embed(each) for each in inputs)
        first = self.additive([one, two], mask=[one._keras_mask, two._keras_mask])
        second, scores = self.dot([one, two], return_attention_scores=True)
        return layers.Concatenate()([first, second, one * second]), scores


siamese = RegressionSiamese(encoder())
start(siamese)
siamese.compile(loss=MultipleNegatives(), optimizer=keras.optimizers.Adam(2e-3), jit_compile=False)
data = {"sen1": left, "sen2": right}
history = siamese.fit(data, score, epochs=2, batch_size=8, shuffle=False, verbose=0)
sentences = [keras.Input((7,), dtype="int32", name=name) for name in ("premise", "hypothesis")]
mixed, scores = CrossAttention(6)(sentences)
pooled = layers.concatenate([layers.GlobalMaxPooling1D()(mixed), layers.GlobalAveragePooling1D()(mixed)])
matcher = keras.Model(sentences, [layers.Dense(1, name="score")(pooled), scores])
start(matcher)
matcher.compile("adam", loss=["mse", None])
second = matcher.fit([left, right], score, epochs=1, batch_size=8, shuffle=False, verbose=0)
similarity = keras.losses.CosineSimilarity(reduction=None)
encoded = siamese.get_encoder()
results = {
    "history": history.history,
    "second": second.history,
    "codes": encoded.predict(left[:3], verbose=0),
    "similarity": np.asarray(similarity(encoded(left[:3]), encoded(right[:3]))),
    "scores": matcher.predict([left[:2], right[:2]], verbose=0),
    "batch": siamese.predict({name: each[:3] for name, each in data.items()}, verbose=0, batch_size=3),
}
