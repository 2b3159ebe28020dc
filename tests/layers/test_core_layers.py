import json

import jax.numpy as jnp
import numpy as np
import pytest

from kerax import layers
from kerax.core import masks


def test_lambda_hands_on_training_mask_and_arguments():
    seen = {}

    def function(x, scale, training=None, mask=None):
        seen.update(training=training, mask=mask)
        return x * scale

    layer = layers.Lambda(function, arguments={"scale": 2.0})
    np.testing.assert_array_equal(layer(jnp.ones((1, 2)), training=True), [[2, 2]])
    assert seen == {"training": True, "mask": None}


def test_lambda_sets_its_mask():
    layer = layers.Lambda(lambda x: x + 1, mask=lambda inputs, mask: inputs[..., 0] > 0)
    np.testing.assert_array_equal(masks.get_mask(layer(jnp.array([[1.0], [-1.0]]))), [True, False])


def test_a_lambda_in_a_config_is_code_and_in_this_process_itself():
    function = lambda x: x
    config = layers.Lambda(function).get_config()
    assert set(json.loads(json.dumps(config))["function"]["config"]) == {"code", "defaults", "closure"}
    assert layers.Lambda.from_config(config).function is function


def test_time_distributed_equals_a_loop_over_steps(key):
    layer = layers.TimeDistributed(layers.Dense(2))
    x = jnp.arange(24.0).reshape(2, 3, 4)
    expected = jnp.stack([layer.layer(x[:, step]) for step in range(3)], 1) if layer(x) is not None else None
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)


def test_time_distributed_keeps_the_mask_of_steps():
    x = jnp.array([[[1.0], [0.0], [2.0]]])
    outputs = layers.TimeDistributed(layers.Dense(2))(layers.Masking()(x))
    np.testing.assert_array_equal(masks.get_mask(outputs), [[True, False, True]])


def test_time_distributed_refuses_inputs_without_steps_and_wrong_masks():
    with pytest.raises(ValueError, match=r"must have shape \(batch, steps, ...\)"):
        layers.TimeDistributed(layers.Dense(2))(jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="`mask` must have shape"):
        layers.TimeDistributed(layers.Dense(2))(jnp.zeros((2, 3, 4)), mask=jnp.ones((2, 5), bool))


def test_wrapper_refuses_what_is_no_layer():
    with pytest.raises(ValueError, match="`layer` must be a layer"):
        layers.Wrapper(3)


def test_activity_regularization_adds_its_penalty_per_sample():
    layer = layers.ActivityRegularization(l1=0.5, l2=2.0)
    x = jnp.array([[1.0, -2.0], [0.0, 3.0]])
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_allclose(layer.losses, [(0.5 * 6 + 2 * 14) / 2])
