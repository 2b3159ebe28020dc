"""The next days of a series from windows of its past, by a convolution and two kinds of recurrent layers."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

days = np.arange(262)
series = np.sin(days / 9) + 0.2 * np.cos(days / 2) + 0.05 * np.random.default_rng(3).normal(size=days.size)
series = series.astype("float32")
mean, std = series[:200].mean(), series[:200].std()
series = (series - mean) / std

past, ahead = 20, 3
windows = np.lib.stride_tricks.sliding_window_view(series, past + ahead)
x, y = windows[:, :past, None], windows[:, past:]
x_train, y_train, x_test, y_test = x[:180], y[:180], x[180:], y[180:]


def convolutional():
    model = keras.Sequential(name="convolutional")
    model.add(keras.Input((past, 1)))
    model.add(layers.Conv1D(8, 5, padding="causal", dilation_rate=2, activation="relu"))
    model.add(layers.AveragePooling1D(2))
    model.add(layers.Conv1D(8, 3, strides=2, activation="relu"))
    model.add(layers.Flatten())
    model.add(layers.Dense(ahead))
    return model


def recurrent():
    return keras.Sequential(
        [
            layers.GRU(8, return_sequences=True),
            layers.LSTM(8, recurrent_dropout=0.0, go_backwards=True),
            layers.Dense(ahead),
        ]
    )


results = {}
for make in [convolutional, recurrent]:
    model = make()
    if not model.built:
        model.build((None, past, 1))
    start(model)
    model.compile(loss="mse", optimizer="adam", metrics=["mean_absolute_error"])
    history = model.fit(x_train, y_train, epochs=2, batch_size=30, shuffle=False, verbose=0)
    forecast = model.predict(x_test, batch_size=30, verbose=0)
    results[make.__name__] = {
        "history": history.history,
        "test": model.evaluate(x_test, y_test, batch_size=30, verbose=0),
        "forecast": forecast * std + mean,
        "output_shape": list(model.output_shape),
        "weights": [list(weight.shape) for weight in model.weights],
    }
