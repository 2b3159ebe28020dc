"""Deep Q learning on a corridor: a replay memory, a target net, updates by functions on lists of variables."""

import jax
import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(55)
num_actions, num_states = 2, 6


class Corridor:
    def reset(self):
        self.place = 2
        return self.observe()

    def observe(self):
        return np.eye(num_states, dtype="float32")[self.place]

    def step(self, action):
        self.place = int(np.clip(self.place + (1 if action else -1), 0, num_states - 1))
        done = self.place in (0, num_states - 1)
        return self.observe(), float(self.place == num_states - 1), done


def create_q_model():
    return keras.Sequential(
        [
            keras.Input((num_states,)),
            layers.Lambda(lambda tensor: keras.ops.reshape(tensor, [-1, 2, 3]), output_shape=(2, 3)),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(num_actions, activation="linear"),
        ]
    )


model, model_target = create_q_model(), create_q_model()
start(model)
model_target.set_weights(model.get_weights())
optimizer = keras.optimizers.Adam(learning_rate=0.01, clipnorm=1.0)
optimizer.build(model.trainable_variables)
loss_function = keras.losses.Huber()


@jax.jit
def update(trainable, optimizer_variables, states, actions, targets):
    def loss_of(trainable):
        q_values, _ = model.stateless_call(trainable, [], states)
        masks = keras.ops.one_hot(actions, num_actions)
        q_action = keras.ops.sum(keras.ops.multiply(q_values, masks), axis=1)
        return loss_function(targets, q_action)

    loss, grads = jax.value_and_grad(loss_of)(trainable)
    trainable, optimizer_variables = optimizer.stateless_apply(optimizer_variables, grads, trainable)
    return loss, trainable, optimizer_variables


env, memory, losses, rewards = Corridor(), [], [], []
for episode in range(8):
    state = env.reset()
    for _step in range(10):
        if numbers.uniform() < 0.5:
            action = int(numbers.integers(num_actions))
        else:
            action_probs = model(keras.ops.expand_dims(keras.ops.convert_to_tensor(state), 0), training=False)
            action = int(keras.ops.argmax(action_probs[0]))
        state_next, reward, done = env.step(action)
        memory.append((state, action, reward, state_next, float(done)))
        state = state_next
        rewards.append(reward)
        if len(memory) > 12 and len(memory) % 4 == 0:
            chosen = numbers.integers(0, len(memory), 8)
            states, actions, gains, nexts, dones = map(np.array, zip(*(memory[i] for i in chosen)))
            future = model_target.predict_on_batch(nexts.astype("float32"))
            targets = gains + 0.9 * keras.ops.amax(future, axis=1)
            targets = targets * (1 - dones) - dones * (gains == 0)
            trainable = [variable.value for variable in model.trainable_variables]
            slots = [variable.value for variable in optimizer.variables]
            loss, trainable, slots = update(trainable, slots, states, actions, np.asarray(targets, "float32"))
            for variable, value in zip(model.trainable_variables, trainable):
                variable.assign(value)
            for variable, value in zip(optimizer.variables, slots):
                variable.assign(value)
            losses.append(float(loss))
        if done:
            break
    if episode % 3 == 0:
        model_target.set_weights(model.get_weights())
results = {
    "losses": losses,
    "rewards": rewards,
    "values": np.asarray(model(np.eye(num_states, dtype="float32"))),
    "target": np.asarray(model_target(np.eye(num_states, dtype="float32"))),
    "iterations": int(optimizer.iterations),
}
