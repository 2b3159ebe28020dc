"""A Wasserstein GAN with gradient penalty: gradients within gradients, several steps of the critic."""

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(39)
real = numbers.uniform(-1, 1, (16, 8, 8, 1)).astype("float32")


def conv_block(x, filters, activation, use_bn=False):
    x = layers.Conv2D(filters, (5, 5), strides=(2, 2), padding="same", use_bias=True)(x)
    if use_bn:
        x = layers.BatchNormalization()(x)
    return layers.Dropout(0.0)(activation(x))


image = layers.Input(shape=(8, 8, 1))
h = layers.ZeroPadding2D((2, 2))(image)
h = conv_block(h, 4, layers.LeakyReLU(0.2))
h = conv_block(h, 8, layers.LeakyReLU(0.2))
critic = keras.models.Model(image, layers.Dense(1)(layers.Flatten()(h)), name="discriminator")
code = layers.Input(shape=(6,))
h = layers.Dense(4 * 4 * 8, use_bias=False)(code)
h = layers.LeakyReLU(0.2)(layers.BatchNormalization()(h))
h = layers.UpSampling2D((2, 2))(layers.Reshape((4, 4, 8))(h))
h = layers.Conv2D(1, 3, padding="same", use_bias=False)(h)
generator = keras.models.Model(code, layers.Activation("tanh")(layers.BatchNormalization()(h)), name="generator")
start(critic)
start(generator, 1)

d_optimizer = keras.optimizers.Adam(learning_rate=0.0002, beta_1=0.5, beta_2=0.9)
g_optimizer = keras.optimizers.Adam(learning_rate=0.0002, beta_1=0.5, beta_2=0.9)
d_optimizer.build(critic.trainable_variables)
g_optimizer.build(generator.trainable_variables)


def values(variables):
    return [variable.value for variable in variables]


def gradient_penalty(weights, real, fake, alpha):
    interpolated = real + alpha * (fake - real)

    def score(image):
        outputs, _ = critic.stateless_call(weights, values(critic.non_trainable_variables), image, training=True)
        return ops.sum(outputs)

    grads = jax.grad(score)(interpolated)
    norm = ops.sqrt(ops.sum(ops.square(grads), axis=[1, 2, 3]))
    return ops.mean((norm - 1.0) ** 2)


def critic_loss(weights, g_weights, g_state, real, code, alpha):
    fake, g_state = generator.stateless_call(g_weights, g_state, code, training=True)
    scores = [critic.stateless_call(weights, [], each, training=True)[0] for each in (fake, real)]
    cost = ops.mean(scores[0]) - ops.mean(scores[1])
    return cost + 10.0 * gradient_penalty(weights, real, fake, alpha), g_state


def generator_loss(g_weights, g_state, weights, code):
    fake, g_state = generator.stateless_call(g_weights, g_state, code, training=True)
    return -ops.mean(critic.stateless_call(weights, [], fake, training=True)[0]), g_state


@jax.jit
def train_step(d_state, g_state, real, codes, alpha):
    weights, d_slots = d_state
    g_weights, g_slots, g_moving = g_state
    for step in range(2):
        (d_loss, g_moving), grads = jax.value_and_grad(critic_loss, has_aux=True)(
            weights, g_weights, g_moving, real, codes[step], alpha
        )
        weights, d_slots = d_optimizer.stateless_apply(d_slots, grads, weights)
    (g_loss, g_moving), grads = jax.value_and_grad(generator_loss, has_aux=True)(g_weights, g_moving, weights, codes[2])
    g_weights, g_slots = g_optimizer.stateless_apply(g_slots, grads, g_weights)
    return (weights, d_slots), (g_weights, g_slots, g_moving), {"d_loss": d_loss, "g_loss": g_loss}


d_state = (values(critic.trainable_variables), values(d_optimizer.variables))
g_state = tuple(map(values, (generator.trainable_variables, g_optimizer.variables, generator.non_trainable_variables)))
losses = []
for batch in (real[:8], real[8:]):
    codes, alpha = numbers.normal(size=(3, 8, 6)), numbers.uniform(size=(8, 1, 1, 1))
    d_state, g_state, logs = train_step(d_state, g_state, batch, codes.astype("float32"), alpha.astype("float32"))
    losses.append({name: float(value) for name, value in logs.items()})
for variable, value in zip(generator.trainable_variables, g_state[0]):
    variable.assign(value)
for variable, value in zip(generator.non_trainable_variables, g_state[2]):
    variable.assign(value)
# Before `predict`, which may take over the arrays.
moving = [np.array(value) for value in g_state[2]]
results = {
    "losses": losses,
    "images": generator.predict(numbers.normal(size=(2, 6)).astype("float32"), verbose=0),
    "slots": len(d_optimizer.variables),
    "moving": moving,
}
