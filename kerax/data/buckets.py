"""`pad_to_buckets`: batches of many shapes as batches of few, so that few programs are compiled."""

from typing import Any

import jax
import numpy as np

from kerax.core.host_arrays import to_numpy
from kerax.data.arrays import is_leaf
from kerax.data.py_dataset import PyDataset
from kerax.data.rows import RowDataset
from kerax.data.streams import UNKNOWN, Dataset
from kerax.errors import check_integers


def pad_to_buckets(
    x: Any,
    y: Any = None,
    batch_size: int = 32,
    lengths: Any = None,
    axis: int | tuple[int, ...] = 1,
    value: float = 0,
    targets: bool = False,
    mask: bool = False,
    seed: int | None = None,
) -> Any:
    """Batches filled up to a few lengths, for `fit`, `evaluate` and `predict`: a program is compiled for each shape.

    Use it with a layer that leaves out what was filled in, as `Embedding(mask_zero=True)` or `Masking(value)`, or give
    the mask to the model as an input of its own.

    Args:
        x: A list of sequences of different lengths (each of arrays or lists of numbers); or whatever gives batches `x`,
            `(x, y)` or `(x, y, sample_weight)`: generators, data sets, loaders.
        y: For sequences, an array or list with the target of each.
        batch_size: Sequences in a batch, all of one length once filled up. The last of a length may have fewer.
        lengths: The lengths to fill up to, ascending; what is longer is an error. Default: 8, 16, 32, 64 and so on.
        axis: The axis to fill up, or several, each to one of the lengths. Axis 0 is that of the batch.
        value: What to fill with.
        targets: Whether the targets have that axis too. They are filled up with zeros, which weights of 0 leave out of
            the loss.
        mask: Whether `x` gets a further input, bool `(batch, length)`, which is true where nothing was filled in: under
            the name `"mask"` if `x` is a dict, else after the others.
        seed: Of the order in which sequences are put into batches. Default: as they come.

    Returns: batches of the kind that was given: by index, from the start again, or an iterator.

    >>> batches = pad_to_buckets([[1, 2, 3], [4], [5] * 9], [0, 1, 0], lengths=(4, 16), mask=True)
    >>> for (x, mask), y in batches:
    ...     print(x.shape, mask.sum(-1), y)
    (2, 4) [3 1] [0 1]
    (1, 16) [9] [0]
    """
    buckets = None if lengths is None else [int(length) for length in lengths]
    if buckets is not None and (not buckets or buckets != sorted(set(buckets)) or buckets[0] < 1):
        raise ValueError(f"pad_to_buckets: `lengths` must ascend from at least 1. Got {lengths!r}.")
    check_integers("pad_to_buckets", batch_size=(batch_size, 1))
    padding = _Padding(buckets, (axis,) if isinstance(axis, int) else tuple(axis), value, targets, mask)
    if isinstance(x, (list, tuple)) and _are_sequences(x):
        return _Sequences(x, y, batch_size, padding, seed)
    if y is not None:
        raise ValueError("pad_to_buckets: `y` goes with a list of sequences; batches carry their targets themselves.")
    if isinstance(x, RowDataset):
        return x.map(lambda *batch: padding(batch if len(batch) != 1 else next(iter(batch))))
    if hasattr(x, "__next__"):
        return map(padding, x)
    if hasattr(x, "__getitem__") and hasattr(x, "__len__") and not hasattr(x, "__iter__"):
        return _Indexed(x, padding)
    batches: Any = x
    begin = batches if callable(x) and not hasattr(x, "__iter__") else lambda: batches
    return Dataset(lambda _: map(padding, begin()), len(batches) if hasattr(x, "__len__") else UNKNOWN)


def _are_sequences(x) -> bool:
    """Whether these are sequences, not batches: of arrays or lists of numbers, beside nothing else."""
    return bool(x) and all(isinstance(row, (list, np.ndarray)) and not _holds_arrays(row) for row in x)


def _holds_arrays(row) -> bool:
    return isinstance(row, list) and any(hasattr(part, "ndim") and part.ndim for part in row)


class _Padding:
    """Fills batches up. Arguments as those of `pad_to_buckets`."""

    def __init__(self, lengths: list[int] | None, axes: tuple[int, ...], value, targets: bool, mask: bool):
        self.lengths, self.axes, self.value, self.targets, self.mask = lengths, axes, value, targets, mask

    def __call__(self, batch: Any, sizes: np.ndarray | None = None) -> Any:
        """The batch filled up. `sizes`: how long each row is, where that is known."""
        parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
        parts = tuple(jax.tree.map(lambda leaf: np.asarray(to_numpy(leaf)), part, is_leaf=is_leaf) for part in parts)
        x, *rest = parts
        inside = self._inside(x, sizes)
        if self.targets and rest:
            y, weight = rest[0], rest[1] if len(rest) > 1 else None
            weight = np.ones(len(inside), np.float32) if weight is None else weight
            # A weight for each row counts at all of its places.
            weight = self._fill(weight.reshape(weight.shape + (1,) * (inside.ndim - weight.ndim)), 0, is_whole=False)
            rest = [self._fill(y, 0), np.asarray(weight * inside, np.float32)]
        filled = self._fill(x, self.value)
        if self.mask and isinstance(filled, dict):
            filled = filled | {"mask": inside}
        elif self.mask:
            filled = (*filled, inside) if isinstance(filled, (tuple, list)) else (filled, inside)
        return (filled, *rest) if isinstance(batch, (tuple, list)) else filled

    def target_length(self, length: int) -> int:
        """The length to which `length` is filled up."""
        if self.lengths is None:
            return max(8, 1 << (length - 1).bit_length())
        fitting = [bucket for bucket in self.lengths if bucket >= length]
        if not fitting:
            raise ValueError(
                f"pad_to_buckets: a length of {length} is above the largest of `lengths`, {self.lengths[-1]}. "
                "Add a larger one, or cut the data."
            )
        return fitting[0]

    def _inside(self, x, sizes: np.ndarray | None) -> np.ndarray:
        """Where nothing is filled in: bool `(batch, length)`, with further axes if there are several to fill up."""
        whole = [leaf.shape for leaf in jax.tree.leaves(x) if leaf.ndim > max(self.axes)]
        if not whole:
            raise ValueError(f"pad_to_buckets: no array of `x` has an axis {max(self.axes)}.")
        inside = np.zeros((whole[0][0], *[self.target_length(whole[0][axis]) for axis in self.axes]), bool)
        inside[tuple(slice(0, whole[0][axis]) for axis in (0, *self.axes))] = True
        return inside if sizes is None else inside & (np.arange(inside.shape[1]) < sizes[:, None])

    def _fill(self, structure, value, is_whole: bool = True) -> Any:
        """Every array filled up along those axes that it has; with `is_whole=False` not where the size is 1."""

        def fill(array):
            margins = [(0, 0)] * array.ndim
            for axis in self.axes:
                if axis < array.ndim and (is_whole or array.shape[axis] > 1):
                    margins[axis] = (0, self.target_length(array.shape[axis]) - array.shape[axis])
            return np.pad(array, margins, constant_values=value)

        return jax.tree.map(fill, structure)


class _Sequences(PyDataset):
    """Batches of sequences, each of one length once filled up."""

    def __init__(self, x, y, batch_size: int, padding: _Padding, seed: int | None):
        super().__init__()
        self.x = [np.asarray(row) for row in x]
        self.y: Any = None
        if y is not None:
            self.y = [np.asarray(row) for row in y] if padding.targets else np.asarray(to_numpy(y))
        if self.y is not None and len(self.y) != len(self.x):
            raise ValueError(f"pad_to_buckets: {len(self.x)} sequences need as many targets. Got {len(self.y)}.")
        self.padding = padding
        order = np.arange(len(self.x)) if seed is None else np.random.default_rng(seed).permutation(len(self.x))
        buckets = np.array([padding.target_length(max(len(self.x[row]), 1)) for row in order])
        groups = [order[buckets == bucket] for bucket in np.unique(buckets)]
        self.batches = [group[i : i + batch_size] for group in groups for i in range(0, len(group), batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        rows = self.batches[index]
        sizes = np.array([len(self.x[row]) for row in rows])
        x = _stacked([self.x[row] for row in rows], max(sizes.max(), 1), self.padding.value)
        if self.y is None:
            return self.padding((x,), sizes)
        y = _stacked([self.y[row] for row in rows], x.shape[1], 0) if self.padding.targets else self.y[rows]
        return self.padding((x, y), sizes)


def _stacked(rows: list[np.ndarray], length: int, value) -> np.ndarray:
    stacked = np.full((len(rows), length, *rows[0].shape[1:]), value, np.result_type(*rows))
    for target, row in zip(stacked, rows, strict=True):
        target[: len(row)] = row
    return stacked


class _Indexed:
    """Batches by index, filled up; all else is as in the data set they come from."""

    def __init__(self, dataset: Any, padding: _Padding):
        self.dataset, self.padding = dataset, padding

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("dataset", "padding"):  # before they are set: a copy is being made
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.padding(self.dataset[index])
