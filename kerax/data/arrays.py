"""Arrays of equal length as a source of batches: `(x, y, sample_weight)` pytrees of NumPy or JAX arrays."""

from typing import Any, NamedTuple

import jax
import numpy as np

from kerax import config

Tree = Any


class ArraySource(NamedTuple):
    """A data set in memory.

    `data` is `(x,)`, `(x, y)` or `(x, y, sample_weight)`, each a pytree of arrays with `num_rows` rows.
    """

    data: tuple
    num_rows: int
    batch_size: int

    @property
    def num_batches(self) -> int:
        """Batches per epoch, the last, smaller one included."""
        return -(-self.num_rows // self.batch_size)

    def batch_spec(self) -> tuple:
        """Shapes and dtypes of a full batch (of all rows, if there are fewer)."""
        size = min(self.batch_size, self.num_rows)
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), self.data)

    def split(self, fraction: float) -> tuple["ArraySource", "ArraySource"]:
        """The first rows and the last `fraction` of them."""
        cut = int(self.num_rows * (1 - fraction))
        if not 0 < cut < self.num_rows:
            raise ValueError(
                f"fit: `validation_split={fraction}` of {self.num_rows} samples leaves training or validation empty."
            )
        parts = (slice(0, cut), slice(cut, None))
        train, held_out = (jax.tree.map(lambda array, part=part: array[part], self.data) for part in parts)
        return self._replace(data=train, num_rows=cut), self._replace(data=held_out, num_rows=self.num_rows - cut)

    def head(self, num_batches: int) -> "ArraySource":
        """The first batches."""
        num_rows = min(num_batches * self.batch_size, self.num_rows)
        return self._replace(data=jax.tree.map(lambda array: array[:num_rows], self.data), num_rows=num_rows)


def is_arrays(x) -> bool:
    """Whether `x` is a pytree of arrays, frames or numbers rather than a source of batches."""
    leaves = jax.tree.leaves(x, is_leaf=is_leaf)
    return bool(leaves) and all(
        _is_frame(leaf) or hasattr(leaf, "__array__") or isinstance(leaf, (int, float, bool, np.generic, str, bytes))
        for leaf in leaves
    )


def array_source(x, y=None, sample_weight=None, batch_size=None, class_weight=None, who="fit") -> ArraySource:
    """Checks and converts the arguments of `fit` or `evaluate`.

    Raises:
        ValueError: for unequal lengths, empty data, `batch_size` below 1, object arrays, unknown classes.
    """
    batch_size = 32 if batch_size is None else batch_size
    if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"{who}: `batch_size` must be an integer of at least 1. Got {batch_size!r}.")
    x, y, sample_weight = (
        to_arrays(part, who, name) for part, name in ((x, "x"), (y, "y"), (sample_weight, "sample_weight"))
    )
    if class_weight is not None:
        sample_weight = weights_of_classes(y, class_weight, sample_weight, who)
    lengths = {}
    for part, name in ((x, "x"), (y, "y"), (sample_weight, "sample_weight")):
        for leaf in jax.tree.leaves(part):
            if leaf.ndim == 0:
                raise ValueError(f"{who}: `{name}` holds a scalar; every array needs a first axis of samples.")
            lengths[f"{name} {leaf.shape}"] = leaf.shape[0]
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{who}: all arrays must have the same number of samples. Got {', '.join(lengths)}.")
    num_rows = next(iter(lengths.values()), 0)
    if num_rows == 0:
        raise ValueError(f"{who}: the data is empty. Got {', '.join(lengths) or 'no arrays'}.")
    data = (x,) if y is None and sample_weight is None else (x, y) if sample_weight is None else (x, y, sample_weight)
    return ArraySource(data, num_rows, int(batch_size))


def to_arrays(structure: Tree, who: str, name: str) -> Tree:
    """Frames, lists of numbers and arrays as NumPy or JAX arrays of dtypes that JAX computes in."""

    def convert(leaf):
        if _is_frame(leaf):
            values = leaf.to_numpy()
            leaf = values[:, None] if values.ndim == 1 and type(leaf).__name__ == "Series" else values
        if isinstance(leaf, jax.Array):
            return leaf
        try:
            array = np.asarray(leaf)
        except ValueError as error:
            raise ValueError(
                f"{who}: `{name}` cannot be made an array; are its rows of equal length? {error}"
            ) from None
        if array.dtype.kind in "OSU":
            raise ValueError(
                f"{who}: `{name}` has dtype {array.dtype}, which no device computes with. Convert text and mixed "
                "columns to numbers first, for example with a preprocessing layer."
            )
        target = config.floatx() if array.dtype == np.float64 else jax.dtypes.canonicalize_dtype(array.dtype)
        return array.astype(target, copy=False)

    def convert_within_memory(leaf):
        try:
            return convert(leaf)
        except MemoryError as error:
            raise MemoryError(
                f"{who}: `{name}` does not fit into memory: {error}. Keep it on disk, as float32, and pass "
                "`np.load(path, mmap_mode='r')`, whose rows are read as they are needed; or pass a source of batches."
            ) from None

    if isinstance(structure, list) and _holds_numbers(structure):
        return convert(structure)
    return jax.tree.map(convert_within_memory, structure, is_leaf=is_leaf)


def _holds_numbers(rows: list) -> bool:
    leaves = jax.tree.leaves(rows, is_leaf=is_leaf)
    return bool(leaves) and all(isinstance(leaf, (int, float)) for leaf in leaves)


def is_leaf(value) -> bool:
    """Whether a value is a leaf of a data structure: a frame, an array of any library, or a source of batches."""
    return _is_frame(value) or (hasattr(value, "__iter__") and not isinstance(value, (list, tuple, dict)))


def _is_frame(leaf) -> bool:
    return hasattr(leaf, "to_numpy") and not isinstance(leaf, (np.ndarray, jax.Array))


def weights_of_classes(y, class_weight: dict, sample_weight, who="fit"):
    """Sample weights from `{class index: weight}`, times `sample_weight` where given."""
    leaves = jax.tree.leaves(y)
    if len(leaves) != 1:
        raise ValueError(f"{who}: `class_weight` needs a model with one target. Got {len(leaves)}.")
    labels = np.asarray(leaves[0])
    if labels.ndim > 1 and labels.shape[-1] > 1:
        labels = labels.argmax(-1)
    labels = labels.reshape(labels.shape[0], -1)[:, 0] if labels.ndim > 1 else labels
    if not isinstance(class_weight, dict):
        raise ValueError(f"{who}: `class_weight` must be a dict {{class index: weight}}. Got {class_weight!r}.")
    unknown = [label for label in class_weight if not isinstance(label, (int, np.integer)) or label < 0]
    if unknown:
        raise ValueError(f"{who}: the keys of `class_weight` are integer class indices. Got {unknown[0]!r}.")
    if labels.min(initial=0) < 0:
        raise ValueError(f"{who}: `class_weight` needs labels of at least 0. Got {labels.min()}.")
    table = np.ones(int(max([labels.max(initial=0), *class_weight])) + 1, np.float32)
    for label, weight in class_weight.items():
        table[label] = weight
    weights = table[labels.astype(np.int64)]
    return weights if sample_weight is None else weights * np.asarray(sample_weight)
