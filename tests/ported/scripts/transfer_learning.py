"""A network trained on one task, frozen under a new head, then fine-tuned whole with a small learning rate."""

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from tests.ported.start import start

digits = load_digits()
images, labels = (digits.data[:320] / 16).astype("float32"), digits.target[:320]
odd = labels % 2

base = keras.Sequential(
    [
        keras.Input((64,)),
        layers.Dense(24, activation="relu", name="first"),
        layers.BatchNormalization(name="normalization"),
        layers.Dense(12, activation="relu", name="second"),
    ],
    name="base",
)
inputs = keras.Input((64,))
first_task = keras.Model(inputs, layers.Dense(10, name="digits")(base(inputs)))
start(first_task)
first_task.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
pretraining = first_task.fit(images, labels, epochs=2, batch_size=64, shuffle=False, verbose=0)

base.trainable = False
inputs = keras.Input((64,))
outputs = layers.Dense(1, name="odd")(base(inputs, training=False))
model = keras.Model(inputs, outputs)
model.get_layer("odd").set_weights([np.linspace(-1, 1, 12)[:, None], np.zeros(1)])
counts = [[len(model.trainable_weights), len(model.non_trainable_weights)]]
before = base.get_weights()
model.compile(keras.optimizers.Adam(1e-2), keras.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"])
feature_extraction = model.fit(images, odd, epochs=2, batch_size=64, shuffle=False, verbose=0)
frozen = all(np.array_equal(old, new) for old, new in zip(before, base.get_weights()))

base.trainable = True
base.get_layer("normalization").trainable = False
for layer in base.layers[:1]:
    layer.trainable = False
counts.append([len(model.trainable_weights), len(model.non_trainable_weights)])
model.compile(keras.optimizers.Adam(1e-4), keras.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"])
fine_tuning = model.fit(images, odd, epochs=2, batch_size=64, shuffle=False, verbose=0)

features = keras.Model(base.inputs, base.get_layer("first").output)
model.save_weights("odd.weights.h5")
kept = model.predict(images[:5], verbose=0)
start(model, seed=5)
model.load_weights("odd.weights.h5")
results = {
    "pretraining": pretraining.history,
    "feature_extraction": feature_extraction.history,
    "fine_tuning": fine_tuning.history,
    "frozen": frozen,
    "counts": counts,
    "kept": kept,
    "restored": model.predict(images[:5], verbose=0),
    "features": np.asarray(features(images[:2])),
    "learning_rate": float(model.optimizer.learning_rate),
}
