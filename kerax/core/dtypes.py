"""Dtypes by name, and what two of them give together."""

import functools

import jax.numpy as jnp

from kerax import config
from kerax.errors import suggest

_PYTHON = {bool: "bool", int: "int32", float: "float32", complex: "complex64", str: "string", "int": "int32"}
_ALLOWED = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "bfloat16", "float16")
_ALLOWED += ("float32", "float64", "complex64", "complex128", "string", "float8_e4m3fn", "float8_e5m2")
_NARROW = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}


def standardize_dtype(dtype) -> str:
    """The name of a dtype given by name, as a Python, NumPy, JAX or torch type; `floatx()` for `None`.

    Raises:
        ValueError: if there is no such dtype.
    """
    if dtype is None:
        return config.floatx()
    name = _PYTHON.get(dtype, dtype) if isinstance(dtype, (type, str)) else dtype
    name = name if isinstance(name, str) else getattr(name, "name", None) or getattr(name, "__name__", str(name))
    # `torch.float32` prints so.
    name = name.rpartition(".")[2]
    if name not in _ALLOWED:
        raise ValueError(f"Unknown dtype {dtype!r}.{suggest(name, _ALLOWED)} Expected one of {', '.join(_ALLOWED)}.")
    return name


def is_float_dtype(dtype) -> bool:
    """Whether a dtype holds real floating point numbers."""
    return standardize_dtype(dtype).startswith(("float", "bfloat"))


def is_int_dtype(dtype) -> bool:
    """Whether a dtype holds integers, signed or not."""
    return standardize_dtype(dtype).startswith(("int", "uint"))


def result_type(*dtypes) -> str:
    """The dtype of an operation on arrays of these dtypes; `int` and `float` stand for Python's own numbers.

    64 bits become 32, as in JAX unless `jax_enable_x64` is set. No dtype at all gives `floatx()`.

    Raises:
        ValueError: for float8, which is not converted unless told.
    """
    names = [standardize_dtype(dtype) for dtype in dtypes]
    if any(name.startswith("float8") for name in names):
        raise ValueError(f"result_type: float8 is converted by `cast` only. Got {', '.join(names)}.")
    # Python's numbers take the other's dtype where there is one of their kind.
    strong = [name for name, dtype in zip(names, dtypes, strict=True) if dtype is not int and dtype is not float]
    precision = "16" if config.floatx().endswith("16") else config.floatx()[-2:]
    strong.sort(key=lambda name: "float" not in name)  # with a float, int64 and uint64 need not meet
    found = functools.reduce(jnp.promote_types, map(jnp.dtype, strong)) if strong else None
    weak = float if float in dtypes else int if int in dtypes else None
    if weak is not None and (found is None or found == jnp.dtype(bool)):
        return _NARROW.get(f"{weak.__name__}{precision}", f"{weak.__name__}{precision}")
    if weak is float and found is not None and jnp.issubdtype(found, jnp.integer):
        return _NARROW.get(f"float{precision}", f"float{precision}")
    name = config.floatx() if found is None else found.name
    return _NARROW.get(name, name)
