"""Handwritten digits with a convolutional network: scaling, augmentation and batch normalization as layers."""

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from tests.ported.start import start

digits = load_digits()
images, labels = digits.images[..., None].astype("float32"), digits.target
x_train, y_train, x_test, y_test = images[:480], labels[:480], images[480:576], labels[480:576]

augmentation = keras.Sequential(
    [
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomContrast(0.2),
    ],
    name="augmentation",
)

inputs = keras.Input(shape=(8, 8, 1), name="image")
x = layers.Rescaling(1.0 / 16)(inputs)
x = layers.ZeroPadding2D(1)(x)
x = layers.Conv2D(8, 3, use_bias=False)(x)
x = layers.BatchNormalization(momentum=0.9)(x)
x = layers.Activation("relu")(x)
x = layers.MaxPooling2D()(x)
residual = x
x = layers.SeparableConv2D(8, 3, padding="same", activation="relu")(x)
x = layers.add([x, residual])
x = layers.GlobalAveragePooling2D()(x)
x = layers.Dropout(0.0)(x)
outputs = layers.Dense(10, activation="softmax")(x)
model = keras.Model(inputs, outputs, name="digits")
start(model)

model.compile(
    optimizer=keras.optimizers.Adam(learning_rate=3e-3),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(k=3, name="top_3")],
)
history = model.fit(
    x_train, y_train, batch_size=48, epochs=3, shuffle=False, validation_data=(x_test, y_test), verbose=0
)
scores = model.evaluate(x_test, y_test, batch_size=48, verbose=0)
probabilities = model.predict(x_test, batch_size=48, verbose=0)
augmenting = keras.Sequential([augmentation, model])  # random in training only

results = {
    "history": history.history,
    "scores": scores,
    "probabilities": probabilities,
    "moving_variance": np.asarray(model.get_layer(index=4).moving_variance),
    "augmenting": augmenting.predict(x_test, batch_size=48, verbose=0),
    "layers": [layer.__class__.__name__ for layer in model.layers],
    "num_weights": model.count_params(),
}
