"""Metrics as users of Keras write them, and metrics within a model."""

import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import metrics, ops
from kerax.core.registry import register_keras_serializable
from kerax.core.tracking import Trackable


def test_own_metrics_in_keras_style_with_nested_ones():
    @register_keras_serializable("tests")
    class Twice(metrics.Metric):
        def __init__(self, name="twice", **kwargs):
            super().__init__(name=name, **kwargs)
            self.total = self.add_weight(name="total", initializer="zeros")
            self.parts = [metrics.Mean(), {"rest": metrics.Sum()}]

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.total.assign_add(2 * jnp.sum(y_pred))
            self.parts[0].update_state(y_pred)

        def result(self):
            return self.total

    metric = Twice()
    assert not isinstance(metric, Trackable)
    assert [variable.name for variable in metric.variables] == ["total", "total", "count", "total"]
    assert float(metric(None, np.ones(3))) == 6
    values = metric.stateless_update_state(metric.stateless_reset_state(), None, np.ones(2, "f"))
    assert float(values[0]) == 4 and float(metric.stateless_result(values)) == 4
    assert type(metrics.deserialize(metrics.serialize(metric))) is Twice
    with pytest.raises(ValueError, match="twice: `metric_variables` must hold one value for each"):
        metric.stateless_result([0.0])


def test_variables_in_attributes_are_state_as_in_keras():
    class Loose(metrics.Metric):
        def __init__(self):
            super().__init__(name="loose")
            self.seen = kerax.Variable(np.float32(1), trainable=False)
            self.mean = metrics.Mean()
            self.listed = [self.seen, self.mean]

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.seen.assign(self.seen + ops.sum(y_pred))
            self.mean.update_state(y_pred)

        def result(self):
            return {"seen": self.seen, "mean": self.mean.result()}

    metric = Loose()
    assert [id(variable) for variable in metric.variables] == [id(v) for v in (metric.seen, *metric.mean.variables)]
    metric.update_state(None, np.ones(3, "f"))
    assert float(metric.result()["seen"]) == 4
    metric.reset_state()  # without an initializer to 0
    assert float(metric.seen.value) == 0 and float(metric.mean.count.value) == 0


class KernelDistance(metrics.Metric):
    """As users write them: a frozen network, a nested tracker, `assign` of sums from `ops`."""

    def __init__(self, name="distance", **kwargs):
        super().__init__(name=name, **kwargs)
        self.encoder = kerax.Sequential([kerax.Input((1,)), kerax.layers.Dense(2, kernel_initializer="ones")])
        self.tracker = metrics.Mean(name="tracker")
        self.total = self.add_weight(name="total", shape=(2,), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        gap = self.encoder(y_true, training=False) - self.encoder(y_pred, training=False)
        self.total.assign(self.total + ops.sum(ops.square(gap), axis=0))
        self.tracker.update_state(ops.mean(ops.square(gap), axis=-1), sample_weight)

    def result(self):
        return self.tracker.result() + 0 * ops.sum(self.total)


@pytest.mark.slow
def test_metrics_work_in_evaluate_over_groups_of_batches():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, 3)).astype("f"), rng.integers(0, 2, (70, 1)).astype("f")
    model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(1, activation="sigmoid")])
    compiled = [
        KernelDistance(),
        metrics.R2Score(),
        metrics.BinaryIoU(),
        metrics.RecallAtPrecision(0.4, num_thresholds=9),
    ]
    model.compile(loss="mse", metrics=compiled)
    logs = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    programs = [program for key, program in model.compilation.programs.items() if key[0] == "test"]
    assert programs and all(program.does_blocks_at_once for program in programs)
    fresh = [
        metrics.MeanSquaredError(name="distance"),
        *(type(each).from_config(each.get_config()) for each in compiled[1:]),
    ]
    predictions = model.predict(x, verbose=0)
    for metric in fresh:
        assert logs[metric.name] == pytest.approx(float(metric(y, predictions)), rel=1e-4, abs=1e-6), metric
