"""Prompts: lists of tokens of any lengths as one array, padded to few different sizes."""

from typing import Any, NamedTuple

import numpy as np


def bucket(size: int, least: int = 16) -> int:
    """`size` rounded up to one of few numbers, by at most a quarter: what programs are compiled for."""
    step = max(least, 1 << max(size.bit_length() - 3, 0))
    return -(-size // step) * step


class Prompts(NamedTuple):
    """Prompts to go on from.

    Attributes:
        rows: The tokens of each.
        lengths: How many each has.
        is_one: Whether one prompt was given, not a list of one.
    """

    rows: list[np.ndarray]
    lengths: np.ndarray
    is_one: bool

    def padded(self, width: int) -> np.ndarray:
        """`(prompts, width)` with zeros after each prompt."""
        found = np.zeros((len(self.rows), width), np.int32)
        for row, tokens in zip(found, self.rows, strict=True):
            row[: len(tokens)] = tokens
        return found

    def shape(self, rows: list) -> Any:
        """A list with something for each prompt, in the form in which the prompts came."""
        return rows[0] if self.is_one else rows


def read_prompts(tokens: Any, lengths: Any = None) -> Prompts:
    """What `generate` was given as prompts.

    Raises:
        ValueError: if it is no list of tokens, nor a list of such, or a prompt is empty.
    """
    is_array = hasattr(tokens, "ndim")
    is_one = tokens.ndim == 1 if is_array else bool(len(tokens)) and np.ndim(tokens[0]) == 0
    rows = [np.asarray(row) for row in ([tokens] if is_one else tokens)]
    for row in rows:
        if row.ndim != 1 or row.size == 0 or row.dtype.kind not in "iu" or row.min() < 0:
            raise ValueError(
                f"generate: a prompt must be a list of at least one token, integers from 0 on. Got {row.tolist()!r}."
            )
    if not rows:
        raise ValueError("generate: there are no prompts.")
    if lengths is not None:
        counts = np.atleast_1d(np.asarray(lengths))
        if counts.shape != (len(rows),) or counts.dtype.kind not in "iu" or (counts < 1).any():
            raise ValueError(f"generate: `lengths` must be one of at least 1 for each prompt. Got {lengths!r}.")
        if (counts > [len(row) for row in rows]).any():
            raise ValueError(f"generate: `lengths` go beyond the prompts' {len(rows[0])} columns. Got {lengths!r}.")
        rows = [row[:count] for row, count in zip(rows, counts, strict=True)]
    return Prompts(rows, np.array([len(row) for row in rows]), is_one)
