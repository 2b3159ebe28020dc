"""A variational autoencoder: a sampling layer, the divergence by `add_loss`, trackers of both parts of the loss."""

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits

from tests.ported.start import start

images = (load_digits().data[:192] / 16).astype("float32")
noise = np.random.default_rng(6).normal(size=(192, 2)).astype("float32")


class Sampling(layers.Layer):
    """`mean + exp(log_var / 2) * noise`; the noise is an input, so that runs can be compared."""

    def call(self, inputs):
        mean, log_var, noise = inputs
        return mean + ops.exp(0.5 * log_var) * noise


class VAE(keras.Model):
    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.sampling = Sampling()
        self.kl_tracker = keras.metrics.Mean(name="kl_loss")
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction_loss")

    def call(self, inputs):
        pixels, noise = inputs
        mean, log_var = self.encoder(pixels)
        kl = -0.5 * ops.mean(ops.sum(1 + log_var - ops.square(mean) - ops.exp(log_var), axis=1))
        self.add_loss(0.01 * kl)
        return self.decoder(self.sampling([mean, log_var, noise]))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        pixels, _ = x
        reconstruction = ops.mean(
            ops.sum(keras.losses.binary_crossentropy(pixels[..., None], y_pred[..., None]), axis=-1)
        )
        self.reconstruction_tracker.update_state(reconstruction)
        self.kl_tracker.update_state(sum(self.losses))
        return reconstruction + sum(self.losses)


encoder_inputs = keras.Input((64,))
hidden = layers.Dense(16, activation="relu")(encoder_inputs)
mean = layers.Dense(2, name="mean")(hidden)
log_var = layers.Dense(2, name="log_var", kernel_initializer="zeros")(hidden)
encoder = keras.Model(encoder_inputs, [mean, log_var], name="encoder")
decoder = keras.Sequential(
    [keras.Input((2,)), layers.Dense(16, activation="relu"), layers.Dense(64, activation="sigmoid")], name="decoder"
)
vae = VAE(encoder, decoder)
start(vae)
vae.compile(optimizer=keras.optimizers.Adam(0.01))
history = vae.fit([images, noise], epochs=3, batch_size=64, shuffle=False, verbose=0)
results = {
    "history": history.history,
    "losses": vae.evaluate([images, noise], verbose=0, return_dict=True),
    "grid": decoder.predict(np.array([[-1.0, 0.0], [0.0, 1.0]]), verbose=0),
    "codes": encoder.predict(images[:3], verbose=0),
    "metrics": [metric.name for metric in vae.metrics],
}
