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


class Windows(keras.utils.PyDataset):
    """Every second of ten steps, with a target each: `timeseries_dataset_from_array` of Keras needs TensorFlow."""

    def __init__(self, data, targets, sequence_length, sampling_rate, batch_size):
        super().__init__()
        windows = np.lib.stride_tricks.sliding_window_view(data, (sequence_length - 1) * sampling_rate + 1, 0)
        self.windows, self.targets = windows[..., ::sampling_rate].transpose(0, 2, 1), targets[: len(windows)]
        self.windows, self.batch_size = self.windows[: len(self.targets)], batch_size

    def __len__(self):
        return -(-len(self.windows) // self.batch_size)

    def __getitem__(self, index):
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self.windows[part], self.targets[part]


dataset_train = Windows(x_train, y_train, sequence_length=5, sampling_rate=2, batch_size=16)
dataset_val = Windows(series[90:-past], series[90 + past :, [1]], sequence_length=5, sampling_rate=2, batch_size=16)
inputs, targets = dataset_train[len(dataset_train) - 1]

inputs_layer = keras.layers.Input(shape=(5, 3))
lstm_out = keras.layers.LSTM(8)(inputs_layer)
model = keras.Model(inputs=inputs_layer, outputs=keras.layers.Dense(1)(lstm_out))
start(model)
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.01), loss="mse")
history = model.fit(
    dataset_train,
    epochs=2,
    shuffle=False,
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
    "num_batches": len(dataset_val),
    "forecast": model.predict(dataset_val, verbose=0),
    "second": second.history,
}
