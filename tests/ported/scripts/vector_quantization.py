"""VQ-VAE with a straight-through codebook and its loss, then a PixelCNN of masked convolutions over its codes."""

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(67)
x = numbers.uniform(-0.5, 0.5, (24, 8, 8, 1)).astype("float32")


class VectorQuantizer(layers.Layer):
    def __init__(self, num_embeddings, embedding_dim, beta=0.25, **kwargs):
        super().__init__(**kwargs)
        self.embedding_dim, self.num_embeddings, self.beta = embedding_dim, num_embeddings, beta
        w_init = keras.initializers.RandomUniform()
        self.embeddings = self.add_weight(
            shape=(embedding_dim, num_embeddings), initializer=w_init, trainable=True, name="embeddings_vqvae"
        )

    def call(self, x):
        input_shape = ops.shape(x)
        flattened = ops.reshape(x, [-1, self.embedding_dim])
        encoding_indices = self.get_code_indices(flattened)
        encodings = ops.one_hot(encoding_indices, self.num_embeddings)
        quantized = ops.matmul(encodings, ops.transpose(self.embeddings))
        quantized = ops.reshape(quantized, input_shape)
        commitment_loss = ops.mean((ops.stop_gradient(quantized) - x) ** 2)
        codebook_loss = ops.mean((quantized - ops.stop_gradient(x)) ** 2)
        self.add_loss(self.beta * commitment_loss + codebook_loss)
        return x + ops.stop_gradient(quantized - x)

    def get_code_indices(self, flattened_inputs):
        similarity = ops.matmul(flattened_inputs, self.embeddings)
        distances = (
            ops.sum(flattened_inputs**2, axis=1, keepdims=True) + ops.sum(self.embeddings**2, axis=0) - 2 * similarity
        )
        return ops.argmin(distances, axis=1)


def get_vqvae(latent_dim=4, num_embeddings=6):
    vq_layer = VectorQuantizer(num_embeddings, latent_dim, name="vector_quantizer")
    encoder_inputs = keras.Input(shape=(8, 8, 1))
    h = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same")(encoder_inputs)
    encoder = keras.Model(encoder_inputs, layers.Conv2D(latent_dim, 1, padding="same")(h), name="encoder")
    latent_inputs = keras.Input(shape=encoder.output.shape[1:])
    h = layers.Conv2DTranspose(8, 3, activation="relu", strides=2, padding="same")(latent_inputs)
    decoder = keras.Model(latent_inputs, layers.Conv2DTranspose(1, 3, padding="same")(h), name="decoder")
    inputs = keras.Input(shape=(8, 8, 1))
    return keras.Model(inputs, decoder(vq_layer(encoder(inputs))), name="vq_vae")


class VQVAETrainer(keras.models.Model):
    def __init__(self, train_variance, **kwargs):
        super().__init__(**kwargs)
        self.train_variance = train_variance
        self.vqvae = get_vqvae()
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.vq_loss_tracker = keras.metrics.Mean(name="vq_loss")

    @property
    def metrics(self):
        return [self.total_loss_tracker, self.vq_loss_tracker]

    def call(self, x):
        return self.vqvae(x)

    def train_step(self, state, x):
        trainable, non_trainable, optimizer_variables, metrics_variables = state

        def loss_of(trainable):
            outputs, updated, losses = self.stateless_call(trainable, non_trainable, x, return_losses=True)
            reconstruction_loss = ops.mean((x - outputs) ** 2) / self.train_variance
            return reconstruction_loss + sum(losses), (updated, sum(losses))

        (loss, (non_trainable, vq_loss)), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, optimizer_variables = self.optimizer.stateless_apply(optimizer_variables, grads, trainable)
        first = self.total_loss_tracker.stateless_update_state(metrics_variables[:2], loss)
        second = self.vq_loss_tracker.stateless_update_state(metrics_variables[2:], vq_loss)
        logs = {
            "loss": self.total_loss_tracker.stateless_result(first),
            "vqvae_loss": self.vq_loss_tracker.stateless_result(second),
        }
        return logs, (trainable, non_trainable, optimizer_variables, first + second)


trainer = VQVAETrainer(float(x.var()))
trainer(x[:1])
start(trainer)
trainer.compile(optimizer=keras.optimizers.Adam())
history = trainer.fit(x, epochs=2, batch_size=8, shuffle=False, verbose=0)
encoder = trainer.vqvae.get_layer("encoder")
quantizer = trainer.vqvae.get_layer("vector_quantizer")
encoded = encoder.predict(x, verbose=0)
codes = np.asarray(quantizer.get_code_indices(encoded.reshape(-1, encoded.shape[-1]))).reshape(encoded.shape[:-1])


class PixelConvLayer(layers.Layer):
    def __init__(self, mask_type, **kwargs):
        super().__init__()
        self.mask_type = mask_type
        self.conv = layers.Conv2D(**kwargs)

    def build(self, input_shape):
        self.conv.build(input_shape)
        kernel_shape = ops.shape(self.conv.kernel)
        self.mask = np.zeros(shape=kernel_shape)
        self.mask[: kernel_shape[0] // 2, ...] = 1.0
        self.mask[kernel_shape[0] // 2, : kernel_shape[1] // 2, ...] = 1.0
        if self.mask_type == "B":
            self.mask[kernel_shape[0] // 2, kernel_shape[1] // 2, ...] = 1.0

    def call(self, inputs):
        self.conv.kernel.assign(self.conv.kernel * self.mask)
        return self.conv(inputs)


pixel_inputs = keras.Input(shape=codes.shape[1:], dtype="int32")
onehot = ops.one_hot(pixel_inputs, 6)
h = PixelConvLayer(mask_type="A", filters=8, kernel_size=3, activation="relu", padding="same")(onehot)
h = layers.Conv2D(filters=8, kernel_size=1, activation="relu")(h)
h = PixelConvLayer(mask_type="B", filters=6, kernel_size=1, strides=1, activation="relu", padding="valid")(h)
pixel_cnn = keras.Model(pixel_inputs, h, name="pixel_cnn")
start(pixel_cnn)
outputs = np.asarray(pixel_cnn(codes[:2]))
results = {
    "history": history.history,
    "codes": codes.tolist(),
    "outputs": outputs,
    "kernel": next(layer for layer in pixel_cnn.layers if isinstance(layer, PixelConvLayer)).conv.kernel.numpy(),
}
