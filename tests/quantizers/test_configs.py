import json

import numpy as np
import pytest

from kerax import dtype_policies, quantizers, saving

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
CONFIGS = {
    "Int8QuantizationConfig": {},
    "Int4QuantizationConfig": {},
    "Float8QuantizationConfig": {},
    "GPTQConfig": {"dataset": [[1, 2]], "tokenizer": object(), "weight_bits": 3, "group_size": 7, "symmetric": True},
    "AWQConfig": {"dataset": [[1, 2]], "tokenizer": object(), "num_grid_points": 5, "sequence_length": 9},
}


def test_quantizer_objects_have_keras_configs():
    import keras

    own, theirs = quantizers.AbsMaxQuantizer(axis=0), keras.quantizers.AbsMaxQuantizer(axis=0)
    assert own.get_config() == theirs.get_config()
    again = quantizers.deserialize(quantizers.serialize(own))
    for found, expected in zip(again(X), theirs(X), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    for found in (quantizers.get("abs_max_quantizer"), quantizers.get("AbsMaxQuantizer", epsilon=1e-7)):
        np.testing.assert_allclose(found(X, axis=-1)[1], keras.quantizers.AbsMaxQuantizer()(X, axis=-1)[1], rtol=1e-6)
    assert quantizers.get(None) is None


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_are_described_as_in_keras_and_come_back(name):
    import keras

    own, theirs = (getattr(module, name)(**CONFIGS[name]) for module in (quantizers, keras.quantizers))
    description = saving.serialize_keras_object(own)
    theirs_description = keras.saving.serialize_keras_object(theirs)
    assert json.loads(json.dumps(description)) == json.loads(json.dumps(theirs_description))
    again = saving.deserialize_keras_object(theirs_description)
    assert type(again) is type(own) and again.mode == theirs.mode
    assert saving.serialize_keras_object(again) == description
    if name in ("GPTQConfig", "AWQConfig"):
        assert own.dtype_policy_string() == theirs.dtype_policy_string()


def test_nf4_is_described_and_comes_back():
    own = quantizers.NF4QuantizationConfig(block_size=32)
    again = saving.deserialize_keras_object(json.loads(json.dumps(saving.serialize_keras_object(own))))
    assert type(again) is quantizers.NF4QuantizationConfig and again.block_size == 32
    assert own.dtype_policy_string() == "nf4/32" and quantizers.NF4QuantizationConfig().block_size == 64
    policy = dtype_policies.get("nf4/32_from_bfloat16")
    assert (policy.quantization_mode, policy.block_size, policy.compute_dtype) == ("nf4", 32, "bfloat16")
    assert dtype_policies.deserialize(dtype_policies.serialize(policy)) == policy


def test_quantizers_or_defaults():
    config, none = quantizers.Int8QuantizationConfig(), quantizers.QuantizationConfig
    assert none.weight_quantizer_or_default(config, "default") == "default"
    assert none.activation_quantizer_or_default(config, "default") is config.activation_quantizer
    assert none.activation_quantizer_or_default(None, "default") == "default"
    assert quantizers.Int4QuantizationConfig.from_config({}).block_size is None  # files from before there were blocks


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda q: q.AbsMaxQuantizer()(X), "`axis` must be given"),
        (lambda q: q.AbsMaxQuantizer(0, (-256, 256)), "`value_range` of 8-bit integers"),
        (lambda q: q.Int4QuantizationConfig(block_size=0), "`block_size` must be positive"),
        (lambda q: q.NF4QuantizationConfig(0), "`block_size` must be positive, or -1"),
        (lambda q: q.Int4QuantizationConfig(q.AbsMaxQuantizer(0, (-8, 7))), "need block_size=None"),
        (lambda q: q.Int4QuantizationConfig(q.AbsMaxQuantizer(0), block_size=-1), r"must have value_range=\(-8, 7\)"),
        (
            lambda q: q.Int8QuantizationConfig(q.AbsMaxQuantizer(0, output_dtype="int4")),
            "must have output_dtype='int8'",
        ),
        (lambda q: q.GPTQConfig(None, None, weight_bits=5), "`weight_bits` must be 2, 3, 4 or 8"),
        (lambda q: q.GPTQConfig(None, None, hessian_damping=2), "`hessian_damping` must be between 0 and 1"),
        (lambda q: q.GPTQConfig(None, None, num_samples=0), "`num_samples` must be above 0"),
        (lambda q: q.GPTQConfig(None, None, sequence_length=0), "`sequence_length` must be above 0"),
        (lambda q: q.AWQConfig(None, None, group_size=0), "`group_size` must be positive"),
        (lambda q: q.AWQConfig(None, None, weight_bits=8), "`weight_bits` must be 4"),
        (lambda q: q.AWQConfig(None, None, num_grid_points=0), "`num_grid_points` must be above 0"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(quantizers)
