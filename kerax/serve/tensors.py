"""What goes in and out of a model, by name, and the check of what a request gives for it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerax.core.text import TEXT as TEXT


class RequestError(Exception):
    """What is wrong with a request.

    Args:
        status: The HTTP status that it is answered with.
        message: What was expected, and what came.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


class TensorSpec(NamedTuple):
    """An input or output: its name, its dtype (`"string"` for text), and the shape of a row, `None` for open sizes."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def is_image(self) -> bool:
        """Whether rows may be pictures: three axes, of which the last or the first has 1, 3 or 4 channels."""
        return self.dtype != TEXT and len(self.shape) == 3 and bool({self.shape[0], self.shape[-1]} & {1, 3, 4})

    def describe(self) -> str:
        """Dtype and shape in words."""
        return f"{self.dtype} of shape [{', '.join(['rows', *('any' if s is None else str(s) for s in self.shape)])}]"


def check_inputs(specs: Sequence[TensorSpec], given: Mapping[str, Any]) -> list[np.ndarray]:
    """One array for each input, of its dtype and shape and all of the same number of rows.

    Raises:
        RequestError: (400) naming the input, what it must be and what was given.
    """
    known = [spec.name for spec in specs]
    unknown, missing = [name for name in given if name not in known], [name for name in known if name not in given]
    if unknown or missing:
        raise RequestError(400, f"expected the inputs {known}. Missing: {missing}, unknown: {unknown}.")
    arrays = [convert(spec, given[spec.name]) for spec in specs]
    if len({len(array) for array in arrays}) > 1:
        lengths = ", ".join(f"{name} {len(array)}" for name, array in zip(known, arrays))
        raise RequestError(400, f"inputs must have the same number of rows. Got {lengths}.")
    return arrays


def convert(spec: TensorSpec, value: Any) -> np.ndarray:
    """A value as an array of a spec. Raises `RequestError`."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        raise RequestError(
            400, f"input {spec.name!r}: expected {spec.describe()}. Got rows of several shapes."
        ) from None
    given = array
    # A column of numbers for a model that wants each in an axis of its own.
    if array.ndim == len(spec.shape) and spec.shape[-1:] == (1,):
        array = array[..., None]
    sizes = zip(spec.shape, array.shape[1:])
    if array.ndim != len(spec.shape) + 1 or any(want not in (None, size) for want, size in sizes) or not len(array):
        raise _misfit(spec, given)
    try:
        return _texts(array) if spec.dtype == TEXT else _numbers(array, np.dtype(spec.dtype))
    except (ValueError, FloatingPointError) as error:
        raise _misfit(spec, given, f" {error}") from None


def _misfit(spec: TensorSpec, array: np.ndarray, reason: str = "") -> RequestError:
    got = f"Got {array.dtype.name} of shape {list(array.shape)}.{reason}"
    return RequestError(400, f"input {spec.name!r}: expected {spec.describe()}. {got}")


def _texts(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "SO":
        values = [value.decode() if isinstance(value, bytes) else value for value in array.ravel()]
        if not all(isinstance(value, str) for value in values):
            raise ValueError("A value is no text.")
        return np.array(values, np.str_).reshape(array.shape)
    if array.dtype.kind != "U":
        raise ValueError("The values are no texts.")
    return array


def _numbers(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Raises `ValueError` for what the dtype cannot hold: nothing is rounded to whole numbers, or wrapped around."""
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise ValueError("A value is no number.")
    if dtype.kind in "iub":
        limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        # NaN is in no limits.
        if not (np.all(array >= limits[0]) and np.all(array <= limits[1])):
            raise ValueError(f"A value is not from {limits[0]} to {limits[1]}.")
        if array.dtype.kind not in "biu" and np.any(array != np.floor(array)):
            raise ValueError("A value is not a whole number.")
    with np.errstate(over="raise"):
        return array.astype(dtype)
