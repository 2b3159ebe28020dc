"""Sequences of one length, and rows of norm 1."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.errors import check_choice


def pad_sequences(
    sequences, maxlen=None, dtype: Any = "int32", padding: str = "pre", truncating: str = "pre", value: float = 0.0
) -> np.ndarray:
    """Sequences cut or filled to one length.

    Args:
        sequences: A list of lists, of numbers or of arrays of one shape.
        maxlen: The length. Default: that of the longest sequence.
        dtype: Of the result.
        padding: Whether to fill `"pre"` (before) or `"post"` (after) a sequence.
        truncating: Whether to cut from its beginning (`"pre"`) or its end (`"post"`).
        value: What to fill with.

    Returns: `(sequences, maxlen, ...)`.

    Raises:
        ValueError: for other values of `padding` and `truncating`, or items of different shapes.
    """
    check_choice("pad_sequences", "padding", padding, ("pre", "post"))
    check_choice("pad_sequences", "truncating", truncating, ("pre", "post"))
    rows = [np.asarray(row) for row in sequences]
    # An empty row says nothing about the shape of items.
    shapes = {row.shape[1:] for row in rows if len(row)}
    if len(shapes) > 1:
        raise ValueError(f"pad_sequences: items must have one shape. Got {sorted(shapes)}.")
    length = max((len(row) for row in rows), default=0) if maxlen is None else maxlen
    padded = np.full((len(rows), length, *(shapes.pop() if shapes else ())), value, dtype)
    for target, row in zip(padded, rows, strict=True):
        # Not `row[-length:]`, which is the whole row for a length of 0.
        row = row[max(len(row) - length, 0) :] if truncating == "pre" else row[:length]
        if len(row):
            target[slice(0, len(row)) if padding == "post" else slice(length - len(row), length)] = row
    return padded


def normalize(x, axis=-1, order: int = 2):
    """`x` divided by its norm along `axis`; zeros stay zeros.

    Keras 3.15 divides by the wrong norms, or fails, for `axis=0`; this one does what its documentation says.
    """
    numpy = jnp if isinstance(x, jax.Array) else np
    norms = numpy.linalg.norm(x, order, axis, keepdims=True)
    return x / numpy.where(norms == 0, 1, norms)
