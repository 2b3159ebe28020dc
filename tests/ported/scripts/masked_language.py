"""Pretraining by masked words: targets weighted where words were hidden, the encoder then fine-tuned."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(46)
MAX_LEN, VOCAB, WIDTH, MASK = 8, 20, 8, 19
encoded = numbers.integers(1, VOCAB - 1, (24, MAX_LEN))


def get_masked_input_and_labels(encoded_texts):
    inp_mask = numbers.uniform(size=encoded_texts.shape) < 0.3
    inp_mask[encoded_texts <= 2] = False
    labels = -1 * np.ones(encoded_texts.shape, dtype=int)
    labels[inp_mask] = encoded_texts[inp_mask]
    encoded_texts_masked = np.copy(encoded_texts)
    inp_mask_2mask = inp_mask & (numbers.uniform(size=encoded_texts.shape) < 0.90)
    encoded_texts_masked[inp_mask_2mask] = MASK
    sample_weights = np.ones(labels.shape)
    sample_weights[labels == -1] = 0
    return encoded_texts_masked, np.copy(encoded_texts), sample_weights


def bert_module(query, key, value, i):
    attention_output = layers.MultiHeadAttention(
        num_heads=2, key_dim=WIDTH // 2, name=f"encoder_{i}_multiheadattention"
    )(query, key, value)
    attention_output = layers.Dropout(0.0, name=f"encoder_{i}_att_dropout")(attention_output)
    attention_output = layers.LayerNormalization(epsilon=1e-6, name=f"encoder_{i}_att_layernormalization")(
        query + attention_output
    )
    ffn = keras.Sequential([layers.Dense(16, activation="relu"), layers.Dense(WIDTH)], name=f"encoder_{i}_ffn")
    ffn_output = ffn(attention_output)
    return layers.LayerNormalization(epsilon=1e-6, name=f"encoder_{i}_ffn_layernormalization")(
        attention_output + ffn_output
    )


class MaskedLanguageModel(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = loss_fn(y, y_pred, sample_weight)
        loss_tracker.update_state(loss, sample_weight=sample_weight)
        return keras.ops.sum(loss)

    def compute_metrics(self, x, y, y_pred, sample_weight):
        return {"loss": loss_tracker.result()}

    @property
    def metrics(self):
        return [loss_tracker]


loss_fn = keras.losses.SparseCategoricalCrossentropy(reduction=None)
loss_tracker = keras.metrics.Mean(name="loss")


def create_masked_language_bert_model():
    inputs = layers.Input((MAX_LEN,), dtype="int64")
    word_embeddings = layers.Embedding(VOCAB, WIDTH, name="word_embedding")(inputs)
    # Called on a number that is no input, it is a constant of the graph.
    position_embeddings = layers.Embedding(
        MAX_LEN, WIDTH, embeddings_initializer="identity", name="position_embedding"
    )(keras.ops.arange(start=0, stop=MAX_LEN, step=1))
    encoder_output = word_embeddings + position_embeddings
    for i in range(1):
        encoder_output = bert_module(encoder_output, encoder_output, encoder_output, i)
    mlm_output = layers.Dense(VOCAB, name="mlm_cls", activation="softmax")(encoder_output)
    mlm_model = MaskedLanguageModel(inputs, mlm_output, name="masked_bert_model")
    start(mlm_model)
    mlm_model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.001))
    return mlm_model


class MaskedTextGenerator(keras.callbacks.Callback):
    def __init__(self, sample_tokens, top_k=3):
        self.sample_tokens = sample_tokens
        self.k = top_k
        self.words = []

    def on_epoch_end(self, epoch, logs=None):
        prediction = self.model.predict(self.sample_tokens, verbose=0)
        masked_index = np.where(self.sample_tokens == MASK)[1]
        mask_prediction = prediction[0][masked_index]
        top_indices = mask_prediction[0].argsort()[-self.k :][::-1]
        self.words.append([int(each) for each in top_indices])


x, y, weights = get_masked_input_and_labels(encoded)
bert = create_masked_language_bert_model()
generator = MaskedTextGenerator(np.array([[4, 5, MASK, 6, 7, 0, 0, 0]]))
history = bert.fit(x, y, sample_weight=weights, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[generator])
bert.save("bert_mlm.keras")
mlm = keras.models.load_model("bert_mlm.keras", custom_objects={"MaskedLanguageModel": MaskedLanguageModel})
pretrained = keras.Model(mlm.input, mlm.get_layer("encoder_0_ffn_layernormalization").output)
pretrained.trainable = False
inputs = layers.Input((MAX_LEN,), dtype="int64")
pooled = layers.GlobalMaxPooling1D()(pretrained(inputs))
hidden = layers.Dense(8, activation="relu")(pooled)
classifier = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(hidden), name="classification")
start(classifier)
classifier.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
tuned = classifier.fit(encoded, encoded[:, 0] > 10, batch_size=8, epochs=1, shuffle=False, verbose=0)
pretrained.trainable = True
classifier.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
further = classifier.fit(encoded, encoded[:, 0] > 10, batch_size=8, epochs=1, shuffle=False, verbose=0)
results = {
    "history": history.history,
    "words": generator.words,
    "tuned": tuned.history,
    "further": further.history,
    "names": [layer.name for layer in mlm.layers if layer.name.startswith("encoder")],
}
