"""Missing values in the columns of tables: where they are, and what is put in their places."""

from typing import Any

import numpy as np

STRATEGIES = ("mean", "median")


def where_missing(values: Any) -> np.ndarray:
    """Where a column has `None`, NaN, or what frames have for them: booleans of its shape."""
    array = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    if array.dtype.kind == "f":
        return np.isnan(array)
    if array.dtype.kind != "O":
        return np.zeros(array.shape, bool)
    # Only what is missing differs from itself, but for what frames call so.
    found = [value is None or value != value or type(value).__name__ == "NAType" for value in array.ravel().tolist()]
    return np.array(found, bool).reshape(array.shape)


def filled(values: Any, filling: Any) -> np.ndarray:
    """A column with `filling` where values are missing; as numbers, if that is a number."""
    array = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    missing = where_missing(array)
    if not missing.any():
        return array
    array = np.array(array, object)
    array[missing] = filling
    return array if isinstance(filling, str) else array.astype(type(filling))


def filling_of(strategy: str, values: Any, dtype: str) -> Any:
    """What is put where numbers are missing: the mean or median of the others, or of integers the most frequent one.

    Raises:
        ValueError: if all are missing.
    """
    array = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    there = array[~where_missing(array)]
    if not there.size:
        raise ValueError("all of its values are missing.")
    if dtype.startswith("int"):
        found, counts = np.unique(there.astype(np.int64), return_counts=True)
        return int(found[counts.argmax()])
    return float(np.mean(there.astype(np.float64)) if strategy == "mean" else np.median(there.astype(np.float64)))
