"""Contrastive pretraining with a probe beside it: two optimizers and two losses in one step, then fine-tuning."""

import jax
import keras
import numpy as np
from keras import layers, ops

from tests.ported.start import start

numbers = np.random.default_rng(68)
images = numbers.uniform(size=(24, 8, 8, 1)).astype("float32")
views = (images + numbers.normal(0, 0.1, images.shape)).astype("float32")
labels = numbers.integers(0, 3, 24)
width, temperature = 8, 0.1


def get_encoder():
    return keras.Sequential(
        [
            layers.Conv2D(width, kernel_size=3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(width, activation="relu"),
        ],
        name="encoder",
    )


class ContrastiveModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.encoder = get_encoder()
        self.projection_head = keras.Sequential(
            [keras.Input(shape=(width,)), layers.Dense(width, activation="relu"), layers.Dense(width)],
            name="projection_head",
        )
        self.linear_probe = keras.Sequential([layers.Input(shape=(width,)), layers.Dense(3)], name="linear_probe")
        self.encoder.build((None, 8, 8, 1))

    def compile(self, contrastive_optimizer, probe_optimizer, **kwargs):
        super().compile(**kwargs)
        self.contrastive_optimizer, self.probe_optimizer = contrastive_optimizer, probe_optimizer
        self.contrastive_optimizer.build(self.encoder.trainable_weights + self.projection_head.trainable_weights)
        self.probe_optimizer.build(self.linear_probe.trainable_weights)
        self.probe_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.contrastive_loss_tracker = keras.metrics.Mean(name="c_loss")
        self.contrastive_accuracy = keras.metrics.SparseCategoricalAccuracy(name="c_acc")
        self.probe_accuracy = keras.metrics.SparseCategoricalAccuracy(name="p_acc")

    @property
    def metrics(self):
        return [self.contrastive_loss_tracker, self.contrastive_accuracy, self.probe_accuracy]

    def call(self, images):
        return self.linear_probe(self.encoder(images))

    def project(self, weights, images):
        features, _ = self.encoder.stateless_call(weights[:4], [], images)
        projected, _ = self.projection_head.stateless_call(weights[4:8], [], features)
        return ops.normalize(projected, axis=1)

    def contrastive_loss(self, weights, first, second):
        one, two = self.project(weights, first), self.project(weights, second)
        similarities = ops.matmul(one, ops.transpose(two)) / temperature
        contrastive_labels = ops.arange(ops.shape(first)[0])
        loss_1_2 = keras.losses.sparse_categorical_crossentropy(contrastive_labels, similarities, from_logits=True)
        loss_2_1 = keras.losses.sparse_categorical_crossentropy(
            contrastive_labels, ops.transpose(similarities), from_logits=True
        )
        return ops.mean(loss_1_2 + loss_2_1) / 2, similarities

    def train_step(self, state, data):
        trainable, non_trainable, optimizer_variables, metrics_variables = state
        (first, second), labels = data
        weights, probe = trainable[:8], trainable[8:]
        (loss, similarities), grads = jax.value_and_grad(self.contrastive_loss, has_aux=True)(weights, first, second)
        weights = [weight - 0.05 * grad for weight, grad in zip(weights, grads)]
        features, _ = self.encoder.stateless_call(weights[:4], [], first)

        def probe_loss(probe):
            class_logits, _ = self.linear_probe.stateless_call(probe, [], features)
            return self.probe_loss(labels, class_logits), class_logits

        (p_loss, logits), grads = jax.value_and_grad(probe_loss, has_aux=True)(probe)
        probe = [weight - 0.05 * grad for weight, grad in zip(probe, grads)]
        given = [(loss,), (ops.arange(ops.shape(first)[0]), similarities), (labels, logits)]
        logs, updated = {"p_loss": p_loss}, []
        for metric, arguments in zip(self.metrics, given):
            now = metrics_variables[len(updated) : len(updated) + len(metric.variables)]
            now = metric.stateless_update_state(now, *arguments)
            logs[metric.name] = metric.stateless_result(now)
            updated += now
        return logs, (weights + probe, non_trainable, optimizer_variables, updated)

    def test_step(self, state, data):
        trainable, non_trainable, metrics_variables = state
        images, labels = data
        logits, _ = self.stateless_call(trainable, non_trainable, images)
        last = self.probe_accuracy.stateless_update_state(metrics_variables[-2:], labels, logits)
        logs = {"p_acc": self.probe_accuracy.stateless_result(last), "p_loss": self.probe_loss(labels, logits)}
        return logs, (trainable, non_trainable, list(metrics_variables[:-2]) + list(last))


model = ContrastiveModel()
model.compile(contrastive_optimizer=keras.optimizers.Adam(), probe_optimizer=keras.optimizers.Adam())
model(images[:1])
start(model)
history = model.fit(
    (images, views),
    labels,
    epochs=2,
    batch_size=8,
    shuffle=False,
    verbose=0,
    validation_data=(images[:16], labels[:16]),
)
finetuning = keras.Sequential([keras.Input((8, 8, 1)), model.encoder, layers.Dense(3)], name="finetuning")
start(finetuning, 3)
finetuning.compile(
    optimizer=keras.optimizers.Adam(),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy(name="acc")],
)
second = finetuning.fit(images, labels, epochs=1, batch_size=8, shuffle=False, verbose=0)
results = {
    "history": history.history,
    "second": second.history,
    "features": np.asarray(model.encoder(images[:2])),
    "names": [metric.name for metric in model.metrics],
}
