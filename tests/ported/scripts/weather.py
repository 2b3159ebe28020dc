"""Time series from one array by a sliding window, forecast by an LSTM; a transformer and a CNN classify others."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(50)
series = np.cumsum(numbers.normal(size=(120, 3)), 0).astype("float32")
series = (series - series[:90].mean(0)) / series[:90].std(0)
past, future = 10, 4
x_train = series[: 90 - past - future]
y_train = series[past + future : 90, [1]]
dataset_train = keras.preprocessing.timeseries_dataset_from_array(
    x_train, y_train, sequence_length=5, sampling_rate=2, batch_size=16
)
dataset_val = keras.utils.timeseries_dataset_from_array(
    series[90:-past], series[90 + past :, [1]], sequence_length=5, sampling_rate=2, batch_size=16
)
for batch in dataset_train:
    inputs, targets = batch

inputs_layer = keras.layers.Input(shape=(5, 3))
lstm_out = keras.layers.LSTM(8)(inputs_layer)
model = keras.Model(inputs=inputs_layer, outputs=keras.layers.Dense(1)(lstm_out))
start(model)
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.01), loss="mse")
history = model.fit(
    dataset_train,
    epochs=2,
    validation_data=dataset_val,
    verbose=0,
    callbacks=[
        keras.callbacks.EarlyStopping(monitor="val_loss", min_delta=0, patience=5),
        keras.callbacks.ModelCheckpoint(
            monitor="val_loss", filepath="checkpoint.weights.h5", verbose=0, save_weights_only=True, save_best_only=True
        ),
    ],
)


def transformer_encoder(inputs, head_size, num_heads, ff_dim, dropout=0):
    x = layers.MultiHeadAttention(key_dim=head_size, num_heads=num_heads, dropout=dropout)(inputs, inputs)
    x = layers.Dropout(dropout)(x)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    res = x + inputs
    x = layers.Conv1D(filters=ff_dim, kernel_size=1, activation="relu")(res)
    x = layers.Conv1D(filters=inputs.shape[-1], kernel_size=1)(layers.Dropout(dropout)(x))
    return layers.LayerNormalization(epsilon=1e-6)(x) + res


waves = numbers.normal(size=(32, 20, 1)).astype("float32")
kinds = (waves.mean((1, 2)) > 0).astype("int32")
inputs_layer = keras.Input(shape=waves.shape[1:])
x = layers.Dense(4)(inputs_layer)
for _ in range(2):
    x = transformer_encoder(x, 4, 2, 4)
x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
classifier = keras.Model(inputs_layer, layers.Dense(2, activation="softmax")(x))
start(classifier)
classifier.compile("adam", "sparse_categorical_crossentropy", metrics=["sparse_categorical_accuracy"])
second = classifier.fit(waves, kinds, validation_split=0.25, epochs=2, batch_size=8, shuffle=False, verbose=0)
results = {
    "history": history.history,
    "last": [np.asarray(inputs), np.asarray(targets)],
    "num_batches": len(list(dataset_val)),
    "forecast": [model.predict(x, verbose=0) for x, y in dataset_val.take(1)]
    if hasattr(dataset_val, "take")
    else [model.predict(next(iter(dataset_val))[0], verbose=0)],
    "second": second.history,
}
