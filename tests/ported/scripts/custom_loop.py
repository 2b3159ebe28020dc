"""A training loop of one's own around `jax.value_and_grad`, as in Keras's guide to writing one in JAX."""

import jax
import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(13)
x = numbers.normal(size=(96, 6)).astype("float32")
y = numbers.integers(0, 3, 96)

inputs = keras.Input((6,))
hidden = layers.Dense(16, activation="relu")(inputs)
hidden = layers.BatchNormalization()(hidden)
model = keras.Model(inputs, layers.Dense(3)(hidden))
start(model)

loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
optimizer = keras.optimizers.Adam(learning_rate=1e-2)
train_metric = keras.metrics.SparseCategoricalAccuracy()


def compute_loss_and_updates(trainable_variables, non_trainable_variables, metric_variables, x, y):
    y_pred, non_trainable_variables = model.stateless_call(
        trainable_variables, non_trainable_variables, x, training=True
    )
    loss = loss_fn(y, y_pred)
    metric_variables = train_metric.stateless_update_state(metric_variables, y, y_pred)
    return loss, (non_trainable_variables, metric_variables)


grad_fn = jax.value_and_grad(compute_loss_and_updates, has_aux=True)


@jax.jit
def train_step(state, data):
    trainable_variables, non_trainable_variables, optimizer_variables, metric_variables = state
    x, y = data
    (loss, (non_trainable_variables, metric_variables)), grads = grad_fn(
        trainable_variables, non_trainable_variables, metric_variables, x, y
    )
    trainable_variables, optimizer_variables = optimizer.stateless_apply(
        optimizer_variables, grads, trainable_variables
    )
    return loss, (trainable_variables, non_trainable_variables, optimizer_variables, metric_variables)


@jax.jit
def eval_step(state, data):
    trainable_variables, non_trainable_variables = state
    y_pred, _ = model.stateless_call(trainable_variables, non_trainable_variables, data, training=False)
    return y_pred


optimizer.build(model.trainable_variables)
groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables, train_metric.variables)
state = tuple([variable.value for variable in group] for group in groups)
losses = []
for _ in range(2):
    for step in range(3):
        batch = slice(step * 32, (step + 1) * 32)
        loss, state = train_step(state, (x[batch], y[batch]))
        losses.append(float(loss))

for group, values in zip(groups, state):
    for variable, value in zip(group, values):
        variable.assign(value)

results = {
    "losses": losses,
    "accuracy": float(train_metric.result()),
    "outputs": np.asarray(eval_step(state[:2], x[:4])),
    "predictions": model.predict(x[:4], verbose=0),
    "iterations": int(optimizer.iterations),
    "num_optimizer_variables": len(optimizer.variables),
}
