"""The work of an epoch in pieces: which rows or batches each dispatch gets, and the position in the data after it."""

import contextlib
import itertools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from kerax.core import placement
from kerax.data import ArraySource, BatchSource, resident
from kerax.data.feed import HostFeed, Prefetch, SpreadFeed, open_feed, row_order
from kerax.train import engine

Tree = Any


class Piece(NamedTuple):
    """Work for one visit of the loop: `count` steps of a program on its table of rows, or on one batch.

    `position` is that in the data after it, from which `set_position` goes on. From `start` on, `left` steps of this
    epoch are in the table.
    """

    program: engine.Program
    data: Tree
    table: Any
    start: int
    count: int
    position: dict
    left: int


def form_of(source: ArraySource | BatchSource, steps_per_epoch: int | None) -> dict:
    """What a run that goes on must find again."""
    if isinstance(source, ArraySource):
        return {"rows": source.num_rows, "batch_size": source.batch_size, "steps_per_epoch": steps_per_epoch}
    return {"batches": source.num_batches, "steps_per_epoch": steps_per_epoch}


class ArrayWork:
    """The pieces of training on arrays: whole passes over the rows, each in its own order.

    Arrays small enough lie on the device, and the program gathers its batches there; on CPU all that it can read where
    they are. Of others the host gathers a few batches at a time while the device computes on those before. Both give
    the same batches.
    """

    def __init__(self, model, variables, source: ArraySource, shuffle: bool):
        self.model, self.variables, self.source, self.shuffle = model, variables, source, shuffle
        self.seed = int(np.asarray(model.random_key.value)[1])
        self.size = min(source.batch_size, source.num_rows)
        self.program = self._program(self.size)
        if model.run_eagerly:
            self.feed, self.data = None, jax.device_put(source.data)
        elif resident.has_readable_rows(source.data):
            self.feed, self.data = None, resident.place_rows(source.data)
        else:
            self.feed, self.data = open_feed(source.data, self.size), jax.tree.map(np.asarray, source.data)
        self._rest: Iterator | None = None  # of a pass that an epoch of `steps_per_epoch` left unfinished
        self._done = 0  # batches of the running pass
        rows = np.zeros((max(1, source.num_rows // self.size), self.size), np.int32)
        data, table = (self.data, rows) if self.feed is None else self.feed.gather(self.data, rows[:1])
        # Behind what is done until the first step: initial weights, callbacks.
        self.program.compile_behind(tuple(jax.tree.leaves(variables)), data, table)

    def close(self, leaves: tuple):
        """Waits until nothing reads the rows any more, `leaves` are the last results, and keeps buffers for later."""
        self._rest = None  # it holds this object, and so the data until Python looks for cycles
        if self.feed is not None:
            self.feed.recycle(leaves)
        else:
            with contextlib.suppress(Exception):  # a failed computation is reported by whoever reads its results
                jax.block_until_ready(leaves)

    def _program(self, size: int) -> engine.Program:
        spec = jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), self.source.data)
        return engine.train_program(self.model, self.variables, spec)

    def set_position(self, position: dict | None, step: int):
        """Goes on at a piece's position."""
        if position is not None:
            self.model.passes = position["pass"]
            self._rest = self._pass(position["batch"])

    def _pass(self, done: int = 0) -> Iterator[tuple[np.ndarray, int]]:
        """The tables of one pass, (number of steps, rows per step), and the step in them to start from, after `done`
        batches: full ones, then the rest. A table is always whole: one of another length would be another program."""
        size, num_rows = self.source.batch_size, self.source.num_rows
        order = row_order(num_rows, (self.seed, self.model.passes) if self.shuffle else None)
        self.model.passes += 1
        self._done = done
        full = num_rows // size
        if full > done:
            yield order[: full * size].reshape(full, size), done
        if num_rows % size and done <= full:
            yield order[full * size :][None], 0

    def pieces(self, steps_per_epoch: int | None, pace: engine.Pace, callbacks, step: int) -> Iterator[Piece]:
        """An epoch's work from batch `step` on, cut where callbacks want to look and where the pace says."""
        first = step
        left = (self.source.num_batches if steps_per_epoch is None else steps_per_epoch) - step
        while left:
            piece = next(self._rest, None) if self._rest is not None else None
            if piece is None:
                self._rest = self._pass()
                continue
            table, start = piece
            program = self.program if table.shape[1] == self.size else self._program(table.shape[1])
            placed = placement.place(table) if self.feed is None else None
            num_pieces = 0
            while start < len(table) and left:
                num_pieces += 1
                if num_pieces == 8 and self.feed is None:  # 10 us less per dispatch than NumPy's arrays
                    self.data, placed = jax.device_put((self.data, placed))
                count = min(pace.steps(program), len(table) - start, left, callbacks.steps_until_look(step))
                if self.feed is not None:
                    count = min(count, self.feed.capacity)
                self._done += count
                position = {"pass": self.model.passes - 1, "batch": self._done}
                if self.feed is None:
                    yield Piece(program, self.data, placed, start, count, position, min(len(table) - start, left))
                else:
                    data, rows = self.feed.gather(self.data, table[start : start + count])
                    yield Piece(program, data, rows, 0, count, position, count)
                start, step, left = start + count, step + count, left - count
                if step == first + count and count < left:
                    self._compile_rest()
            if start < len(table):
                self._rest = itertools.chain([(table, start)], self._rest)

    def _compile_rest(self):
        """Compiles the program of the last, smaller batch of a pass, while the first steps are computed."""
        rest = self.source.num_rows % self.size
        if rest:
            if self.feed is None:
                data, table = self.data, np.zeros((1, rest), np.int32)
            else:
                data, table = self.feed.gather(self.data, np.zeros((1, rest), np.int32))
            self._program(rest).compile_behind(tuple(jax.tree.leaves(self.variables)), data, table)


class BatchWork:
    """The pieces of training on batches from elsewhere, which a thread draws ahead.

    Batches of the first one's form are put side by side in a buffer, as many as are ready, and done in one dispatch;
    one of another form, or too large for that, is dispatched alone by a program of its own.

    Args:
        limit: Number of batches that the whole run can use, or `None`.
    """

    def __init__(self, model, variables, source: BatchSource, shuffle: bool, limit: int | None):
        self.model, self.variables, self.source, self.shuffle = model, variables, source, shuffle
        self.seed = int(np.asarray(model.random_key.value)[1])
        spec = source.batch_spec()
        self._form = jax.tree.structure(spec)
        self.program = self._program(placement.global_spec(spec))
        self.feed = _feed_for(spec, source.first_batch()) if not model.run_eagerly else None
        self._first_key = _key(spec)
        self._programs = {self._first_key: self.program}
        self._limit, self._prefetch = limit, None
        self._goes_on = False  # whether the next pass is the rest of one

    def close(self, leaves: tuple):
        """Stops drawing ahead; keeps the buffers as `ArrayWork.close` does."""
        self._close_prefetch()
        if self.feed is not None:
            self.feed.recycle(leaves)

    def _close_prefetch(self):
        if self._prefetch is not None:
            self._prefetch.close()
            self._prefetch = None

    def _open(self):
        order = (self.seed, self.model.passes) if self.shuffle else None
        self.model.passes += 1
        self._goes_on = False
        self._prefetch = Prefetch(self.source.epoch(order), self._limit)

    def set_position(self, position: dict | None, step: int):
        """Goes on at a piece's position, or after `step` batches at the start of the pass that follows it."""
        if position is None:
            return
        self.model.passes = position["pass"]
        is_inside = step > 0 or position["goes_on"]
        if is_inside:
            self.source.set_state(position["source"])
            self._goes_on = True
        else:
            self.model.passes += 1

    def pieces(self, steps_per_epoch: int | None, pace: engine.Pace, callbacks, step: int) -> Iterator[Piece]:
        """An epoch's work from batch `step` on. With `steps_per_epoch` an epoch goes on where the last one stopped."""
        while steps_per_epoch is None or step < steps_per_epoch:
            is_new = self._prefetch is None and not self._goes_on
            if self._prefetch is None:
                self._open()
            wanted = min(
                pace.steps(self.program), callbacks.steps_until_look(step), self.feed.capacity if self.feed else 1
            )
            if steps_per_epoch is not None:
                wanted = min(wanted, steps_per_epoch - step)
            taken = self._prefetch.take(wanted, _are_alike, as_many=jax.process_count() > 1)
            if not taken:
                self._close_prefetch()
                if steps_per_epoch is None:
                    return
                if is_new or self.source.is_single_pass:
                    if step:
                        warnings.warn(f"fit: the data ran out after {step} of {steps_per_epoch} batches.", stacklevel=4)
                        self.model.stop_training = True
                    return
                continue
            if self._limit is not None:
                self._limit -= len(taken)
            self.source.consumed(taken[-1][1])
            position = {
                "pass": self.model.passes - 1,
                "goes_on": steps_per_epoch is not None or self.source.is_single_pass,
                "source": taken[-1][1],
            }
            yield self._piece([batch for batch, _ in taken], position)
            step += len(taken)

    def _piece(self, batches: list[tuple], position: dict) -> Piece:
        if jax.tree.structure(batches[0]) != self._form:
            raise ValueError(
                f"fit: every batch must have the structure of the first, {self._form}. "
                f"Got {jax.tree.structure(batches[0])}."
            )
        key = _key(batches[0])
        if key == self._first_key and self.feed is not None:
            data, table = self.feed.join(batches)
            return Piece(self.program, data, table, 0, len(batches), position, len(batches))
        batch = placement.place_batch(batches[0])
        if key not in self._programs:
            self._programs[key] = self._program(batch)
        return Piece(self._programs[key], batch, None, 0, 1, position, 1)

    def _program(self, batch: tuple) -> engine.Program:
        spec = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)
        return engine.train_program(self.model, self.variables, spec)


def _key(batch: tuple) -> tuple:
    return tuple((leaf.shape, np.dtype(leaf.dtype)) for leaf in jax.tree.leaves(batch))


def _are_alike(first: tuple, second: tuple) -> bool:
    """Whether two (batch, position) items have batches of one form."""
    return _key(first[0]) == _key(second[0]) and jax.tree.structure(first[0]) == jax.tree.structure(second[0])


def _feed_for(spec: tuple, batch: tuple) -> HostFeed | SpreadFeed | None:
    """Buffers for several batches, if they have rows, lie on the host and are small enough for it to pay."""
    leaves = jax.tree.leaves(spec)
    on_host = jax.default_backend() == "cpu" or not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch))
    if not leaves or not on_host or len({leaf.shape[:1] for leaf in leaves}) > 1 or not leaves[0].shape:
        return None
    feed = open_feed(spec, leaves[0].shape[0])
    return feed if feed.capacity > 1 else None
