"""Constraints: values by hand and against Keras, configs."""

import keras
import numpy as np
import pytest

from kerax import constraints
from kerax.core.variable import Variable

W = np.array([[3.0, -0.1, 0.0], [4.0, 0.2, 0.0]], "float32")
CASES = [
    ("MaxNorm", {}),
    ("MaxNorm", {"max_value": 1.0, "axis": 1}),
    ("NonNeg", {}),
    ("UnitNorm", {}),
    ("UnitNorm", {"axis": [0, 1]}),
    ("MinMaxNorm", {}),
    ("MinMaxNorm", {"min_value": 0.5, "max_value": 2.0, "rate": 0.3, "axis": 1}),
]


@pytest.mark.medium
def test_values_and_configs_are_those_of_keras():
    for name, options in CASES:
        ours, theirs = getattr(constraints, name)(**options), getattr(keras.constraints, name)(**options)
        np.testing.assert_allclose(ours(W), theirs(W), rtol=1e-6, atol=1e-7, err_msg=name)
        assert ours.get_config() == theirs.get_config()
        np.testing.assert_allclose(
            constraints.deserialize(keras.constraints.serialize(theirs))(W), theirs(W), rtol=1e-6
        )
        np.testing.assert_allclose(keras.constraints.deserialize(constraints.serialize(ours))(W), ours(W), rtol=1e-6)


def test_values_by_hand():
    np.testing.assert_allclose(constraints.UnitNorm()(W)[:, 0], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(constraints.MaxNorm(2.5)(Variable(W))[:, 0], [1.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(constraints.NonNeg()(W)[:, 1], [0, 0.2], rtol=1e-6)


def test_get():
    assert isinstance(constraints.get("max_norm"), constraints.MaxNorm)
    assert isinstance(constraints.get("non_neg"), constraints.NonNeg)
    assert constraints.get(None) is None
    with pytest.raises(ValueError, match="Did you mean 'unit_norm'"):
        constraints.get("unitnorm_")
