"""Data sets that programs read whole: on the device, or on CPU in the host's memory where they lie."""

import mmap
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kerax import config
from kerax.core import placement

Tree = Any
_COPIED = 2**20
"""Bytes of arrays that are rather copied, in 0.1 ms: programs that read shifted rows take 60 ms longer to compile."""
_ROWS = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(), start_index_map=(0,))


class ShiftedRows(NamedTuple):
    """Rows of a NumPy array, which XLA's CPU backend would copy whole if it does not begin at a multiple of 64 bytes.

    What lies from the first such multiple on can be read in place as numbers in a line, in which rows begin `offset`
    numbers earlier. A row is gathered from there as quickly as from a table (9 us for 32 rows of 784).

    Attributes:
        numbers: As many as all rows but one have; a part of the array.
        edges: The first and the last row, of which `numbers` may lack some.
        offset: Numbers of the first row before `numbers`.
    """

    numbers: Any
    edges: Any
    offset: Any

    @classmethod
    def of(cls, array: np.ndarray) -> "ShiftedRows":
        """The rows of an array in C order, of which each has 64 bytes or more."""
        flat = array.reshape(-1)
        offset = -flat.ctypes.data % 64 // flat.itemsize
        return cls(flat[offset : offset + flat.size - flat.size // len(array)], array[[0, -1]], np.int32(offset))

    def take(self, rows):
        """The rows of these numbers."""
        first, last = (edge.reshape(-1) for edge in self.edges)
        starts = rows * first.size - self.offset
        inner = lax.gather(self.numbers, starts[:, None], _ROWS, (first.size,), mode="clip")
        is_first, is_last = (rows == 0)[:, None], (rows == self.numbers.size // first.size)[:, None]
        taken = jnp.where(is_first, first, jnp.where(is_last, last, inner))
        return taken.reshape(len(rows), *self.edges.shape[1:])

    def slice(self, start, count: int):
        """`count` rows from `start` on: those between the first and the last row lie side by side in `numbers`."""
        row_size = self.edges[0].size

        def copy():
            return lax.dynamic_slice(self.numbers, (start * row_size - self.offset,), (count * row_size,))

        def gather():
            return self.take(start + jnp.arange(count)).reshape(-1)

        num_rows = self.numbers.size // row_size + 1
        if count >= num_rows:
            return self.take(jnp.arange(count))
        is_inner = (start > 0) & (start + count < num_rows)
        return lax.cond(is_inner, copy, gather).reshape(count, *self.edges.shape[1:])


def fits_on_device(data: Tree) -> bool:
    """Whether programs can read arrays whole: what is to be copied for that is at most `config.resident_bytes`."""
    leaves, limit = [leaf for leaf in jax.tree.leaves(data) if not isinstance(leaf, jax.Array)], config.resident_bytes()
    in_place = limit > 0 and placement.reads_host_memory()
    return sum(leaf.nbytes for leaf in leaves if not in_place or not lies_well(leaf)) <= limit


def lies_well(data: Tree) -> bool:
    """Whether XLA's CPU backend reads arrays where they lie."""
    return all(
        not isinstance(leaf, ShiftedRows) and placement.is_aligned(leaf) and not _is_on_disk(leaf)
        for leaf in jax.tree.leaves(data, is_leaf=_is_shifted)
    )


def _is_on_disk(array) -> bool:
    """Whether an array is part of a memory-mapped file, which the host reads ahead of the program instead."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def has_readable_rows(data: Tree) -> bool:
    """As `fits_on_device`, for programs that read by `take_rows`."""
    return fits_on_device([leaf for leaf in jax.tree.leaves(data) if not _needs_no_copy(leaf)])


def _needs_no_copy(array) -> bool:
    return config.resident_bytes() > 0 and _is_shifted_when_placed(array) and _lies_in_line(array)


def _lies_in_line(array) -> bool:
    return array.flags.c_contiguous and array.flags.aligned and not _is_on_disk(array)


def _is_shifted_when_placed(array) -> bool:
    """Whether an array is read as `ShiftedRows`, wherever it begins: that must not decide between two programs, whose
    results could differ in the last bit from one process to the next."""
    return (
        isinstance(array, np.ndarray)
        and placement.reads_host_memory()
        and array.nbytes > _COPIED
        and 1 < len(array) < array.size // (64 // array.itemsize) + 1
        and array.size < 2**31
    )


def place_rows(data: Tree) -> Tree:
    """Arrays where programs read them by `take_rows`."""

    def place(leaf):
        if not _is_shifted_when_placed(leaf):
            return placement.place(leaf)
        rows = ShiftedRows.of(leaf if _lies_in_line(leaf) else np.array(leaf, order="C"))
        return rows._replace(edges=placement.aligned(rows.edges))

    return jax.tree.map(place, data)


def slice_rows(data: Tree, start, count: int) -> Tree:
    """`count` rows of traced arrays from `start` on, from what `place_rows` returned."""

    def take(leaf):
        if isinstance(leaf, ShiftedRows):
            return leaf.slice(start, count)
        return leaf if len(leaf) == count else lax.dynamic_slice_in_dim(leaf, start, count)

    return jax.tree.map(take, data, is_leaf=_is_shifted)


def _is_shifted(leaf) -> bool:
    return isinstance(leaf, ShiftedRows)


def take_rows(data: Tree, rows) -> Tree:
    """Rows of traced arrays, from what `place_rows` returned."""

    def take(leaf):
        return leaf.take(rows) if isinstance(leaf, ShiftedRows) else leaf.at[rows].get(mode="promise_in_bounds")

    return jax.tree.map(take, data, is_leaf=_is_shifted)
