"""Anomalies by what an autoencoder of convolutions fails to rebuild, and by clipped scores above a threshold."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(51)
TIME_STEPS = 16
daily = np.sin(np.arange(160) / 5) + numbers.normal(0, 0.05, 160)
values = ((daily - daily.mean()) / daily.std()).astype("float32")


def create_sequences(values, time_steps=TIME_STEPS):
    return np.stack([values[i : (i + time_steps)] for i in range(len(values) - time_steps + 1)])[..., None]


x_train = create_sequences(values)[:96]
model = keras.Sequential(
    [
        layers.Input(shape=(x_train.shape[1], x_train.shape[2])),
        layers.Conv1D(filters=8, kernel_size=7, padding="same", strides=2, activation="relu"),
        layers.Dropout(rate=0.0),
        layers.Conv1D(filters=4, kernel_size=7, padding="same", strides=2, activation="relu"),
        layers.Conv1DTranspose(filters=4, kernel_size=7, padding="same", strides=2, activation="relu"),
        layers.Dropout(rate=0.0),
        layers.Conv1DTranspose(filters=8, kernel_size=7, padding="same", strides=2, activation="relu"),
        layers.Conv1DTranspose(filters=1, kernel_size=7, padding="same"),
    ]
)
start(model)
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.001), loss="mse")
lines = []
model.summary(print_fn=lines.append)
history = model.fit(
    x_train,
    x_train,
    epochs=2,
    batch_size=32,
    validation_split=0.1,
    shuffle=False,
    callbacks=[keras.callbacks.EarlyStopping(monitor="val_loss", patience=5, mode="min")],
    verbose=0,
)
train_mae_loss = np.mean(np.abs(model.predict(x_train, verbose=0) - x_train), axis=1)
threshold = np.max(train_mae_loss)
strange = values.copy()
strange[60:64] += 4
x_test = create_sequences(strange)
test_mae_loss = np.mean(np.abs(model.predict(x_test, verbose=0) - x_test), axis=1).reshape(-1)
anomalies = test_mae_loss > threshold

metrics = [
    keras.metrics.FalseNegatives(name="fn"),
    keras.metrics.FalsePositives(name="fp"),
    keras.metrics.TrueNegatives(name="tn"),
    keras.metrics.TruePositives(name="tp"),
    keras.metrics.Precision(name="precision"),
    keras.metrics.Recall(name="recall"),
]
rows = numbers.normal(size=(120, 6)).astype("float32")
frauds = (rows[:, :1] > 1.0).astype("uint8")
weight_for_0, weight_for_1 = 1.0 / (120 - frauds.sum()), 1.0 / frauds.sum()
detector = keras.Sequential(
    [
        keras.Input(shape=rows.shape[1:]),
        layers.Dense(16, activation="relu"),
        layers.Dropout(0.0),
        layers.Dense(1, activation="sigmoid"),
    ]
)
start(detector)
detector.compile(optimizer=keras.optimizers.Adam(1e-2), loss="binary_crossentropy", metrics=metrics)
second = detector.fit(
    rows,
    frauds,
    batch_size=32,
    epochs=2,
    shuffle=False,
    verbose=0,
    validation_data=(rows[:40], frauds[:40]),
    class_weight={0: weight_for_0, 1: weight_for_1},
)
results = {
    "history": history.history,
    "threshold": threshold,
    "found": np.where(anomalies)[0].tolist(),
    "second": second.history,
    "summary": any("Total params" in line for line in "".join(lines).splitlines()) and len(lines) > 0,
}
