"""Windows of a series as examples, and data sets split in two."""

import jax
import numpy as np

from kerax.data.arrays import is_leaf
from kerax.data.rows import RowDataset, shuffle_in_place
from kerax.errors import check_choice


def timeseries_dataset_from_array(
    data,
    targets,
    sequence_length,
    sequence_stride=1,
    sampling_rate=1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed=None,
    start_index=None,
    end_index=None,
    format: str = "tf",
):
    """Batches of windows of a series.

    Args:
        data: Array whose first axis is time.
        targets: Array with the target of the window that starts at the same time, or `None` for none.
        sequence_length: Points per window.
        sequence_stride: Points from the start of a window to that of the next.
        sampling_rate: Points from one point of a window to the next.
        batch_size: Windows per batch, the last may have fewer. `None`: single windows.
        shuffle: Whether the windows are put in an order drawn from `seed`, and `fit` draws one for each pass.
        seed: Integer.
        start_index, end_index: First point that is used, and first that no longer is.
        format: `"tf"` or `"grain"`, which make no difference.

    Returns: a `RowDataset` of `(batch, sequence_length, ...)`, and targets. Windows are cut out as they are needed.

    Raises:
        ValueError: for numbers out of range, or a series shorter than a window.
    """
    who, length = "timeseries_dataset_from_array", len(data)
    check_choice(who, "format", format, ("tf", "grain"))
    for name, value, least, most in (
        ("sequence_length", sequence_length, 1, length),
        ("sequence_stride", sequence_stride, 1, length - 1),
        ("sampling_rate", sampling_rate, 1, length - 1),
        ("start_index", start_index, 0, length - 1),
        ("end_index", end_index, (start_index or 0) + 1, length - 1),
    ):
        if value is not None and not least <= value <= most:
            raise ValueError(f"{who}: `{name}` must be from {least} to {most} for {length} points. Got {value}.")
    start, end = start_index or 0, end_index or length
    data = np.asarray(data)[start:end]
    targets = None if targets is None else np.asarray(targets)[start:]
    # The last window must fit, and where there are targets its own must be there.
    count = len(data) - (sequence_length - 1) * sampling_rate
    count = count if targets is None else min(count, len(targets))
    if count < 1:
        raise ValueError(f"{who}: {len(data)} points hold no window of {sequence_length}.")
    starts = np.arange(0, count, sequence_stride)
    if shuffle:
        shuffle_in_place(starts, seed)
    # A window is an index, not a copy: a long series would otherwise be held as often as windows overlap.
    offsets = np.arange(sequence_length) * sampling_rate

    def read(numbers):
        windows = data[starts[numbers][:, None] + offsets]
        return windows if targets is None else (windows, targets[starts[numbers]])

    return RowDataset(read, len(starts), batch_size, shuffle, workers=1)  # indexing holds the interpreter's lock


def split_dataset(dataset, left_size=None, right_size=None, shuffle: bool = False, seed=None, preferred_backend=None):
    """A data set in two parts.

    Args:
        dataset: An array, a tuple, list or dict of arrays of equal length, a `RowDataset`, or anything that gives
            samples by index or in a loop.
        left_size, right_size: Number of samples (int) or fraction of them (float). One may be left out.
        shuffle: Whether samples are put in an order drawn from `seed` first.
        seed: Integer.
        preferred_backend: Kept for Keras's signature.

    Returns: two `RowDataset`s: the first samples and the last. They give single samples, of which `fit` makes batches
        (`.batch(n)` too), unless `dataset` was a `RowDataset` with a batch size.

    Raises:
        TypeError: for sizes that are no numbers, or a data set that cannot be read.
        ValueError: for sizes out of range, arrays of different lengths, or an empty data set.
    """
    whole = _as_rows(dataset)
    left, right = _sizes(left_size, right_size, len(whole.rows))
    order = np.arange(len(whole.rows))
    if shuffle:
        np.random.default_rng(seed).shuffle(order)
    return whole.subset(order[:left]), whole.subset(order[len(order) - right :])


def _as_rows(dataset) -> RowDataset:
    if isinstance(dataset, RowDataset):
        return dataset
    leaves = jax.tree.leaves(dataset, is_leaf=is_leaf)
    if leaves and all(hasattr(leaf, "__array__") for leaf in leaves):
        arrays = jax.tree.map(np.asarray, tuple(dataset) if isinstance(dataset, list) else dataset, is_leaf=is_leaf)
        lengths = {len(array) for array in jax.tree.leaves(arrays)}
        if len(lengths) > 1:
            raise ValueError(f"split_dataset: arrays must have one length. Got {sorted(lengths)}.")
        return RowDataset(lambda numbers: jax.tree.map(lambda array: array[numbers], arrays), lengths.pop(), None)
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        if not hasattr(dataset, "__iter__"):
            raise TypeError(f"split_dataset: expected arrays or a data set. Got {type(dataset).__name__}.")
        dataset = list(dataset)  # known only by going through it

    def read(numbers):
        samples = [dataset[int(number)] for number in numbers]
        # Lists are containers to JAX: those of single samples become tuples, so that equal samples have one structure.
        samples = [tuple(sample) if isinstance(sample, list) else sample for sample in samples]
        return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *samples, is_leaf=is_leaf)

    return RowDataset(read, len(dataset), None)


def _sizes(left, right, total: int) -> tuple[int, int]:
    if total == 0:
        raise ValueError("split_dataset: the data set is empty.")
    if left is None and right is None:
        raise ValueError("split_dataset: pass `left_size`, `right_size` or both.")
    counts = {}
    for name, size in (("left_size", left), ("right_size", right)):
        if size is None:
            continue
        if isinstance(size, bool) or not isinstance(size, (int, float)):
            raise TypeError(f"split_dataset: `{name}` must be an int, a float or None. Got {size!r}.")
        if not 0 < size < (1 if isinstance(size, float) else total):
            limits = "a fraction between 0 and 1" if isinstance(size, float) else f"from 1 to {total - 1}"
            raise ValueError(f"split_dataset: `{name}` must be {limits}. Got {size}.")
        counts[name] = round(size * total) if isinstance(size, float) else size
    # What is not given is the rest. Of two fractions, rounded each, the rest may belong to neither.
    left = counts.get("left_size", total - counts.get("right_size", 0))
    right = counts.get("right_size", total - left)
    if left + right > total or not left or not right:
        raise ValueError(f"split_dataset: {left} and {right} of {total} samples leave a part empty or overlap.")
    return left, right
