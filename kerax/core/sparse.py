"""Sparse arrays, JAX's `BCOO`, as arguments of functions that are written for dense ones.

What JAX knows a sparse rule for stays sparse (`jax.experimental.sparse.sparsify`), so do functions of each element that
keep zero; all else is computed of dense arrays.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

KEEPS_ZERO = frozenset(
    "abs absolute arcsin arcsinh arctan arctanh ceil celu conj conjugate elu expm1 floor gelu hard_shrink hard_tanh "
    "imag isinf isnan isneginf isposinf leaky_relu log1p negative real relu relu6 rint round "
    "selu sign silu sin sinh soft_shrink "
    "softsign sparse_plus sqrt square swish tan tanh tanh_shrink threshold trunc cast".split()
)
"""Names of functions of each element of their first argument for which f(0) = 0."""
KEEPS_ZERO_OF_BOTH = frozenset(("maximum", "minimum"))


MODULE = "jax.experimental.sparse"


def is_in_use() -> bool:
    """Whether anyone has imported JAX's sparse arrays; else there are none."""
    return MODULE in sys.modules


def is_sparse(value: Any) -> bool:
    """Whether a value is a `BCOO`."""
    return is_in_use() and isinstance(value, sys.modules[MODULE].BCOO)


def leaves(structure: Any, is_leaf: Callable | None = None) -> list:
    """`jax.tree.leaves`, with sparse arrays as leaves, not the arrays that they are made of."""
    is_any = lambda leaf: isinstance(leaf, SparseRows) or is_sparse(leaf) or (is_leaf is not None and is_leaf(leaf))
    return jax.tree.leaves(structure, is_leaf=is_any)


def holds_any(*structures) -> bool:
    """Whether a leaf is a `BCOO`."""
    return is_in_use() and any(map(is_sparse, leaves(structures)))


def to_dense(structure: Any) -> Any:
    """The structure with dense arrays for sparse ones."""
    if not holds_any(structure):
        return structure

    def dense(leaf):
        if not is_sparse(leaf):
            return leaf
        # Elements are added up where they lie, which JAX does not do with booleans.
        return with_data(leaf, leaf.data.astype(jnp.int8)).todense() > 0 if leaf.dtype == bool else leaf.todense()

    return jax.tree.map(dense, structure, is_leaf=is_sparse)


def todense(x: Any) -> Any:
    """A dense array for a sparse one, also where JAX's rules are looked up."""
    from jax.experimental import sparse

    return sparse.todense(x)


def apply(function: Callable, name: str, args: tuple, kwargs: dict) -> Any:
    """`function(*args, **kwargs)`, sparse if JAX has rules for what it does, or `name` says that it keeps zero."""
    if name in KEEPS_ZERO and args and is_sparse(args[0]) and not holds_any(args[1:], kwargs):
        x = _without_duplicates(args[0])
        return with_data(x, function(x.data, *args[1:], **kwargs))
    if name in KEEPS_ZERO_OF_BOTH and len(args) == 2 and all(map(is_sparse, args)) and args[0].shape == args[1].shape:
        first, second = _with_the_same_places(*args)
        return with_data(first, function(first.data, second.data))
    given, form = jax.tree.flatten((args, kwargs), is_leaf=is_sparse)
    places = [place for place, leaf in enumerate(given) if is_sparse(leaf)]

    def of_sparse(*arrays):
        filled = dict(zip(places, arrays, strict=True))
        args, kwargs = jax.tree.unflatten(form, [filled.get(place, leaf) for place, leaf in enumerate(given)])
        return function(*args, **kwargs)

    try:
        return _sparsified(of_sparse, [_without_duplicates(given[place]) for place in places])
    # Which one tells that a rule is missing depends on the rule; a mistake of the user's is told by what follows.
    except Exception as error:
        if not all(isinstance(size, int) for place in places for size in given[place].shape):
            raise NotImplementedError("Whether this is sparse is not known of symbolic sizes.") from error
        return of_sparse(*(to_dense(given[place]) for place in places))


def _sparsified(function: Callable, arrays: list) -> Any:
    """The function by JAX's rules, of which those of two sparse arrays that meet sample by sample want them so."""
    from jax.experimental.sparse import bcoo_update_layout, sparsify

    try:
        return sparsify(function)(*arrays)
    except NotImplementedError:
        if len(arrays) != 2 or any(x.n_batch or x.n_dense or x.ndim < 2 for x in arrays):
            raise
        return sparsify(function)(*(bcoo_update_layout(x, n_batch=1, on_inefficient=None) for x in arrays))


def caller(layer: Any, call: Callable) -> Callable:
    """A layer's `call` for sparse arguments: a user's as it is, kerax's own, which are written for dense arrays, so."""
    # Models hand on to their layers what they are given.
    is_own = type(layer).call.__module__.split(".")[:2] == ["kerax", "layers"]
    if not is_own or getattr(layer, "takes_sparse", False):  # its `call` is written for both
        return call
    # What a layer keeps of a call would be what JAX traces to find out the rules.
    is_pure = all(variable.is_parameter for variable in layer.variables)

    def called(*args, **kwargs):
        return apply(call, "", args, kwargs) if is_pure else call(*to_dense(args), **to_dense(kwargs))

    return called


def _without_duplicates(x: Any) -> Any:
    """Elements that are listed twice as their sum: a function of each element would take them apart."""
    return x if x.unique_indices else x.sum_duplicates(nse=x.nse)


def _with_the_same_places(*arrays: Any) -> list:
    """Sparse arrays of one shape with zeros where only another one has an element."""
    arrays = tuple(_unbatched(x) if x.n_batch or x.n_dense else x for x in arrays)
    indices = jnp.concatenate([x.indices for x in arrays])
    found = []
    for x in arrays:
        parts = [other.data if other is x else jnp.zeros_like(other.data, x.dtype) for other in arrays]
        joined = type(x)((jnp.concatenate(parts), indices), shape=x.shape)
        found.append(joined.sum_duplicates(nse=len(indices), remove_zeros=False))
    return found


def _unbatched(x: Any) -> Any:
    """A sparse array in which each element has all its indices, none of which its place in the arrays says."""
    from jax.experimental.sparse import bcoo_update_layout

    # One batch may stand for all, which JAX's function overlooks.
    parts = [jnp.broadcast_to(part, (*x.shape[: x.n_batch], *part.shape[x.n_batch :])) for part in (x.data, x.indices)]
    return bcoo_update_layout(type(x)(tuple(parts), shape=x.shape), n_batch=0, n_dense=0)


def with_data(x: Any, data: jax.Array) -> Any:
    """A sparse array with other elements at the same places."""
    flags = dict(indices_sorted=x.indices_sorted, unique_indices=x.unique_indices)
    return type(x)((data, x.indices), shape=x.shape, **flags)


def spec(shape: tuple, dtype: Any) -> Any:
    """The form of a sparse array of one element, to infer what functions make of it."""
    from jax.experimental.sparse import BCOO

    empty = BCOO((jnp.zeros((1,), dtype), jnp.zeros((1, len(shape)), jnp.int32)), shape=shape, unique_indices=True)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), empty)


def from_dense(x: jax.Array, num_elements: int) -> Any:
    """A sparse array of the elements that are not 0, of which there are at most `num_elements`."""
    from jax.experimental.sparse import BCOO

    return BCOO.fromdense(x, nse=num_elements)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values", "columns"], meta_fields=["num_columns"])
@dataclasses.dataclass
class SparseRows:
    """Rows of a sparse matrix as arrays with an axis of rows, which batches are cut and joined along.

    All rows have room for as many elements, so that one program serves all batches.

    Attributes:
        values: `(rows, elements)`, zeros where a row has fewer.
        columns: `(rows, elements)`, int32; `num_columns`, which is none, where a row has fewer.
        num_columns: Size of the matrix's second axis.
    """

    values: Any
    columns: Any
    num_columns: int

    def to_bcoo(self) -> Any:
        """The matrix as JAX's `BCOO`, or from shapes and dtypes its form."""
        from jax.experimental.sparse import BCOO

        def opened(rows):
            numbers = jnp.broadcast_to(jnp.arange(len(rows.columns), dtype=jnp.int32)[:, None], rows.columns.shape)
            indices = jnp.stack([numbers, rows.columns], axis=-1).reshape(-1, 2)
            shape = len(rows.columns), rows.num_columns
            return BCOO((rows.values.reshape(-1), indices), shape=shape, unique_indices=True)

        is_spec = isinstance(self.values, jax.ShapeDtypeStruct)
        return jax.eval_shape(opened, self) if is_spec else opened(self)


def has_rows(structure: Any) -> bool:
    """Whether the structure holds `SparseRows`."""
    return any(map(_is_rows, jax.tree.leaves(structure, is_leaf=_is_rows)))


def opened(structure: Any) -> Any:
    """The structure with a `BCOO` for each `SparseRows`."""
    return jax.tree.map(lambda leaf: leaf.to_bcoo() if _is_rows(leaf) else leaf, structure, is_leaf=_is_rows)


def _is_rows(leaf: Any) -> bool:
    return isinstance(leaf, SparseRows)


class SparseSpec(jax.ShapeDtypeStruct):
    """The shape and dtype of a sparse array."""


def specs_of(outputs: Any) -> Any:
    """What a function returned for specs, with a `SparseSpec` for each sparse array."""
    if not is_in_use():
        return outputs
    as_spec = functools.partial(jax.tree.map, lambda x: SparseSpec(x.shape, x.dtype) if is_sparse(x) else x)
    return as_spec(outputs, is_leaf=is_sparse)
