"""Arrays of equal length as a source of batches: `(x, y, sample_weight)` pytrees of NumPy or JAX arrays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from kerax import config
from kerax.core.host_arrays import is_foreign_type, is_frame, is_sparse_type, sparse_rows, to_numpy
from kerax.core.sparse import SparseRows
from kerax.data.source import BatchSpec, Chunk, Order
from kerax.errors import check_integers

Tree = Any


class ArraySource(NamedTuple):
    """A data set in memory.

    `rows` is `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`, each a pytree of arrays with `num_rows` rows.
    """

    rows: tuple
    num_rows: int
    batch_size: int

    is_single_pass = False

    @property
    def num_batches(self) -> int:
        """Batches per epoch, the last, smaller one included."""
        return -(-self.num_rows // self.batch_size)

    def spec(self, fills_up: bool) -> BatchSpec:
        """The form of full batches: of all rows, if there are fewer and nobody fills them up."""
        return BatchSpec(self.rows, self.batch_size if fills_up else min(self.batch_size, self.num_rows))

    def rest_spec(self) -> BatchSpec | None:
        """The form of the last, smaller batch, if there is one beside full ones."""
        rest = self.num_rows % min(self.batch_size, self.num_rows)
        return BatchSpec(self.rows, rest) if rest else None

    def sample(self) -> tuple:
        """All rows."""
        return self.rows

    def description(self, steps_per_epoch: int | None) -> dict:
        """What a run that goes on must find again."""
        return {"rows": self.num_rows, "batch_size": self.batch_size, "steps_per_epoch": steps_per_epoch}

    def split(self, fraction: float) -> tuple["ArraySource", "ArraySource"]:
        """The first rows and the last `fraction` of them."""
        cut = int(self.num_rows * (1 - fraction))
        if not 0 < cut < self.num_rows:
            raise ValueError(
                f"fit: `validation_split={fraction}` of {self.num_rows} samples leaves training or validation empty."
            )
        parts = (slice(0, cut), slice(cut, None))
        train, held_out = (jax.tree.map(lambda array, part=part: array[part], self.rows) for part in parts)
        return self._replace(rows=train, num_rows=cut), self._replace(rows=held_out, num_rows=self.num_rows - cut)

    def with_class_weight(self, class_weight: dict | None) -> "ArraySource":
        """The same rows, weighted by their classes too."""
        if class_weight is None:
            return self
        rows = self.rows if isinstance(self.rows, tuple) else (self.rows,)
        x, y, sample_weight = (*rows, *(None,) * (3 - len(rows)))
        return self._replace(rows=(x, y, weights_of_classes(y, class_weight, sample_weight)))

    def head(self, num_batches: int) -> "ArraySource":
        """The first batches."""
        num_rows = min(num_batches * self.batch_size, self.num_rows)
        return self._replace(rows=jax.tree.map(lambda array: array[:num_rows], self.rows), num_rows=num_rows)

    def for_inference(self) -> "ArraySource":
        """The same rows; fewer than a batch in one of at most twice as many rows, so that few sizes of batch occur."""
        size = self.batch_size
        # Halved, not cut to the rows: a handful of sizes, each with one program, serves any number of rows.
        while size > 1 and size > (2 * self.num_rows if self.num_rows > 1 else 1):
            size = -(-size // 2)
        return self._replace(batch_size=size)

    def begin(self, order: Order, position: dict | None, fills_up: bool, limit: int | None) -> "ArrayPass":
        """A pass, see `Source.begin`."""
        return ArrayPass(self, order, 0 if position is None else position["batch"], fills_up)

    def on_epoch_end(self):
        """Nothing: arrays stay as they are."""


class ArrayPass:
    """A pass over arrays, whose position is the number of batches that are done."""

    def __init__(self, source: ArraySource, order: Order, done: int, fills_up: bool):
        self.source, self.done = source, done
        self.order = None if order is None else row_order(source.num_rows, order)
        self.spec = source.spec(fills_up)
        size = self.spec.num_rows
        full, rest = divmod(source.num_rows, size)
        self.size, self.rest = size, rest
        # A last batch that is filled up has the form of the others, and goes with them.
        self.num_blocked = full + 1 if rest and fills_up else full  # batches of the full form
        self.num_batches = full + (1 if rest else 0)
        self.rest_spec = source.rest_spec() or self.spec

    def take(self, most: int, room: int) -> Chunk | None:
        """The next batches of one form, as many as there is room for."""
        begin = self.done
        if begin >= self.num_batches:
            return None
        is_rest = begin >= self.num_blocked
        count = 1 if is_rest else min(room, self.num_blocked - begin)
        self.done += count
        first, last = begin * self.size, min((begin + count) * self.size, self.source.num_rows)
        # In order a slice will do, which costs no index.
        rows = slice(first, last) if self.order is None else self.order[first:last]
        spec = self.rest_spec if is_rest else self.spec
        return Chunk(spec, count, last - first, lambda to: to.gather(rows), lambda done: {"batch": begin + done})

    def close(self):
        """Nothing is held."""


def row_order(num_rows: int, seed: Order) -> np.ndarray:
    """Row numbers of one pass over the data, int32: shuffled by (seed, pass), in order for `None`."""
    if seed is None:
        return np.arange(num_rows, dtype=np.int32)
    # Counter-based: (seed, pass) is the whole state, so that a resumed run need not repeat the passes before.
    return np.random.Generator(np.random.Philox(key=seed)).permutation(num_rows).astype(np.int32)


def is_arrays(x) -> bool:
    """Whether `x` is a pytree of arrays, frames or numbers rather than a source of batches."""
    leaves = jax.tree.leaves(x, is_leaf=is_leaf)
    return bool(leaves) and all(
        is_frame(leaf)
        or hasattr(leaf, "__array__")
        or is_foreign_type(type(leaf))
        or is_sparse_type(type(leaf))
        or isinstance(leaf, (int, float, bool, np.generic, str, bytes))
        for leaf in leaves
    )


def array_source(x, y=None, sample_weight=None, batch_size=None, class_weight=None, who="fit") -> ArraySource:
    """Checks and converts the arguments of `fit` or `evaluate`.

    Raises:
        ValueError: for unequal lengths, empty data, `batch_size` below 1, object arrays, unknown classes.
    """
    batch_size = 32 if batch_size is None else batch_size
    check_integers(who, batch_size=(batch_size, 1))
    x, y, sample_weight = (
        to_arrays(part, who, name) for part, name in ((x, "x"), (y, "y"), (sample_weight, "sample_weight"))
    )
    if class_weight is not None:
        sample_weight = weights_of_classes(y, class_weight, sample_weight, who)
    lengths = {}
    for part, name in ((x, "x"), (y, "y"), (sample_weight, "sample_weight")):
        # The shapes are the keys, so that the error shows them all.
        for leaf in jax.tree.leaves(part):
            if leaf.ndim == 0:
                raise ValueError(f"{who}: `{name}` holds a scalar; every array needs a first axis of samples.")
            lengths[f"{name} {leaf.shape}"] = leaf.shape[0]
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{who}: all arrays must have the same number of samples. Got {', '.join(lengths)}.")
    num_rows = next(iter(lengths.values()), 0)
    if num_rows == 0:
        raise ValueError(f"{who}: the data is empty. Got {', '.join(lengths) or 'no arrays'}.")
    return ArraySource(pack_x_y_sample_weight(x, y, sample_weight), num_rows, int(batch_size))


def pack_x_y_sample_weight(x, y=None, sample_weight=None):
    """The batch as `fit` takes it: `x` alone (in a tuple if it is a list or a tuple), `(x, y)`, or all three."""
    if sample_weight is not None:
        return x, y, sample_weight
    if y is not None:
        return x, y
    return (x,) if isinstance(x, (list, tuple)) else x


def sparse_reader(parts: tuple, who: str, sparse_inputs: Callable = lambda x: ()) -> tuple[Any, int] | None:
    """What reads the rows of these numbers, and how many there are, where a part holds sparse matrices; else `None`.

    Rows that the model does not take sparse are made dense when their turn comes: all would rarely fit into memory.

    Args:
        parts: `(x, y, sample_weight)`, of which the last ones may be `None`.
        sparse_inputs: Function of `x` that returns the leaves that the model takes sparse.
    """
    if not any(is_sparse_type(type(leaf)) for leaf in jax.tree.leaves(parts, is_leaf=is_leaf)):
        return None

    def rows_of(leaf):
        rows = sparse_rows(leaf) if is_sparse_type(type(leaf)) else None
        return leaf if rows is None else rows

    parts = jax.tree.map(rows_of, parts, is_leaf=is_leaf)
    given = parts[: 3 if parts[2] is not None else 2 if parts[1] is not None else 1]
    names = ("x", "y", "sample_weight")
    # CSR matrices stay as they are, everything else is made an array now.
    keep = lambda leaf, name: leaf if is_sparse_type(type(leaf)) else to_arrays(leaf, who, name)
    given = tuple(
        jax.tree.map(lambda leaf, name=name: keep(leaf, name), part, is_leaf=lambda v: is_leaf(v) or _holds_numbers(v))
        for part, name in zip(given, names, strict=False)
    )
    leaves = jax.tree.leaves(given, is_leaf=is_leaf)
    if len({leaf.shape[0] for leaf in leaves}) > 1:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise ValueError(f"{who}: all arrays must have the same number of samples. Got {shapes}.")
    kept = {id(leaf): rows for leaf in sparse_inputs(given[0]) if (rows := RowElements.of(leaf)) is not None}

    def take(leaf, numbers):
        if id(leaf) in kept:
            return kept[id(leaf)].take(numbers)
        return to_numpy(leaf[numbers]) if is_sparse_type(type(leaf)) else np.asarray(leaf)[numbers]

    read = lambda numbers: jax.tree.map(lambda leaf: take(leaf, numbers), given, is_leaf=is_leaf)
    return read, leaves[0].shape[0]


class RowElements(NamedTuple):
    """The elements of a CSR matrix, to be read by rows.

    Attributes:
        matrix: The matrix, each element listed once.
        most: Elements of the longest row.
    """

    matrix: Any
    most: int

    @classmethod
    def of(cls, matrix) -> "RowElements | None":
        """Those of a matrix; `None` if its longest row takes more room than a dense one, and of anything else."""
        if not is_sparse_type(type(matrix)):
            return None
        if not matrix.has_canonical_format:
            matrix = matrix.copy()  # the user's stays as it is
            matrix.sum_duplicates()
        most = max(int(np.diff(matrix.indptr).max(initial=0)), 1)
        # An element is a number and its column.
        return cls(matrix, most) if 2 * most < matrix.shape[1] else None

    def take(self, numbers: np.ndarray) -> SparseRows:
        """Rows by number."""
        part = self.matrix[numbers]
        is_there = np.arange(self.most) < np.diff(part.indptr)[:, None]
        values = np.zeros(is_there.shape, _dtype_for(part.dtype))
        columns = np.full(is_there.shape, part.shape[1], np.int32)
        values[is_there], columns[is_there] = part.data, part.indices
        return SparseRows(values, columns, part.shape[1])


def _dtype_for(dtype: np.dtype) -> Any:
    """What arrays of a dtype become: float64 is NumPy's own default, which nobody asked for."""
    return config.floatx() if dtype == np.float64 else jax.dtypes.canonicalize_dtype(dtype)


def to_arrays(structure: Tree, who: str, name: str) -> Tree:
    """Frames, lists of numbers and arrays as NumPy or JAX arrays of dtypes that JAX computes in."""
    if structure is None or (type(structure) is np.ndarray and structure.dtype in _COMPUTED):
        return structure  # most batches: loops of one's own call this for each

    def convert(leaf):
        array = to_numpy(leaf)
        if isinstance(array, jax.Array):
            return array
        try:
            array = np.asarray(array)
        except ValueError as error:
            raise ValueError(
                f"{who}: `{name}` cannot be made an array; are its rows of equal length? {error}"
            ) from None
        # A series of targets becomes a column, as Keras makes it, so that it meets predictions `(rows, 1)`.
        array = array[:, None] if array.ndim == 1 and type(leaf).__name__ == "Series" else array
        if array.dtype.kind in "OSUTMm":
            raise ValueError(
                f"{who}: `{name}` has dtype {array.dtype}, which no device computes with{_odd_columns(leaf)}. Convert "
                "text, categories and dates to numbers first, for example with a preprocessing layer."
            )
        return array.astype(_dtype_for(array.dtype), copy=False)

    def convert_within_memory(leaf):
        try:
            return convert(leaf)
        except MemoryError as error:
            raise MemoryError(
                f"{who}: `{name}` does not fit into memory: {error}. Keep it on disk, as float32, and pass "
                "`np.load(path, mmap_mode='r')`, whose rows are read as they are needed; or pass a source of batches."
            ) from None

    # A list of numbers is data; of anything else it is several inputs.
    return jax.tree.map(convert_within_memory, structure, is_leaf=lambda part: is_leaf(part) or _holds_numbers(part))


_COMPUTED = frozenset(map(np.dtype, ("bool", "uint8", "int32", "float32")))


def _odd_columns(table) -> str:
    """Which columns of a table are no numbers, for a message."""
    types: Any = getattr(table, "dtypes", None)
    if not hasattr(types, "items"):
        return ""
    odd = [f"{name!r} ({kind})" for name, kind in types.items() if str(kind) in _NO_NUMBERS or "datetime" in str(kind)]
    return f" (columns {', '.join(odd)})" if odd else ""


_NO_NUMBERS = ("object", "str", "string", "category")


def _holds_numbers(rows) -> bool:
    if not isinstance(rows, list):
        return False
    leaves = jax.tree.leaves(rows, is_leaf=is_leaf)
    return bool(leaves) and all(isinstance(leaf, (int, float, np.number, np.bool_)) for leaf in leaves)


def is_leaf(value) -> bool:
    """Whether a value is a leaf of a data structure: a frame, an array of any library, or a source of batches."""
    if is_frame(value) or is_sparse_type(type(value)):
        return True
    return hasattr(value, "__iter__") and not isinstance(value, (list, tuple, dict))


def weights_of_classes(y, class_weight: dict, sample_weight, who="fit"):
    """Sample weights from `{class index: weight}`, times `sample_weight` where given.

    Labels are class indices, in maps too: `(rows, ...)`, or with a last axis of size 1 after them. A last axis whose
    numbers add up to 1 everywhere is one of classes, and one of more than two axes in all is nothing else then; of
    `(rows, classes)` that say something else about each class the largest counts, as in Keras.

    Returns: `(rows, ...)`, a weight for each label.
    """
    leaves = jax.tree.leaves(y)
    if len(leaves) != 1:
        raise ValueError(f"{who}: `class_weight` needs a model with one target. Got {len(leaves)}.")
    labels = np.asarray(leaves[0])
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    elif labels.ndim > 1 and (_are_shares(labels) or (labels.ndim == 2 and labels.max(initial=0) <= 1)):
        labels = labels.argmax(-1)
    if not isinstance(class_weight, dict):
        raise ValueError(f"{who}: `class_weight` must be a dict {{class index: weight}}. Got {class_weight!r}.")
    unknown = [label for label in class_weight if not isinstance(label, (int, np.integer)) or label < 0]
    if unknown:
        raise ValueError(f"{who}: the keys of `class_weight` are integer class indices. Got {unknown[0]!r}.")
    if labels.min(initial=0) < 0:
        raise ValueError(f"{who}: `class_weight` needs labels of at least 0. Got {labels.min()}.")
    # Classes without an entry count 1. A table, for there may be millions of labels.
    table = np.ones(int(max([labels.max(initial=0), *class_weight])) + 1, np.float32)
    for label, weight in class_weight.items():
        table[label] = weight
    weights = table[labels.astype(np.int64)]
    if sample_weight is None:
        return weights
    given = np.asarray(sample_weight)
    # One weight for a row counts for all of its labels; NumPy would lay it along the last axis.
    return weights * given.reshape(given.shape + (1,) * (weights.ndim - given.ndim))


def _are_shares(labels: np.ndarray) -> bool:
    """Whether the last axis is one of classes: one-hot, or fractions of 1."""
    return labels.min(initial=0) >= 0 and bool(np.allclose(labels.sum(-1, dtype=np.float64), 1, atol=1e-3))
