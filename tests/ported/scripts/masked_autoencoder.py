"""A masked autoencoder: a layer chooses the patches that an encoder sees, a decoder fills in the others."""

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(30)
x = numbers.normal(size=(16, 12, 12, 3)).astype("float32")
num_patches, area, width, num_mask = 9, 48, 16, 6


class Patches(layers.Layer):
    def __init__(self, patch_size=4, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.resize = layers.Reshape((-1, patch_size * patch_size * 3))

    def call(self, images):
        return self.resize(ops.image.extract_patches(images, size=(4, 4), strides=(4, 4), padding="valid"))


class PatchEncoder(layers.Layer):
    def __init__(self, projection_dim, num_mask, **kwargs):
        super().__init__(**kwargs)
        self.projection_dim, self.num_mask = projection_dim, num_mask
        self.mask_token = self.add_weight(shape=(1, area), initializer="random_normal", trainable=True, name="token")

    def build(self, input_shape):
        (_, self.num_patches, self.patch_area) = input_shape
        self.projection = layers.Dense(units=self.projection_dim)
        self.position_embedding = layers.Embedding(input_dim=self.num_patches, output_dim=self.projection_dim)

    def call(self, patches):
        batch_size = ops.shape(patches)[0]
        positions = self.position_embedding(ops.expand_dims(ops.arange(0, self.num_patches), axis=0))
        positions = ops.tile(positions, [batch_size, 1, 1])
        embeddings = self.projection(patches) + positions
        # By brightness and not by chance, so that both runs hide the same patches.
        order = ops.argsort(ops.sum(patches, axis=-1), axis=-1)
        masked, seen = order[:, : self.num_mask], order[:, self.num_mask :]
        seen_embeddings = ops.take_along_axis(embeddings, seen[:, :, None], axis=1)
        masked_positions = ops.take_along_axis(positions, masked[:, :, None], axis=1)
        tokens = ops.tile(ops.repeat(self.mask_token, repeats=self.num_mask, axis=0)[None], [batch_size, 1, 1])
        return seen_embeddings, self.projection(tokens) + masked_positions, masked


def create_transformer(name, length, head=None):
    inputs = h = layers.Input((length, width))
    for _ in range(1):
        x1 = layers.LayerNormalization(epsilon=1e-6)(h)
        attention = layers.MultiHeadAttention(num_heads=2, key_dim=8, dropout=0.0)(x1, x1)
        x2 = layers.Add()([attention, h])
        x3 = layers.Dense(2 * width, activation=keras.activations.gelu)(layers.LayerNormalization(epsilon=1e-6)(x2))
        h = layers.Add()([layers.Dense(width)(x3), x2])
    h = layers.LayerNormalization(epsilon=1e-6)(h)
    if head:
        h = layers.Dense(head, activation="sigmoid")(layers.Flatten()(h))
        h = layers.Reshape((12, 12, 3))(h)
    return keras.Model(inputs, h, name=name)


class MaskedAutoencoder(keras.Model):
    def __init__(self, patch_layer, patch_encoder, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.patch_layer, self.patch_encoder = patch_layer, patch_encoder
        self.encoder, self.decoder = encoder, decoder

    def call(self, images, training=False):
        patches = self.patch_layer(images)
        seen, masked, indices = self.patch_encoder(patches)
        decoder_inputs = ops.concatenate([self.encoder(seen), masked], axis=1)
        decoded = self.patch_layer(self.decoder(decoder_inputs, training=training))
        loss_patch = ops.take_along_axis(patches, indices[:, :, None], axis=1)
        return loss_patch, ops.take_along_axis(decoded, indices[:, :, None], axis=1)

    def losses_of(self, trainable, non_trainable, images, training=True):
        (target, output), non_trainable = self.stateless_call(trainable, non_trainable, images, training=training)
        return ops.mean(keras.losses.mean_squared_error(target, output)), (target, output, non_trainable)

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        grad_fn = jax.value_and_grad(self.losses_of, has_aux=True)
        (loss, (target, output, non_trainable)), grads = grad_fn(trainable, non_trainable, data)
        trainable, optimizer_variables = self.optimizer.stateless_apply(optimizer_variables, grads, trainable)
        logs, updated = {}, []
        for metric in self.metrics:
            now = metrics_variables[len(updated) : len(updated) + len(metric.variables)]
            if metric.name == "loss":
                now = metric.stateless_update_state(now, loss)
            else:
                now = metric.stateless_update_state(now, target, output)
            logs[metric.name] = metric.stateless_result(now)
            updated += now
        if isinstance(logs.get("compile_metrics"), dict):
            logs.update(logs.pop("compile_metrics"))
        return logs, (trainable, non_trainable, optimizer_variables, updated)


class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, learning_rate_base, total_steps, warmup_learning_rate, warmup_steps):
        super().__init__()
        self.base, self.total_steps = learning_rate_base, total_steps
        self.warmup, self.warmup_steps = warmup_learning_rate, warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        angle = np.pi * (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        rate = 0.5 * self.base * (1 + ops.cos(angle))
        slope = (self.base - self.warmup) / self.warmup_steps
        rate = ops.where(step < self.warmup_steps, slope * step + self.warmup, rate)
        return ops.where(step > self.total_steps, 0.0, rate)


model = MaskedAutoencoder(
    Patches(),
    PatchEncoder(width, num_mask),
    create_transformer("mae_encoder", 3),
    create_transformer("decoder", 9, 432),
)
model(x[:1])
start(model)
model.compile(
    optimizer=keras.optimizers.AdamW(WarmUpCosine(5e-3, 8, 0.0, 2), weight_decay=1e-4),
)
history = model.fit(x, epochs=2, batch_size=8, shuffle=False, verbose=0)
results = {
    "history": history.history,
    "outputs": [np.asarray(each) for each in model.predict(x[:2], verbose=0)],
    "weights": [list(weight.shape) for weight in model.trainable_weights],
}
