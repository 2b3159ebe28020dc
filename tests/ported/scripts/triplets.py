"""A siamese network over triplets: a distance layer, and a model with steps of its own in the form for JAX."""

import jax
import keras
import numpy as np
from keras import layers, metrics, ops

from tests.ported.start import start

numbers = np.random.default_rng(23)
anchors = numbers.normal(size=(32, 8, 8, 1)).astype("float32")
positives = (anchors + numbers.normal(0, 0.3, anchors.shape)).astype("float32")
negatives = numbers.normal(size=(32, 8, 8, 1)).astype("float32")

source = layers.Input((8, 8, 1))
flatten = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(source))
dense = layers.BatchNormalization()(layers.Dense(16, activation="relu")(flatten))
embedding = keras.Model(source, layers.Dense(8)(dense), name="Embedding")


class DistanceLayer(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, anchor, positive, negative):
        ap_distance = ops.sum(ops.square(anchor - positive), -1)
        an_distance = ops.sum(ops.square(anchor - negative), -1)
        return (ap_distance, an_distance)


inputs = [layers.Input(name=name, shape=(8, 8, 1)) for name in ("anchor", "positive", "negative")]
distances = DistanceLayer()(*[embedding(each) for each in inputs])
siamese_network = keras.Model(inputs=inputs, outputs=distances)


class SiameseModel(keras.Model):
    def __init__(self, siamese_network, margin=0.5):
        super().__init__()
        self.siamese_network = siamese_network
        self.margin = margin
        self.loss_tracker = metrics.Mean(name="loss")

    def call(self, inputs, training=False):
        return self.siamese_network(inputs, training=training)

    def compute_loss_and_updates(self, trainable, non_trainable, data, training):
        (ap, an), non_trainable = self.stateless_call(trainable, non_trainable, data, training=training)
        return ops.mean(ops.maximum(ap - an + self.margin, 0.0)), non_trainable

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        grad_fn = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (loss, non_trainable), grads = grad_fn(trainable, non_trainable, data[0], training=True)
        trainable, optimizer_variables = self.optimizer.stateless_apply(optimizer_variables, grads, trainable)
        metrics_variables = self.loss_tracker.stateless_update_state(metrics_variables, loss)
        logs = {"loss": self.loss_tracker.stateless_result(metrics_variables)}
        return logs, (trainable, non_trainable, optimizer_variables, metrics_variables)

    def test_step(self, state, data):
        trainable, non_trainable, metrics_variables = state
        loss, _ = self.compute_loss_and_updates(trainable, non_trainable, data[0], training=False)
        metrics_variables = self.loss_tracker.stateless_update_state(metrics_variables, loss)
        logs = {"loss": self.loss_tracker.stateless_result(metrics_variables)}
        return logs, (trainable, non_trainable, metrics_variables)

    @property
    def metrics(self):
        return [self.loss_tracker]


siamese_model = SiameseModel(siamese_network)
siamese_model([anchors[:1], positives[:1], negatives[:1]])
start(siamese_model)
siamese_model.compile(optimizer=keras.optimizers.Adam(0.001), weighted_metrics=[])
data = ([anchors, positives, negatives],)
history = siamese_model.fit(data[0], epochs=2, batch_size=8, shuffle=False, verbose=0, validation_data=(data[0], None))
cosine = metrics.CosineSimilarity()
codes = [embedding(each[:4]) for each in data[0]]
results = {
    "history": history.history,
    "similar": np.asarray(cosine(codes[0], codes[1])),
    "codes": np.asarray(codes[0]),
    "distances": [np.asarray(each) for each in siamese_model.predict(data[0], verbose=0)],
    "metrics": siamese_model.metrics_names,
}
