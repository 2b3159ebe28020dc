"""How batches get to programs: blocks of a fixed number of batches, whatever the length of the data.

A block is a pytree of arrays `(batches, rows, ...)`; the program takes one batch after the other out of it. So a
program knows the form of a batch only, and data of any length uses the same ones. On CPU the host gathers a block's
rows into memory that programs read in place, while the device computes those before: `fit` of an MLP takes 0.92 of the
time of gathering them in the program, of a tiny one 0.6, for the block stays in the cache. On an accelerator the rows
lie on the device, if they fit, and a small program gathers them there.
"""

import functools
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from kerax import config
from kerax.core import placement
from kerax.data import shares
from kerax.data.source import BatchSpec, Chunk, Order, Pass, Source

Tree = Any
BLOCK_BYTES = 4 * 2**20
"""Of a block: it is copied and read within the cache."""
MOST_BATCHES = 64
GROUP = 8
"""Batches of a block that is not full, or not all wanted, that are done at once where that is faster."""
LEAST_GROUPED = 32
"""Fewer are not worth a program of their own: it compiles in the time of hundreds of them."""


class Piece(NamedTuple):
    """Work for one dispatch: `num_batches` batches of a block, from `start` on.

    Attributes:
        spec: Of a batch.
        block: The batches, or where there is room for one only, that batch.
        room: Batches in the block, those that are not filled included.
        num_rows: Rows from `start` on that count.
        left: Batches from `start` on that there are in the block, and in the epoch.
        position: In the data, after these batches.
        is_steady: Whether the block follows from the data alone, not from how quickly it comes.
    """

    spec: BatchSpec
    block: Tree
    room: int
    start: int
    num_batches: int
    num_rows: int
    left: int
    position: dict
    is_steady: bool

    @property
    def is_whole(self) -> bool:
        """Whether it is a whole block of full batches, and would be so again."""
        return self.is_steady and self.num_batches == self.room and self.num_rows >= self.room * self.spec.num_rows

    @property
    def is_in_groups(self) -> bool:
        """Whether it is groups of full batches, and would be so again."""
        count = self.num_batches
        is_full = self.num_rows >= count * self.spec.num_rows
        return self.is_steady and is_full and count >= LEAST_GROUPED and count % GROUP == 0

    def batches(self) -> Iterator[tuple[Tree, int]]:
        """Each batch, and how many of its rows count."""
        size = self.spec.num_rows
        for done in range(self.num_batches):
            batch = jax.tree.map(lambda leaf, place=self.start + done: leaf[place], self.block)
            yield (self.block if self.room == 1 else batch), min(self.num_rows - done * size, size)


def single(batch: Tree, spec: BatchSpec | None = None, who: str = "predict_on_batch") -> Piece:
    """One batch from elsewhere as a piece of work; its form, if it is known already. Each process gives its share."""
    block, spec = shares.place(batch, BatchSpec(batch) if spec is None else spec, who)
    return Piece(spec, block, 1, 0, 1, spec.num_rows, 1, {}, False)


def room_for(spec: BatchSpec, scale: int = 1) -> int:
    """Batches in a block: as many as fit into 4 MB, at most 64; of larger ones up to 8, if these fit into 32 MB.

    XLA's CPU backend maps a step's temporary memory anew at each dispatch, which several steps then share.

    Args:
        scale: How many times as large a block may be: 2 where it is done at once, for larger products take less time.
    """
    if not spec.has_rows:
        return 1
    size = max(spec.row_bytes * spec.num_rows, 1)
    return max(1, min(scale * MOST_BATCHES, scale * BLOCK_BYTES // size), min(8, 8 * BLOCK_BYTES // size))


class Feed:
    """The batches of a source in pieces, pass after pass.

    Args:
        source: Where they come from.
        room: Batches that a block of the full form has.
        fills_up: Whether a last, smaller batch is filled up with copies of its last row.
        in_place: Whether blocks may be parts of the rows themselves: nobody changes them meanwhile.
        begin_pass: Function that numbers and orders the next pass: (number, seed of its order).
        limit: Batches that are used at most until `rewind`.
        does_groups: Whether what is left of a block is cut after its groups of full batches.
    """

    def __init__(
        self,
        source: Source,
        room: int,
        fills_up: bool = False,
        in_place: bool = False,
        begin_pass: Callable[[], tuple[int, Order]] = lambda: (0, None),
        limit: int | None = None,
        does_groups: bool = False,
    ):
        self.source, self.room, self.fills_up, self.in_place = source, room, fills_up, in_place
        self._full = source.spec(fills_up)
        self._begin_pass, self._limit, self._left, self._does_groups = begin_pass, limit, limit, does_groups
        self._buffers: dict[BatchSpec, Any] = {}
        self._pass: Pass | None = None
        self._number, self._resumes_at = 0, None
        self._piece: Piece | None = None  # what is left of a block
        self._chunk: Chunk | None = None

    def pieces(self, steps: int | None, done: int, most: Callable[[int], int]) -> Iterator[Piece]:
        """The pieces of an epoch from batch `done` on.

        Args:
            steps: Batches of the epoch, which goes on where the last one stopped, and ends early where a pass does, as
                in Keras; `None`: a pass is an epoch.
            most: Function of a batch's number: how many may be done at once from there.
        """
        # Nothing left of the last epoch's pass: the next begins; one that is empty ends the epoch.
        while steps is None or done < steps:
            is_new = self._pass is None and self._open()
            piece = self.take(most(done) if steps is None else min(most(done), steps - done))
            if piece is not None:
                if steps is not None and piece.left > steps - done:
                    piece = piece._replace(left=steps - done)
                done += piece.num_batches
                yield piece
            elif is_new or self.source.is_single_pass or done:
                return

    def _open(self) -> bool:
        """Begins a pass, or goes on in one. Returns whether it is from the start."""
        self._number, order = self._begin_pass()
        # Only the first pass goes on in the midst; the next ones begin at their start.
        position, self._resumes_at = self._resumes_at, None
        self._pass = self.source.begin(order, position, self.fills_up, self._left)
        return position is None

    def take(self, most: int) -> Piece | None:
        """Up to `most` batches of the pass, `None` at its end."""
        if self._piece is None or self._chunk is None:
            chunk = None if self._pass is None else self._pass.take(most, self.room)
            if chunk is None:
                self._end_pass()
                return None
            if self._left is not None:
                self._left -= chunk.num_batches
            # More than was asked for may lie in a block: the rest is handed out without gathering again.
            self._chunk, self._piece = chunk, self._placed(chunk)
        rest = self._piece
        count = min(most, rest.left)
        if self._does_groups and LEAST_GROUPED <= count < rest.room:
            # Rows that do not count are in the last batch alone.
            count = min(count, rest.num_rows // rest.spec.num_rows) // GROUP * GROUP
        after = rest.start + count
        self._piece = None
        if count < rest.left:
            num_rows = rest.num_rows - count * rest.spec.num_rows
            self._piece = rest._replace(start=after, num_rows=num_rows, left=rest.left - count)
        position = {"pass": self._number} | self._chunk.position(after)
        return rest._replace(num_batches=count, position=position)

    def _placed(self, chunk: Chunk) -> Piece:
        is_steady = self.source.rows is not None
        buffers = self._buffers.get(chunk.spec)
        if buffers is None:
            room = self.room if chunk.spec == self._full else 1
            buffers = self._buffers[chunk.spec] = _make_buffers(chunk.spec, room, self.source.rows, self.in_place)
            if len(self._buffers) == MANY_FORMS:
                _warn_of_many_forms(self._buffers)
        block, spec, num_rows = chunk.place(buffers), chunk.spec, chunk.num_rows
        return Piece(spec, block, buffers.room, 0, 0, num_rows, chunk.num_batches, {}, is_steady)

    def resume_at(self, position: dict | None):
        """Makes the first pass begin at a piece's position."""
        self._resumes_at = position

    def _end_pass(self):
        if self._pass is not None:
            self._pass.close()
            self._pass = None

    def rewind(self):
        """Goes back to the start, for another pass."""
        self._end_pass()
        self._piece = self._chunk = None
        self._left = self._limit

    def close(self, results: Tree):
        """Stops drawing ahead, and keeps the buffers' memory for feeds that are made later.

        Args:
            results: What was computed last from the blocks; it is waited for.
        """
        self.rewind()
        for buffers in self._buffers.values():
            buffers.recycle(results)
        self._buffers = {}


MANY_FORMS = 8  # of batches in one run


def _warn_of_many_forms(specs) -> None:
    shapes = [jax.tree.leaves(spec.arrays)[0].shape for spec in specs]
    warnings.warn(
        f"Batches of {len(shapes)} forms so far, each with a program that was compiled: {', '.join(map(str, shapes))}. "
        "Fill them up to a few lengths with `kerax.utils.pad_to_buckets(data)`, or make batches of one shape.",
        stacklevel=2,
    )


def block_spec(spec: BatchSpec, room: int) -> Tree:
    """Shapes, dtypes and places of blocks, to compile a program before there is one."""

    def placed(leaf):
        shape = leaf.shape if room == 1 else (room, *leaf.shape)
        if placement.active() is None:
            return jax.ShapeDtypeStruct(shape, leaf.dtype)
        sharding = placement.active().batch_sharding(shape, 0 if room == 1 else 1)
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(placed, spec.arrays)


def _make_buffers(spec: BatchSpec, room: int, rows: Tree, in_place: bool):
    if rows is None:
        if room == 1:
            return Single(spec)
        return HostBuffers(spec, room) if placement.active() is None else SpreadBuffers(spec, room, None)
    # On CPU the host's memory is the device's: a copy of all rows would only cost.
    if (placement.active() is not None or jax.default_backend() != "cpu") and _fit_on_device(rows):
        return DeviceBuffers(spec, room, rows)
    return HostBuffers(spec, room, rows, in_place) if placement.active() is None else SpreadBuffers(spec, room, rows)


def _fit_on_device(rows: Tree) -> bool:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(rows) if isinstance(leaf, np.ndarray)) <= config.resident_bytes()


class Single:
    """Batches of a source that are taken one at a time, as they are."""

    room = 1

    def __init__(self, spec: BatchSpec):
        self.spec = spec

    def join(self, batches: list[Tree]) -> Tree:
        """The only batch, or this process's share of it."""
        (batch,) = batches
        return placement.place_batch(_filled_up(batch, self.spec) if placement.num_shares() == 1 else batch)

    def join_whole(self, batch: Tree) -> Tree:
        """The only batch, of which every process has all rows."""
        return placement.place_batch(_filled_up(batch, self.spec), is_whole=True)

    def recycle(self, results: Tree):
        """Nothing to keep."""


def _filled_up(batch: Tree, spec: BatchSpec) -> Tree:
    """A batch with copies of its last row, so that it has as many as the form says."""

    def fill(leaf, like):
        if leaf.shape == like.shape:
            return leaf
        return np.concatenate([leaf, np.repeat(leaf[-1:], len(like) - len(leaf), axis=0)])

    sizes = jax.tree.map(lambda leaf: np.empty(leaf.shape, np.bool_), spec.arrays)
    return jax.tree.map(fill, batch, sizes)


class HostBuffers:
    """Blocks in the host's memory, of which three are used in turn.

    Three are enough: the loop waits for the dispatch before the last before it asks for the next.

    Args:
        spec: Of a batch.
        room: Batches in a block.
        rows: The arrays that `gather` takes rows of.
        in_place: Whether whole blocks are parts of the rows, which a program copies itself if they do not lie on a
            multiple of 64 bytes: `evaluate` of 600 batches takes 0.91 of the time of copying them here.
    """

    def __init__(self, spec: BatchSpec, room: int, rows: Tree = None, in_place: bool = False):
        self.room, self.spec, self._in_place = room, spec, in_place
        self._rows = jax.tree.map(np.asarray, rows)
        self._memory: list[np.ndarray] = []
        self._turns: list[Tree] = []  # made as they are needed: a short run needs one
        self._turn = -1

    def gather(self, rows: slice | np.ndarray) -> Tree:
        """The block of rows by number, or from one number up to another."""
        if isinstance(rows, slice):
            # Others lack rows to fill the block up, for which there is room in a buffer only.
            is_whole = rows.stop - rows.start == self.room * self.spec.num_rows
            if self._in_place and is_whole:
                return self._stacked(jax.tree.map(lambda leaf: leaf[rows], self._rows))
        buffer = self._next()

        def copy(leaf, out):
            if isinstance(rows, slice):
                count = rows.stop - rows.start
                np.copyto(out[:count], leaf[rows])
            else:
                count = len(rows)
                # Indices are in range; any other mode makes NumPy gather into a buffer of its own first.
                np.take(leaf, rows, axis=0, out=out[:count], mode="clip")
            _fill_up(out, count, self.spec.num_rows)

        jax.tree.map(copy, self._rows, buffer)
        return self._stacked(buffer)

    def join(self, batches: list[Tree]) -> Tree:
        """The block of batches side by side."""
        buffer, size = self._next(), self.spec.num_rows
        for index, batch in enumerate(batches):

            def copy(out, leaf, at=index * size):
                np.copyto(out[at : at + len(leaf)], leaf)
                _fill_up(out, at + len(leaf), size)

            jax.tree.map(copy, buffer, batch)
        return self._stacked(buffer)

    def _stacked(self, buffer: Tree) -> Tree:
        if self.room == 1:
            return buffer
        return jax.tree.map(lambda leaf: leaf.reshape(self.room, self.spec.num_rows, *leaf.shape[1:]), buffer)

    def _next(self) -> Tree:
        self._turn = (self._turn + 1) % 3
        if self._turn == len(self._turns):
            total = self.room * self.spec.num_rows
            arrays = self.spec.arrays
            self._turns.append(
                jax.tree.map(lambda leaf: self._allocate((total, *leaf.shape[1:]), np.dtype(leaf.dtype)), arrays)
            )
        return self._turns[self._turn]

    def _allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array that XLA's CPU backend reads where it lies, in memory of feeds before this one if there is some."""
        size = math.prod(shape) * dtype.itemsize
        with _spare_lock:
            # The smallest that suffices, so that a large one stays for who needs it.
            fitting = [index for index, memory in enumerate(_spare) if memory.nbytes >= size + 64]
            smallest = min(fitting, key=lambda index: _spare[index].nbytes, default=None)
            memory = np.empty(size + 64, np.uint8) if smallest is None else _spare.pop(smallest)
        self._memory.append(memory)
        return placement.aligned_view(memory, shape, dtype)

    def recycle(self, results: Tree):
        """Hands the memory on, once `results`, computed from it, are there. Nobody may use this object any more."""
        try:
            jax.block_until_ready(results)
        except Exception:  # a failed computation was or will be reported by whoever reads it
            return
        with _spare_lock:
            _spare.extend(memory for memory in self._memory if memory.nbytes <= 2 * BLOCK_BYTES + 64)
            del _spare[:-8]
        self._memory, self._turns = [], []


_spare: list[np.ndarray] = []  # memory of buffers, 64 MB at most: touching fresh pages costs 30 times a copy
_spare_lock = threading.Lock()


def _fill_up(out: np.ndarray, count: int, size: int):
    """Copies row `count - 1` into those after it, up to a multiple of `size` rows."""
    stop = -(-count // size) * size
    out[count:stop] = out[count - 1 : count]


class DeviceBuffers:
    """Blocks that a program gathers from rows on the device, of a distribution on each of its devices."""

    def __init__(self, spec: BatchSpec, room: int, rows: Tree):
        self.room, self.spec = room, spec
        self._rows = placement.place(rows)

    def gather(self, rows: slice | np.ndarray) -> Tree:
        """The block of rows by number, or from one number up to another."""
        return _take(self._rows, _table(rows, self.room, self.spec.num_rows), placement.active())

    def recycle(self, results: Tree):
        """Lets go of the rows, of which nothing is computed any more."""
        self._rows = None


def _table(rows: slice | np.ndarray, room: int, size: int) -> np.ndarray:
    """Row numbers `(batches, rows)` of a whole block; the last number fills it up."""
    numbers = np.arange(rows.start, rows.stop, dtype=np.int32) if isinstance(rows, slice) else rows
    # int32: a device without 64-bit integers would convert at each gather.
    filled = np.concatenate([numbers, np.full(room * size - len(numbers), numbers[-1], np.int32)])
    return filled if room == 1 else filled.reshape(room, size)


@functools.partial(jax.jit, static_argnums=2)
def _take(rows: Tree, table, distribution) -> Tree:
    """Rows of arrays on the device. One small program for each length of data."""

    def take(leaf):
        taken = leaf.at[table].get(mode="promise_in_bounds")
        if distribution is None:
            return taken
        return jax.lax.with_sharding_constraint(taken, distribution.batch_sharding(taken.shape, table.ndim - 1))

    return jax.tree.map(take, rows)


class SpreadBuffers:
    """Blocks on the devices of the active distribution. Each process gathers the rows of its own devices only."""

    def __init__(self, spec: BatchSpec, room: int, rows: Tree):
        self.room, self.spec = room, spec
        self._rows = jax.tree.map(np.asarray, rows)

    def gather(self, rows: slice | np.ndarray) -> Tree:
        """The block of rows by number, or from one number up to another; every process has them whole."""
        table = _table(rows, self.room, self.spec.num_rows)
        axis = table.ndim - 1

        def place(leaf):
            shape = (*table.shape, *leaf.shape[1:])
            sharding = placement.active().batch_sharding(shape, axis)

            # Called for each of this process's devices with the slice that lies there.
            def rows_at(index: Any):
                return leaf[table[index[: axis + 1]]][(..., *index[axis + 1 :])]

            return jax.make_array_from_callback(shape, sharding, rows_at)

        return jax.tree.map(place, self._rows)

    def join(self, batches: list[Tree]) -> Tree:
        """The block of batches, of which each process has a share."""
        alone = placement.num_shares() == 1
        batches = [_filled_up(batch, self.spec) if alone else batch for batch in batches]
        filled = [*batches, *[batches[-1]] * (self.room - len(batches))]

        def place(*parts):
            stacked = np.stack(parts)
            shape = (self.room, *placement.active().global_shape(stacked.shape[1:]))
            sharding = placement.active().batch_sharding(shape, 1)
            return jax.make_array_from_process_local_data(sharding, stacked, shape)

        return jax.tree.map(place, *filled)

    def join_whole(self, batch: Tree) -> Tree:
        """The block of one batch, of which every process has all rows."""

        def place(leaf):
            block = np.broadcast_to(leaf, (self.room, *leaf.shape))
            return placement.put(block, placement.active().batch_sharding(block.shape, 1))

        return jax.tree.map(place, _filled_up(batch, self.spec))

    def recycle(self, results: Tree):
        """Nothing to keep."""
