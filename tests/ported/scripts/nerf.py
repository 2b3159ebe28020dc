"""A small radiance field: positions encoded by sines, rays composed of samples, a model with steps of its own."""

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(31)
height = width = 4
num_samples, batch_size = 6, 2
images = numbers.uniform(size=(8, height, width, 3)).astype("float32")
poses = np.tile(np.eye(4, dtype="float32"), (8, 1, 1)) + numbers.normal(0, 0.1, (8, 4, 4)).astype("float32")


def encode_position(x):
    positions = [x]
    for i in range(2):
        for fn in [ops.sin, ops.cos]:
            positions.append(fn(2.0**i * x))
    return ops.concatenate(positions, axis=-1)


def get_rays(pose, focal=5.0):
    i, j = ops.meshgrid(ops.arange(width, dtype="float32"), ops.arange(height, dtype="float32"), indexing="xy")
    directions = ops.stack([(i - width * 0.5) / focal, (j - height * 0.5) / focal, -ops.ones_like(i)], axis=-1)
    directions = ops.sum(directions[..., None, :] * pose[:3, :3], axis=-1)
    return ops.broadcast_to(pose[:3, -1], ops.shape(directions)), directions


def render_flat_rays(origins, directions, near=2.0, far=6.0):
    t_vals = ops.linspace(near, far, num_samples)
    rays = origins[..., None, :] + directions[..., None, :] * t_vals[..., None]
    return encode_position(ops.reshape(rays, [-1, 3])), t_vals


rays = [render_flat_rays(*get_rays(pose)) for pose in poses]
flat = np.stack([np.asarray(each[0]) for each in rays])
t_vals = np.stack([np.broadcast_to(np.asarray(each[1]), (height, width, num_samples)) for each in rays])


def get_nerf_model(num_layers, num_pos):
    inputs = keras.Input(shape=(num_pos, 15))
    x = inputs
    for i in range(num_layers):
        x = layers.Dense(units=16, activation="relu")(x)
        if i % 2 == 0 and i > 0:
            x = layers.concatenate([x, inputs], axis=-1)
    return keras.Model(inputs=inputs, outputs=layers.Dense(units=4)(x))


class NeRF(keras.Model):
    def __init__(self, nerf_model):
        super().__init__()
        self.nerf_model = nerf_model

    def compile(self, optimizer, loss_fn):
        super().compile()
        self.optimizer = optimizer
        self.loss_fn = loss_fn
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.psnr_metric = keras.metrics.Mean(name="psnr")

    def call(self, data, training=False):
        rays_flat, t_vals = data
        predictions = self.nerf_model(rays_flat, training=training)
        predictions = ops.reshape(predictions, (-1, height, width, num_samples, 4))
        rgb = ops.sigmoid(predictions[..., :-1])
        sigma = ops.relu(predictions[..., -1])
        delta = t_vals[..., 1:] - t_vals[..., :-1]
        far = ops.broadcast_to([1e10], shape=ops.shape(delta[..., :1]))
        alpha = 1.0 - ops.exp(-sigma * ops.concatenate([delta, far], axis=-1))
        transmittance = ops.cumprod(1.0 - alpha + 1e-10, axis=-1)
        before = ops.pad(transmittance[..., :-1], [[0, 0]] * 3 + [[1, 0]], constant_values=1.0)
        weights = alpha * before
        return ops.sum(weights[..., None] * rgb, axis=-2), ops.sum(weights * t_vals, axis=-1)

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        images, inputs = data

        def loss_of(trainable):
            (rgb, _), updated = self.stateless_call(trainable, non_trainable, inputs, training=True)
            return self.loss_fn(images, rgb), (rgb, updated)

        (loss, (rgb, non_trainable)), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, optimizer_variables = self.optimizer.stateless_apply(optimizer_variables, grads, trainable)
        psnr = ops.psnr(images, rgb, max_val=1.0)
        first = self.loss_tracker.stateless_update_state(metrics_variables[:2], loss)
        second = self.psnr_metric.stateless_update_state(metrics_variables[2:], psnr)
        logs = {
            "loss": self.loss_tracker.stateless_result(first),
            "psnr": self.psnr_metric.stateless_result(second),
        }
        return logs, (trainable, non_trainable, optimizer_variables, first + second)

    @property
    def metrics(self):
        return [self.loss_tracker, self.psnr_metric]


nerf_model = get_nerf_model(4, height * width * num_samples)
model = NeRF(nerf_model)
start(nerf_model)
model.compile(optimizer=keras.optimizers.Adam(), loss_fn=keras.losses.MeanSquaredError())
model((flat[:1], t_vals[:1]))
losses = []


class TrainMonitor(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        losses.append(logs["loss"])
        rgb, depth = self.model((flat[:2], t_vals[:2]))
        self.seen = [np.asarray(rgb), np.asarray(depth)]


monitor = TrainMonitor()
history = model.fit(images, (flat, t_vals), batch_size=2, epochs=2, shuffle=False, callbacks=[monitor], verbose=0)
results = {"history": history.history, "seen": monitor.seen, "losses": losses, "rays": flat[:2]}
