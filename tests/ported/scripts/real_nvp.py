"""Real NVP: coupling layers with regularized nets, run in both directions, the density of two moons."""

import jax
import keras
import numpy as np
from keras import layers, ops, regularizers
from sklearn.datasets import make_moons

from tests.ported.start import start

data = make_moons(128, noise=0.05, random_state=0)[0].astype("float32")
norm = layers.Normalization()
norm.adapt(data)
normalized_data = np.asarray(norm(data))


def Coupling(input_shape):
    inputs = layers.Input(shape=(input_shape,))
    t = s = inputs
    for _ in range(2):
        t = layers.Dense(8, activation="relu", kernel_regularizer=regularizers.l2(0.01))(t)
        s = layers.Dense(8, activation="relu", kernel_regularizer=regularizers.l2(0.01))(s)
    t = layers.Dense(input_shape, activation="linear", kernel_regularizer=regularizers.l2(0.01))(t)
    s = layers.Dense(input_shape, activation="tanh", kernel_regularizer=regularizers.l2(0.01))(s)
    return keras.Model(inputs=inputs, outputs=[s, t])


class RealNVP(keras.Model):
    def __init__(self, num_coupling_layers):
        super().__init__()
        self.num_coupling_layers = num_coupling_layers
        self.masks = np.array([[0, 1], [1, 0]] * (num_coupling_layers // 2), dtype="float32")
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.layers_list = [Coupling(2) for i in range(num_coupling_layers)]

    @property
    def metrics(self):
        return [self.loss_tracker]

    def call(self, x, training=True):
        log_det_inv = 0
        direction = -1 if training else 1
        for i in range(self.num_coupling_layers)[::direction]:
            x_masked = x * self.masks[i]
            reversed_mask = 1 - self.masks[i]
            s, t = self.layers_list[i](x_masked)
            s *= reversed_mask
            t *= reversed_mask
            gate = (direction - 1) / 2
            x = reversed_mask * (x * ops.exp(direction * s) + direction * t * ops.exp(gate * s)) + x_masked
            log_det_inv += gate * ops.sum(s, axis=1)
        return x, log_det_inv

    def log_loss(self, y, logdet):
        log_likelihood = -0.5 * ops.sum(y**2, axis=1) - np.log(2 * np.pi) + logdet
        return -ops.mean(log_likelihood)

    def loss_and_state(self, trainable, non_trainable, x):
        ((y, logdet), non_trainable, losses) = self.stateless_call(
            trainable, non_trainable, x, training=True, return_losses=True
        )
        return self.log_loss(y, logdet) + 0.01 * sum(losses), non_trainable

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        grad_fn = jax.value_and_grad(self.loss_and_state, has_aux=True)
        (loss, non_trainable), grads = grad_fn(trainable, non_trainable, data[0] if isinstance(data, tuple) else data)
        trainable, optimizer_variables = self.optimizer.stateless_apply(optimizer_variables, grads, trainable)
        metrics_variables = self.loss_tracker.stateless_update_state(metrics_variables, loss)
        logs = {"loss": self.loss_tracker.stateless_result(metrics_variables)}
        return logs, (trainable, non_trainable, optimizer_variables, metrics_variables)

    def test_step(self, state, data):
        trainable, non_trainable, metrics_variables = state
        loss, _ = self.loss_and_state(trainable, non_trainable, data[0] if isinstance(data, tuple) else data)
        metrics_variables = self.loss_tracker.stateless_update_state(metrics_variables, loss)
        logs = {"loss": self.loss_tracker.stateless_result(metrics_variables)}
        return logs, (trainable, non_trainable, metrics_variables)


model = RealNVP(num_coupling_layers=4)
model(normalized_data[:1])
start(model)
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.0005))
history = model.fit(normalized_data, batch_size=32, epochs=2, shuffle=False, verbose=0, validation_split=0.25)
z, log_det = model(normalized_data[:5])
back, _ = model(z, training=False)
results = {
    "history": history.history,
    "z": np.asarray(z),
    "log_det": np.asarray(log_det),
    "back": np.asarray(back),
    "losses": [float(loss) for loss in model.losses[:3]],
    "num_losses": len(model.losses),
}
