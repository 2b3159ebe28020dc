"""Scans as volumes: Conv3D and pooling under a decaying rate, with data from a generator that augments."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(33)
x = numbers.normal(size=(16, 12, 12, 8)).astype("float32")
y = numbers.integers(0, 2, 16).astype("float32")


def generate(x, y, batch_size):
    while True:
        for begin in range(0, len(x), batch_size):
            volumes = x[begin : begin + batch_size]
            yield np.rot90(volumes, begin // batch_size, axes=(1, 2))[..., None].copy(), y[begin : begin + batch_size]


def get_model(width=12, height=12, depth=8):
    inputs = keras.Input((width, height, depth, 1))
    x = layers.Conv3D(filters=4, kernel_size=3, activation="relu", padding="same")(inputs)
    x = layers.MaxPool3D(pool_size=2)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv3D(filters=8, kernel_size=3, activation="relu")(x)
    x = layers.AveragePooling3D(pool_size=2)(x)
    x = layers.UpSampling3D(2)(x)
    x = layers.ZeroPadding3D((1, 0, 1))(x)
    x = layers.Cropping3D(((1, 0), (0, 1), (0, 0)))(x)
    x = layers.GlobalAveragePooling3D()(x)
    x = layers.Dense(units=8, activation="relu")(x)
    x = layers.Dropout(0.0)(x)
    return keras.Model(inputs, layers.Dense(units=1, activation="sigmoid")(x), name="3dcnn")


model = get_model()
start(model)
schedule = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=2, decay_rate=0.96, staircase=True)
model.compile(
    loss="binary_crossentropy",
    optimizer=keras.optimizers.Adam(learning_rate=schedule),
    metrics=["acc", keras.metrics.AUC(num_thresholds=20)],
)
history = model.fit(
    generate(x, y, 4),
    steps_per_epoch=4,
    validation_data=(x[..., None], y),
    validation_batch_size=8,
    epochs=2,
    shuffle=True,
    verbose=0,
    callbacks=[
        keras.callbacks.ModelCheckpoint("3d.keras", save_best_only=True),
        keras.callbacks.EarlyStopping(monitor="val_acc", patience=15),
    ],
)
model.load_weights("3d.keras")
prediction = model.predict(np.expand_dims(x[0], axis=0), verbose=0)[0]
results = {
    "history": history.history,
    "scores": [1 - prediction[0], prediction[0]],
    "rate": float(model.optimizer.learning_rate),
    "shapes": [list(layer.output.shape) for layer in model.layers],
}
