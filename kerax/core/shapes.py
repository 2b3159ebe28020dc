"""Shapes as users write them."""

import operator
from typing import Any

from jax import export

Shape = tuple[int | None, ...]


def read_shape(who: Any, shape: Any) -> Shape:
    """A shape as a tuple of Python's integers of at least 0, and `None` for sizes that are not known.

    Raises:
        ValueError: for anything else, whole floats too, as in Keras: `width / 2` is an oversight.
    """
    try:
        sizes = tuple(size if size is None or type(size) is int else _size(size) for size in shape)
    except TypeError:
        raise ValueError(f"{who}: a shape is a tuple or list of integers and None. Got {shape!r}.") from None
    if any(type(size) is int and size < 0 for size in sizes):
        raise ValueError(f"{who}: sizes are at least 0, or None. Got {shape!r}.")
    return sizes


def _size(size: Any) -> Any:
    # JAX's symbols, where shapes are inferred within a call, stay what they are.
    return size if export.is_symbolic_dim(size) else operator.index(size)
