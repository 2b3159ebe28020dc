"""Sounds: short-time Fourier transforms and mel spectrograms, a speaker net of one-dimensional residual blocks."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(48)
times = np.arange(512) / 512
speakers = numbers.integers(0, 3, 24)
audio = np.sin(2 * np.pi * (20 + 15 * speakers[:, None]) * times) + numbers.normal(0, 0.2, (24, 512))
audio = audio.astype("float32")[..., None]
noise = numbers.normal(0, 1, audio.shape).astype("float32")


def add_noise(audio, noises, scale=0.5):
    prop = ops.max(audio, axis=1) / ops.max(noises, axis=1)
    prop = ops.repeat(ops.expand_dims(prop, axis=1), ops.shape(audio)[1], axis=1)
    return audio + noises * prop * scale


def audio_to_fft(audio):
    audio = ops.squeeze(audio, axis=-1)
    real, imaginary = ops.fft((audio, ops.zeros_like(audio)))
    magnitude = ops.sqrt(real**2 + imaginary**2)
    return ops.expand_dims(magnitude[:, : (audio.shape[1] // 2)], axis=-1)


def residual_block(x, filters, conv_num=3, activation="relu"):
    s = keras.layers.Conv1D(filters, 1, padding="same")(x)
    for _ in range(conv_num - 1):
        x = keras.layers.Conv1D(filters, 3, padding="same")(x)
        x = keras.layers.Activation(activation)(x)
    x = keras.layers.Conv1D(filters, 3, padding="same")(x)
    x = keras.layers.Add()([x, s])
    x = keras.layers.Activation(activation)(x)
    return keras.layers.MaxPool1D(pool_size=2, strides=2)(x)


def build_model(input_shape, num_classes):
    inputs = keras.layers.Input(shape=input_shape, name="input")
    x = residual_block(inputs, 4, 2)
    x = residual_block(x, 8, 2)
    x = keras.layers.AveragePooling1D(pool_size=3, strides=3)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(16, activation="relu")(x)
    outputs = keras.layers.Dense(num_classes, activation="softmax", name="output")(x)
    return keras.models.Model(inputs=inputs, outputs=outputs)


features = np.asarray(audio_to_fft(add_noise(audio, noise))) / 100
model = build_model(features.shape[1:], 3)
start(model)
model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
saver = keras.callbacks.ModelCheckpoint("model.keras", monitor="val_accuracy", save_best_only=True)
history = model.fit(
    features, speakers, epochs=2, batch_size=8, shuffle=False, validation_split=0.25, callbacks=[saver], verbose=0
)

real, imaginary = ops.stft(audio[..., 0], sequence_length=64, sequence_stride=32, fft_length=64)
spectrogram = ops.sqrt(ops.square(real) + ops.square(imaginary))
means = ops.mean(spectrogram, 1, keepdims=True)
stddevs = ops.std(spectrogram, 1, keepdims=True)
normalized = (spectrogram - means) / (stddevs + 1e-10)
back = ops.istft((real, imaginary), 64, 32, 64, length=512)
mel = layers.MelSpectrogram(num_mel_bins=8, sampling_rate=512, sequence_stride=32, fft_length=64)
raw = layers.STFTSpectrogram(mode="log", frame_length=64, frame_step=32, fft_length=64, trainable=False)
results = {
    "history": history.history,
    "features": features[:2],
    "normalized": np.asarray(normalized[:2]),
    "back": np.asarray(back[:2]),
    "mel": np.asarray(mel(audio[:2, :, 0])),
    "raw": np.asarray(raw(audio[:2])),
    "named": [model.get_layer("output").output.shape[-1], model.input.name],
}
