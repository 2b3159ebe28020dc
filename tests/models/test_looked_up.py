"""Integers that no row of an `Embedding` answers are named before anything is compiled, not NaN in the loss."""

import numpy as np
import pytest

import kerax
from kerax import layers

GOOD, BAD = np.array([[0, 4], [-1, 2]]), np.array([[0, 4], [5, 2]])
Y = np.ones((2, 1), "float32")


def sequential():
    return kerax.Sequential([layers.Embedding(5, 2), layers.Flatten(), layers.Dense(1)])


def functional():
    tokens, numbers = kerax.Input((2,), dtype="int32", name="tokens"), kerax.Input((3,), name="numbers")
    x = layers.Concatenate()([layers.Flatten()(layers.Embedding(5, 2)(tokens)), numbers])
    return kerax.Model([tokens, numbers], layers.Dense(1)(x))


def by_name():
    inputs = {name: kerax.Input((2,), dtype="int32", name=name) for name in ("first", "second")}
    tables = {name: layers.Embedding(size, 2) for name, size in (("first", 9), ("second", 5))}
    return kerax.Model(
        inputs, layers.Dense(1)(layers.Flatten()(tables["first"](inputs["first"]) + tables["second"](inputs["second"])))
    )


CASES = {
    "sequential": (sequential, lambda tokens: tokens),
    "functional": (functional, lambda tokens: [tokens, np.ones((2, 3), "float32")]),
    "by name": (by_name, lambda tokens: {"first": np.full((2, 2), 8), "second": tokens}),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", CASES)
def test_every_entry_names_the_index(name):
    make, given = CASES[name]
    model = make()
    model.compile("sgd", "mse")
    calls = {
        "fit": lambda x: model.fit(x, Y, verbose=0),
        "evaluate": lambda x: model.evaluate(x, Y, verbose=0),
        "predict": lambda x: model.predict(x, verbose=0),
        "train_on_batch": lambda x: model.train_on_batch(x, Y),
        "test_on_batch": lambda x: model.test_on_batch(x, Y),
        "predict_on_batch": model.predict_on_batch,
    }
    for who, call in calls.items():
        with pytest.raises(ValueError, match=f"{who}: <Embedding.*index 5 is out of range for a table of size 5"):
            call(given(BAD))
        call(given(GOOD))
    with pytest.raises(ValueError, match=r"fit \(validation_data\): .*index 5"):
        model.fit(given(GOOD), Y, validation_data=(given(BAD), Y), verbose=0)


def test_batches():
    model = sequential()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="index 5 is out of range"):
        model.fit(iter([(BAD, Y)]), steps_per_epoch=1, verbose=0)
