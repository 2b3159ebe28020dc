"""`RowDataset`: a data set of rows that are read by number, as batches: files in a folder, windows of a series."""

import os
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from kerax.data.arrays import row_order
from kerax.data.py_dataset import PyDataset, batches_of


def shuffle_in_place(numbers: np.ndarray, seed: int | None):
    """Brings numbers into the order that Keras draws from `seed`; without one it is drawn as `set_random_seed` says."""
    seed = np.random.randint(10**6) if seed is None else seed  # noqa: NPY002 (follows `set_random_seed`)
    np.random.RandomState(seed).shuffle(numbers)


class RowDataset(PyDataset):
    """Batches of rows, read when they are needed. It knows its length and its position, so that a run resumes exactly.

    `fit` draws a new order of the rows for each pass if `shuffle`; in a plain loop, and in `evaluate` and `predict`,
    they come in the order of `rows`.

    Args:
        read: Function of an array of row numbers that returns the batch `x` or `(x, y)`, NumPy arrays.
        rows: Row numbers, or how many there are.
        batch_size: Rows per batch. `None`: single rows, without a batch axis; `fit` makes batches of them.
        shuffle: Whether `fit` draws an order for each pass.
        class_names: Names of the labels, if it has any.
        file_paths: The files that the rows come from, if they do.
        workers: Threads that make batches. Default: as many as there are cores, at most 8.

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
    ):
        workers = min(8, os.cpu_count() or 1) if workers is None else workers
        # Two for each thread: batches of large images would fill the memory otherwise.
        super().__init__(workers=workers, max_queue_size=2 * workers)
        if batch_size is not None and (not isinstance(batch_size, (int, np.integer)) or batch_size < 1):
            raise ValueError(f"`batch_size` must be an integer of at least 1, or None. Got {batch_size!r}.")
        self._read, self.batch_size, self.shuffles = read, batch_size, shuffle
        self.rows = np.arange(rows) if isinstance(rows, (int, np.integer)) else np.asarray(rows, np.int64)
        self.class_names, self.file_paths = class_names, file_paths
        self._order = self.rows

    def shuffle_rows(self, seed: tuple[int, int] | None):
        """Sets the order of the next pass: drawn from `seed` if the data set shuffles, else that of `rows`."""
        self._order = self.rows[row_order(len(self.rows), seed if self.shuffles else None)]

    def __len__(self) -> int:
        return len(self.rows) if self.batch_size is None else -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator:
        # Read ahead by the threads, as in `fit`, and given out in order.
        return batches_of(self, range(len(self)))

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
        return RowDataset(read, rows, self.batch_size, self.shuffles, self.class_names, self.file_paths, self.workers)

    def batch(self, batch_size: int) -> "RowDataset":
        """The same rows in batches of another size."""
        batched = self._like()
        batched.batch_size = batch_size
        return batched

    def map(self, function: Callable) -> "RowDataset":
        """The batches that `function` makes of these: of `x`, or of `x` and `y`. It must keep the rows apart.

        With `batch_size=None` it gets batches of one row.
        """

        def read(numbers):
            batch = self._read(numbers)
            return function(*batch) if isinstance(batch, tuple) else function(batch)

        return self._like(read)

    def take(self, count: int) -> "RowDataset":
        """The first `count` batches."""
        return self._like(rows=self.rows[: count * (self.batch_size or 1)])

    def skip(self, count: int) -> "RowDataset":
        """All batches but the first `count`."""
        return self._like(rows=self.rows[count * (self.batch_size or 1) :])

    def subset(self, positions) -> "RowDataset":
        """The rows at some positions among these."""
        return self._like(rows=self.rows[np.asarray(positions, np.int64)])

    def cache(self) -> "RowDataset":
        """The same rows, read once and kept in memory."""
        whole = self._read(self.rows)
        places = {int(row): place for place, row in enumerate(self.rows)}
        # Row numbers need not be 0 to n - 1: a part of a data set keeps those of the whole.
        find = np.vectorize(places.__getitem__, otypes=[np.int64])
        return self._like(lambda numbers: jax.tree.map(lambda array: array[find(numbers)], whole))

    def prefetch(self, buffer_size=None) -> "RowDataset":
        """Itself: `fit` reads ahead anyway. For code written for `tf.data`."""
        return self
