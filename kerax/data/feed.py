"""How rows and batches get to the device: whole data sets once, large ones in chunks, slow sources from a thread."""

import contextvars
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from kerax.core import placement

Tree = Any


def row_order(num_rows: int, seed: tuple[int, int] | None) -> np.ndarray:
    """Row numbers of one pass over the data, int32: shuffled by (seed, pass), in order for `None`."""
    if seed is None:
        return np.arange(num_rows, dtype=np.int32)
    return np.random.Generator(np.random.Philox(key=seed)).permutation(num_rows).astype(np.int32)


class HostFeed:
    """Puts batches into a few host buffers that are used in turn, several batches per buffer.

    Three buffers are enough: the loop waits for the dispatch before the last before it asks for the next.

    Args:
        batch: A batch, or its shapes and dtypes: a pytree whose leaves have `rows` rows.
        rows: Rows per batch.
        capacity: Batches per buffer. Default: `batches_per_chunk`.
    """

    chunk_bytes = 4 * 2**20

    def __init__(self, batch: Tree, rows: int, capacity: int | None = None):
        self.capacity = self.batches_per_chunk(batch, rows) if capacity is None else capacity
        self.rows = self.capacity * rows
        self._memory: list[np.ndarray] = []
        self._buffers = [
            jax.tree.map(lambda leaf: self._allocate((self.rows, *leaf.shape[1:]), np.dtype(leaf.dtype)), batch)
            for _ in range(3)
        ]
        self._tables: dict[int, jax.Array] = {}
        self._turn = 0

    @classmethod
    def batches_per_chunk(cls, batch: Tree, rows: int) -> int:
        """How many batches lie in a buffer: at most 64 or 4 MB, at least one."""
        row_bytes = sum(np.dtype(leaf.dtype).itemsize * int(np.prod(leaf.shape[1:])) for leaf in jax.tree.leaves(batch))
        return max(1, min(64, cls.chunk_bytes // max(row_bytes * rows, 1)))

    def gather(self, data: Tree, table: np.ndarray) -> tuple[Tree, jax.Array]:
        """The rows of `data` that a table (steps, rows per step) names, and the table of where they lie now."""
        buffer, rows = self._next(), table.reshape(-1)
        jax.tree.map(lambda leaf, out: np.take(leaf, rows, axis=0, out=out[: len(rows)], mode="clip"), data, buffer)
        return buffer, self._table(table.shape[1])

    def copy(self, data: Tree, start: int, stop: int) -> Tree:
        """Rows `start` to `stop` of `data`, at the beginning of a buffer."""
        buffer = self._next()
        jax.tree.map(lambda leaf, out: np.copyto(out[: stop - start], leaf[start:stop]), data, buffer)
        return buffer

    def join(self, batches: list[Tree]) -> tuple[Tree, jax.Array]:
        """Batches of one form side by side, and the table of their rows."""
        buffer, size = self._next(), self.rows // self.capacity
        for index, batch in enumerate(batches):
            jax.tree.map(lambda out, leaf, at=index * size: np.copyto(out[at : at + size], leaf), buffer, batch)
        return buffer, self._table(size)

    def recycle(self, results: Tree = ()):
        """Hands the memory to feeds that are made later. This one must not be used any more.

        Args:
            results: What was computed last from these buffers; it is waited for.
        """
        try:
            jax.block_until_ready(results)
        except Exception:  # a failed computation was or will be reported by whoever reads it
            return
        with _spare_lock:
            _spare.extend(memory for memory in self._memory if memory.nbytes <= self.chunk_bytes + 64)
            del _spare[:-8]
        self._memory, self._buffers = [], []

    def _allocate(self, shape: tuple[int, ...], dtype) -> np.ndarray:
        """An array that XLA's CPU backend reads where it lies, in memory of feeds before this one if there is some."""
        size = int(np.prod(shape)) * dtype.itemsize
        with _spare_lock:
            fitting = [index for index, memory in enumerate(_spare) if memory.nbytes >= size + 64]
            smallest = min(fitting, key=lambda index: _spare[index].nbytes, default=None)
            memory = np.empty(size + 64, np.uint8) if smallest is None else _spare.pop(smallest)
        self._memory.append(memory)
        return placement.aligned_view(memory, shape, dtype)

    def _next(self) -> Tree:
        self._turn = (self._turn + 1) % 3
        return self._buffers[self._turn]

    def _table(self, size: int) -> jax.Array:
        if size not in self._tables:
            steps = self.rows // size
            self._tables[size] = jax.device_put(np.arange(steps * size, dtype=np.int32).reshape(steps, size))
        return self._tables[size]


class SpreadFeed:
    """Puts batches on the devices of the active distribution, several at a time, stacked on a first axis.

    Each process gathers the rows of its own devices only. The table of stacked batches is `()`.

    Args:
        batch: A batch, or its shapes and dtypes.
        rows: Rows per batch.
    """

    def __init__(self, batch: Tree, rows: int):
        self.capacity = HostFeed.batches_per_chunk(batch, rows)

    def gather(self, data: Tree, table: np.ndarray) -> tuple[Tree, tuple]:
        """The rows of `data`, which every process has whole, that a table (steps, rows per step) names."""
        return jax.tree.map(lambda leaf: self._gather(leaf, table), data), ()

    def _gather(self, leaf: np.ndarray, table: np.ndarray):
        shape = (self.capacity, table.shape[1], *leaf.shape[1:])

        def rows_of(index):
            chosen = table[:, index[1]]
            out = np.empty((self.capacity, *chosen.shape[1:], *leaf.shape[1:]), leaf.dtype)
            np.take(leaf, chosen, axis=0, out=out[: len(chosen)], mode="clip")
            return out[(slice(None), slice(None), *index[2:])]

        return jax.make_array_from_callback(shape, placement.active().batch_sharding(shape, 1), rows_of)

    def join(self, batches: list[Tree]) -> tuple[Tree, tuple]:
        """Batches of one form, each process's share of them."""
        filled = [*batches, *[batches[-1]] * (self.capacity - len(batches))]

        def place(*parts):
            stacked = np.stack(parts)
            shape = (self.capacity, *placement.active().global_shape(stacked.shape[1:]))
            sharding = placement.active().batch_sharding(shape, 1)
            return jax.make_array_from_process_local_data(sharding, stacked, shape)

        return jax.tree.map(place, *filled), ()

    def recycle(self, results: Tree = ()):
        """Nothing to keep."""


def open_feed(batch: Tree, rows: int) -> HostFeed | SpreadFeed:
    """The feed for batches of this form: spread over the devices if a distribution is active."""
    return HostFeed(batch, rows) if placement.active() is None else SpreadFeed(batch, rows)


_spare: list[np.ndarray] = []  # memory of buffers, 32 MB at most: touching fresh pages costs 30 times a copy
_spare_lock = threading.Lock()


class Prefetch:
    """Draws from an iterator in a thread of its own, a few items ahead of whoever takes them.

    An exception of the iterator is raised where its item would have been taken. To be closed by `with`.

    Args:
        items: The iterator.
        limit: Number of items to draw at most, so that nothing is lost of an iterator that others go on with.
        ahead: Number of items to hold at most.
        ahead_bytes: Bytes of arrays to hold at most, beside one item.
    """

    def __init__(self, items: Iterator, limit: int | None = None, ahead: int = 64, ahead_bytes: int = 64 * 2**20):
        self._items, self._limit, self._ahead, self._ahead_bytes = items, limit, ahead, ahead_bytes
        self._ready: deque = deque()
        self._bytes = 0
        self._error: BaseException | None = None
        self._is_done = self._is_closed = False
        self._changed = threading.Condition()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._draw,), name="kerax prefetch", daemon=True)
        self._thread.start()

    def _draw(self):
        drawn = 0
        try:
            while self._limit is None or drawn < self._limit:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed or self._has_room())
                    if self._is_closed:
                        return
                item = next(self._items)
                drawn += 1
                with self._changed:
                    self._ready.append(item)
                    self._bytes += _num_bytes(item)
                    self._changed.notify_all()
        except StopIteration:
            pass
        except BaseException as error:  # handed to whoever takes the next item
            self._error = error
        finally:
            with self._changed:
                self._is_done = True
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return not self._ready or (len(self._ready) < self._ahead and self._bytes < self._ahead_bytes)

    def take(self, count: int, like=None, as_many=False) -> list:
        """Up to `count` items in order: those that are ready, at least one; none at the end.

        Args:
            like: Function of two items; only items that are like the first are taken with it.
            as_many: Whether to wait until `count` are ready: then it does not depend on time what is taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_done or len(self._ready) >= (count if as_many else 1))
            if not self._ready and self._error is not None:
                error, self._error = self._error, None
                raise error
            taken: list = []
            while self._ready and len(taken) < count and (not taken or like is None or like(taken[0], self._ready[0])):
                taken.append(self._ready.popleft())
                self._bytes -= _num_bytes(taken[-1])
            self._changed.notify_all()
        return taken

    def close(self):
        """Stops drawing; an item that is being made is waited for, so that the iterator can be used again."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *_):
        self.close()


def _num_bytes(item: Tree) -> int:
    return sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(item))
