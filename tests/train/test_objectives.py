"""Losses, their weights and metrics by the structure of a model's outputs, with the names and numbers of Keras."""

import collections

import keras
import numpy as np
import pytest

import kerax

X = np.random.default_rng(0).random((4, 3)).astype("float32")
Y = np.ones((4, 1), "float32")
Pair = collections.namedtuple("Pair", ["first", "second"])


def history(library, outputs, y, loss, **options):
    inputs = library.Input((3,))
    tensors = [library.layers.Dense(1, name=name, kernel_initializer="ones")(inputs) for name in "abc"]
    model = library.Model(inputs, outputs(*tensors))
    model.compile("sgd", loss, **options)
    logs = model.fit(X, y, batch_size=4, shuffle=False, verbose=0).history
    return {name: float(values[0]) for name, values in logs.items()}


def nested(a, b, c):
    return {"a": a, "r": (b, {"c": c})}


def lists(a, b, c):
    return [a, [b, c]]


def pair(a, b, c):
    return Pair(a, b)


def both(a, b, c):
    return {"a": a, "b": b}


def two(a, b, c):
    return [a, b]


def one(a, b, c):
    return a


def square(y_true, y_pred):
    return (y_true - y_pred) ** 2


@pytest.mark.medium
@pytest.mark.parametrize(
    ("outputs", "y", "loss", "options"),
    [
        (nested, nested(Y, Y * 2, Y * 3), "mse", {}),
        (nested, nested(Y, Y * 2, Y * 3), nested("mse", "mae", square), {}),
        (nested, nested(Y, Y * 2, Y * 3), nested(square, None, square), {}),
        (nested, nested(Y, Y * 2, Y * 3), ["mse", "mae", "mse"], {}),
        (nested, nested(Y, Y * 2, Y * 3), nested("mse", "mae", "mse"), {"loss_weights": nested(1.0, 2.0, 3.0)}),
        (nested, nested(Y, Y * 2, Y * 3), "mse", {"metrics": nested(["mse"], ["mae"], ["mse"])}),
        (lists, lists(Y, Y * 2, Y * 3), lists("mse", "mae", square), {}),
        (lists, lists(Y, Y * 2, Y * 3), "mse", {}),
        (pair, pair(Y, Y * 2, Y), pair("mse", square, None), {}),
        (both, {"a": Y, "b": Y * 2}, {"a": ["mse"], "b": ["mae"]}, {}),
        (both, [Y, Y * 2], ["mse", None], {}),
        (two, {"a": Y, "b": Y * 2}, {"a": "mse", "b": "mae"}, {}),
        (two, [Y, Y * 2], "mse", {"metrics": {"a": ["mse"]}, "weighted_metrics": {"a": ["mse"], "b": ["mae"]}}),
        (one, [Y], [["mse"]], {"metrics": ["mse"], "weighted_metrics": ["mse"]}),
        (one, Y, {"a": ["mse"]}, {"metrics": ["mae"], "weighted_metrics": ["mse"]}),
    ],
)
def test_names_and_numbers_are_those_of_keras(outputs, y, loss, options):
    found, expected = (history(library, outputs, y, loss, **options) for library in (kerax, keras))
    assert found == pytest.approx(expected, rel=1e-5)


def test_one_loss_for_a_part_of_the_outputs_gets_that_part():
    def of_both(y_true, y_pred):
        return (y_true["a"] - y_pred["b"]) ** 2

    def outputs(a, b, c):
        return [{"a": a, "b": b}, c]

    y = [{"a": Y, "b": Y}, Y]
    found, expected = (history(library, outputs, y, [of_both, "mse"]) for library in (kerax, keras))
    assert found == pytest.approx(expected, rel=1e-5) and "0_loss" in found


def of_all(y_true, y_pred):
    """A loss of a whole structure of outputs."""
    return sum((y**2).mean(-1) for y in (y_pred.values() if isinstance(y_pred, dict) else y_pred))


@pytest.mark.medium
@pytest.mark.parametrize(
    ("outputs", "y", "loss", "options"),
    [
        (two, [Y, Y], ["mse", ["mae", "mse"]], {}),
        (two, [Y, Y], [["mae", "mse"], "mae"], {"loss_weights": [[0.5, 2.0], 3.0]}),
        (two, [Y, Y], (of_all, ["mse", "mae"]), {}),
        (pair, Pair(Y, Y), [of_all, Pair("mse", "mae")], {"loss_weights": [0.5, Pair(2.0, 3.0)]}),
        (both, {"a": Y, "b": Y}, [of_all, {"a": "mse", "b": "mae"}], {"loss_weights": [0.5, {"a": 2.0, "b": 3.0}]}),
        (both, {"a": Y, "b": Y}, {"a": ["mse", "mae"], "b": "mae"}, {}),
        (both, {"a": Y, "b": Y}, [of_all], {}),
        (nested, {"a": Y, "r": (Y, {"c": Y})}, {"a": "mse", "r": ["mse", (None, {"c": "mae"})]}, {}),
    ],
)
def test_several_losses_of_one_output_or_of_a_structure_are_added(outputs, y, loss, options):
    if outputs is nested:
        loss = {"a": "mse", "r": [lambda y_true, y_pred: (y_pred[0] ** 2).mean(-1), (None, {"c": "mae"})]}
    ours, theirs = history(kerax, outputs, y, loss, **options), history(keras, outputs, y, loss, **options)
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert ours.keys() == theirs.keys()


@pytest.mark.medium
def test_several_losses_of_the_only_output_are_added():
    # Keras hands the first loss the first row of the targets, and its sum is that of the first loss.
    ours = history(kerax, lambda a, b, c: a, Y, ["mse", "mae"], loss_weights=[2.0, 3.0])
    each = [history(kerax, lambda a, b, c: a, Y, loss)["loss"] for loss in ("mse", "mae")]
    assert ours["loss"] == pytest.approx(2 * each[0] + 3 * each[1]) and ours["a_loss"] == pytest.approx(sum(each))


@pytest.mark.parametrize("library", [keras, kerax])
@pytest.mark.parametrize("num_outputs", [1, 2])
def test_a_compute_loss_may_call_the_compiled_losses_on_other_outputs(library, num_outputs):
    class Model(library.Model):
        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            y_pred = [y_pred, y_pred] if num_outputs == 1 else y_pred[0]
            return super().compute_loss(x, [Y, Y] if num_outputs == 1 else Y, y_pred, sample_weight, training)

    inputs = library.Input((3,))
    outputs = [library.layers.Dense(1, kernel_initializer="ones", name=name)(inputs) for name in "ab"][:num_outputs]
    model = Model(inputs, outputs)
    model.compile("sgd", ["mse", "mae"] if num_outputs == 1 else "mse")
    ours = model.fit(X, [Y, Y][:num_outputs], batch_size=4, verbose=0).history["loss"][0]
    error = Y - X.sum(1, keepdims=True)
    expected = (error**2).mean() + (abs(error).mean() if num_outputs == 1 else 0)
    assert ours == pytest.approx(float(expected), rel=1e-5)
    assert np.isfinite(model.evaluate(X, [Y, Y][:num_outputs], verbose=0)).all()


def test_names_that_no_output_has_are_refused_as_in_keras():
    for kind, outputs, y in ((KeyError, both, {"a": Y, "b": Y}), (ValueError, two, [Y, Y])):
        for library in (keras, kerax):
            with pytest.raises(kind, match="z"):
                history(library, outputs, y, {"a": "mse", "z": "mae"})
