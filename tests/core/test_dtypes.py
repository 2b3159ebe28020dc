"""Dtypes by name, and what they give together, as in Keras."""

import itertools

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import backend, config

NUMBERS = [None, int, float, bool, "int", "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32"]
NUMBERS += ["int64", "bfloat16", "float16", "float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("floatx", ["float32", "bfloat16"])
def test_results_are_those_of_keras_for_all_pairs_and_triples(floatx):
    wrong = {}
    try:
        config.set_floatx(floatx)
        keras.config.set_floatx(floatx)
        for count in (0, 1, 2) if floatx != "float32" else (0, 1, 2, 3):
            for dtypes in itertools.combinations_with_replacement(NUMBERS, count):
                if floatx == "bfloat16" and "uint64" in dtypes:  # Keras gives float16 beside signed integers
                    continue
                ours, theirs = backend.result_type(*dtypes), keras.backend.result_type(*dtypes)
                if ours != theirs or ours != backend.result_type(*dtypes[::-1]):
                    wrong[dtypes] = (ours, theirs)
    finally:
        config.set_floatx("float32")
        keras.config.set_floatx("float32")
    assert wrong == {}


def test_names_are_those_of_keras():
    torch = pytest.importorskip("torch")
    for dtype in (None, int, float, bool, str, "int", np.float16, np.dtype("int8"), jnp.bfloat16, jnp.float32(1).dtype):
        assert backend.standardize_dtype(dtype) == keras.backend.standardize_dtype(dtype)
    assert backend.standardize_dtype(torch.float64) == "float64"
    for dtype in NUMBERS[3:]:
        assert backend.is_float_dtype(dtype) == keras.backend.is_float_dtype(dtype), dtype
        assert backend.is_int_dtype(dtype) == keras.backend.is_int_dtype(dtype), dtype


def test_unknown_dtypes_get_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'float32'"):
        backend.standardize_dtype("flaot32")
    with pytest.raises(ValueError, match="float8"):
        backend.result_type("float8_e4m3fn", "float32")


@pytest.mark.parametrize("floatx", ["float16", "bfloat16", "float32"])
def test_floats_of_python_are_of_floatx(floatx):
    try:
        config.set_floatx(floatx)
        for made in (kerax.ops.arange(3.0), kerax.ops.arange(0, 1, 0.5), kerax.ops.full((2,), 0.5), kerax.ops.eye(2)):
            assert made.dtype == floatx
        for made in (kerax.ops.arange(3), kerax.ops.full((2,), 1)):
            assert made.dtype == "int32"
        assert kerax.ops.arange(np.float32(3)).dtype == kerax.ops.full((2,), np.float32(1)).dtype == "float32"
    finally:
        config.set_floatx("float32")
