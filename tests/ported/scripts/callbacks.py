"""Callbacks decide alike: stopping, plateaus, schedules, checkpoints, logs, and those of one's own."""

import csv

import keras
import numpy as np
from keras import callbacks, layers

from tests.ported.start import start

numbers = np.random.default_rng(10)
x = numbers.normal(size=(80, 4)).astype("float32")
y = (x.sum(axis=1, keepdims=True) + numbers.normal(size=(80, 1))).astype("float32")


def make():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(16, activation="relu"), layers.Dense(1)])
    start(model)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", metrics=["mae"])
    return model


class Recorder(callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.events, self.batch_losses, self.rates = [], [], []

    def on_train_begin(self, logs=None):
        self.events.append(f"train begin {self.params['epochs']} {self.params['steps']}")

    def on_epoch_begin(self, epoch, logs=None):
        self.events.append(f"epoch begin {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.batch_losses.append(float(logs["loss"]))

    def on_test_begin(self, logs=None):
        self.events.append("test begin")

    def on_epoch_end(self, epoch, logs=None):
        self.events.append(f"epoch end {epoch} {sorted(logs)}")
        self.rates.append(float(self.model.optimizer.learning_rate))
        if epoch == 2:
            self.model.optimizer.learning_rate = 0.02

    def on_train_end(self, logs=None):
        self.events.append("train end")


recorder = Recorder()
stopping = callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True, start_from_epoch=1)
model = make()
history = model.fit(
    x,
    y,
    epochs=12,
    shuffle=False,
    validation_split=0.25,
    verbose=0,
    callbacks=[
        stopping,
        callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1, min_lr=1e-4),
        callbacks.ModelCheckpoint("best.keras", monitor="val_mae", save_best_only=True),
        callbacks.ModelCheckpoint("epoch_{epoch:02d}.weights.h5", save_weights_only=True),
        callbacks.CSVLogger("log.csv"),
        callbacks.TerminateOnNaN(),
        recorder,
    ],
)
with open("log.csv") as file:
    table = list(csv.DictReader(file))
best = keras.models.load_model("best.keras")

scheduled = make()
epochs_seen = []
schedule = callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5 if epoch else 0.01)
ended = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs_seen.append((epoch, logs["loss"])))
by_schedule = scheduled.fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=[schedule, ended])

results = {
    "history": history.history,
    "epochs": history.epoch,
    "events": recorder.events,
    "batch_losses": np.array(recorder.batch_losses),
    "rates": recorder.rates,
    "stopped": stopping.stopped_epoch,
    "best_epoch": stopping.best_epoch,
    "restored": model.evaluate(x[60:], y[60:], verbose=0),
    "checkpoint": best.evaluate(x[60:], y[60:], verbose=0),
    "columns": sorted(table[0]),
    "logged": [float(row["val_loss"]) for row in table],
    "by_schedule": by_schedule.history,
    "epochs_seen": [list(map(float, seen)) for seen in epochs_seen],
}
