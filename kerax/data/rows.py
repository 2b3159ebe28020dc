"""`RowDataset`: a data set of rows that are read by number, as batches: files in a folder, windows of a series."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from kerax.data.arrays import row_order
from kerax.data.py_dataset import batches_of
from kerax.data.streams import Dataset, as_element, call, element_spec, stack


def shuffle_in_place(numbers: np.ndarray, seed: int | None):
    """Brings numbers into the order that Keras draws from `seed`; without one it is drawn as `set_random_seed` says."""
    seed = np.random.randint(10**6) if seed is None else seed  # noqa: NPY002 (follows `set_random_seed`)
    np.random.RandomState(seed).shuffle(numbers)


class RowDataset(Dataset):
    """Batches of rows, read when they are needed. It knows its length and its position, so that a run resumes exactly.

    `fit` draws a new order of the rows for each pass if `shuffle`; in a plain loop, and in `evaluate` and `predict`,
    they come in the order of `rows`. What keeps rows readable by number (`map`, `take`, `skip`, `batch`, `unbatch`,
    `cache`, `shuffle` of single rows) gives a `RowDataset` again, the other methods of `tf.data` a `Dataset`.

    Args:
        read: Function of an array of row numbers that returns the batch `x` or `(x, y)`, NumPy arrays.
        rows: Row numbers, or how many there are.
        batch_size: Rows per batch. `None`: single rows, without a batch axis; `fit` makes batches of them.
        shuffle: Whether `fit` draws an order for each pass.
        class_names: Names of the labels, if it has any.
        file_paths: The files that the rows come from, if they do.
        workers: Threads that make batches. Default: as many as there are cores, at most 8.
        drop_remainder: Whether a last, smaller batch is left out.

    >>> rows = RowDataset(lambda numbers: numbers * 10, 5, batch_size=2)
    >>> [batch.tolist() for batch in rows]
    [[0, 10], [20, 30], [40]]
    >>> [batch.tolist() for batch in rows.map(lambda x: x + 1).take(1)]
    [[1, 11]]
    """

    def __init__(
        self,
        read: Callable,
        rows: int | Sequence[int] | np.ndarray,
        batch_size: int | None = 32,
        shuffle: bool = False,
        class_names: list[str] | None = None,
        file_paths: list[str] | None = None,
        workers: int | None = None,
        drop_remainder: bool = False,
    ):
        # Two batches for each thread: those of large images would fill the memory otherwise.
        self.workers = min(8, os.cpu_count() or 1) if workers is None else workers
        self.max_queue_size, self.use_multiprocessing = 2 * self.workers, False
        super().__init__(self._ordered)
        if batch_size is not None and (not isinstance(batch_size, (int, np.integer)) or batch_size < 1):
            raise ValueError(f"`batch_size` must be an integer of at least 1, or None. Got {batch_size!r}.")
        self._read, self.batch_size, self.shuffles = read, batch_size, shuffle
        self.rows = np.arange(rows) if isinstance(rows, (int, np.integer)) else np.asarray(rows, np.int64)
        self.class_names, self.file_paths, self.drop_remainder = class_names, file_paths, drop_remainder
        self._order = self.rows

    def shuffle_rows(self, seed: tuple[int, int] | None):
        """Sets the order of the next pass: drawn from `seed` if the data set shuffles, else that of `rows`."""
        self._order = self.rows[row_order(len(self.rows), seed if self.shuffles else None)]

    def __len__(self) -> int:
        if self.batch_size is None:
            return len(self.rows)
        rest = 0 if self.drop_remainder else self.batch_size - 1
        return (len(self.rows) + rest) // self.batch_size

    @property
    def num_batches(self) -> int:
        """Number of batches."""
        return len(self)

    def known_length(self) -> int:
        """Number of batches."""
        return len(self)

    @property
    def element_spec(self) -> Any:
        """Shapes and dtypes of a batch, `None` for its size; of a row without batches."""
        return element_spec(self[0], has_rows=self.batch_size is not None)

    def __iter__(self) -> Iterator:
        # Read ahead by the threads, as in `fit`, and given out in the order of `rows`.
        return (as_element(batch) for batch in batches_of(self, range(len(self))))

    def as_numpy_iterator(self) -> Iterator:
        """The batches of one pass as plain NumPy arrays."""
        return batches_of(self, range(len(self)))

    def _ordered(self, number: int) -> Iterator:
        """The batches of a pass for what other data sets make of them, in an order of its own if this one shuffles."""
        one_pass = self._like()
        one_pass.shuffle_rows((0, number))
        return batches_of(one_pass, range(len(one_pass)))

    def __getitem__(self, index: int):
        if not -len(self) <= index < len(self):
            raise IndexError(f"Batch {index} of {len(self)}.")
        index %= len(self)  # negative ones count from the end
        if self.batch_size is None:
            # `read` makes batches: one of a single row, without its axis.
            return jax.tree.map(lambda array: array[0], self._read(self._order[index : index + 1]))
        return self._read(self._order[index * self.batch_size : (index + 1) * self.batch_size])

    def _like(self, read=None, rows=None) -> "RowDataset":
        read, rows = read or self._read, self.rows if rows is None else rows
        options = self.batch_size, self.shuffles, self.class_names, self.file_paths, self.workers, self.drop_remainder
        return RowDataset(read, rows, *options)

    def batch(
        self, batch_size: int, drop_remainder: bool = False, num_parallel_calls=None, deterministic=None, name=None
    ) -> "RowDataset":
        """The same rows in batches of another size; a last, smaller batch is left out with `drop_remainder`."""
        batched = self._like()
        batched.batch_size, batched.drop_remainder = batch_size, drop_remainder
        return batched

    def unbatch(self, name=None) -> "RowDataset":
        """The same rows, one by one."""
        single = self._like()
        single.batch_size, single.drop_remainder = None, False
        return single

    def map(self, function: Callable, num_parallel_calls=None, deterministic=None, name=None) -> "RowDataset":
        """The batches that `function` makes of these: of `x`, or of `x` and `y`. It must keep the rows apart.

        With `batch_size=None` it gets single rows.
        """
        if self.batch_size is not None:
            return self._like(lambda numbers: call(function, self._read(numbers)))

        def read(numbers):
            rows = self._read(numbers)
            row = lambda place: jax.tree.map(lambda array: array[place], rows)
            return stack([call(function, row(place)) for place in range(len(numbers))])

        return self._like(read)

    def take(self, count: int, name=None) -> "RowDataset":
        """The first `count` batches; all for -1."""
        return self if count < 0 else self._like(rows=self.rows[: count * (self.batch_size or 1)])

    def skip(self, count: int, name=None) -> "RowDataset":
        """All batches but the first `count`."""
        return self._like(rows=self.rows[count * (self.batch_size or 1) :])

    def shuffle(self, buffer_size: int, seed=None, reshuffle_each_iteration=None, name=None) -> Dataset:
        """Single rows in any order, drawn anew for each pass of `fit`; batches as `Dataset.shuffle` does it."""
        if self.batch_size is not None:
            return super().shuffle(buffer_size, seed, reshuffle_each_iteration)
        rows = self.rows.copy()
        shuffle_in_place(rows, seed)
        shuffled = self._like(rows=rows)
        shuffled.shuffles = reshuffle_each_iteration is None or reshuffle_each_iteration
        return shuffled

    def subset(self, positions) -> "RowDataset":
        """The rows at some positions among these."""
        return self._like(rows=self.rows[np.asarray(positions, np.int64)])

    def cache(self, filename="", name=None) -> "RowDataset":
        """The same rows, read once, when the first is needed, and kept in memory."""
        places = {int(row): place for place, row in enumerate(self.rows)}
        # Row numbers need not be 0 to n - 1: a part of a data set keeps those of the whole.
        find = np.vectorize(places.__getitem__, otypes=[np.int64])
        kept, lock = [], threading.Lock()

        def read(numbers):
            with lock:  # several threads read
                if not kept:
                    kept.append(self._read(self.rows))
            return jax.tree.map(lambda array: array[find(numbers)], kept[0])

        return self._like(read)
