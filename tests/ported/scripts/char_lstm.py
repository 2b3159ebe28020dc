"""Characters by stacked recurrent cells, a cell of one's own and a stateful LSTM that writes text step by step."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

text = "the quick brown fox jumps over the lazy dog. " * 6
letters = sorted(set(text))
tokens = np.array([letters.index(letter) for letter in text], "int32")
windows = np.lib.stride_tricks.sliding_window_view(tokens, 13)[::4][:64]
x, y = windows[:, :-1], windows[:, 1:]


class MinimalCell(layers.Layer):
    """A recurrent cell with one matrix for its input and one for its state."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), initializer="uniform", name="recurrent")

    def call(self, inputs, states):
        output = ops.tanh(ops.matmul(inputs, self.kernel) + ops.matmul(states[0], self.recurrent_kernel))
        return output, [output]


inputs = keras.Input((None,), dtype="int32")
hidden = layers.Embedding(len(letters), 8)(inputs)
hidden = layers.RNN([layers.LSTMCell(8), layers.GRUCell(8)], return_sequences=True)(hidden)
hidden = layers.RNN(MinimalCell(8), return_sequences=True)(hidden)
outputs = layers.TimeDistributed(layers.Dense(len(letters), activation="softmax"))(hidden)
model = keras.Model(inputs, outputs)
start(model)
model.compile(keras.optimizers.Nadam(0.01), "sparse_categorical_crossentropy", metrics=["sparse_categorical_accuracy"])
history = model.fit(x, y, epochs=2, batch_size=32, shuffle=False, verbose=0)

writer = keras.Sequential(
    [
        keras.Input(batch_shape=(1, 1), dtype="int32"),
        layers.Embedding(len(letters), 8),
        layers.LSTM(12, stateful=True, name="memory"),
        layers.Dense(len(letters)),
    ]
)
start(writer, seed=1)


def step(letter):
    # Called, for `predict` of Keras on JAX does not go on where the last one stopped.
    return ops.convert_to_numpy(writer(np.array([[letter]])))


def write(beginning, num_letters):
    writer.get_layer("memory").reset_states()
    for letter in beginning:
        logits = step(letters.index(letter))
    written = []
    for _ in range(num_letters):
        written.append(int(np.argmax(logits[0])))
        logits = step(written[-1])
    return "".join(letters[token] for token in written), logits


encoder_inputs = keras.Input((None, 8))
sequence, state_h, state_c = layers.LSTM(5, return_sequences=True, return_state=True)(encoder_inputs)
decoded = layers.LSTM(5)(sequence, initial_state=[state_h, state_c])
states = keras.Model(encoder_inputs, [decoded, state_h, state_c])
start(states, seed=2)

first, second = write("the ", 5), write("the ", 5)
results = {
    "history": history.history,
    "predictions": model.predict(x[:3, :7], verbose=0),
    "written": first[0],
    "again": second[0] == first[0],
    "logits": first[1],
    "states": states.predict(np.random.default_rng(0).normal(size=(2, 4, 8)), verbose=0),
    "weights": [list(weight.shape) for weight in model.weights],
}
