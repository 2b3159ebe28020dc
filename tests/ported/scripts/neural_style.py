"""Neural style and DeepDream: losses on inner layers of a frozen net, gradients for the picture."""

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(43)
content, style = numbers.normal(size=(2, 1, 16, 16, 3)).astype("float32")
content = np.asarray(content)


def net():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="block1_conv1")(inputs)
    x = layers.AveragePooling2D(2, name="block1_pool")(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="block2_conv1")(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="block2_conv2")(x)
    return keras.Model(inputs, x, name="vgg")


vgg = net()
vgg.trainable = False
outputs_dict = {layer.name: layer.output for layer in vgg.layers}
feature_extractor = keras.Model(inputs=vgg.inputs, outputs=outputs_dict)
vgg.trainable = True
start(vgg)


def gram_matrix(x):
    x = ops.transpose(x, (2, 0, 1))
    features = ops.reshape(x, (ops.shape(x)[0], -1))
    return ops.matmul(features, ops.transpose(features))


def style_loss(style, combination):
    size = 16 * 16
    return ops.sum(ops.square(gram_matrix(style) - gram_matrix(combination))) / (4.0 * (3**2) * (size**2))


def total_variation_loss(x):
    a = ops.square(x[:, :15, :15, :] - x[:, 1:, :15, :])
    b = ops.square(x[:, :15, :15, :] - x[:, :15, 1:, :])
    return ops.sum(ops.power(a + b, 1.25))


def compute_loss(combination_image, base_image, style_reference_image):
    input_tensor = ops.concatenate([base_image, style_reference_image, combination_image], axis=0)
    features = feature_extractor(input_tensor)
    loss = ops.zeros(shape=())
    layer_features = features["block2_conv2"]
    loss = loss + 2.5e-2 * ops.sum(ops.square(layer_features[2, :, :, :] - layer_features[0, :, :, :]))
    for layer_name in ["block1_conv1", "block2_conv1"]:
        layer_features = features[layer_name]
        loss += 0.5 * style_loss(layer_features[1, :, :, :], layer_features[2, :, :, :])
    return loss + 1e-3 * total_variation_loss(combination_image)


schedule = keras.optimizers.schedules.ExponentialDecay(initial_learning_rate=0.1, decay_steps=2, decay_rate=0.96)
optimizer = keras.optimizers.SGD(schedule)
combination = keras.Variable(content)
step = jax.jit(jax.value_and_grad(compute_loss))
losses = []
for _ in range(3):
    loss, grads = step(combination.value, content, style)
    optimizer.apply_gradients([(grads, combination)])
    losses.append(float(loss))

settings = {"block2_conv1": 1.0, "block2_conv2": 1.5}
dreamer = keras.Model(vgg.inputs, {name: vgg.get_layer(name).output for name in settings})


def dream_loss(image):
    features = dreamer(image)
    loss = 0.0
    for name, activation in features.items():
        loss += settings[name] * ops.mean(ops.square(activation[:, 2:-2, 2:-2, :]))
    return loss


image = ops.image.resize(content, (8, 12))
for _ in range(2):
    grads = jax.grad(dream_loss)(ops.convert_to_tensor(image))
    grads /= ops.maximum(ops.mean(ops.abs(grads)), 1e-6)
    image += 0.01 * grads
picture = keras.utils.array_to_img(np.asarray(combination.value)[0])
results = {
    "losses": losses,
    "combination": combination.numpy(),
    "dream": np.asarray(image),
    "names": sorted(feature_extractor.output),
    "rate": float(optimizer.learning_rate),
    "picture": list(picture.size),
}
