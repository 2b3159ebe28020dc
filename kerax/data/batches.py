"""Batches from elsewhere: generators, and anything that can be iterated over again for each epoch."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from kerax.data.arrays import is_leaf, to_arrays, weights_of_classes

Tree = Any


class BatchSource:
    """An iterable of batches `x`, `(x, y)` or `(x, y, sample_weight)`.

    Args:
        batches: A re-iterable, an iterator, a function that returns one, or an object with `__getitem__` and
            `__len__` (a `PyDataset`).
        class_weight: `{class index: weight}` or `None`.
        who: The method that was called, for messages.
    """

    def __init__(self, batches, class_weight: dict | None = None, who: str = "fit"):
        self.batches, self.class_weight, self.who = batches, class_weight, who
        self._first: list = []
        self._running: Iterator | None = None
        self.is_single_pass = hasattr(batches, "__next__")
        try:
            self.num_batches: int | None = len(batches)
        except TypeError:
            self.num_batches = None
        if self.num_batches == 0:
            raise ValueError(f"{who}: the data is empty: {batches!r} has no batches.")

    def _start(self) -> Iterator:
        if self.is_single_pass:
            return self.batches
        if hasattr(self.batches, "__iter__"):
            return iter(self.batches)
        if isinstance(self.batches, Callable):
            return iter(self.batches())
        return (self.batches[index] for index in range(len(self.batches)))

    def batch_spec(self) -> tuple:
        """Shapes and dtypes of the first batch, which is kept for the epoch that follows."""
        if not self._first:
            self._running = self._start()
            try:
                self._first = [self.convert(next(self._running))]
            except StopIteration:
                raise ValueError(f"{self.who}: the data is empty: {self.batches!r} gave no batch.") from None
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), self._first[0])

    def first_batch(self) -> tuple:
        """The first batch, which is kept for the epoch that follows."""
        self.batch_spec()
        return self._first[0]

    def epoch(self) -> Iterator[tuple]:
        """The batches of one epoch. A single-pass iterator goes on where the last epoch stopped."""
        running, self._running = self._running or self._start(), None
        first, self._first = self._first, []
        yield from first
        for batch in running:
            yield self.convert(batch)

    def convert(self, batch) -> tuple:
        """A batch as a tuple of array pytrees, class weights applied."""
        parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
        if len(parts) > 3:
            raise ValueError(f"{self.who}: a batch is x, (x, y) or (x, y, sample_weight). Got {len(parts)} parts.")
        names = ("x", "y", "sample_weight")
        parts = tuple(
            to_arrays(jax.tree.map(_as_numpy, part, is_leaf=is_leaf), self.who, name)
            for part, name in zip(parts, names, strict=False)
        )
        if self.class_weight is not None and len(parts) > 1:
            weight = weights_of_classes(parts[1], self.class_weight, parts[2] if len(parts) > 2 else None, self.who)
            parts = (parts[0], parts[1], weight)
        parts = jax.tree.map(_own, parts)
        return parts[:2] if len(parts) == 3 and parts[2] is None else parts

    def on_epoch_end(self):
        """Tells a `PyDataset` that an epoch is over, so that it can reshuffle."""
        hook = getattr(self.batches, "on_epoch_end", None)
        if callable(hook):
            hook()


def _as_numpy(leaf):
    """Tensors of other libraries as NumPy arrays, without importing those libraries."""
    if isinstance(leaf, (np.ndarray, jax.Array)) or not hasattr(leaf, "__array__") or hasattr(leaf, "to_numpy"):
        return leaf
    return np.asarray(leaf)


def _own(leaf):
    """A batch that its maker may overwrite: XLA's CPU backend goes on reading from memory aligned to 64 bytes."""
    return leaf.copy() if isinstance(leaf, np.ndarray) and leaf.ctypes.data % 64 == 0 else leaf
