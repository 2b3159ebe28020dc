"""The next frame of a film by stacked ConvLSTM layers that take films of any length and size."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(35)
films = np.zeros((8, 6, 8, 8, 1), "float32")
for film in films:
    row, column = numbers.integers(0, 3, 2)
    for step in range(6):
        film[step, row : row + 2, (column + step) % 7] = 1


def create_shifted_frames(data):
    return data[:, 0:-1, :, :], data[:, 1:, :, :]


x, y = create_shifted_frames(films)
inputs = layers.Input(shape=(None, *x.shape[2:]))
h = layers.ConvLSTM2D(filters=4, kernel_size=(3, 3), padding="same", return_sequences=True, activation="relu")(inputs)
h = layers.BatchNormalization()(h)
h = layers.ConvLSTM2D(filters=4, kernel_size=(1, 1), padding="same", return_sequences=True, activation="relu")(h)
h = layers.Conv3D(filters=1, kernel_size=(3, 3, 3), activation="sigmoid", padding="same")(h)
model = keras.models.Model(inputs, h)
start(model)
model.compile(loss=keras.losses.binary_crossentropy, optimizer=keras.optimizers.Adam())
history = model.fit(
    x,
    y,
    batch_size=4,
    epochs=2,
    shuffle=False,
    validation_data=(x[:2], y[:2]),
    callbacks=[
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=10),
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=5),
    ],
    verbose=0,
)
frames = films[0][:3]
for _ in range(2):
    prediction = np.squeeze(model.predict(np.expand_dims(frames, axis=0), verbose=0), axis=0)
    frames = np.concatenate((frames, np.expand_dims(prediction[-1, ...], axis=0)), axis=0)
results = {"history": history.history, "frames": frames, "shape": [str(size) for size in model.output_shape]}
