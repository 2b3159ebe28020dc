"""Positions, callbacks' states and descriptions as JSON, and back: bytes, tuples and NumPy values are marked."""

import base64
from typing import Any

import jax
import numpy as np

_MARK = "__kerax__"


def encode(value: Any) -> Any:
    """A nested structure as JSON.

    Raises:
        TypeError: for a value that is neither plain data nor an array.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        # A dict of the user's that looks like a mark is written out as pairs.
        if all(isinstance(key, str) for key in value) and _MARK not in value:
            return {key: encode(item) for key, item in value.items()}
        return {_MARK: "dict", "items": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple):
        return {_MARK: "tuple", "items": [encode(item) for item in value]}
    if isinstance(value, bytes):
        return {_MARK: "bytes", "base64": base64.b64encode(value).decode()}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        array = np.asarray(value)
        if array.dtype.kind in "OSUV":
            raise TypeError(f"Expected plain data or arrays of numbers. Got an array of dtype {array.dtype}.")
        data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return {_MARK: "array", "dtype": array.dtype.name, "shape": list(array.shape), "base64": data}
    raise TypeError(f"Expected plain data or arrays of numbers. Got {type(value).__name__}.")


def decode(value: Any) -> Any:
    """What `encode` made JSON of. Raises `ValueError` for an unknown mark."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(_MARK)
    if kind is None:
        return {key: decode(item) for key, item in value.items()}
    if kind == "dict":
        return {decode(key): decode(item) for key, item in value["items"]}
    if kind == "tuple":
        return tuple(decode(item) for item in value["items"])
    if kind == "bytes":
        return base64.b64decode(value["base64"])
    if kind == "array":
        flat = np.frombuffer(base64.b64decode(value["base64"]), np.dtype(value["dtype"]))
        # `frombuffer` gives memory that cannot be written.
        return flat.reshape(value["shape"]).copy()
    raise ValueError(f"Unknown mark {kind!r}.")


def split_arrays(structure: Any) -> tuple[Any, dict[str, Any]]:
    """A structure with its arrays replaced by marks, and the arrays by number."""
    arrays: dict[str, Any] = {}

    def visit(value):
        if isinstance(value, dict):
            return {key: visit(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(visit(item) for item in value)
        if isinstance(value, (np.ndarray, jax.Array)):
            # By number: orbax's trees have strings as keys.
            arrays[str(len(arrays))] = value
            return {_MARK + "array": len(arrays) - 1}
        return value

    return visit(structure), arrays


def join_arrays(structure: Any, arrays: dict[str, Any]) -> Any:
    """What `split_arrays` took apart."""
    if isinstance(structure, dict):
        if _MARK + "array" in structure:
            return arrays[str(structure[_MARK + "array"])]
        return {key: join_arrays(item, arrays) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(join_arrays(item, arrays) for item in structure)
    return structure
