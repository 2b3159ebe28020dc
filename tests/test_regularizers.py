"""Regularizers: values by hand and against Keras, configs, wrong arguments."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from kerax import regularizers
from kerax.core.variable import Variable

X = jnp.array([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]], "float32")
CASES = [
    ("L1", {}),
    ("L1", {"l1": 0.2}),
    ("L2", {}),
    ("L2", {"l2": 0.3}),
    ("L1L2", {}),
    ("L1L2", {"l1": 0.1, "l2": 0.2}),
    ("OrthogonalRegularizer", {}),
    ("OrthogonalRegularizer", {"factor": 0.5, "mode": "columns"}),
]


@pytest.mark.slow
def test_values_gradients_and_configs_are_those_of_keras():
    for name, options in CASES:
        ours, theirs = getattr(regularizers, name)(**options), getattr(keras.regularizers, name)(**options)
        np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-6, err_msg=name)
        if name != "L1L2" or options:
            np.testing.assert_allclose(jax.grad(ours)(X), jax.grad(theirs)(X), rtol=1e-5, atol=1e-7, err_msg=name)
        config, expected = ours.get_config(), theirs.get_config()
        assert config.pop("mode", None) == expected.pop("mode", None)
        assert config == pytest.approx(expected)
        restored = regularizers.deserialize(keras.regularizers.serialize(theirs))
        np.testing.assert_allclose(restored(X), theirs(X), rtol=1e-6)
        np.testing.assert_allclose(keras.regularizers.deserialize(regularizers.serialize(ours))(X), ours(X), rtol=1e-6)


def test_values_by_hand():
    assert float(regularizers.L1(0.1)(X)) == pytest.approx(0.75)
    assert float(regularizers.L2(0.1)(Variable(X))) == pytest.approx(1.525)
    assert float(regularizers.OrthogonalRegularizer(1.0)(np.eye(3, dtype="float32"))) == 0


def test_get():
    assert isinstance(regularizers.get("l1_l2"), regularizers.L1L2)
    assert isinstance(regularizers.get("l2"), regularizers.L2)
    assert regularizers.get(None) is None
    with pytest.raises(ValueError, match="Unknown regularizer 'l3'"):
        regularizers.get("l3")


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="L1: `l1` must be a finite number of at least 0"):
        regularizers.L1(-1.0)
    with pytest.raises(ValueError, match="'rows' or 'columns'"):
        regularizers.OrthogonalRegularizer(mode="both")
    with pytest.raises(ValueError, match="expected a matrix"):
        regularizers.OrthogonalRegularizer()(np.ones(3, "float32"))
