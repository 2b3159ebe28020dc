"""Masks and recurrence at length: layers that make, take and pass masks on, cells of one's own, nested states."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(64)
raw_inputs = [[711, 632, 71], [73, 8, 3215, 55, 927], [83, 91, 1, 645, 1253, 927]]
padded = keras.utils.pad_sequences(raw_inputs, padding="post")
y = np.array([[0.0], [1.0], [0.5]])


class TemporalSplit(keras.layers.Layer):
    def call(self, inputs):
        return ops.split(inputs, 2, axis=1)

    def compute_mask(self, inputs, mask=None):
        if mask is None:
            return None
        return ops.split(mask, 2, axis=1)


class CustomEmbedding(keras.layers.Layer):
    def __init__(self, input_dim, output_dim, mask_zero=False, **kwargs):
        super().__init__(**kwargs)
        self.input_dim, self.output_dim, self.mask_zero = input_dim, output_dim, mask_zero

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim), initializer="random_normal", dtype="float32"
        )

    def call(self, inputs):
        inputs = ops.cast(inputs, "int32")
        return ops.take(self.embeddings, inputs, axis=0)

    def compute_mask(self, inputs, mask=None):
        if not self.mask_zero:
            return None
        return ops.not_equal(inputs, 0)


class MyActivation(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return ops.relu(inputs)


class TemporalSoftmax(keras.layers.Layer):
    def call(self, inputs, mask=None):
        assert mask is not None
        broadcast_float_mask = ops.expand_dims(ops.cast(mask, "float32"), -1)
        inputs_exp = ops.exp(inputs) * broadcast_float_mask
        inputs_sum = ops.sum(inputs_exp * broadcast_float_mask, axis=-1, keepdims=True)
        return inputs_exp / (inputs_sum + 1e-6)


@keras.saving.register_keras_serializable()
class NestedCell(keras.layers.Layer):
    def __init__(self, unit_1, unit_2, **kwargs):
        self.unit_1, self.unit_2 = unit_1, unit_2
        self.state_size = [unit_1, unit_2]
        self.output_size = unit_1
        super().__init__(**kwargs)

    def build(self, input_shapes):
        self.kernel_1 = self.add_weight(shape=(input_shapes[-1], self.unit_1), initializer="uniform", name="kernel_1")
        self.kernel_2 = self.add_weight(shape=(input_shapes[-1], self.unit_2), initializer="uniform", name="kernel_2")

    def call(self, inputs, states):
        s1, s2 = states
        state_1 = s1 * 0.5 + ops.matmul(inputs, self.kernel_1)
        state_2 = s2 + ops.tanh(ops.matmul(inputs, self.kernel_2))
        return state_1 * 2 + ops.sum(state_2, -1, keepdims=True), [state_1, state_2]

    def get_config(self):
        return {"unit_1": self.unit_1, "unit_2": self.unit_2}


embedding = layers.Embedding(input_dim=5000, output_dim=6, mask_zero=True)
masked_output = embedding(padded)
masking_layer = layers.Masking()
unmasked = ops.cast(ops.tile(ops.expand_dims(padded, axis=-1), [1, 1, 4]), dtype="float32")
first_half, second_half = TemporalSplit()(masked_output)

inputs = keras.Input(shape=(None,), dtype="int32")
x = CustomEmbedding(5000, 6, mask_zero=True)(inputs)
x = MyActivation()(x)
x = layers.Dense(4)(x)
x = TemporalSoftmax()(x)
x = layers.GRU(5, return_sequences=True)(x)
outputs = layers.Dense(1)(layers.LSTM(3)(x))
model = keras.Model(inputs, outputs)
start(model)
model.compile("adam", "mse")
history = model.fit(padded, y, epochs=2, shuffle=False, verbose=0)

sequence = numbers.normal(size=(4, 5, 3)).astype("float32")
stateful = layers.LSTM(4, stateful=True)
stateful.build(sequence.shape)
rnn = layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], return_state=True, return_sequences=True)
rnn.build(sequence.shape)
nested = layers.RNN(NestedCell(3, 2), return_sequences=True)
nested.build(sequence.shape)
backwards = layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True, go_backwards=False), merge_mode="sum")
backwards.build(sequence.shape)
for layer in (stateful, rnn, nested, backwards):
    start(layer)
stateful_outputs = [np.asarray(stateful(sequence[:, :3])), np.asarray(stateful(sequence[:, 3:]))]
stateful.reset_state() if hasattr(stateful, "reset_state") else stateful.reset_states()
saved = keras.Sequential([keras.Input((5, 3)), nested])
saved.save("nested.keras")
loaded = keras.models.load_model("nested.keras")
results = {
    "history": history.history,
    "masks": [np.asarray(each._keras_mask).tolist() for each in (masked_output, masking_layer(unmasked), first_half)],
    "computed": np.asarray(embedding.compute_mask(padded)).tolist(),
    "outputs": model.predict(padded, verbose=0),
    "stateful": stateful_outputs + [np.asarray(stateful(sequence[:, :3]))],
    "stacked": [np.asarray(each) for each in keras.tree.flatten(rnn(sequence))],
    "nested": np.asarray(nested(sequence)),
    "loaded": loaded.predict(sequence, verbose=0),
    "backwards": np.asarray(backwards(sequence)),
    "masked": np.asarray(backwards(sequence, mask=np.array([[1, 1, 1, 0, 0]] * 4, bool))),
}
