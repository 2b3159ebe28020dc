"""Process-wide settings and dtype policies."""

import pytest

import kerax
from kerax import config, layers


def test_floatx_epsilon_and_layout_are_set_and_checked():
    config.set_dtype_policy(None)
    assert (config.floatx(), config.epsilon(), config.image_data_format()) == ("float32", 1e-7, "channels_last")
    assert config.backend() == "jax"
    try:
        config.set_floatx("bfloat16")
        config.set_epsilon(1e-5)
        config.set_image_data_format("channels_first")
        assert kerax.layers.Dense(1).dtype == "bfloat16"
        assert config.epsilon() == 1e-5
        assert layers.Conv2D(1, 3).data_format == "channels_first"
    finally:
        config.set_floatx("float32")
        config.set_epsilon(1e-7)
        config.set_image_data_format("channels_last")
    with pytest.raises(ValueError, match="set_floatx"):
        config.set_floatx("int32")
    with pytest.raises(ValueError, match="channels_first"):
        config.set_image_data_format("rows")


@pytest.mark.parametrize(
    "name, compute, variable",
    [
        ("float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("float16", "float16", "float16"),
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("mixed_float16", "float16", "float32"),
    ],
)
def test_policies_name_compute_and_variable_dtypes(name, compute, variable):
    policy = kerax.DTypePolicy(name)
    assert (policy.compute_dtype, policy.variable_dtype) == (compute, variable)
    assert kerax.DTypePolicy.from_config(policy.get_config()) == policy
    try:
        config.set_dtype_policy(name)
        assert layers.Dense(1).compute_dtype == compute
        assert config.dtype_policy() == policy
    finally:
        config.set_dtype_policy(None)


def test_an_unknown_policy_gets_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'mixed_bfloat16'"):
        kerax.DTypePolicy("mixed_bfloat")
