"""ConvMixer, involution and Zero-padded blocks of depthwise convolutions, with the kernels looked at afterwards."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(28)
x = numbers.integers(0, 256, (24, 16, 16, 3)).astype("uint8")
y = numbers.integers(0, 3, 24)


def activation_block(x):
    x = layers.Activation("gelu")(x)
    return layers.BatchNormalization()(x)


def conv_mixer_block(x, filters, kernel_size):
    x0 = x
    x = layers.DepthwiseConv2D(kernel_size=kernel_size, padding="same")(x)
    x = layers.Add()([activation_block(x), x0])
    return activation_block(layers.Conv2D(filters, kernel_size=1)(x))


class Involution(keras.layers.Layer):
    def __init__(self, channel, group_number, kernel_size, stride, reduction_ratio, name):
        super().__init__(name=name)
        self.channel, self.group_number, self.kernel_size = channel, group_number, kernel_size
        self.stride, self.reduction_ratio = stride, reduction_ratio

    def build(self, input_shape):
        _, height, width, num_channels = input_shape
        height, width = height // self.stride, width // self.stride
        self.kernel_gen = keras.Sequential(
            [
                keras.layers.Conv2D(filters=self.channel // self.reduction_ratio, kernel_size=1),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.Conv2D(filters=self.kernel_size**2 * self.group_number, kernel_size=1),
            ]
        )
        size = self.kernel_size * self.kernel_size
        self.kernel_reshape = keras.layers.Reshape((height, width, size, 1, self.group_number))
        self.input_patches_reshape = keras.layers.Reshape(
            (height, width, size, num_channels // self.group_number, self.group_number)
        )
        self.output_reshape = keras.layers.Reshape((height, width, num_channels))

    def call(self, x):
        kernel = self.kernel_reshape(self.kernel_gen(x))
        patches = ops.image.extract_patches(
            images=x, size=(self.kernel_size, self.kernel_size), strides=(self.stride, self.stride), padding="same"
        )
        output = ops.multiply(kernel, self.input_patches_reshape(patches))
        return self.output_reshape(ops.sum(output, axis=3)), kernel


inputs = keras.Input((16, 16, 3))
h = layers.Rescaling(scale=1.0 / 255)(inputs)
h = activation_block(layers.Conv2D(8, kernel_size=4, strides=4)(h))
for _ in range(2):
    h = conv_mixer_block(h, 8, 3)
h, kernel = Involution(channel=8, group_number=1, kernel_size=3, stride=1, reduction_ratio=2, name="inv_1")(h)
outputs = layers.Dense(3, activation="softmax")(layers.GlobalAvgPool2D()(h))
model = keras.Model(inputs, outputs)
start(model)
model.compile(keras.optimizers.SGD(0.01, weight_decay=1e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)

looking = keras.Model(model.input, model.get_layer("inv_1").output[1])
patch_embeddings = model.layers[2].get_weights()[0]
depthwise = [np.array(layer.get_weights()[0]) for layer in model.layers if isinstance(layer, layers.DepthwiseConv2D)]
results = {
    "history": history.history,
    "kernel": looking.predict(x[:2], verbose=0),
    "patch_embeddings": patch_embeddings,
    "depthwise": depthwise,
    "layers": [type(layer).__name__ for layer in model.layers],
}
