"""An encoder trained by the supervised contrastive loss, then frozen under a classifier."""

import keras
from keras import layers, ops
from sklearn.datasets import load_digits

from tests.ported.start import start

digits = load_digits()
x, y = (digits.images[:128, ..., None] / 16).astype("float32"), digits.target[:128]

augmentation = keras.Sequential([layers.Normalization(), layers.Rescaling(1.0)])
augmentation.layers[0].adapt(x)


def create_encoder():
    inputs = keras.Input(shape=(8, 8, 1))
    outputs = layers.Conv2D(8, 3, activation="relu")(augmentation(inputs))
    outputs = layers.GlobalAveragePooling2D()(outputs)
    return keras.Model(inputs=inputs, outputs=outputs, name="encoder")


def create_classifier(encoder, trainable=True):
    for layer in encoder.layers:
        layer.trainable = trainable
    inputs = keras.Input(shape=(8, 8, 1))
    features = layers.Dropout(0.0)(encoder(inputs))
    features = layers.Dense(16, activation="relu")(features)
    outputs = layers.Dense(10, activation="softmax")(features)
    model = keras.Model(inputs=inputs, outputs=outputs, name="classifier")
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    return model


def npairs_loss(y_true, y_pred):
    y_true = ops.expand_dims(y_true, -1)
    y_true = ops.cast(ops.equal(y_true, ops.transpose(y_true)), y_pred.dtype)
    y_true /= ops.sum(y_true, 1, keepdims=True)
    return ops.categorical_crossentropy(y_true, y_pred, from_logits=True)


class SupervisedContrastiveLoss(keras.losses.Loss):
    def __init__(self, temperature=1, name=None):
        super().__init__(name=name)
        self.temperature = temperature

    def __call__(self, labels, feature_vectors, sample_weight=None):
        normalized = keras.utils.normalize(feature_vectors, axis=1, order=2)
        logits = ops.divide(ops.matmul(normalized, ops.transpose(normalized)), self.temperature)
        return ops.mean(npairs_loss(ops.squeeze(labels), logits))


encoder = create_encoder()
inputs = keras.Input(shape=(8, 8, 1))
outputs = layers.Dense(8, activation="relu")(encoder(inputs))
projector = keras.Model(inputs, outputs, name="encoder_with_projection_head")
start(projector)
projector.compile(optimizer=keras.optimizers.Adam(0.01), loss=SupervisedContrastiveLoss(0.05))
contrastive = projector.fit(x=x, y=y, batch_size=32, epochs=2, shuffle=False, verbose=0)
classifier = create_classifier(encoder, trainable=False)
start(classifier, seed=1)
history = classifier.fit(x=x, y=y, batch_size=32, epochs=2, shuffle=False, verbose=0)
results = {
    "contrastive": contrastive.history,
    "history": history.history,
    "trainable": [layer.trainable for layer in encoder.layers],
    "num_trainable": len(classifier.trainable_weights),
    "evaluated": classifier.evaluate(x, y, verbose=0),
}
