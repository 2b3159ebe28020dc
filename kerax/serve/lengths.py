"""Rows of any length as rows of a few lengths, so that few programs are compiled."""

from collections.abc import Callable, Sequence

import numpy as np

from kerax.errors import check_integers
from kerax.serve.tensors import TEXT, TensorSpec

_TOLERANCE = 0.01  # of the largest number: sums of other sizes, in few bits, may differ so much
_WORDS = (9, 3)  # above the whole numbers that are tried; such as a small vocabulary has not are NaN


class Lengths:
    """Fills rows whose sizes are open up to the next of some lengths, and cuts what is computed of them.

    Only rows all of whose open sizes are one length are filled up: where they differ it means something, or is wrong.

    Args:
        lengths: Sizes, in any order; or one; or none.
        pad_value: What rows are filled up with, at their ends; `None` leaves all as they are.
        inputs, outputs: Of the model.

    Attributes:
        known: The lengths, in ascending order.

    Raises:
        ValueError: for lengths that are no sizes, or a value that an input cannot hold.
    """

    def __init__(
        self,
        lengths: int | Sequence[int] | None,
        pad_value: float | None,
        inputs: list[TensorSpec],
        outputs: list[TensorSpec],
    ):
        self.known = sorted({lengths} if isinstance(lengths, int) else set(lengths or ()))
        for length in self.known:
            check_integers("lengths", length=(length, 1))
        self._value, self._inputs, self._outputs = pad_value, inputs, outputs
        filled = [spec for spec in inputs if None in spec.shape]
        self._fills = pad_value is not None and len(self.known) > 0 and len(filled) > 0
        for spec in filled if self._fills else ():
            if spec.dtype == TEXT or np.array(pad_value).astype(spec.dtype) != pad_value:
                raise ValueError(f"input {spec.name!r}, {spec.describe()}, cannot be filled up with {pad_value}.")

    def fill(self, arrays: list[np.ndarray]) -> tuple[list[np.ndarray], int | None]:
        """Rows filled up, and how long they were; `None` if they were left as they are."""
        if not self._fills:
            return arrays, None
        shapes = [(spec.shape, array.shape[1:]) for spec, array in zip(self._inputs, arrays)]
        size, *others = {size for wanted, found in shapes for want, size in zip(wanted, found) if want is None}
        length = next((length for length in self.known if length >= size), None)
        if others or length is None or not size:
            return arrays, None
        widths = [[(0, 0), *((0, length - size if want is None else 0) for want in wanted)] for wanted, _ in shapes]
        filled = [np.pad(array, width, constant_values=self._value or 0) for array, width in zip(arrays, widths)]
        return filled, size

    def cut(self, outputs: list[np.ndarray], size: int | None) -> list[np.ndarray]:
        """What was computed for rows that were this long."""
        if size is None:
            return outputs
        cuts = [(slice(None), *(slice(size if n is None else None) for n in spec.shape)) for spec in self._outputs]
        return [output[cut] for output, cut in zip(outputs, cuts)]

    def check(self, run: Callable[[list[np.ndarray]], list[np.ndarray]], rows: int) -> None:
        """Computes rows of several lengths as they are, and filled up.

        Args:
            run: The model.
            rows: How many it can compute at once.

        Raises:
            ValueError: if filling up changes the numbers, or it cannot be tried.
        """
        if not self._fills:
            return
        length = next((length for length in self.known if length > 2), self.known[-1])
        # Of a single step most is seen: what is filled in outweighs it in every mean, maximum or last step.
        tried = [self._try(run, rows, size) for size in sorted({1, length // 2, length - 1} - {0})]
        if not any(tried):
            raise ValueError(f"rows shorter than {length} cannot be computed, so that nothing can be filled up.")

    def _try(self, run, rows: int, size: int) -> bool:
        """Whether rows of a length can be computed; then that it may be done filled up."""
        for most in _WORDS:
            arrays = [_random(spec, rows, size, most, self._value) for spec in self._inputs]
            try:
                expected = run(arrays)
            except (TypeError, ValueError):
                return False
            if all(np.isfinite(output.astype(np.float64)).all() for output in expected):
                break
        else:
            return False
        filled, _ = self.fill(arrays)
        for spec, one, other in zip(self._outputs, expected, self.cut(run(filled), size)):
            if one.shape != other.shape or not _is_close(other, one):
                raise ValueError(
                    f"rows of length {size} give another {spec.name!r} once they are filled up with {self._value}. "
                    "Have the model mask that value, or leave `pad_value` out."
                )
        return True


def _is_close(one: np.ndarray, other: np.ndarray) -> bool:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return bool(np.abs(one - other).max(initial=0) <= _TOLERANCE * np.abs(other).max(initial=0))


def _random(spec: TensorSpec, rows: int, size: int, most: int, apart_from: float | None) -> np.ndarray:
    """Whole numbers from 1, without the one that rows are filled up with; or floats."""
    rng, shape = np.random.default_rng(size), (rows, *(size if want is None else want for want in spec.shape))
    if spec.dtype == TEXT:
        return np.full(shape, "a")
    kind = np.dtype(spec.dtype).kind
    if kind in "iu":
        return rng.choice([number for number in range(1, most) if number != apart_from], shape).astype(spec.dtype)
    return (rng.random(shape) < 0.5) if kind == "b" else rng.normal(size=shape).astype(spec.dtype)
