"""A convolutional autoencoder of digits, as a subclassed model of an encoder and a decoder that stand alone too."""

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from tests.ported.start import start

images = (load_digits().images[:200, ..., None] / 16).astype("float32")
noisy = np.clip(images + 0.2 * np.random.default_rng(5).normal(size=images.shape), 0, 1).astype("float32")


class Autoencoder(keras.Model):
    def __init__(self, latent_dim):
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
                layers.Flatten(),
                layers.Dense(latent_dim),
            ]
        )
        self.decoder = keras.Sequential(
            [
                keras.Input((latent_dim,)),
                layers.Dense(4 * 4 * 4, activation="relu"),
                layers.Reshape((4, 4, 4)),
                layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu"),
                layers.UpSampling2D(2, interpolation="bilinear"),
                layers.MaxPool2D(2),
                layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
            ]
        )

    def call(self, x):
        return self.decoder(self.encoder(x))


autoencoder = Autoencoder(6)
start(autoencoder)
autoencoder.compile(optimizer="adam", loss=keras.losses.MeanSquaredError())
history = autoencoder.fit(noisy, images, epochs=2, shuffle=False, validation_data=(noisy[:50], images[:50]), verbose=0)
encoded = autoencoder.encoder.predict(noisy[:5], verbose=0)
results = {
    "history": history.history,
    "encoded": encoded,
    "decoded": np.asarray(autoencoder.decoder(encoded)),
    "reconstructed": np.asarray(autoencoder(noisy[:5])),
    "parameters": [autoencoder.encoder.count_params(), autoencoder.decoder.count_params()],
}
