"""TabTransformer, Wide & Deep, and gated variable selection over one table of numbers and whole categories."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(54)
NUMERIC = ["age", "hours"]
CATEGORICAL = {"job": 5, "city": 7, "sex": 2}
rows = {name: numbers.normal(size=(64, 1)).astype("float32") for name in NUMERIC}
rows |= {name: numbers.integers(0, size, (64, 1)) for name, size in CATEGORICAL.items()}
target = ((rows["age"] + rows["sex"]) > 0.5).astype("float32")


def create_model_inputs():
    inputs = {name: layers.Input(name=name, shape=(1,), dtype="float32") for name in NUMERIC}
    return inputs | {name: layers.Input(name=name, shape=(1,), dtype="int32") for name in CATEGORICAL}


def create_mlp(hidden_units, dropout_rate, activation, normalization_layer, name=None):
    mlp_layers = []
    for units in hidden_units:
        mlp_layers.append(normalization_layer())
        mlp_layers.append(layers.Dense(units, activation=activation))
        mlp_layers.append(layers.Dropout(dropout_rate))
    return keras.Sequential(mlp_layers, name=name)


def tab_transformer():
    inputs = create_model_inputs()
    encoded = [layers.Embedding(size, 8)(inputs[name]) for name, size in CATEGORICAL.items()]
    encoded = [layers.Reshape((8,))(each) for each in encoded]
    x = ops.stack(encoded, axis=1)
    numerical = layers.concatenate([inputs[name] for name in NUMERIC])
    column_indices = ops.arange(start=0, stop=len(CATEGORICAL), step=1)
    x = x + layers.Embedding(len(CATEGORICAL), 8, embeddings_initializer="identity")(column_indices)
    for block_idx in range(2):
        attention_output = layers.MultiHeadAttention(
            num_heads=2, key_dim=8, dropout=0.0, name=f"multihead_attention_{block_idx}"
        )(x, x)
        y = layers.Add(name=f"skip_connection1_{block_idx}")([attention_output, x])
        y = layers.LayerNormalization(name=f"layer_norm1_{block_idx}", epsilon=1e-6)(y)
        feedforward_output = create_mlp(
            [8],
            0.0,
            keras.activations.gelu,
            lambda: layers.LayerNormalization(epsilon=1e-6),
            f"feedforward_{block_idx}",
        )(y)
        y = layers.Add(name=f"skip_connection2_{block_idx}")([feedforward_output, y])
        x = layers.LayerNormalization(name=f"layer_norm2_{block_idx}", epsilon=1e-6)(y)
    x = layers.Flatten()(x)
    numerical = layers.LayerNormalization(epsilon=1e-6)(numerical)
    features = layers.concatenate([x, numerical])
    features = create_mlp([16, 8], 0.0, "selu", layers.BatchNormalization, "MLP")(features)
    return keras.Model(inputs=inputs, outputs=layers.Dense(1, activation="sigmoid", name="sigmoid")(features))


def wide_and_deep():
    inputs = create_model_inputs()
    wide = [
        layers.CategoryEncoding(num_tokens=size, output_mode="one_hot")(inputs[n]) for n, size in CATEGORICAL.items()
    ]
    wide = layers.BatchNormalization()(layers.concatenate(wide + [inputs[name] for name in NUMERIC]))
    deep = [layers.Flatten()(layers.Embedding(size, 4)(inputs[name])) for name, size in CATEGORICAL.items()]
    deep = layers.concatenate(deep + [inputs[name] for name in NUMERIC])
    cross = x0 = deep
    for _ in range(2):
        cross = x0 * layers.Dense(x0.shape[-1])(cross) + cross
    for units in (16, 8):
        deep = layers.Dropout(0.0)(layers.ReLU()(layers.Dense(units)(deep)))
    merged = layers.concatenate([wide, cross, deep])
    return keras.Model(inputs=inputs, outputs=layers.Dense(1, activation="sigmoid")(merged))


class GatedLinearUnit(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.linear = layers.Dense(units)
        self.sigmoid = layers.Dense(units, activation="sigmoid")

    def call(self, inputs):
        return self.linear(inputs) * self.sigmoid(inputs)


class GatedResidualNetwork(layers.Layer):
    def __init__(self, units, dropout_rate):
        super().__init__()
        self.units = units
        self.elu_dense, self.linear_dense = layers.Dense(units, activation="elu"), layers.Dense(units)
        self.dropout, self.gated_linear_unit = layers.Dropout(dropout_rate), GatedLinearUnit(units)
        self.layer_norm, self.project = layers.LayerNormalization(), layers.Dense(units)

    def call(self, inputs):
        x = self.dropout(self.linear_dense(self.elu_dense(inputs)))
        if inputs.shape[-1] != self.units:
            inputs = self.project(inputs)
        return self.layer_norm(inputs + self.gated_linear_unit(x))


class VariableSelection(layers.Layer):
    def __init__(self, num_features, units, dropout_rate):
        super().__init__()
        self.grns = [GatedResidualNetwork(units, dropout_rate) for _ in range(num_features)]
        self.grn_concat = GatedResidualNetwork(units, dropout_rate)
        self.softmax = layers.Dense(units=num_features, activation="softmax")

    def call(self, inputs):
        v = ops.expand_dims(self.softmax(self.grn_concat(layers.concatenate(inputs))), axis=-1)
        x = ops.stack([grn(each) for grn, each in zip(self.grns, inputs)], axis=1)
        return ops.squeeze(ops.matmul(ops.transpose(v, axes=[0, 2, 1]), x), axis=1)


def gated():
    inputs = create_model_inputs()
    encoded = [layers.Reshape((8,))(layers.Embedding(size, 8)(inputs[n])) for n, size in CATEGORICAL.items()]
    encoded += [layers.Dense(8)(inputs[name]) for name in NUMERIC]
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(VariableSelection(5, 8, 0.0)(encoded)))


results = {}
for make in (tab_transformer, wide_and_deep, gated):
    model = make()
    start(model)
    model.compile(
        keras.optimizers.AdamW(learning_rate=0.001, weight_decay=0.0001),
        loss=keras.losses.BinaryCrossentropy(),
        metrics=["mae"],
    )
    history = model.fit(rows, target, epochs=2, batch_size=16, shuffle=False, verbose=0)
    results[make.__name__] = {"history": history.history, "outputs": model.predict(rows, verbose=0)[:4]}
