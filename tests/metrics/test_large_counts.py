"""Sums and counts go on growing where a float32 alone, or an int32, has no digits left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kerax
from kerax import layers, metrics
from kerax.core import sums

LARGE = 2**24  # where adding 1 to a float32 stops changing it


def exact(variable):
    return int(np.asarray(variable.raw).sum(dtype=np.float64)) + int(variable.rest.numpy().sum(dtype=np.float64))


@pytest.mark.parametrize("start", [LARGE, 2**28 + 64, 2**35])
@pytest.mark.parametrize("name", ["total", "count"])
def test_a_mean_counts_on(name, start):
    metric = metrics.Mean()
    getattr(metric, name).assign(start)
    for _ in range(50):
        metric.update_state([1.0])
    assert exact(getattr(metric, name)) == start + 50


@pytest.mark.parametrize("kind", ["TruePositives", "FalseNegatives", "Precision", "AUC", "F1Score", "R2Score", "Sum"])
def test_kinds_of_counts_lose_nothing(kind):
    y_true, y_pred = np.array([[1.0], [1.0], [0.0]]), np.array([[0.9], [0.2], [0.8]])
    few, many = (getattr(metrics, kind)() for _ in range(2))
    arguments = (y_true[:, 0],) if kind == "Sum" else (y_true, y_pred)
    few.update_state(*arguments)
    many.update_state(*arguments)
    for variable in many.variables:
        variable.assign(jnp.full(variable.shape, LARGE, variable.dtype))
    for _ in range(9):
        many.update_state(*arguments)
    for one, variable in zip(few.variables, many.variables, strict=True):
        gained = np.asarray(variable.raw).astype(np.float64) - LARGE + variable.rest.numpy()
        np.testing.assert_allclose(gained, 9 * one.numpy().astype(np.float64), rtol=1e-6)


def test_a_mean_over_weights_that_are_small_beside_the_sum():
    metric = metrics.Mean()
    metric.update_state(np.ones(1), np.full(1, 2.0**24))
    for _ in range(1000):
        metric.update_state(np.zeros(1), np.full(1, 0.75))
    assert float(metric.result()) == pytest.approx(2**24 / (2**24 + 750), rel=1e-7)


@pytest.mark.medium
def test_a_confusion_matrix_of_more_places_than_an_int32_holds():
    metric = metrics.MeanIoU(2)
    metric.total_cm.assign(np.array([[2**30, 0], [2**30, 2**30]], np.int32))
    right, wrong = np.zeros((1, 512), int), np.ones((1, 512), int)
    for _ in range(3):
        metric.total_cm.assign_add(np.array([[2**30 - 512, 0], [0, 0]], np.int32))
        metric.update_state(right, right)
    metric.update_state(wrong, wrong)
    both, other = 4 * 2**30, 2**30
    expected = (both / (both + other) + (other + 512) / (2 * other + 512)) / 2
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_infinity_stays_infinite_and_a_new_value_begins_anew():
    metric = metrics.Sum()
    metric.update_state([np.inf])
    metric.update_state([1.0])
    assert float(metric.result()) == np.inf
    metric.total.assign(3.0)
    metric.update_state([1.0])
    assert float(metric.result()) == 4.0 and float(metric.total.rest) == 0
    metric.reset_state()
    assert float(metric.total) == float(metric.total.rest) == 0


class Preset(metrics.Mean):
    """A mean that starts where float32 ends, as after the batches of a long epoch."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(jnp.ones(y_true.shape[0]), sample_weight)

    def reset_state(self):
        super().reset_state()
        self.count.assign(LARGE)


def compiled(metric, **arguments):
    inputs = layers.Input((3,))
    model = kerax.Model(inputs, layers.Dense(1)(inputs))
    model.compile("sgd", "mse", weighted_metrics=[metric], **arguments)
    return model


@pytest.mark.medium
@pytest.mark.parametrize("weights", [None, 1.0])
@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_in_a_run(method, run_eagerly, weights):
    metric = Preset(name="kept")
    model, x, y = compiled(metric, run_eagerly=run_eagerly), np.ones((37, 3), "float32"), np.ones((37, 1), "float32")
    weights = None if weights is None else np.full(37, weights, "float32")
    getattr(model, method)(x, y, batch_size=1, sample_weight=weights, verbose=0)
    assert exact(metric.count) == LARGE + 37


def test_what_keras_lists_is_unchanged_and_pure_steps_of_ones_own_add_as_before():
    metric = metrics.BinaryAccuracy()
    assert [variable.name for variable in metric.variables] == ["total", "count"]
    step = jax.jit(metric.stateless_update_state)
    with jax.checking_leaks():
        values = step([jnp.zeros(()), jnp.full((), 2.0)], jnp.ones((2, 1)), jnp.ones((2, 1)))
    assert [float(value) for value in values] == [2, 4]
    assert float(metric.count) == 0


def test_a_sum_by_hand_in_a_users_metric_adds_as_before():
    class Summed(metrics.Metric):
        def __init__(self, name="summed"):
            super().__init__(name=name)
            self.total = self.add_weight(name="total")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.total.assign(self.total + jnp.sum(y_true))

        def result(self):
            return self.total

    inputs = layers.Input((3,))
    model = kerax.Model(inputs, layers.Dense(1)(inputs))
    model.compile("sgd", "mse", metrics=[Summed()])
    logs = model.evaluate(np.ones((100, 3)), np.ones((100, 1)), batch_size=4, verbose=0, return_dict=True)
    assert logs["summed"] == 100


class Watched(kerax.callbacks.Callback):
    """Looks at every batch, so that each is a dispatch of its own, and keeps the logs."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(float(logs["loss"]))


@pytest.mark.medium
@pytest.mark.parametrize("most", [1, 4 * 12, 2**24])
def test_the_bits_do_not_depend_on_how_a_run_is_cut(most, monkeypatch):
    monkeypatch.setattr(sums, "EXACT", most)
    x, y = np.random.default_rng(0).normal(size=(150, 3)).astype("float32"), np.ones((150, 1), "float32")
    weights = np.random.default_rng(1).uniform(size=150).astype("float32")

    def logs(*callbacks):
        kerax.utils.set_random_seed(3)
        metric = Preset(name="kept")
        model = compiled(metric)
        history = model.fit(
            x, y, batch_size=4, epochs=2, sample_weight=weights, verbose=0, callbacks=list(callbacks)
        ).history
        return history, np.asarray(metric.count.raw), np.asarray(metric.count.rest.raw)

    watched = Watched()
    whole, cut = logs(), logs(watched)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
        np.testing.assert_array_equal(a, b)
    assert watched.seen[-1] == whole[0]["loss"][-1]


def test_a_state_that_is_put_back_counts_nothing_twice():
    metric = Preset(name="kept")
    model = compiled(metric)
    model.fit(np.ones((37, 3), "float32"), np.ones((37, 1), "float32"), batch_size=1, verbose=0)
    assert float(metric.count) == LARGE + 36  # a float32 has no place for 37
    state, before = model.get_state_tree(), exact(metric.count)
    metric.reset_state()
    model.set_state_tree(state)
    assert exact(metric.count) == before == LARGE + 37
