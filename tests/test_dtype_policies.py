import json

import pytest

from kerax import dtype_policies, saving
from kerax.dtype_policies import DTypePolicyMap

NAMES = [
    *("float32", "mixed_bfloat16", "int8_from_float32", "int4_from_bfloat16", "int4/64_from_float32"),
    *("int4/-1_from_mixed_float16", "gptq/4/128_from_float32", "awq/4/-1_from_mixed_bfloat16", "float8_from_float32"),
]


@pytest.mark.parametrize("name", NAMES)
def test_policies_equal_keras(name):
    import keras

    own, theirs = dtype_policies.get(name), keras.dtype_policies.get(name)
    for attribute in ("name", "compute_dtype", "variable_dtype", "quantization_mode"):
        assert getattr(own, attribute) == getattr(theirs, attribute)
    assert repr(own) == repr(theirs)
    description = saving.serialize_keras_object(own)
    assert description == keras.dtype_policies.serialize(theirs)
    assert json.loads(json.dumps(description)) == description
    again = saving.deserialize_keras_object(description)
    assert again == own and type(again) is type(own) and hash(again) == hash(own)
    assert dtype_policies.get(description) == own == dtype_policies.deserialize(dtype_policies.serialize(own))
    assert own != dtype_policies.get("float16")


def test_numbers_in_names():
    policy = dtype_policies.get("gptq/3/-1_from_float32")
    assert (policy.weight_bits, policy.group_size) == (3, -1)
    assert dtype_policies.get("int4/64_from_float32").block_size == 64
    assert dtype_policies.QuantizedFloat8DTypePolicy("float8", amax_history_length=3).amax_history_length == 3
    assert dtype_policies.QuantizedDTypePolicy("int8").name == "int8_from_float32"
    assert dtype_policies.FloatDTypePolicy("float32") == dtype_policies.DTypePolicy("float32")


def test_inputs_are_converted():
    policy = dtype_policies.get("mixed_bfloat16")
    assert policy.convert_input([1.0], True, "bfloat16").dtype == "bfloat16"
    assert policy.convert_input([1.0], False, "bfloat16").dtype == "float32"
    assert policy.convert_input([1], True, "bfloat16").dtype == "int32"


def test_a_map_finds_policies_by_path_as_in_keras():
    import keras

    found = []
    for module in (dtype_policies, keras.dtype_policies):
        policies = module.DTypePolicyMap("bfloat16", {"a/b": module.get("int8_from_float32")})
        policies["c/.*"] = "float16"
        assert [policies[path].name for path in ("a/b", "c/d", "c", "a")] == [
            *("int8_from_float32", "float16", "bfloat16", "bfloat16")
        ]
        assert "a/b" in policies and "c/d" not in policies and list(policies) == ["a/b", "c/.*"] and len(policies) == 2
        policies["c/d.*"] = "float32"
        with pytest.raises(ValueError, match="matches (several|multiple)"):
            policies["c/d"]
        with pytest.raises(ValueError, match="already"):
            policies["a/b"] = "float32"
        del policies["c/d.*"]
        found.append((policies.name, policies.compute_dtype, policies.quantization_mode, module.serialize(policies)))
    assert found[0] == found[1]
    again = saving.deserialize_keras_object(found[1][3])
    assert isinstance(again, DTypePolicyMap) and again["c/x"].name == "float16"
    assert again == dtype_policies.deserialize(found[0][3])
    assert DTypePolicyMap().default_policy == dtype_policies.dtype_policy()


def test_a_map_without_a_default_leaves_dtypes_to_its_readers_as_in_keras():
    import keras

    for module in (dtype_policies, keras.dtype_policies):
        policies = module.DTypePolicyMap()
        policies["a"] = "bfloat16"
        for name in ("int8", "int4/8", "gptq/4/8", "float8"):
            policies[name] = f"{name}_from_bfloat16"
        assert "default_policy=float32, mapping=[('a', 'bfloat16')" in repr(policies)
        assert [policies[name].mode for name in ("int4/8", "gptq/4/8")] == ["int4", "gptq"]
        assert not hasattr(policies["int8"], "mode")
        again = module.DTypePolicyMap.from_config(policies.get_config())
        assert {policy.compute_dtype for policy in again.values()} == {"float32"}
        assert [policy.quantization_mode for policy in again.values()] == [None, "int8", "int4", "gptq", "float8"]


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda p: p.get("int8"), ValueError, "called '<mode>_from_<policy>', as in 'int8_from_float32'"),
        (lambda p: p.get("foo_from_float32"), ValueError, "Unknown dtype policy 'foo_from_float32'"),
        (lambda p: p.get("int8_from_float16"), ValueError, "wider compute dtype than float16"),
        (lambda p: p.get("int4/0_from_float32"), ValueError, "a size of at least 1, or -1"),
        (lambda p: p.get("int4/x_from_float32"), ValueError, "'int4/<block_size>', with integers"),
        (lambda p: p.get("gptq/5/1_from_float32"), ValueError, "`weight_bits` must be one of"),
        (lambda p: p.get("awq/8/1_from_float32"), ValueError, r"`weight_bits` must be one of \(4,\)"),
        (lambda p: p.GPTQDTypePolicy("gptq/4"), ValueError, "must have the form 'gptq/<weight_bits>/<group_size>'"),
        (lambda p: p.QuantizedDTypePolicy("int3"), ValueError, "`mode` must be one of"),
        (lambda p: p.QuantizedFloat8DTypePolicy("float8", None, 1.5), TypeError, "`amax_history_length`"),
        (lambda p: p.DTypePolicyMap(p.DTypePolicyMap()), ValueError, "must not be a `DTypePolicyMap`"),
        (lambda p: p.DTypePolicy(123), TypeError, "name must be a string. Got 123"),
        (lambda p: p.QuantizedDTypePolicy("int8", 123), TypeError, "name must be a string. Got 123"),
        (lambda p: p.get(123), ValueError, "Expected a dtype, a dtype policy, its name or its config. Got 123"),
        (lambda p: p.DTypePolicyMap("float32").update(a=1.5), ValueError, "Expected a dtype"),
        (lambda p: p.set_dtype_policy(None), ValueError, "expected a policy or its name. Got None"),
        (lambda p: p.DTypePolicyMap(policy_map=[]), TypeError, "`policy_map` must be a dict"),
        (lambda p: p.get({"class_name": "DTypePolicyMop", "config": {}}), ValueError, "Did you mean 'DTypePolicyMap'"),
    ],
)
def test_bad_policies_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(dtype_policies)


def test_inputs_are_converted_as_in_keras():
    import keras
    import numpy as np

    import kerax

    for policy in (dtype_policies.DTypePolicy("float32"), keras.dtype_policies.DTypePolicy("float32")):
        assert policy.convert_input(np.ones(2, "float64"), True, "bfloat16").dtype == "bfloat16"
        assert policy.convert_input(np.ones(2, "int32"), True, "bfloat16").dtype == "int32"
        assert policy.convert_input(np.ones(2, "float32"), False, "bfloat16").dtype == "float32"
        assert policy.convert_input("text", True, "bfloat16") == "text"
    assert dtype_policies.DTypePolicy().convert_input(kerax.Input((2,)), True, "float16").dtype == "float16"
    variable = kerax.Variable(np.ones(2, "f"))
    assert dtype_policies.DTypePolicy().convert_input(variable, True, "float16").dtype == "float16"
