"""The functional API at length: shared layers, nested models, several inputs and outputs, plots, and what is inside."""

import keras
import numpy as np
from keras import backend as K
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(62)
num_tags, num_words, num_departments = 4, 30, 3

title_input = keras.Input(shape=(None,), name="title")
body_input = keras.Input(shape=(None,), name="body")
tags_input = keras.Input(shape=(num_tags,), name="tags")
shared_embedding = layers.Embedding(num_words, 8)
title_features = layers.LSTM(8)(shared_embedding(title_input))
body_features = layers.LSTM(4)(shared_embedding(body_input))
x = layers.concatenate([title_features, body_features, tags_input])
priority_pred = layers.Dense(1, name="priority")(x)
department_pred = layers.Dense(num_departments, name="department")(x)
model = keras.Model(
    inputs=[title_input, body_input, tags_input],
    outputs={"priority": priority_pred, "department": department_pred},
)
start(model)
model.compile(
    optimizer=keras.optimizers.RMSprop(1e-3),
    loss={
        "priority": keras.losses.BinaryCrossentropy(from_logits=True),
        "department": keras.losses.CategoricalCrossentropy(from_logits=True),
    },
    metrics={"department": ["accuracy"]},
    loss_weights={"priority": 1.0, "department": 0.2},
)
data = {
    "title": numbers.integers(0, num_words, (16, 5)),
    "body": numbers.integers(0, num_words, (16, 9)),
    "tags": numbers.integers(0, 2, (16, num_tags)).astype("float32"),
}
targets = {
    "priority": numbers.uniform(size=(16, 1)),
    "department": np.eye(num_departments)[numbers.integers(0, num_departments, 16)],
}
history = model.fit(data, targets, epochs=2, batch_size=8, shuffle=False, verbose=0)


def get_model(seed):
    inputs = keras.Input(shape=(num_tags,))
    member = keras.Model(inputs, layers.Dense(1)(inputs))
    start(member, seed)
    return member


inputs = keras.Input(shape=(num_tags,))
members = [get_model(seed)(inputs) for seed in range(3)]
ensemble = keras.Model(inputs=inputs, outputs=layers.average(members), name="ensemble")


class MLP(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense_1 = layers.Dense(8, activation="relu")
        self.dense_2 = layers.Dense(2)

    def call(self, inputs):
        return self.dense_2(self.dense_1(inputs))


class CustomRNN(layers.Layer):
    def __init__(self, units=4):
        super().__init__()
        self.units = units
        self.projection_1 = layers.Dense(units=units, activation="tanh")
        self.projection_2 = layers.Dense(units=units, activation="tanh")
        self.classifier = layers.Dense(1)

    def call(self, inputs):
        features = []
        state = ops.zeros(shape=(inputs.shape[0], self.units))
        for t in range(inputs.shape[1]):
            h = self.projection_1(inputs[:, t, :])
            state = h + self.projection_2(state)
            features.append(state)
        return self.classifier(ops.stack(features, axis=1))


rnn_inputs = keras.Input(batch_shape=(2, 3, 5))
rnn_model = keras.Model(rnn_inputs, CustomRNN()(layers.Conv1D(5, 2, padding="causal")(rnn_inputs)))
start(rnn_model)
extractor = keras.Model(inputs=model.inputs, outputs=[layer.output for layer in model.layers[3:6]])
lines = []
ensemble.summary(
    expand_nested=True, show_trainable=True, print_fn=lambda line, **kwargs: lines.append(line), line_length=100
)
mlp = MLP()
mlp(data["tags"])
start(mlp)
get_3rd = K.int_shape(ensemble.output) if hasattr(K, "int_shape") else ensemble.output_shape
clone = keras.models.clone_model(ensemble)
clone.set_weights(ensemble.get_weights())
results = {
    "history": history.history,
    "outputs": model.predict(data, verbose=0),
    "ensemble": ensemble.predict(data["tags"], verbose=0),
    "clone": clone.predict(data["tags"], verbose=0),
    "rnn": rnn_model.predict(np.ones((2, 3, 5)), verbose=0),
    "features": [np.asarray(each).shape for each in extractor(data)],
    "mlp": np.asarray(mlp(data["tags"])),
    "shape": list(get_3rd),
    "names": [layer.name for layer in model.layers[:3]],
    "summary": all(word in "".join(lines) for word in ("ensemble", "Total params", "Trainable")),
    "epsilon": [K.epsilon(), K.floatx(), K.image_data_format()],
    "by_name": model.get_layer("department").units,
    "by_index": type(model.get_layer(index=3)).__name__,
}
