"""Customizing `fit` on JAX: by `compute_loss`, by a train step with all its parts, weights of samples and classes."""

import jax
import keras
import numpy as np
from keras import layers

from tests.ported.start import start

numbers = np.random.default_rng(60)
x, y = numbers.normal(size=(32, 8)).astype("float32"), numbers.normal(size=(32, 1)).astype("float32")
weights = numbers.uniform(size=(32, 1)).astype("float32")


class CustomModel(keras.Model):
    def compute_loss_and_updates(
        self, trainable_variables, non_trainable_variables, x, y, sample_weight=None, training=False
    ):
        y_pred, non_trainable_variables = self.stateless_call(
            trainable_variables, non_trainable_variables, x, training=training
        )
        loss = self.compute_loss(x, y, y_pred, sample_weight)
        return loss, (y_pred, non_trainable_variables)

    def update(self, metrics_variables, loss, y, y_pred, sample_weight):
        new_metrics_vars, logs = [], {}
        for metric in self.metrics:
            this_metric_vars = metrics_variables[len(new_metrics_vars) : len(new_metrics_vars) + len(metric.variables)]
            if metric.name == "loss":
                this_metric_vars = metric.stateless_update_state(this_metric_vars, loss)
            else:
                this_metric_vars = metric.stateless_update_state(
                    this_metric_vars, y, y_pred, sample_weight=sample_weight
                )
            result = metric.stateless_result(this_metric_vars)
            logs.update(result if isinstance(result, dict) else {metric.name: result})
            new_metrics_vars += this_metric_vars
        return logs, new_metrics_vars

    def train_step(self, state, data):
        trainable_variables, non_trainable_variables, optimizer_variables, metrics_variables = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        grad_fn = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (loss, (y_pred, non_trainable_variables)), grads = grad_fn(
            trainable_variables, non_trainable_variables, x, y, sample_weight, training=True
        )
        trainable_variables, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, grads, trainable_variables
        )
        logs, metrics_variables = self.update(metrics_variables, loss, y, y_pred, sample_weight)
        return logs, (trainable_variables, non_trainable_variables, optimizer_variables, metrics_variables)

    def test_step(self, state, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        trainable_variables, non_trainable_variables, metrics_variables = state
        y_pred, non_trainable_variables = self.stateless_call(
            trainable_variables, non_trainable_variables, x, training=False
        )
        loss = self.compute_loss(x, y, y_pred, sample_weight)
        logs, metrics_variables = self.update(metrics_variables, loss, y, y_pred, sample_weight)
        return logs, (trainable_variables, non_trainable_variables, metrics_variables)


class ByLoss(keras.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss_tracker = keras.metrics.Mean(name="my_loss")
        self.mae_metric = keras.metrics.MeanAbsoluteError(name="my_mae")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        loss = keras.ops.mean(keras.losses.mean_squared_error(y, y_pred)) + 0.1 * keras.ops.mean(keras.ops.abs(y_pred))
        self.loss_tracker.update_state(loss)
        self.mae_metric.update_state(y, y_pred)
        return loss

    def reset_metrics(self):
        self.loss_tracker.reset_state()
        self.mae_metric.reset_state()

    @property
    def metrics(self):
        return [self.loss_tracker, self.mae_metric]


def build(cls):
    inputs = keras.Input(shape=(8,))
    h = layers.BatchNormalization()(layers.Dense(8, activation="relu")(inputs))
    model = cls(inputs, layers.Dense(1)(h))
    start(model)
    return model


results = {}
model = build(CustomModel)
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", metrics=["mae", keras.metrics.RootMeanSquaredError()])
history = model.fit(x, y, sample_weight=weights, epochs=2, batch_size=8, shuffle=False, verbose=0)
results["weighted"] = history.history
results["evaluated"] = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
results["plain"] = model.fit(x, y, epochs=1, batch_size=8, shuffle=False, verbose=0, validation_data=(x, y)).history
model = build(ByLoss)
model.compile(optimizer="adam")
results["by_loss"] = model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0, validation_split=0.25).history
results["by_loss_evaluated"] = model.evaluate(x, y, verbose=0)
results["names"] = [metric.name for metric in model.metrics]
