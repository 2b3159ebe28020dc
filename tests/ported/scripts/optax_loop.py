"""Keras layers in a loop of pure JAX and optax: `stateless_call`, `vmap`, `scan`, and Keras's optimizer beside it."""

import jax
import keras
import numpy as np
import optax
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(61)
x, y = numbers.normal(size=(32, 6)).astype("float32"), numbers.integers(0, 3, 32)

model = keras.Sequential(
    [
        keras.Input((6,)),
        layers.Dense(8, activation="relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.0, seed=3),
        layers.Dense(3),
    ]
)
start(model)
tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.01, 20), weight_decay=1e-3))
trainable = [variable.value for variable in model.trainable_variables]
non_trainable = [variable.value for variable in model.non_trainable_variables]
opt_state = tx.init(trainable)


def loss_of(trainable, non_trainable, x, y):
    logits, non_trainable = model.stateless_call(trainable, non_trainable, x, training=True)
    return ops.mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)), non_trainable


@jax.jit
def train_step(carry, batch):
    trainable, non_trainable, opt_state = carry
    (loss, non_trainable), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable, non_trainable, *batch)
    updates, opt_state = tx.update(grads, opt_state, trainable)
    return (optax.apply_updates(trainable, updates), non_trainable, opt_state), loss


carry, losses = jax.lax.scan(train_step, (trainable, non_trainable, opt_state), (x.reshape(4, 8, 6), y.reshape(4, 8)))
single = jax.vmap(lambda row: model.stateless_call(carry[0], carry[1], row[None], training=False)[0][0])(x[:4])
jacobian = jax.jacfwd(lambda row: model.stateless_call(carry[0], carry[1], row[None])[0][0])(x[0])
for variable, value in zip(model.trainable_variables, carry[0]):
    variable.assign(value)
for variable, value in zip(model.non_trainable_variables, carry[1]):
    variable.assign(value)

schedule = keras.optimizers.schedules.CosineDecay(0.01, 20, warmup_target=0.02, warmup_steps=2)
optimizer = keras.optimizers.Lion(schedule, weight_decay=0.01, use_ema=True, ema_overwrite_frequency=2)
optimizer.build(model.trainable_variables)
by_hand = []
for _step in range(3):
    values = [variable.value for variable in model.trainable_variables]
    state = [variable.value for variable in model.non_trainable_variables]
    (loss, _), grads = jax.value_and_grad(loss_of, has_aux=True)(values, state, x, y)
    optimizer.apply(grads, model.trainable_variables)
    by_hand.append(float(loss))
accuracy = keras.metrics.SparseCategoricalAccuracy()
accuracy.update_state(y, model(x))
looped = ops.while_loop(lambda i, total: i < 4, lambda i, total: (i + 1, total + ops.sum(x[:4] * i)), (0, 0.0))
scanned, partial = ops.scan(lambda total, row: (total + row, total), ops.zeros(6), x[:3])
results = {
    "losses": np.asarray(losses),
    "single": np.asarray(single),
    "jacobian": np.asarray(jacobian),
    "by_hand": by_hand,
    "accuracy": float(accuracy.result()),
    "rate": float(optimizer.learning_rate),
    "looped": float(looped[1]),
    "scanned": [np.asarray(scanned), np.asarray(partial)],
    "sizes": [len(trainable), len(non_trainable)],
}
