"""A conditional GAN as two models in one, each with its optimizer, trained by one step written for JAX."""

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(38)
images = numbers.uniform(size=(16, 8, 8, 1)).astype("float32")
classes = keras.utils.to_categorical(numbers.integers(0, 3, 16), 3)
noise = numbers.normal(size=(16, 5)).astype("float32")

discriminator = keras.Sequential(
    [
        keras.layers.InputLayer((8, 8, 4)),
        layers.Conv2D(8, (3, 3), strides=(2, 2), padding="same"),
        layers.LeakyReLU(negative_slope=0.2),
        layers.GlobalMaxPooling2D(),
        layers.Dense(1),
    ],
    name="discriminator",
)
generator = keras.Sequential(
    [
        keras.layers.InputLayer((8,)),
        layers.Dense(4 * 4 * 8),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Reshape((4, 4, 8)),
        layers.Conv2DTranspose(8, (4, 4), strides=(2, 2), padding="same"),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Conv2D(1, (3, 3), padding="same", activation="sigmoid"),
    ],
    name="generator",
)


class ConditionalGAN(keras.Model):
    def __init__(self, discriminator, generator):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.gen_loss_tracker = keras.metrics.Mean(name="generator_loss")
        self.disc_loss_tracker = keras.metrics.Mean(name="discriminator_loss")
        self.built = True

    @property
    def metrics(self):
        return [self.gen_loss_tracker, self.disc_loss_tracker]

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn
        self.d_optimizer.build(self.discriminator.trainable_variables)
        self.g_optimizer.build(self.generator.trainable_variables)

    def train_step(self, state, data):
        trainable, non_trainable, _, metrics_variables = state
        images, labels, noise = data[0]
        num_d = len(self.discriminator.trainable_variables)
        d_weights, g_weights = trainable[:num_d], trainable[num_d:]
        planes = ops.repeat(labels, repeats=8 * 8, axis=0)
        planes = ops.reshape(planes, (-1, 8, 8, 3))
        code = ops.concatenate([noise, labels], axis=1)
        size = ops.shape(images)[0]
        truth = ops.concatenate([ops.ones((size, 1)), ops.zeros((size, 1))], axis=0)

        def d_loss(d_weights):
            fake, _ = self.generator.stateless_call(g_weights, [], code)
            both = [ops.concatenate([each, planes], -1) for each in (fake, images)]
            scores, _ = self.discriminator.stateless_call(d_weights, [], ops.concatenate(both, axis=0))
            return self.loss_fn(truth, scores)

        def g_loss(g_weights, d_weights):
            fake, _ = self.generator.stateless_call(g_weights, [], code)
            scores, _ = self.discriminator.stateless_call(d_weights, [], ops.concatenate([fake, planes], -1))
            return self.loss_fn(ops.zeros((size, 1)), scores)

        loss_d, grads = jax.value_and_grad(d_loss)(d_weights)
        d_weights = [w - 0.01 * g for w, g in zip(d_weights, grads)]
        loss_g, grads = jax.value_and_grad(g_loss)(g_weights, d_weights)
        g_weights = [w - 0.01 * g for w, g in zip(g_weights, grads)]
        first = self.gen_loss_tracker.stateless_update_state(metrics_variables[:2], loss_g)
        second = self.disc_loss_tracker.stateless_update_state(metrics_variables[2:], loss_d)
        logs = {
            "g_loss": self.gen_loss_tracker.stateless_result(first),
            "d_loss": self.disc_loss_tracker.stateless_result(second),
        }
        return logs, (d_weights + g_weights, non_trainable, state[2], first + second)


gan = ConditionalGAN(discriminator=discriminator, generator=generator)
start(gan)
gan.compile(
    d_optimizer=keras.optimizers.Adam(learning_rate=0.0003),
    g_optimizer=keras.optimizers.Adam(learning_rate=0.0003),
    loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
)
history = gan.fit([images, classes, noise], epochs=2, batch_size=8, shuffle=False, verbose=0)
trained = gan.generator
interpolated = [np.concatenate([noise[:2], (1 - t) * classes[:2] + t * classes[2:4]], 1) for t in (0.0, 0.5, 1.0)]
results = {
    "history": history.history,
    "faces": [trained.predict(each.astype("float32"), verbose=0) for each in interpolated],
    "weights": discriminator.get_weights(),
}
