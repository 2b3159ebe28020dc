"""Sources of batches for `fit`, `evaluate` and `predict`."""

from collections.abc import Callable

from kerax.data.arrays import ArraySource as ArraySource
from kerax.data.arrays import array_source as array_source
from kerax.data.arrays import is_arrays as is_arrays
from kerax.data.arrays import pack_x_y_sample_weight as pack_x_y_sample_weight
from kerax.data.arrays import sparse_reader
from kerax.data.batches import BatchSource as BatchSource
from kerax.data.buckets import pad_to_buckets as pad_to_buckets
from kerax.data.py_dataset import PyDataset as PyDataset
from kerax.data.rows import RowDataset as RowDataset
from kerax.data.source import BatchSpec as BatchSpec
from kerax.data.source import Source as Source
from kerax.data.streams import Dataset as Dataset


def make_source(
    x,
    y=None,
    sample_weight=None,
    batch_size=None,
    class_weight=None,
    who="fit",
    prepare: Callable = lambda x: x,
    sparse_inputs: Callable = lambda x: (),
) -> Source:
    """The source for the arguments of `fit`, `evaluate` or `predict`.

    Args:
        prepare: Function of inputs, of all or of a batch, that returns those for the model's steps.
        sparse_inputs: Function of `x` that returns the leaves that the model takes sparse.

    Raises:
        ValueError: if there is no data, or `y` or `sample_weight` come beside a source of batches.
    """
    if x is None:
        raise ValueError(f"{who}: expected data as `x`. Got None.")
    sparse = sparse_reader((x, y, sample_weight), who, sparse_inputs)
    if sparse is not None:
        rows = RowDataset(*sparse, 32 if batch_size is None else batch_size, shuffle=True, workers=1)
        return BatchSource(rows, class_weight, who, prepare=prepare)
    if y is None and not who.startswith("predict") and _are_batches(x):
        return BatchSource(x, class_weight, who, batch_size, prepare)
    if is_arrays(x):
        return array_source(prepare(x), y, sample_weight, batch_size, class_weight, who)
    if hasattr(x, "__iter__") or callable(x) or hasattr(x, "__getitem__"):
        # Not one array in it, nor is it a source of batches of its own.
        if isinstance(x, (list, tuple, dict)):
            raise ValueError(f"{who}: the data is empty. Got {x!r}.")
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(f"{who}: `{name}` must be left out when `x` gives batches; they carry it themselves.")
        return BatchSource(x, class_weight, who, batch_size, prepare)
    raise ValueError(
        f"{who}: `x` must be arrays, a pandas frame, a generator, or an iterable of batches. Got {type(x).__name__}."
    )


def _are_batches(x) -> bool:
    """Whether a list is one of batches `(x, y)` or `(x, y, sample_weight)`, not of inputs, which are arrays."""
    return isinstance(x, list) and bool(x) and all(isinstance(part, tuple) and len(part) in (2, 3) for part in x)


def validation_source(validation_data, batch_size, **options) -> Source | None:
    """The source for `validation_data` of `fit`, or `None`; options as of `make_source`."""
    if validation_data is None:
        return None
    options["who"] = "fit (validation_data)"
    # As in Keras a pair is always (x, y), never two inputs without a target.
    if isinstance(validation_data, (tuple, list)) and len(validation_data) in (1, 2, 3):
        x, y, weight = unpack_x_y_sample_weight(validation_data)
        return make_source(x, y, weight, batch_size, **options)
    return make_source(validation_data, batch_size=batch_size, **options)


def unpack_x_y_sample_weight(data) -> tuple:
    """`(x, y, sample_weight)` of a batch; what it lacks is `None`."""
    parts = tuple(data) if isinstance(data, (list, tuple)) else (data,)
    if not 1 <= len(parts) <= 3:
        raise ValueError(f"Expected a batch x, (x,), (x, y) or (x, y, sample_weight). Got {len(parts)} parts.")
    return parts + (None,) * (3 - len(parts))
