"""CycleGAN's parts: reflection padding, group normalization, residual blocks, and four nets trained in one step."""

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(40)
horses = numbers.uniform(-1, 1, (8, 8, 8, 3)).astype("float32")
zebras = numbers.uniform(-1, 1, (8, 8, 8, 3)).astype("float32")
kernel_init = keras.initializers.RandomNormal(mean=0.0, stddev=0.02)


class ReflectionPadding2D(layers.Layer):
    def __init__(self, padding=(1, 1), **kwargs):
        self.padding = tuple(padding)
        super().__init__(**kwargs)

    def call(self, input_tensor, mask=None):
        padding_width, padding_height = self.padding
        padding_tensor = [[0, 0], [padding_height, padding_height], [padding_width, padding_width], [0, 0]]
        return ops.pad(input_tensor, padding_tensor, mode="REFLECT".lower())


def residual_block(x, activation):
    dim = x.shape[-1]
    input_tensor = x
    x = ReflectionPadding2D()(input_tensor)
    x = layers.Conv2D(dim, (3, 3), kernel_initializer=kernel_init, padding="valid", use_bias=False)(x)
    x = layers.GroupNormalization(groups=-1)(x)
    return layers.add([input_tensor, activation(x)])


def get_generator(name):
    inputs = layers.Input(shape=(8, 8, 3), name=name + "_img_input")
    x = ReflectionPadding2D(padding=(2, 2))(inputs)
    x = layers.Conv2D(4, (5, 5), kernel_initializer=kernel_init, use_bias=False)(x)
    x = layers.Activation("relu")(layers.GroupNormalization(groups=1)(x))
    x = residual_block(x, activation=layers.Activation("relu"))
    x = layers.Conv2DTranspose(4, (3, 3), strides=(2, 2), padding="same")(layers.AveragePooling2D(2)(x))
    return keras.models.Model(inputs, layers.Activation("tanh")(layers.Conv2D(3, 3, padding="same")(x)), name=name)


def get_discriminator(name):
    inputs = layers.Input(shape=(8, 8, 3), name=name + "_img_input")
    x = layers.LeakyReLU(0.2)(layers.Conv2D(4, (4, 4), strides=(2, 2), padding="same")(inputs))
    return keras.models.Model(inputs, layers.Conv2D(1, (4, 4), padding="same")(x), name=name)


class CycleGan(keras.Model):
    def __init__(self, generator_G, generator_F, discriminator_X, discriminator_Y, lambda_cycle=10.0):
        super().__init__()
        self.gen_G, self.gen_F, self.disc_X, self.disc_Y = generator_G, generator_F, discriminator_X, discriminator_Y
        self.lambda_cycle = lambda_cycle
        self.built = True

    def call(self, inputs):
        return self.disc_X(inputs), self.disc_Y(inputs), self.gen_G(inputs), self.gen_F(inputs)

    def compile(self, rate, gen_loss_fn, disc_loss_fn):
        super().compile()
        self.rate = rate
        self.generator_loss_fn, self.discriminator_loss_fn = gen_loss_fn, disc_loss_fn
        self.cycle_loss_fn = keras.losses.MeanAbsoluteError()
        self.identity_loss_fn = keras.losses.MeanAbsoluteError()

    def train_step(self, state, batch_data):
        weights, non_trainable, optimizer_variables, metrics_variables = state
        real_x, real_y = batch_data
        nets = (self.gen_G, self.gen_F, self.disc_X, self.disc_Y)

        def split(weights):
            parts, begin = [], 0
            for net in nets:
                parts.append(weights[begin : begin + len(net.trainable_variables)])
                begin += len(net.trainable_variables)
            return [lambda x, net=net, part=part: net.stateless_call(part, [], x)[0] for net, part in zip(nets, parts)]

        def gen_loss(weights):
            gen_g, gen_f, disc_x, disc_y = split(weights)
            fake_y, fake_x = gen_g(real_x), gen_f(real_y)
            loss = self.generator_loss_fn(disc_y(fake_y)) + self.generator_loss_fn(disc_x(fake_x))
            loss += self.cycle_loss_fn(real_y, gen_g(fake_x)) * self.lambda_cycle
            loss += self.cycle_loss_fn(real_x, gen_f(fake_y)) * self.lambda_cycle
            return loss + self.identity_loss_fn(real_y, gen_g(real_y)) * self.lambda_cycle * 0.5

        def disc_loss(weights):
            gen_g, gen_f, disc_x, disc_y = split(weights)
            fakes = jax.lax.stop_gradient((gen_f(real_y), gen_g(real_x)))
            loss = self.discriminator_loss_fn(disc_x(real_x), disc_x(fakes[0]))
            return loss + self.discriminator_loss_fn(disc_y(real_y), disc_y(fakes[1]))

        g_loss, g_grads = jax.value_and_grad(gen_loss)(weights)
        d_loss, d_grads = jax.value_and_grad(disc_loss)(weights)
        num_g = len(self.gen_G.trainable_variables) + len(self.gen_F.trainable_variables)
        grads = g_grads[:num_g] + d_grads[num_g:]
        weights = [weight - self.rate * grad for weight, grad in zip(weights, grads)]
        return {"G_loss": g_loss, "D_loss": d_loss}, (weights, non_trainable, optimizer_variables, metrics_variables)


adv_loss_fn = keras.losses.MeanSquaredError()


def discriminator_loss_fn(real, fake):
    return (adv_loss_fn(ops.ones_like(real), real) + adv_loss_fn(ops.zeros_like(fake), fake)) * 0.5


model = CycleGan(get_generator("g"), get_generator("f"), get_discriminator("x"), get_discriminator("y"))
start(model)
model.compile(0.001, lambda fake: adv_loss_fn(ops.ones_like(fake), fake), discriminator_loss_fn)
history = model.fit(horses, zebras, epochs=2, batch_size=4, shuffle=False, verbose=0)
results = {
    "history": history.history,
    "zebras": np.asarray(model.gen_G(horses[:2], training=False)),
    "padded": np.asarray(ReflectionPadding2D((1, 2))(horses[:1])),
}
