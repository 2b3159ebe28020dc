"""Arrays, tables and tensors of other libraries as NumPy arrays.

No library is imported: they are known by their methods.
"""

import functools
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def checksum(array: Any) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(np.asarray(array)).reshape(-1).view(np.uint8).data)


_OWN = ("jax", "jaxlib", "numpy", "kerax", "builtins")


@functools.cache
def is_foreign_type(kind: type) -> bool:
    """Whether values of a type are tensors of another library, dense, ragged or sparse, or scipy's sparse matrices."""
    if kind.__module__.partition(".")[0] in _OWN or hasattr(kind, "__jax_array__") or hasattr(kind, "to_numpy"):
        return False
    if issubclass(kind, np.ndarray):
        return False
    return hasattr(kind, "__array__") or _is_ragged(kind) or is_sparse_type(kind)


@functools.cache
def is_sparse_type(kind: type) -> bool:
    """Whether values of a type are sparse: matrices of scipy, TensorFlow's tensors, JAX's BCOO and the like."""
    of_scipy = hasattr(kind, "tocsr") and hasattr(kind, "toarray")
    of_tensorflow = all(hasattr(kind, name) for name in ("dense_shape", "indices", "values"))
    return of_scipy or of_tensorflow or (hasattr(kind, "todense") and hasattr(kind, "fromdense"))


def _is_ragged(kind: type) -> bool:
    return hasattr(kind, "row_splits") and hasattr(kind, "to_tensor")


class GraphTensorGiven(TypeError):
    """A tensor of a graph of TensorFlow was given, which has no values before the graph runs."""


def is_graph_tensor(value: Any) -> bool:
    """Whether a value is a tensor of a graph of TensorFlow, as inside `tf.data.Dataset.map`."""
    # Tensors with values have no such attribute.
    return is_foreign_type(type(value)) and hasattr(value, "graph") and hasattr(value, "op")


def is_frame(value: Any) -> bool:
    """Whether a value is a table or a column of one: pandas, Polars, Arrow."""
    return hasattr(value, "to_numpy") and not isinstance(value, (np.ndarray, jax.Array))


def to_numpy(value: Any) -> Any:
    """A tensor, table or array of any library as a NumPy array in the byte order of this computer.

    Rows of a ragged tensor are filled up with zeros, a sparse one becomes dense. Missing values of a table become NaN.
    Others, JAX's arrays among them, are returned as they are.
    """
    if is_frame(value):
        value = _table(value)
    elif is_foreign_type(type(value)) or is_sparse_type(type(value)):
        value = _tensor(value)
    if isinstance(value, np.ndarray):
        value = _numbers(value) if value.dtype == object else value
        if not value.dtype.isnative:  # of files, for which neither JAX nor a program has a type
            value = value.astype(value.dtype.newbyteorder("="))
    return value


def _tensor(value) -> np.ndarray:
    kind = type(value)
    if is_graph_tensor(value):
        raise GraphTensorGiven(f"A tensor of a graph has no values: {value!r}. Call `to_numpy` on tensors with values.")
    if _is_ragged(kind):
        value = value.to_tensor()
    elif hasattr(kind, "toarray"):
        return value.toarray()
    elif is_sparse_type(kind):
        return _dense(value) if hasattr(kind, "dense_shape") else np.asarray(value.todense())
    elif hasattr(kind, "detach"):  # PyTorch, whose tensors may need gradients, lie elsewhere, or have no NumPy dtype
        value = value.detach().cpu().resolve_conj().resolve_neg()
        if str(value.dtype) == "torch.bfloat16":
            return value.float().numpy().astype(jnp.bfloat16)
    return np.asarray(value)


def _dense(tensor) -> np.ndarray:
    values = np.asarray(tensor.values)
    dense = np.zeros(tuple(int(size) for size in tensor.dense_shape), values.dtype)
    dense[tuple(np.asarray(tensor.indices).T)] = values
    return dense


def sparse_rows(value: Any) -> Any:
    """A sparse matrix as scipy's CSR, rows of which are taken fast; `None` for what has other than two axes."""
    from scipy import sparse  # comes with jax; slow to import

    if hasattr(value, "tocsr"):
        return value.tocsr() if len(value.shape) == 2 else None
    if hasattr(value, "dense_shape"):
        shape, data = tuple(int(size) for size in value.dense_shape), value.values
    else:
        shape, data = value.shape, value.data
    if len(shape) != 2 or np.ndim(data) != 1:
        return None
    return sparse.csr_matrix((np.asarray(data), tuple(np.asarray(value.indices).T)), shape)


def _table(table) -> np.ndarray:
    values = np.asarray(table.to_numpy())
    if values.dtype == object and values.ndim == 2 and hasattr(table, "columns"):
        # Columns of several types, each of which may be numbers nevertheless.
        columns = [_column(table.iloc[:, i] if hasattr(table, "iloc") else table[:, i]) for i in range(values.shape[1])]
        return np.stack(columns, axis=1) if all(c.dtype.kind in "biufc" for c in columns) else values
    if values.dtype == object and values.ndim == 1:
        return _column(table)
    return values


def _column(column) -> np.ndarray:
    values = np.asarray(column.to_numpy())
    if values.dtype == object and hasattr(column, "isna"):
        # pandas has a mark of its own for what is missing, which is no number.
        missing = np.asarray(column.isna())
        if missing.any():
            values = np.where(missing, np.nan, values)
    return _numbers(values)


def _numbers(values: np.ndarray) -> np.ndarray:
    """An array of objects that are all numbers as one of numbers; any other as it is."""
    kinds = set(map(type, values.ravel().tolist()))
    if not kinds or not all(issubclass(kind, (bool, int, float, complex, np.number, np.bool_)) for kind in kinds):
        return values
    return np.array(values.tolist())
