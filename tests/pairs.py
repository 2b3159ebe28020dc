"""The same model in kerax and in Keras: equal weights in, equal training out."""

import keras
import numpy as np

import kerax


def make_pair(make):
    """`make(module)` for both modules, Keras's weights put into kerax's model."""
    ours, theirs = make(kerax), make(keras)
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def assert_same_weights(ours, theirs, tolerance=1e-5):
    """Number, shapes and values of the weights agree."""
    mine, other = ours.get_weights(), theirs.get_weights()
    assert [weight.shape for weight in mine] == [weight.shape for weight in other]
    for index, (one, two) in enumerate(zip(mine, other)):
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance, err_msg=f"weight {index}")


def assert_same_history(ours, theirs, tolerance=1e-5):
    """Names and values of two histories agree."""
    assert set(ours.history) == set(theirs.history)
    for name, values in theirs.history.items():
        np.testing.assert_allclose(ours.history[name], values, rtol=tolerance, atol=tolerance, err_msg=name)


def assert_same_fit(make, *args, tolerance=1e-5, **kwargs):
    """Fits both models alike, compares histories and weights, and returns both models."""
    ours, theirs = make_pair(make)
    arguments = {"verbose": 0, "shuffle": False} | kwargs
    assert_same_history(ours.fit(*args, **arguments), theirs.fit(*args, **arguments), tolerance)
    assert_same_weights(ours, theirs, tolerance)
    return ours, theirs
