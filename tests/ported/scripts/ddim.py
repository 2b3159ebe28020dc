"""Denoising diffusion: a U-Net given the noise's strength, a moving average of it, and images by reversed steps."""

import math

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(41)
images = numbers.uniform(size=(16, 8, 8, 3)).astype("float32")
noises = numbers.normal(size=(16, 8, 8, 3)).astype("float32")
times = numbers.uniform(size=(16, 1, 1, 1)).astype("float32")


@keras.saving.register_keras_serializable()
def sinusoidal_embedding(x):
    frequencies = ops.exp(ops.linspace(ops.log(1.0), ops.log(1000.0), 4))
    angular_speeds = ops.cast(2.0 * math.pi * frequencies, "float32")
    return ops.concatenate([ops.sin(angular_speeds * x), ops.cos(angular_speeds * x)], axis=3)


def ResidualBlock(width):
    def apply(x):
        residual = x if x.shape[3] == width else layers.Conv2D(width, kernel_size=1)(x)
        x = layers.BatchNormalization(center=False, scale=False)(x)
        x = layers.Conv2D(width, kernel_size=3, padding="same", activation="swish")(x)
        x = layers.Conv2D(width, kernel_size=3, padding="same")(x)
        return layers.Add()([x, residual])

    return apply


def DownBlock(width, block_depth):
    def apply(x):
        x, skips = x
        for _ in range(block_depth):
            x = ResidualBlock(width)(x)
            skips.append(x)
        return layers.AveragePooling2D(pool_size=2)(x)

    return apply


def UpBlock(width, block_depth):
    def apply(x):
        x, skips = x
        x = layers.UpSampling2D(size=2, interpolation="bilinear")(x)
        for _ in range(block_depth):
            x = layers.Concatenate()([x, skips.pop()])
            x = ResidualBlock(width)(x)
        return x

    return apply


def get_network(image_size):
    noisy_images = keras.Input(shape=(image_size, image_size, 3))
    noise_variances = keras.Input(shape=(1, 1, 1))
    e = layers.Lambda(sinusoidal_embedding, output_shape=(1, 1, 8))(noise_variances)
    e = layers.UpSampling2D(size=image_size, interpolation="nearest")(e)
    x = layers.Concatenate()([layers.Conv2D(8, kernel_size=1)(noisy_images), e])
    skips = []
    x = DownBlock(8, 1)([x, skips])
    x = ResidualBlock(12)(x)
    x = UpBlock(8, 1)([x, skips])
    x = layers.Conv2D(3, kernel_size=1, kernel_initializer="zeros")(x)
    return keras.Model([noisy_images, noise_variances], x, name="residual_unet")


@keras.saving.register_keras_serializable()
class DiffusionModel(keras.Model):
    def __init__(self, image_size):
        super().__init__()
        self.normalizer = layers.Normalization()
        self.network = get_network(image_size)
        self.ema_network = keras.models.clone_model(self.network)

    def compile(self, optimizer, loss):
        super().compile(optimizer=optimizer)
        self.loss_fn = loss
        self.noise_loss_tracker = keras.metrics.Mean(name="n_loss")
        self.image_loss_tracker = keras.metrics.Mean(name="i_loss")

    @property
    def metrics(self):
        return [self.noise_loss_tracker, self.image_loss_tracker]

    def denormalize(self, images):
        images = self.normalizer.mean + images * self.normalizer.variance**0.5
        return ops.clip(images, 0.0, 1.0)

    def diffusion_schedule(self, diffusion_times):
        start_angle = ops.cast(ops.arccos(0.95), "float32")
        end_angle = ops.cast(ops.arccos(0.02), "float32")
        angles = start_angle + diffusion_times * (end_angle - start_angle)
        return ops.sin(angles), ops.cos(angles)

    def denoise(self, network, noisy_images, noise_rates, signal_rates, training=False):
        pred_noises = network([noisy_images, noise_rates**2], training=training)
        return pred_noises, (noisy_images - noise_rates * pred_noises) / signal_rates

    def call(self, images, training=False):
        return self.network(images, training=training)

    def generate(self, initial_noise, diffusion_steps):
        step_size = 1.0 / diffusion_steps
        next_noisy_images = initial_noise
        for step in range(diffusion_steps):
            diffusion_times = ops.ones((len(initial_noise), 1, 1, 1)) - step * step_size
            noise_rates, signal_rates = self.diffusion_schedule(diffusion_times)
            pred_noises, pred_images = self.denoise(self.ema_network, next_noisy_images, noise_rates, signal_rates)
            next_noise_rates, next_signal_rates = self.diffusion_schedule(diffusion_times - step_size)
            next_noisy_images = next_signal_rates * pred_images + next_noise_rates * pred_noises
        return self.denormalize(pred_images)

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        images, noises, diffusion_times = data[0]
        images = (images - ops.convert_to_tensor(self.normalizer.mean)) / ops.sqrt(self.normalizer.variance)
        noise_rates, signal_rates = self.diffusion_schedule(diffusion_times)
        noisy_images = signal_rates * images + noise_rates * noises

        def loss_of(trainable):
            pred_noises, updated = self.stateless_call(
                trainable, non_trainable, [noisy_images, noise_rates**2], training=True
            )
            pred_images = (noisy_images - noise_rates * pred_noises) / signal_rates
            return self.loss_fn(noises, pred_noises), (self.loss_fn(images, pred_images), updated)

        (noise_loss, (image_loss, non_trainable)), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, optimizer_variables = self.optimizer.stateless_apply(optimizer_variables, grads, trainable)
        first = self.noise_loss_tracker.stateless_update_state(metrics_variables[:2], noise_loss)
        second = self.image_loss_tracker.stateless_update_state(metrics_variables[2:], image_loss)
        logs = {
            "n_loss": self.noise_loss_tracker.stateless_result(first),
            "i_loss": self.image_loss_tracker.stateless_result(second),
        }
        return logs, (trainable, non_trainable, optimizer_variables, first + second)


class Average(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        for weight, ema_weight in zip(self.model.network.weights, self.model.ema_network.weights):
            ema_weight.assign(0.9 * ema_weight + (1 - 0.9) * weight)


model = DiffusionModel(8)
model.ema_network.trainable = False
model.normalizer.adapt(images)
start(model.network)
model.ema_network.set_weights(model.network.get_weights())
model.compile(optimizer=keras.optimizers.SGD(learning_rate=1e-2), loss=keras.losses.MeanAbsoluteError())
model([images[:1], np.ones((1, 1, 1, 1), "float32")])
history = model.fit([images, noises, times], epochs=2, batch_size=8, shuffle=False, callbacks=[Average()], verbose=0)
results = {
    "history": history.history,
    "generated": np.asarray(model.generate(ops.convert_to_tensor(noises[:2]), 3)),
    "rates": [np.asarray(each) for each in model.diffusion_schedule(times[:3])],
    "weights": [len(model.trainable_weights), len(model.non_trainable_weights)],
}
