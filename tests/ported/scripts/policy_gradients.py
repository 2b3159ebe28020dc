"""Actor and critic with a shared body, PPO's clipped policy, and DDPG's slowly following targets."""

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(56)
eps = np.finfo(np.float32).eps.item()
states = numbers.normal(size=(12, 4)).astype("float32")
actions = numbers.integers(0, 2, 12)
rewards = numbers.uniform(size=12)

inputs = layers.Input(shape=(4,))
common = layers.Dense(16, activation="relu")(inputs)
model = keras.Model(inputs=inputs, outputs=[layers.Dense(2, activation="softmax")(common), layers.Dense(1)(common)])
start(model)
optimizer = keras.optimizers.Adam(learning_rate=0.01)
huber_loss = keras.losses.Huber()
returns, discounted_sum = [], 0
for r in rewards[::-1]:
    discounted_sum = r + 0.9 * discounted_sum
    returns.insert(0, discounted_sum)
returns = np.array(returns)
returns = ((returns - np.mean(returns)) / (np.std(returns) + eps)).astype("float32")


def actor_critic_loss(trainable):
    (probs, values), _ = model.stateless_call(trainable, [], states)
    log_probs = ops.log(ops.take_along_axis(probs, actions[:, None], axis=1))[:, 0]
    values = values[:, 0]
    actor_losses = -log_probs * (returns - jax.lax.stop_gradient(values))
    critic_losses = [huber_loss(ops.expand_dims(v, 0), ops.expand_dims(r, 0)) for v, r in zip(values, returns)]
    return ops.sum(actor_losses) + sum(critic_losses)


losses = []
for _ in range(2):
    loss, grads = jax.value_and_grad(actor_critic_loss)([v.value for v in model.trainable_variables])
    optimizer.apply_gradients(zip(grads, model.trainable_variables))
    losses.append(float(loss))


def mlp(x, sizes, activation="tanh", output_activation=None):
    for size in sizes[:-1]:
        x = layers.Dense(units=size, activation=activation)(x)
    return layers.Dense(units=sizes[-1], activation=output_activation)(x)


def logprobabilities(logits, a):
    return ops.sum(ops.one_hot(a, 2) * ops.log_softmax(logits), axis=1)


observation = keras.Input(shape=(4,), dtype="float32")
actor = keras.Model(inputs=observation, outputs=mlp(observation, [8, 8, 2]))
value = ops.squeeze(mlp(observation, [8, 8, 1]), axis=1)
critic = keras.Model(inputs=observation, outputs=value)
start(actor, 1)
start(critic, 2)
policy_optimizer = keras.optimizers.Adam(learning_rate=3e-3)
before = logprobabilities(actor(states), actions)
advantages = returns - np.asarray(critic(states))


def policy_loss(trainable):
    logits, _ = actor.stateless_call(trainable, [], states)
    ratio = ops.exp(logprobabilities(logits, actions) - before)
    min_advantage = ops.where(advantages > 0, (1 + 0.2) * advantages, (1 - 0.2) * advantages)
    return -ops.mean(ops.minimum(ratio * advantages, min_advantage))


for _ in range(3):
    grads = jax.grad(policy_loss)([v.value for v in actor.trainable_variables])
    policy_optimizer.apply_gradients(zip(grads, actor.trainable_variables))
kl = ops.sum(ops.mean(before - logprobabilities(actor(states), actions)))
critic.compile(keras.optimizers.Adam(1e-2), "mse")
value_losses = [critic.train_on_batch(states, returns) for _ in range(3)]


def get_actor():
    last_init = keras.initializers.RandomUniform(minval=-0.003, maxval=0.003)
    inputs = layers.Input(shape=(4,))
    out = layers.Dense(8, activation="relu")(inputs)
    outputs = layers.Dense(1, activation="tanh", kernel_initializer=last_init)(out)
    return keras.Model(inputs, outputs * 2.0)


def update_target(target, original, tau):
    target_weights = target.get_weights()
    original_weights = original.get_weights()
    for i in range(len(target_weights)):
        target_weights[i] = original_weights[i] * tau + target_weights[i] * (1 - tau)
    target.set_weights(target_weights)


first, target = get_actor(), get_actor()
start(first, 3)
start(target, 4)
update_target(target, first, 0.3)
sampled = np.clip(np.asarray(ops.squeeze(target(states))) + 0.1, -2, 2)
results = {
    "losses": losses,
    "values": [np.asarray(each) for each in model(states)],
    "kl": float(kl),
    "value_losses": [float(each) for each in value_losses],
    "sampled": sampled,
    "logits": np.asarray(actor(states)),
}
