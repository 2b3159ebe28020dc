"""A small U-Net of separable convolutions over batches from a `PyDataset`, measured by the overlap of classes."""

import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(20)


class Shapes(keras.utils.PyDataset):
    """Bright squares on noise, with the square as the mask."""

    def __init__(self, num_batches, batch_size, **kwargs):
        super().__init__(**kwargs)
        self.images = numbers.normal(0, 0.1, (num_batches * batch_size, 16, 16, 3)).astype("float32")
        self.masks = np.zeros((num_batches * batch_size, 16, 16, 1), "uint8")
        for image, mask in zip(self.images, self.masks):
            row, column = numbers.integers(0, 10, 2)
            mask[row : row + 6, column : column + 6] = 1
            image += mask
        self.batch_size = batch_size

    def __len__(self):
        return len(self.images) // self.batch_size

    def __getitem__(self, index):
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self.images[part], self.masks[part]


def get_model(img_size, num_classes):
    inputs = keras.Input(shape=img_size + (3,))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    previous = x
    for filters in [12, 16]:
        x = layers.Activation("relu")(x)
        x = layers.SeparableConv2D(filters, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = layers.Conv2D(filters, 1, strides=2, padding="same")(previous)
        x = layers.add([x, residual])
        previous = x
    for filters in [16, 12, 8]:
        x = layers.Activation("relu")(x)
        x = layers.Conv2DTranspose(filters, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.UpSampling2D(2)(x)
        residual = layers.UpSampling2D(2)(previous)
        residual = layers.Conv2D(filters, 1, padding="same")(residual)
        x = layers.add([x, residual])
        previous = x
    return keras.Model(inputs, layers.Conv2D(num_classes, 3, activation="softmax", padding="same")(x))


model = get_model((16, 16), 2)
start(model)
model.compile(
    optimizer=keras.optimizers.SGD(0.1),
    loss="sparse_categorical_crossentropy",
    metrics=[keras.metrics.MeanIoU(2, sparse_y_pred=False, name="iou"), "accuracy"],
)
data = Shapes(2, 8)
history = model.fit(data, validation_data=Shapes(1, 8), epochs=2, shuffle=False, verbose=0)
masks = model.predict(data, verbose=0)
results = {"history": history.history, "masks": masks[:2], "num_weights": model.count_params()}
