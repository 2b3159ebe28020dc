"""Batches from a `PyDataset`, by two workers too, and from generators, endless ones too."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(14)
x = numbers.normal(size=(100, 4)).astype("float32")
y = x @ np.array([[1.0], [-2.0], [0.5], [0.0]], "float32")


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, batch_size, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.batch_size = x, y, batch_size

    def __len__(self):
        return int(np.ceil(len(self.x) / self.batch_size))

    def __getitem__(self, index):
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self.x[rows], self.y[rows], np.full(len(self.x[rows]), 1.0 + index)


def batches(with_targets=True):
    for begin in range(0, 100, 32):
        rows = slice(begin, begin + 32)
        yield (x[rows], y[rows]) if with_targets else (x[rows],)


def forever():
    while True:
        yield from batches()


model = keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(1)])
start(model)
model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mse"])
validation = Batches(x[:40], y[:40], 20, workers=2, use_multiprocessing=False, max_queue_size=4)
by_dataset = model.fit(Batches(x, y, 32), epochs=2, shuffle=False, verbose=0, validation_data=validation)
by_generator = model.fit(forever(), steps_per_epoch=4, epochs=2, verbose=0)

results = {
    "by_dataset": by_dataset.history,
    "by_generator": by_generator.history,
    "evaluated": model.evaluate(batches(), verbose=0),
    "first_steps": model.evaluate(x, y, batch_size=32, steps=2, verbose=0),
    "predicted": model.predict(batches(with_targets=False), verbose=0),
    "from_dataset": model.predict(Batches(x[:10], y[:10], 4), verbose=0),
}
