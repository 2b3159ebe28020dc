"""Sub-pixel super resolution on images of any size, a residual variant, and the PSNR logged by a callback."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(36)
large = numbers.uniform(size=(16, 12, 12, 1)).astype("float32")
small = np.asarray(ops.image.resize(large, (6, 6)))


class DepthToSpace(layers.Layer):
    def __init__(self, block_size):
        super().__init__()
        self.block_size = block_size

    def call(self, input):
        batch, height, width, depth = ops.shape(input)
        depth = depth // (self.block_size**2)
        x = ops.reshape(input, [batch, height, width, self.block_size, self.block_size, depth])
        x = ops.transpose(x, [0, 1, 3, 2, 4, 5])
        return ops.reshape(x, [batch, height * self.block_size, width * self.block_size, depth])


def get_model(upscale_factor=2, channels=1):
    conv_args = {"activation": "relu", "kernel_initializer": "orthogonal", "padding": "same"}
    inputs = keras.Input(shape=(None, None, channels))
    x = layers.Conv2D(8, 5, **conv_args)(inputs)
    x = layers.Conv2D(8, 3, **conv_args)(x)
    x = layers.Conv2D(channels * (upscale_factor**2), 3, **conv_args)(x)
    outputs = DepthToSpace(upscale_factor)(x)
    return keras.Model(inputs, outputs)


class EDSRModel(keras.Model):
    def predict_image(self, x):
        super_resolution_img = self(ops.expand_dims(x, axis=0), training=False)
        super_resolution_img = ops.clip(super_resolution_img, 0, 1)
        return ops.squeeze(ops.round(super_resolution_img * 255) / 255, axis=0)


def psnr(y_true, y_pred):
    return keras.ops.psnr(y_true, y_pred, max_val=1.0)


class ESPCNCallback(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.psnr = []

    def on_epoch_end(self, epoch, logs=None):
        print(f"Mean PSNR for epoch: {np.mean(self.psnr):.2f}")

    def on_test_batch_end(self, batch, logs=None):
        self.psnr.append(10 * np.log10(1 / logs["loss"]))


model = get_model()
start(model)
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.001), loss=keras.losses.MeanSquaredError())
callback = ESPCNCallback()
history = model.fit(
    small, large, epochs=2, batch_size=8, shuffle=False, callbacks=[callback], validation_data=(small, large), verbose=0
)

inputs = keras.Input((None, None, 1))
h = layers.Conv2D(8, 3, padding="same")(inputs)
residual = layers.Conv2D(8, 3, padding="same", activation="relu")(h)
h = layers.Add()([h, residual])
h = layers.Lambda(lambda x: x * 0.5)(layers.Conv2D(4, 3, padding="same")(h))
h = DepthToSpace(2)(h)
edsr = EDSRModel(inputs, h)
start(edsr, 1)
edsr.compile(optimizer="adam", loss="mae", metrics=[psnr])
second = edsr.fit(small, large, epochs=1, batch_size=8, shuffle=False, verbose=0)
results = {
    "history": history.history,
    "psnr": callback.psnr,
    "larger": model.predict(numbers.uniform(size=(1, 5, 7, 1)), verbose=0),
    "second": second.history,
    "image": np.asarray(edsr.predict_image(small[0])),
    "type": type(edsr).__name__,
}
