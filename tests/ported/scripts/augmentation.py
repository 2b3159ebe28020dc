"""Layers that leave images as they are at strength 0, CutMix and MixUp by hand, a resizer that learns."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(65)
images = numbers.uniform(size=(16, 12, 12, 3)).astype("float32")
labels = np.eye(3, dtype="float32")[numbers.integers(0, 3, 16)]

unchanging = keras.Sequential(
    [
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(factor=0.0),
        layers.RandomZoom(height_factor=0.0, width_factor=0.0),
        layers.RandomTranslation(0.0, 0.0),
        layers.RandomContrast(0.0),
        layers.RandomBrightness(0.0, value_range=(0, 1)),
        layers.CenterCrop(10, 10),
        layers.Rescaling(2.0, offset=-1.0),
    ],
    name="augmentation",
)


def mix_up(ds_one, ds_two, share):
    images_one, labels_one = ds_one
    images_two, labels_two = ds_two
    x_l = ops.reshape(share, (len(images_one), 1, 1, 1))
    y_l = ops.reshape(share, (len(images_one), 1))
    return images_one * x_l + images_two * (1 - x_l), labels_one * y_l + labels_two * (1 - y_l)


def cutmix(first, second, box, lambda_value):
    row, column, height, width = box
    patch = ops.image.crop_images(
        second, top_cropping=row, left_cropping=column, target_height=height, target_width=width
    )
    patch = ops.image.pad_images(patch, top_padding=row, left_padding=column, target_height=12, target_width=12)
    hole = ops.image.pad_images(
        ops.image.crop_images(first, row, column, target_height=height, target_width=width),
        row,
        column,
        target_height=12,
        target_width=12,
    )
    return first - hole + patch


def conv_block(x, filters, kernel_size, strides, activation=ops.leaky_relu):
    x = layers.Conv2D(filters, kernel_size, strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return activation(x) if activation else x


def get_learnable_resizer(filters=4, num_res_blocks=1, interpolation="bilinear"):
    inputs = layers.Input(shape=[None, None, 3])
    naive_resize = layers.Resizing(8, 8, interpolation=interpolation)(inputs)
    x = layers.Conv2D(filters=filters, kernel_size=7, strides=1, padding="same")(inputs)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    bottleneck = layers.Resizing(8, 8, interpolation=interpolation)(x)
    x = conv_block(bottleneck, filters, 3, 1)
    x = layers.Add()([bottleneck, conv_block(x, filters, 3, 1, None)])
    x = layers.Conv2D(filters=3, kernel_size=7, strides=1, padding="same")(x)
    return keras.Model(inputs, layers.Add()([naive_resize, x]), name="learnable_resizer")


resizer = get_learnable_resizer()
inputs = layers.Input((12, 12, 3))
x = resizer(layers.Rescaling(scale=1.0 / 2, offset=0.1)(inputs))
outputs = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(x)))
model = keras.Model(inputs, outputs)
start(model)
mixed, mixed_labels = mix_up(
    (images, labels), (images[::-1], labels[::-1]), numbers.beta(0.2, 0.2, 16).astype("float32")
)
model.compile(loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1), optimizer="sgd", metrics=["accuracy"])
history = model.fit(np.asarray(mixed), np.asarray(mixed_labels), epochs=2, batch_size=8, shuffle=False, verbose=0)
transform = ops.convert_to_tensor([[1.0, 0.1, -1.0, 0.0, 1.0, 0.5, 0.0, 0.0]])
results = {
    "unchanged": np.asarray(unchanging(images, training=False)),
    "kept": np.asarray(layers.RandomContrast(0.0)(images[:2], training=True)),
    "history": history.history,
    "mixed": np.asarray(mixed)[:2],
    "cut": np.asarray(cutmix(images[:4], images[4:8], (2, 3, 5, 6), 0.5)),
    "resized": np.asarray(resizer(images[:2], training=False)),
    "affine": np.asarray(
        ops.image.affine_transform(images[:1], transform, interpolation="bilinear", fill_mode="reflect")
    ),
    "gray": np.asarray(ops.image.rgb_to_grayscale(images[:2])),
    "hsv": np.asarray(ops.image.rgb_to_hsv(images[:2])),
    "mapped": np.asarray(ops.image.map_coordinates(images[0, ..., 0], ops.ones((2, 5)) * 2.3, order=1)),
    "aspect": np.asarray(layers.Resizing(6, 9, crop_to_aspect_ratio=True)(images[:2])),
    "padded": np.asarray(layers.Resizing(6, 9, pad_to_aspect_ratio=True)(images[:2])),
    "posterized": np.asarray(keras.utils.img_to_array(keras.utils.array_to_img(images[0]))),
}
