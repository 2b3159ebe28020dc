"""Pairs of digits through one shared tower: the distance by a `Lambda` layer, trained by a contrastive loss."""

import keras
from keras import layers, ops
from sklearn.datasets import load_digits

from tests.ported.start import start

digits = load_digits()
images, labels = (digits.images[:161] / 16).astype("float32"), digits.target[:161]
left, right = images[:-1], images[1:]
different = (labels[:-1] != labels[1:]).astype("float32")[:, None]


def euclidean_distance(vectors):
    first, second = vectors
    squares = ops.sum(ops.square(first - second), axis=1, keepdims=True)
    return ops.sqrt(ops.maximum(squares, keras.backend.epsilon()))


def contrastive_loss(margin=1.0):
    def loss(y_true, y_pred):
        near, far = ops.square(y_pred), ops.square(ops.maximum(margin - y_pred, 0))
        return ops.mean((1 - y_true) * near + y_true * far)

    return loss


image = keras.Input((8, 8))
x = layers.Flatten()(image)
x = layers.Dense(16, activation="tanh")(x)
x = layers.GroupNormalization(groups=4)(x)
tower = keras.Model(image, layers.UnitNormalization()(layers.Dense(4)(x)), name="tower")
inputs = [keras.Input((8, 8), name="left"), keras.Input((8, 8), name="right")]
towers = [tower(each) for each in inputs]
distance = layers.Lambda(euclidean_distance, output_shape=(1,))(towers)
cosine = layers.Dot(axes=1, normalize=True)(towers)
siamese = keras.Model(inputs, distance)
start(siamese)
siamese.compile(loss=contrastive_loss(), optimizer="RMSprop", metrics=["accuracy"])
history = siamese.fit([left, right], different, epochs=2, batch_size=32, shuffle=False, verbose=0)

second = keras.Model(inputs, [cosine, layers.Subtract()(towers)])
results = {
    "history": history.history,
    "distances": siamese.predict([left[:5], right[:5]], verbose=0),
    "same": siamese.predict([left[:2], left[:2]], verbose=0),
    "similarities": second.predict({"left": left[:3], "right": right[:3]}, verbose=0),
    "num_weights": [siamese.count_params(), tower.count_params()],
    "layers": [layer.name for layer in siamese.layers[:3]],
}
