"""Batches from elsewhere: generators, anything that can be iterated over again, data sets with an index.

What tells one library's source from another is in the readers: each gives the batches of one pass, and where its
source can, the position after the last one. No library is imported; sources are known by their methods.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from kerax.core import placement
from kerax.data import shares
from kerax.data.arrays import row_order, to_arrays, weights_of_classes
from kerax.data.prefetch import Prefetch
from kerax.data.py_dataset import PyDataset, batches_of
from kerax.data.rows import RowDataset
from kerax.data.source import BatchSpec, Chunk, Order, Pass

Tree = Any


class IterableReader:
    """A generator, a function that returns one, or a re-iterable: lists, `tf.data`, torch's and grain's loaders.

    Positions: of the iterator (`get_state`, as grain's have), or of the iterable itself (`state_dict`, as torchdata's
    `StatefulDataLoader` and Hugging Face's iterable data sets have). Without one the batches so far are counted, and
    skipped when the position is restored.
    """

    def __init__(self, batches):
        if hasattr(batches, "to_iter_dataset"):  # grain.MapDataset, whose plain iterator has no position
            batches = batches.to_iter_dataset()
        self.batches = batches
        self.is_single_pass = hasattr(batches, "__next__")
        self.num_batches = _length(batches)
        self._iterator: Any = None  # of whatever library
        self._resume_at: dict | None = None
        self._count = 0

    def read(self, order=None) -> Iterator:
        """The batches of one pass; a single-pass iterator goes on where it stopped."""
        state, self._resume_at = self._resume_at, None
        if state is not None and "iterable" in state:
            self.batches.load_state_dict(state["iterable"])
        self._iterator = self.batches if self.is_single_pass else self._start()
        # An iterator stands where it stopped: of the batches to leave out, some are gone already.
        drawn = self._count if self.is_single_pass else 0
        self._count = 0
        if state is not None:
            if "iterator" in state:
                self._iterator.set_state(state["iterator"])
            elif "iterable" not in state and state["count"]:
                warnings.warn(
                    f"{type(self.batches).__name__} cannot tell its position: the first {state['count']} batches are "
                    "drawn and left out.",
                    stacklevel=2,
                )
                for _ in itertools.islice(self._iterator, max(state["count"] - drawn, 0)):
                    pass
            self._count = state["count"]
        # Counted before it is given out: the position is that after the batch.
        for batch in self._iterator:
            self._count += 1
            yield batch

    def _start(self) -> Iterator:
        return iter(self.batches() if not hasattr(self.batches, "__iter__") else self.batches)

    def get_state(self) -> dict:
        """The position after the last batch that was read."""
        state: dict = {"count": self._count}
        if hasattr(self._iterator, "get_state"):
            state["iterator"] = self._iterator.get_state()
        elif hasattr(self.batches, "state_dict"):
            state["iterable"] = self.batches.state_dict()
        return state

    def set_state(self, state: dict):
        """Makes the next pass begin at a position."""
        self._resume_at = state


class IndexReader:
    """Batches by index: a `PyDataset`, or whatever has `__getitem__` and `__len__`. Its position is a number."""

    is_single_pass = False

    def __init__(self, batches):
        self.batches = batches
        self.num_batches = batches.num_batches if hasattr(batches, "num_batches") else len(batches)
        self._count = self._begin = 0

    def read(self, order=None) -> Iterator:
        """The batches of one pass, in the order that the seed `order` draws, or as they come."""
        begin, self._begin = self._begin, 0
        if hasattr(self.batches, "on_epoch_begin"):
            self.batches.on_epoch_begin()
        # Without an end there is no order to draw.
        if self.num_batches is None:
            indices = itertools.count(begin)
        else:
            indices = row_order(self.num_batches, order)[begin:].tolist()
        self._count = begin
        for batch in batches_of(self.batches, indices):
            self._count += 1
            yield batch

    def get_state(self) -> dict:
        """The position after the last batch that was read."""
        return {"count": self._count}

    def set_state(self, state: dict):
        """Makes the next pass begin at a position."""
        self._begin = state["count"]


def table_rows(table, batch_size: int) -> RowDataset:
    """A Hugging Face `datasets.Dataset` as batches by index: `label`, `labels` or `y` are the targets, a column
    `sample_weight` the weights, all others the inputs (one array if it is one column, else a dict by name).

    Its rows stay where they are until a batch of them is asked for.
    """
    table = table.with_format("numpy")

    def read(numbers):
        columns = dict(table[numbers])  # a copy, out of which targets are taken
        weight = columns.pop("sample_weight", None)
        y = next((columns.pop(name) for name in ("label", "labels", "y") if name in columns), None)
        x = next(iter(columns.values())) if len(columns) == 1 else columns
        return (x,) if y is None else (x, y) if weight is None else (x, y, weight)

    return RowDataset(read, len(table), batch_size, shuffle=True, workers=1)


class TableReader(IndexReader):
    """An `IndexReader` that shuffles rows instead of batches."""

    def read(self, order=None) -> Iterator:
        """The batches of one pass over the rows."""
        self.batches.shuffle_rows(order)
        return super().read(None)


def make_reader(batches, batch_size: int | None = None):
    """The reader that fits a source."""
    # From the most special to the most general: what has rows also has an index, and most can be gone through.
    size = 32 if batch_size is None else batch_size
    if hasattr(batches, "column_names") and hasattr(batches, "with_format") and hasattr(batches, "__len__"):
        return TableReader(table_rows(batches, size))
    if isinstance(batches, RowDataset):
        return TableReader(batches if batches.batch_size is not None else batches.batch(size))
    if hasattr(batches, "__getitem__") and hasattr(batches, "__len__") and not hasattr(batches, "__iter__"):
        return IndexReader(batches)
    return IterableReader(batches)


def _length(batches) -> int | None:
    try:
        return len(batches)
    except TypeError:
        pass
    try:
        count = int(batches.cardinality())  # of a `tf.data.Dataset`; negative if infinite or unknown
    except (AttributeError, TypeError):
        return None
    return count if count >= 0 else None


class BatchSource:
    """A source of batches `x`, `(x, y)` or `(x, y, sample_weight)`.

    Args:
        batches: A re-iterable, an iterator, a function that returns one, or an object with `__getitem__` and
            `__len__` (a `PyDataset`).
        class_weight: `{class index: weight}` or `None`.
        who: The method that was called, for messages.
        batch_size: Rows per batch, for a source that has rows instead of batches.
        prepare: Function of a batch's inputs that returns those for the model's steps.
    """

    rows = None

    def __init__(
        self,
        batches,
        class_weight: dict | None = None,
        who: str = "fit",
        batch_size: int | None = None,
        prepare: Callable = lambda x: x,
    ):
        self.batches, self.class_weight, self.who, self.prepare = batches, class_weight, who, prepare
        self.reader = make_reader(batches, batch_size)
        self._form: BatchSpec | None = None
        self._first: list = []  # the batch that was looked at, and its position
        self._running: Iterator | None = None
        if self.num_batches == 0:
            raise ValueError(f"{who}: the data is empty: {batches!r} has no batches.")

    @property
    def num_batches(self) -> int | None:
        """Batches per epoch, if the source knows."""
        return self.reader.num_batches

    @property
    def is_single_pass(self) -> bool:
        """Whether there is only one pass over the batches: an iterator."""
        return self.reader.is_single_pass

    def spec(self, fills_up: bool) -> BatchSpec:
        """The form of the first batch."""
        return shares.of_all(self._own_form())

    def _own_form(self) -> BatchSpec:
        """The form of the batches of this process."""
        if self._form is None:
            alone = placement.num_shares() == 1
            self._form = BatchSpec(self.sample()) if alone else shares.agreed_form(self.sample, self.who)
        return self._form

    def rest_spec(self) -> BatchSpec | None:
        """`None`: nobody knows."""
        return None

    def sample(self) -> tuple:
        """The first batch. That of an iterator is kept for the epoch that follows."""
        if not self._first:
            # By its index, so that no pass is begun for a look.
            if isinstance(self.reader, IndexReader):
                self._first = [self.convert(self.reader.batches[0])]
                return self._first[0]
            self._running = (
                self.reader.read()
            )  # goes on in the epoch that follows: an iterator gives its first batch once
            try:
                self._first = [self.convert(next(self._running))]
            except StopIteration:
                raise ValueError(f"{self.who}: the data is empty: {self.batches!r} gave no batch.") from None
        return self._first[0]

    def description(self, steps_per_epoch: int | None) -> dict:
        """What a run that goes on must find again."""
        return {"batches": self.num_batches, "steps_per_epoch": steps_per_epoch}

    def split(self, fraction: float) -> tuple["BatchSource", "BatchSource"]:
        """The first rows and the last `fraction` of them.

        Raises:
            ValueError: if there are batches only.
        """
        if isinstance(self.batches, RowDataset):
            count = len(self.batches.rows)
            cut = int(count * (1 - fraction))
            parts = self.batches.subset(range(cut)), self.batches.subset(range(cut, count))
            first, second = (BatchSource(part, None, self.who, prepare=self.prepare) for part in parts)
            return first, second
        raise ValueError("fit: `validation_split` needs arrays. Pass `validation_data` with a source of batches.")

    def with_class_weight(self, class_weight: dict | None) -> "BatchSource":
        """The same batches, weighted by the classes of their rows too."""
        return BatchSource(self.batches, class_weight, self.who, prepare=self.prepare)

    def head(self, num_batches: int) -> "BatchSource":
        """The first batches, kept in memory."""
        batches = [batch for batch, _ in itertools.islice(self.epoch(), num_batches)]
        return BatchSource(batches, None, self.who)

    def for_inference(self) -> "BatchSource":
        """Itself: its batches are as large as they come."""
        return self

    def epoch(self, order: Order = None) -> Iterator[tuple[tuple, dict]]:
        """The batches of one epoch, each with the position after it.

        Args:
            order: Seed of the order, for a source with an index. Default: as the batches come.
        """
        running, self._running = self._running, None
        if running is not None:
            yield self._first[0], self.reader.get_state()
        self._first = []
        for batch in running if running is not None else self.reader.read(order):
            yield self.convert(batch), self.reader.get_state()

    def set_state(self, state: dict):
        """Makes the next epoch begin at a position."""
        self._running, self._first = None, []
        self.reader.set_state(state)

    def begin(self, order: Order, position: dict | None, fills_up: bool, limit: int | None) -> Pass:
        """A pass, see `Source.begin`; a thread draws ahead."""
        spec = self._own_form()
        if position is not None:
            self.set_state(position["source"])
        # The form is made in the thread that draws, which has time for it.
        drawn = ((batch, BatchSpec(batch), state) for batch, state in self.epoch(order))
        kind = BatchPass if placement.num_shares() == 1 else shares.SharedPass
        return kind(Prefetch(drawn, limit), spec, fills_up, self.who)

    def convert(self, batch) -> Any:
        """A batch of array pytrees, class weights applied: a tuple, or inputs alone where Keras leaves them alone."""
        # Arrays alone are a tuple of one from a `PyDataset` and, as ever here, from an iterator, not from a data set.
        is_tuple = isinstance(self.batches, (PyDataset, Iterator)) and not isinstance(batch, dict)
        is_bare = not isinstance(batch, (tuple, list)) and not is_tuple
        parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
        if len(parts) > 3:
            raise ValueError(f"{self.who}: a batch is x, (x, y) or (x, y, sample_weight). Got {len(parts)} parts.")
        names = ("x", "y", "sample_weight")
        inputs = [self.prepare(part) for part in parts[:1]]
        parts = tuple(to_arrays(part, self.who, name) for part, name in zip((*inputs, *parts[1:]), names, strict=False))
        leaves = jax.tree.leaves(parts)
        if not leaves or any(leaf.shape[:1] == (0,) for leaf in leaves):
            shapes = ", ".join(str(leaf.shape) for leaf in leaves) or "no arrays"
            raise ValueError(f"{self.who}: a batch without rows. Got {shapes}. Leave such batches out.")
        if self.class_weight is not None and len(parts) > 1:
            weight = weights_of_classes(parts[1], self.class_weight, parts[2] if len(parts) > 2 else None, self.who)
            parts = (parts[0], parts[1], weight)
        parts = jax.tree.map(_own, parts)  # last, for a conversion may have copied it already
        parts = parts[:2] if len(parts) == 3 and parts[2] is None else parts
        return parts[0] if is_bare else parts

    def on_epoch_end(self):
        """Tells a `PyDataset` that an epoch is over, so that it can reshuffle."""
        hook = getattr(self.batches, "on_epoch_end", None)
        if callable(hook):
            hook()


class BatchPass:
    """A pass over batches that a thread draws ahead: as many of one form as are ready make a chunk.

    Args:
        drawn: The batches, each with the position after it.
        spec: That of the first batch; all have its structure.
        fills_up: Whether a batch with fewer rows is filled up with copies of its last one.
        who: The method that was called, for messages.
    """

    def __init__(self, drawn: Prefetch, spec: BatchSpec, fills_up: bool, who: str):
        self.drawn, self.spec, self.fills_up, self.who = drawn, spec, fills_up, who

    def take(self, most: int, room: int) -> Chunk | None:
        """Up to `most` batches: those of one form that are ready. With several processes, which then read the same
        rows, all of them, for all must do as many at once."""
        # One process takes whatever is ready; of several, time must not decide how many steps each does.
        taken = self.drawn.take(min(most, room), self._are_alike, as_many=jax.process_count() > 1)
        if not taken:
            return None
        batches, position, own = [batch for batch, _, _ in taken], taken[-1][2], taken[0][1]
        expected, found = jax.tree.structure(self.spec.arrays), jax.tree.structure(own.arrays)
        if expected != found:
            raise ValueError(f"{self.who}: every batch must have the structure of the first, {expected}. Got {found}.")
        # Filled up by who places it: the chunk says how many rows count.
        spec = self.spec if self._is_filled_up(own) else own
        total = own.num_rows * len(batches)
        return Chunk(spec, len(batches), total, lambda to: to.join(batches), lambda _: {"source": position})

    def _is_filled_up(self, spec: BatchSpec) -> bool:
        is_smaller = spec.has_rows and spec.num_rows < self.spec.num_rows
        return self.fills_up and is_smaller and spec.fits_into(self.spec)

    def _are_alike(self, first: tuple, second: tuple) -> bool:
        """Whether two items make one chunk: there are blocks for the form of the first batch only."""
        return first[1] == second[1] == self.spec

    def close(self):
        """Stops drawing."""
        self.drawn.close()


def _own(leaf):
    """A batch that its maker may overwrite: XLA's CPU backend goes on reading from memory aligned to 64 bytes."""
    return leaf.copy() if isinstance(leaf, np.ndarray) and leaf.ctypes.data % 64 == 0 else leaf
