"""Conversion, slices, scatters and control flow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core.closures import captures, taking_functions
from kerax.core.host_arrays import to_numpy
from kerax.core.lift import lift, size_of_axis
from kerax.core.sparse import is_sparse, to_dense, todense
from kerax.core.symbolic import KerasTensor, is_symbolic
from kerax.core.variable import unwrap
from kerax.ops.lifting import keeps_sizes, op

__all__ = (
    "associative_scan cast cond convert_to_numpy convert_to_tensor dtype fori_loop is_tensor lift map ndim scan "
    "scatter scatter_update shape size slice slice_update stop_gradient switch unstack vectorized_map while_loop"
).split()


def shape(x) -> tuple:
    """The sizes of the axes; those a symbolic tensor does not know are values of the graph, which equal `None`."""
    if isinstance(x, KerasTensor):
        return tuple(size_of_axis(x, axis) if size is None else size for axis, size in enumerate(x.shape))
    # No op: shapes are known outside of programs.
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


def ndim(x) -> int:
    """Number of axes."""
    return len(x.shape) if hasattr(x, "shape") else np.ndim(x)


def dtype(x) -> str:
    """Name of the dtype."""
    return jnp.dtype(x.dtype).name if hasattr(x, "dtype") else jnp.asarray(x).dtype.name


def is_tensor(x) -> bool:
    """Whether `x` is a JAX array, dense or sparse, or a symbolic tensor. Variables and NumPy arrays are not."""
    return isinstance(x, (jax.Array, KerasTensor)) or is_sparse(x)


def convert_to_numpy(x) -> np.ndarray:
    """The values on the host, in an array of the caller's own; of a sparse array too."""
    return np.array(to_numpy(to_dense(unwrap(x))))


@keeps_sizes
def convert_to_tensor(x, dtype=None, sparse=None, ragged=None):
    """`x` as an array, of a sparse one a dense one if `sparse` is false. `ragged` is kept for Keras's signature."""
    if sparse is False:
        x = _densify(x) if isinstance(x, KerasTensor) and x.sparse else to_dense(x)
    return _convert_to_tensor(x, dtype)


_densify = lift(lambda x: todense(x), "densify")
_convert_to_tensor = op(functools.wraps(convert_to_tensor)(lambda x, dtype=None: jnp.asarray(x, dtype)))


@keeps_sizes
@op
def cast(x, dtype):
    """`x` with another dtype."""
    return jnp.asarray(x).astype(dtype)


@op
def size(x):
    """Number of elements."""
    return jnp.size(x)


@op
def stop_gradient(variable):
    """The same value, through which no gradient flows."""
    return jax.lax.stop_gradient(variable)


@op
def slice(inputs, start_indices, shape):
    """The block of the given shape that begins at `start_indices`; a size of -1 goes up to the end.

    Such a size needs an index that is known where the program is made.
    """
    inputs, starts = jnp.asarray(inputs), tuple(start_indices)
    ends = zip(inputs.shape, starts, shape, strict=True)
    sizes = [whole - int(start) if size == -1 else size for whole, start, size in ends]
    return jax.lax.dynamic_slice(inputs, starts, sizes)


@op
def slice_update(inputs, start_indices, updates):
    """`inputs` with the block that begins at `start_indices` replaced by `updates`."""
    return jax.lax.dynamic_update_slice(jnp.asarray(inputs), jnp.asarray(updates), tuple(start_indices))


# One array for each axis, as indexing wants them: (n, axes) to a tuple of (n,).
def _columns(indices):
    return tuple(jnp.moveaxis(jnp.asarray(indices), -1, 0))


@op
def scatter(indices, values, shape):
    """Zeros of the given shape with `values` added at `indices (..., axes)`."""
    values = jnp.asarray(values)
    return jnp.zeros(shape, values.dtype).at[_columns(indices)].add(values)


@op
def scatter_update(inputs, indices, updates, reduction=None):
    """`inputs` with `updates` at `indices (n, axes)`: set, or combined by `"add"`, `"max"`, `"min"` or `"mul"`."""
    if reduction not in (None, "add", "max", "min", "mul"):
        raise ValueError(f"scatter_update: `reduction` must be 'add', 'max', 'min', 'mul' or None. Got {reduction!r}.")
    # Keras's names of the reductions are those of JAX's methods.
    return getattr(jnp.asarray(inputs).at[_columns(indices)], reduction or "set")(updates)


@op
def unstack(x, num=None, axis=0):
    """The list of the `num` slices along `axis`. `num` is needed where the size of the axis is not known."""
    slices = jnp.moveaxis(jnp.asarray(x), axis, 0)
    if num is None and not isinstance(slices.shape[0], int):
        raise ValueError(f"unstack: axis {axis} of {jnp.shape(x)} has no known size. Give `num`.")
    return list(slices) if num is None else [slices[index] for index in range(num)]


def cond(pred, true_fn, false_fn):
    """`true_fn()` or `false_fn()`.

    In a graph both are recorded. Where it runs, one is computed, unless a branch changes state as batch statistics.
    """
    if is_symbolic(pred) or captures(true_fn, false_fn):
        return _CHOOSE(pred, true_fn(), false_fn())
    return _CHOOSE(pred, true_fn, false_fn)


def _choose(pred, true_fn, false_fn):
    branches = (branch if callable(branch) else lambda branch=branch: branch for branch in (true_fn, false_fn))
    return jax.lax.cond(pred, *branches)


_CHOOSE = lift(_choose, "cond")


@taking_functions
def switch(index, branches, *operands):
    """`branches[index](*operands)`, the index clipped to the range."""
    return jax.lax.switch(index, branches, *operands)


@taking_functions
def while_loop(cond, body, loop_vars, maximum_iterations=None):
    """`body(*loop_vars)` again and again while `cond(*loop_vars)` holds, at most `maximum_iterations` times."""
    # `lax` has a single value that goes round: a tuple of all, with the count beside them.
    is_sequence = isinstance(loop_vars, (list, tuple))
    start = tuple(loop_vars) if is_sequence else (loop_vars,)

    def go_on(carry):
        count, values = carry
        below = True if maximum_iterations is None else count < maximum_iterations
        return jnp.logical_and(cond(*values), below)

    def step(carry):
        count, values = carry
        values = body(*values)
        return count + 1, tuple(values) if isinstance(values, (list, tuple)) else (values,)

    # Python numbers would change their type after the first turn, which JAX refuses.
    _, values = jax.lax.while_loop(go_on, step, (0, jax.tree.map(jnp.asarray, start)))
    return values if is_sequence else values[0]


@taking_functions
def fori_loop(lower, upper, body_fun, init_val):
    """`val = body_fun(i, val)` for `i` from `lower` to `upper - 1`."""
    return jax.lax.fori_loop(lower, upper, body_fun, init_val)


@taking_functions
def scan(f, init, xs=None, length=None, reverse=False, unroll=1):
    """`carry, y = f(carry, x)` over the leading axis of `xs`. Returns the last carry and the stacked `y`."""
    return jax.lax.scan(f, init, xs, length, reverse, unroll)


@taking_functions
def associative_scan(f, elems, reverse=False, axis=0):
    """All prefixes of `elems` combined by the associative function `f`."""
    return jax.lax.associative_scan(f, elems, reverse, axis)


@taking_functions
def map(f, xs):
    """`f` of each slice along the leading axis, one after the other, stacked."""
    return jax.lax.map(f, xs)


@taking_functions
def vectorized_map(function, elements):
    """`function` of each slice along the leading axis, all at once, stacked."""
    return jax.vmap(function)(elements)
