"""What every source of batches gives: a form, a length, and passes over its batches in chunks."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

Tree = Any
Order = tuple[int, int] | None
"""Seed of the order of a pass, (seed, number of the pass); `None`: as the batches lie or come."""


class BatchSpec:
    """Shapes and dtypes of a batch, to look up programs by.

    Args:
        batch: A batch, or its shapes and dtypes.
        num_rows: The size of the first axis of each array, if not that of `batch`.

    Attributes:
        num_rows: Size of the first axis; 1 for a batch without one.
        key: What distinguishes one form from another: structure, shapes and dtypes.
    """

    def __init__(self, batch: Tree, num_rows: int | None = None):
        leaves, treedef = jax.tree.flatten(batch)
        self.num_rows = num_rows or (leaves[0].shape[0] if leaves and leaves[0].shape else 1)
        shapes = [leaf.shape if num_rows is None else (num_rows, *leaf.shape[1:]) for leaf in leaves]
        self.key = treedef, tuple([(shape, np.dtype(leaf.dtype)) for shape, leaf in zip(shapes, leaves, strict=True)])
        self._hash = hash(self.key)  # once: programs are looked up by it at every dispatch

    def __eq__(self, other):
        # Most comparisons are with itself.
        return self is other or (isinstance(other, BatchSpec) and self.key == other.key)

    def __hash__(self):
        return self._hash

    @functools.cached_property
    def arrays(self) -> Tree:
        """A pytree of `jax.ShapeDtypeStruct`."""
        treedef, leaves = self.key
        return jax.tree.unflatten(treedef, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of the batch."""
        leaves = jax.tree.leaves(self.arrays)
        return sum(np.dtype(leaf.dtype).itemsize * int(np.prod(leaf.shape[1:])) for leaf in leaves)

    def fits_into(self, other: "BatchSpec") -> bool:
        """Whether the two differ in the number of rows at most."""
        pairs = zip(jax.tree.leaves(self.arrays), jax.tree.leaves(other.arrays), strict=True)
        return all((one.shape[1:], one.dtype) == (two.shape[1:], two.dtype) for one, two in pairs)

    @property
    def has_rows(self) -> bool:
        """Whether all its arrays have a first axis of the same size."""
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(self.arrays)}
        return len(sizes) == 1 and sizes != {()}


class Chunk(NamedTuple):
    """Some batches of one form, one after the other, not yet anywhere.

    Attributes:
        spec: Of each batch.
        num_batches: How many there are.
        num_rows: Rows of them all together that count; a last batch that is filled up has others after them.
        place: Function of buffers that puts them there, by `gather`, `join` or `join_whole`, and returns the block.
        position: Function of a number of batches: the position in the pass after so many of them.
    """

    spec: BatchSpec
    num_batches: int
    num_rows: int
    place: Callable[[Any], Tree]
    position: Callable[[int], dict]


class Pass(Protocol):
    """One pass over a source."""

    def take(self, most: int, room: int) -> Chunk | None:
        """The next batches, `None` at the end.

        Args:
            most: Batches that are wanted at most.
            room: Batches that the buffers hold; who has them at hand may give that many, for later.
        """
        ...

    def close(self):
        """Ends the pass before its end."""
        ...


class Source(Protocol):
    """Batches `x`, `(x, y)` or `(x, y, sample_weight)`."""

    @property
    def rows(self) -> Tree:
        """The arrays with all the rows, where they can be read by number; else `None`."""
        ...

    @property
    def is_single_pass(self) -> bool:
        """Whether there is one pass only, which goes on where it stopped."""
        ...

    @property
    def num_batches(self) -> int | None:
        """Batches of a pass, the last, smaller one included, if known."""
        ...

    def spec(self, fills_up: bool) -> BatchSpec:
        """The form of full batches in a pass, see `begin`."""
        ...

    def rest_spec(self) -> BatchSpec | None:
        """The form of a last, smaller batch that nobody fills up, if it is known that there is one."""
        ...

    def sample(self) -> tuple:
        """What is at hand: all rows, or the first batch."""
        ...

    def description(self, steps_per_epoch: int | None) -> dict:
        """What a run that goes on must find again."""
        ...

    def split(self, fraction: float) -> "tuple[Source, Source]":
        """The first rows and the last `fraction` of them."""
        ...

    def with_class_weight(self, class_weight: dict | None) -> "Source":
        """The same rows, weighted by their classes too."""
        ...

    def head(self, num_batches: int) -> "Source":
        """The first batches."""
        ...

    def for_inference(self) -> "Source":
        """The same, with batches of a size that few programs are made for."""
        ...

    def begin(self, order: Order, position: dict | None, fills_up: bool, limit: int | None) -> Pass:
        """A pass from its start, or from the position that a chunk gave.

        Args:
            fills_up: Whether a last, smaller batch is filled up with copies of its last row.
            limit: Batches that will be used at most, so that no more are drawn of an iterator.
        """
        ...

    def on_epoch_end(self):
        """Notes that an epoch is over."""
        ...
