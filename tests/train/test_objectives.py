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


def test_two_losses_for_one_output_are_refused():
    with pytest.raises(ValueError, match="2 entries for one output"):
        history(kerax, two, [Y, Y], ["mse", ["mse", "mae"]])
