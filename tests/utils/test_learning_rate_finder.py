import sys
import warnings

import numpy as np
import pytest

import kerax
from kerax.utils import find_learning_rate

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(64, 3)).astype("float32")
Y = (X @ np.array([[1.0], [2.0], [-1.0]])).astype("float32")


def make():
    layers = [kerax.Input((3,)), kerax.layers.BatchNormalization(), kerax.layers.Dropout(0.2)]
    model = kerax.Sequential([*layers, kerax.layers.Dense(1)])
    model.compile(kerax.optimizers.Adam(0.01, use_ema=True), "mse", metrics=["mae"])
    model.fit(X, Y, verbose=0, batch_size=8)
    return model


@pytest.fixture(scope="module")
def twins():
    """Two models, compiled once, of which only one goes through the tests."""
    return make(), make()


def linear(rate=0.1, **arguments):
    model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(1, kernel_initializer="zeros", use_bias=False)])
    model.compile(kerax.optimizers.SGD(rate), "mse", **arguments)
    return model


def assert_same_state(one, two):
    for mine, other in zip(kerax.tree.flatten(one), kerax.tree.flatten(two), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("end", ["divergence", "steps", "error", "interrupt"])
def test_the_model_is_as_before(twins, monkeypatch, end):
    model, untouched = twins
    untouched.set_state_tree(model.get_state_tree())
    before, history = model.get_state_tree(), model.history
    arguments = dict(steps=12, max_rate=1e3 if end == "divergence" else 1e-3, batch_size=8)
    if end in ("error", "interrupt"):
        kind = RuntimeError if end == "error" else KeyboardInterrupt
        monkeypatch.setattr(model, "reset_metrics", lambda: (_ for _ in ()).throw(kind))
        with pytest.raises(kind):
            find_learning_rate(model, X, Y, **arguments)
        monkeypatch.undo()
    else:
        assert find_learning_rate(model, X, Y, **arguments).diverged == (end == "divergence")
    assert_same_state(model.get_state_tree(), before)
    assert model.history is history and not model.stop_training
    fits = [each.fit(X, Y, batch_size=8, epochs=2, verbose=0).history["loss"] for each in (model, untouched)]
    assert fits[0] == fits[1]  # the same order of the rows, dropout and optimizer


def test_a_model_that_was_never_trained_or_built():
    model = kerax.Sequential([kerax.layers.Dense(1)])
    model.compile("adam", "mse")
    found = find_learning_rate(model, X, Y, steps=5)
    assert len(found.losses) == 5
    assert int(model.optimizer.iterations) == 0 and float(model.optimizer.learning_rate) == pytest.approx(1e-3)


def test_losses_are_those_of_the_batches_at_those_rates():
    model = linear()
    found = find_learning_rate(model, X, Y, batch_size=16, steps=6, min_rate=0.01, max_rate=0.2, shuffle=False)
    np.testing.assert_allclose(found.rates, np.geomspace(0.01, 0.2, 6))
    kernel, losses = np.zeros((3, 1)), []
    for step, rate in enumerate(found.rates):
        rows = np.arange(16) + 16 * (step % 4)  # the fifth batch is the first again
        error = X[rows] @ kernel - Y[rows]
        losses.append(np.mean(error**2))
        kernel = kernel - rate * 2 * X[rows].T @ error / 16
    np.testing.assert_allclose(found.losses, losses, rtol=1e-4)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)


def test_the_suggestion_trains_and_rates_above_the_end_diverge():
    largest = np.linalg.eigvalsh(2 * X.T @ X / len(X)).max()  # gradient descent diverges above 2 / largest
    found = find_learning_rate(linear(), X, Y, batch_size=64, max_rate=100.0)
    assert found.diverged and found.rates[-1] > 2 / largest
    assert 0.01 * 2 / largest < found.suggestion < 2 / largest
    model = linear(found.suggestion)
    losses = model.fit(X, Y, batch_size=64, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]


def test_it_stops_at_four_times_the_best():
    found = find_learning_rate(linear(), X, Y, batch_size=64, smoothing=1.0, max_rate=100.0)
    assert found.losses[-1] > 4 * found.losses.min()
    assert (found.losses[:-1] <= 4 * np.minimum.accumulate(found.losses)[:-1]).all()


def test_sources_of_batches():
    class Batches:
        def __iter__(self):
            return iter([(X[:32], Y[:32]), (X[32:], Y[32:])])

    model = linear()
    assert len(find_learning_rate(model, Batches(), steps=7, max_rate=0.01).losses) == 7
    with pytest.warns(UserWarning, match="ran out"):
        assert len(find_learning_rate(model, iter(Batches()), steps=7, max_rate=0.01).losses) == 2


def test_steps_per_execution_makes_fewer_points():
    found = find_learning_rate(linear(steps_per_execution=2), X, Y, batch_size=16, steps=6, max_rate=0.01)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-7, 0.01, 6)[[0, 2, 4]])
    assert len(found.losses) == 3


def test_what_is_shown(monkeypatch):
    found = find_learning_rate(linear(), X, Y, batch_size=64, steps=30)
    assert repr(found).startswith(f"<LearningRateSearch suggestion={found.suggestion:.3g}, ")
    shown = found._repr_html_()
    assert shown.count("<polyline") == 2 and "nan" not in shown
    matplotlib = pytest.importorskip("matplotlib")
    ax = found.plot()
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "learning rate" and len(ax.lines) == 3
    assert found.plot(ax) is ax
    matplotlib.pyplot.close("all")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install 'kerax\[notebook\]'"):
        found.plot()


def test_a_loss_that_nowhere_falls_gives_no_suggestion():
    found = kerax.utils.LearningRateSearch(np.geomspace(1, 10, 5), np.arange(5.0), np.arange(5.0), True)
    assert found.suggestion is None and "nowhere falls" in repr(found) and "<svg" in found._repr_html_()
    assert len(found.plot().lines) == 2


def test_errors():
    import optax

    model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(1)])
    with pytest.raises(ValueError, match="compile"):
        find_learning_rate(model, X, Y)
    schedule = kerax.optimizers.schedules.CosineDecay(0.1, 100)
    for optimizer, message in (
        (kerax.optimizers.SGD(schedule), "schedule"),
        (optax.sgd(0.1), "keeps its learning rate"),
    ):
        model.compile(optimizer, "mse")
        with pytest.raises(ValueError, match=message):
            find_learning_rate(model, X, Y)
    model = linear()
    for arguments, message in (
        ({"min_rate": 0}, "min_rate"),
        ({"min_rate": 1.0, "max_rate": 0.1}, "min_rate=1.0 and max_rate=0.1"),
        ({"steps": 1}, "steps"),
        ({"smoothing": 0}, "smoothing"),
        ({"divergence": 1}, "divergence"),
    ):
        with pytest.raises(ValueError, match=message):
            find_learning_rate(model, X, Y, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="loss of the first batch is not finite"):
            find_learning_rate(model, X * np.nan, Y)
    assert np.isfinite(model.get_weights()[0]).all()


def test_an_optax_rate_that_can_be_set():
    import optax

    model = kerax.Sequential([kerax.Input((3,)), kerax.layers.Dense(1)])
    model.compile(optax.inject_hyperparams(optax.sgd)(learning_rate=0.1), "mse")
    assert len(find_learning_rate(model, X, Y, steps=4).losses) == 4
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)
