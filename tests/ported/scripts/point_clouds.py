"""PointNet: transforms predicted by a net, held near rotations by a regularizer class that a config can rebuild."""

import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(32)
x = numbers.normal(size=(24, 20, 3)).astype("float32")
y = numbers.integers(0, 3, 24)


def conv_bn(x, filters):
    x = layers.Conv1D(filters, kernel_size=1, padding="valid")(x)
    x = layers.BatchNormalization(momentum=0.0)(x)
    return layers.Activation("relu")(x)


def dense_bn(x, filters):
    x = layers.Dense(filters)(x)
    x = layers.BatchNormalization(momentum=0.0)(x)
    return layers.Activation("relu")(x)


@keras.saving.register_keras_serializable("PointNet")
class OrthogonalRegularizer(keras.regularizers.Regularizer):
    def __init__(self, num_features, l2reg=0.001):
        self.num_features = num_features
        self.l2reg = l2reg
        self.eye = ops.eye(num_features)

    def __call__(self, x):
        x = ops.reshape(x, (-1, self.num_features, self.num_features))
        xxt = ops.tensordot(x, x, axes=(2, 2))
        xxt = ops.reshape(xxt, (-1, self.num_features, self.num_features))
        return ops.sum(self.l2reg * ops.square(xxt - self.eye))

    def get_config(self):
        return {"num_features": self.num_features, "l2reg": self.l2reg}


def tnet(inputs, num_features):
    bias = keras.initializers.Constant(np.eye(num_features).flatten())
    x = conv_bn(inputs, 8)
    x = conv_bn(x, 16)
    x = layers.GlobalMaxPooling1D()(x)
    x = dense_bn(x, 8)
    x = layers.Dense(
        num_features * num_features,
        kernel_initializer="zeros",
        bias_initializer=bias,
        activity_regularizer=OrthogonalRegularizer(num_features),
    )(x)
    transform = layers.Reshape((num_features, num_features))(x)
    return layers.Dot(axes=(2, 1))([inputs, transform])


inputs = keras.Input(shape=(20, 3))
h = tnet(inputs, 3)
h = conv_bn(h, 8)
h = tnet(h, 8)
h = conv_bn(h, 16)
h = layers.GlobalMaxPooling1D()(h)
h = layers.Dropout(0.0)(dense_bn(h, 8))
outputs = layers.Dense(3, activation="softmax")(h)
model = keras.Model(inputs=inputs, outputs=outputs, name="pointnet")
start(model)
model.compile(
    loss="sparse_categorical_crossentropy",
    optimizer=keras.optimizers.SGD(learning_rate=0.01, momentum=0.9),
    metrics=["sparse_categorical_accuracy"],
)
history = model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
model.save("pointnet.keras")
loaded = keras.models.load_model("pointnet.keras")
dense = [layer for layer in loaded.layers if getattr(layer, "activity_regularizer", None) is not None]
results = {
    "history": history.history,
    "outputs": model.predict(x[:3], verbose=0),
    "loaded": loaded.predict(x[:3], verbose=0),
    "regularizers": [type(layer.activity_regularizer).__name__ for layer in dense],
    "evaluated": loaded.evaluate(x, y, verbose=0),
    "config": dense[0].get_config()["activity_regularizer"]["config"],
}
