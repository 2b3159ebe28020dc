"""Making arrays and changing their shape or order."""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from kerax import config
from kerax.core.lift import lift
from kerax.core.symbolic import KerasTensor, inferred_tensors, is_symbolic
from kerax.ops.lifting import as_sizes, keeps_sizes, op, unary
from kerax.ops.products import repeated

__all__ = (
    "append arange argsort array broadcast_to column_stack concatenate copy diag diagonal diff digitize empty "
    "expand_dims eye flip full full_like hstack identity linspace logspace meshgrid moveaxis ones ones_like pad "
    "ravel repeat reshape roll rot90 searchsorted select sort split squeeze stack swapaxes take take_along_axis "
    "tile trace transpose tri tril triu vstack where zeros zeros_like"
).split()

copy = unary(jnp.copy)
ravel = unary(jnp.ravel)


@lift
def zeros(shape, dtype=None):
    """All 0; `floatx()` by default."""
    return jnp.zeros(as_sizes(shape), dtype or config.floatx())  # JAX's own default follows its switch for 64 bits


@lift
def ones(shape, dtype=None):
    """All 1; `floatx()` by default."""
    return jnp.ones(as_sizes(shape), dtype or config.floatx())


@lift
def empty(shape, dtype=None):
    """All 0: JAX has no uninitialised arrays."""
    return jnp.zeros(as_sizes(shape), dtype or config.floatx())


@lift
def full(shape, fill_value, dtype=None):
    """All `fill_value`; `floatx()` by default if that is a float of Python's."""
    return jnp.full(as_sizes(shape), fill_value, dtype or _floatx_for(fill_value))


def _floatx_for(*numbers) -> str | None:
    """`floatx()` if one of the numbers is a float of Python's, which has no dtype of its own, and none has one."""
    kinds = {type(number) for number in numbers if number is not None}
    return config.floatx() if float in kinds and kinds <= {int, float} else None


@lift
def eye(N, M=None, k=0, dtype=None):
    """1 on the `k`-th diagonal of an `N` by `M` matrix, 0 elsewhere."""
    return jnp.eye(N, M, k, dtype or config.floatx())


@lift
def identity(n, dtype=None):
    """1 on the diagonal of an `n` by `n` matrix, 0 elsewhere."""
    return jnp.eye(n, dtype=dtype or config.floatx())


@lift
def tri(N, M=None, k=0, dtype=None):
    """1 on and below the `k`-th diagonal of an `N` by `M` matrix, 0 elsewhere."""
    return jnp.tri(N, M, k, dtype or config.floatx())


@lift
def arange(start, stop=None, step=None, dtype=None):
    """`start`, `start + step`, ... below `stop`; from 0 with one argument."""
    return jnp.arange(start, stop, step, dtype or _floatx_for(start, stop, step))


@lift
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    """`num` evenly spaced numbers from `start` to `stop`."""
    return jnp.linspace(start, stop, num, endpoint, retstep, dtype, axis)


@lift
def logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0):
    """`base` to the power of `num` evenly spaced numbers."""
    return jnp.logspace(start, stop, num, endpoint, base, dtype, axis)


@op
def array(x, dtype=None):
    """`x` as an array."""
    return jnp.array(x, dtype)


@op
def zeros_like(x, dtype=None):
    """All 0, of the shape of `x`."""
    return jnp.zeros_like(x, dtype)


@op
def ones_like(x, dtype=None):
    """All 1, of the shape of `x`."""
    return jnp.ones_like(x, dtype)


@op
def full_like(x, fill_value, dtype=None):
    """All `fill_value`, of the shape of `x`."""
    return jnp.full_like(x, fill_value, dtype)


@op
def reshape(x, newshape):
    """The same elements in another shape; one size may be -1 (or `None`) and is inferred."""
    newshape = as_sizes(newshape)
    # `None` is what shapes of symbolic tensors have in the place of the batch size.
    newshape = [-1 if size is None else size for size in ((newshape,) if isinstance(newshape, int) else newshape)]
    known = [size for size in newshape if isinstance(size, (int, np.integer))]
    # NumPy takes any negative number for a size to infer, JAX all of them.
    if min(known, default=0) < -1 or known.count(-1) > 1:
        raise ValueError(f"reshape: sizes must be at least 0, and one at most -1, to be inferred. Got {newshape}.")
    return jnp.reshape(x, newshape)


@op
def transpose(x, axes=None):
    """The axes in another order; by default reversed."""
    return jnp.transpose(x, axes)


@op
def moveaxis(x, source, destination):
    """The axes `source` moved to the places `destination`."""
    return jnp.moveaxis(x, source, destination)


@op
def swapaxes(x, axis1, axis2):
    """Two axes exchanged."""
    return jnp.swapaxes(x, axis1, axis2)


@keeps_sizes
@op
def expand_dims(x, axis):
    """New axes of size 1."""
    return jnp.expand_dims(x, axis)


@op
def squeeze(x, axis=None):
    """Without axes of size 1."""
    return jnp.squeeze(x, axis)


def _sizes_there(x, shape) -> list:
    """The shape with the sizes of `x` for `None`."""
    sizes = (None,) * (len(shape) - len(x.shape)) + tuple(x.shape)
    return [own if size is None else size for own, size in zip(sizes, shape, strict=True)]


def _broadcast_spec(function, args, kwargs):
    call = dict(zip(("x", "shape"), args, strict=False)) | kwargs
    x, shape = call["x"], call["shape"]
    fits = all(own in (None, 1, size) for own, size in zip(x.shape[::-1], shape[::-1], strict=False))
    if is_symbolic(shape) or len(shape) < x.ndim or not fits:
        return inferred_tensors(function, args, kwargs)
    # Told by the shape alone: a size of `x` that is not known is 1, or what stands there.
    return KerasTensor(_sizes_there(x, shape), x.dtype, sparse=x.sparse)


@functools.partial(op, spec=_broadcast_spec)
def broadcast_to(x, shape):
    """Repeated to the given shape, in which `None` is the size that `x` has there."""
    x = jnp.asarray(x)
    sizes = _sizes_there(x, as_sizes(shape))
    if x.ndim > 1 and tuple(sizes[1:]) == x.shape:  # a table for all rows of a batch
        return repeated(x, sizes[0])
    return jnp.broadcast_to(x, sizes)


# These functions take lists of arrays, which `op` would make one array of: each becomes one by itself.
def _listed(arrays):
    return [jnp.asarray(array) for array in arrays]


@keeps_sizes
@lift
def concatenate(xs, axis=0):
    """The arrays one after the other along `axis`."""
    return jnp.concatenate(_listed(xs), axis)


@keeps_sizes
@lift
def stack(x, axis=0):
    """The arrays one after the other along a new axis."""
    return jnp.stack(_listed(x), axis)


@lift
def column_stack(xs):
    """The arrays one after the other along axis 1, vectors as columns."""
    return jnp.column_stack(_listed(xs))


@lift
def hstack(xs):
    """The arrays one after the other along axis 1 (axis 0 for vectors)."""
    return jnp.hstack(_listed(xs))


@lift
def vstack(xs):
    """The arrays one after the other along axis 0, vectors as rows."""
    return jnp.vstack(_listed(xs))


@op
def append(x1, x2, axis=None):
    """`x2` after `x1` along `axis`; `None` flattens both."""
    return jnp.append(x1, x2, axis)


@op
def split(x, indices_or_sections, axis=0):
    """The list of equal parts, or of the parts between indices."""
    # JAX takes a tuple of indices, for it is part of the program.
    sections = indices_or_sections
    return list(jnp.split(x, tuple(sections) if isinstance(sections, list) else sections, axis))


@op
def tile(x, repeats):
    """The whole array repeated along each axis."""
    return jnp.tile(x, as_sizes(repeats))


@op
def repeat(x, repeats, axis=None):
    """Each element repeated along `axis`, all `repeats` times or each as often as it says."""
    # On the host: how many there will be is a size.
    return jnp.repeat(x, np.asarray(repeats) if isinstance(repeats, (list, tuple)) else repeats, axis)


@op
def pad(x, pad_width, mode="constant", constant_values=None):
    """Padded by `((before, after), ...)`; `constant_values` goes with the mode `"constant"`."""
    # Passed only where given: other modes refuse the argument.
    options = {} if constant_values is None else {"constant_values": constant_values}
    return jnp.pad(x, pad_width, mode, **options)


@op
def flip(x, axis=None):
    """The reverse order along `axis`."""
    return jnp.flip(x, axis)


@op
def roll(x, shift, axis=None):
    """Shifted along `axis`; what falls off one end comes in at the other."""
    return jnp.roll(x, shift, axis)


@op
def rot90(array, k=1, axes=(0, 1)):
    """Turned `k` times by 90 degrees in the plane of `axes`."""
    return jnp.rot90(array, k, tuple(axes))  # `axes` are static to JAX, and a list has no hash


def check_indices(who: Any, what: str, indices, size: int):
    """Raises `ValueError` for an index that is no entry of `size`, from either end, where its value is known.

    Fractions are cut off with a warning: Keras looks up whatever is left in silence.
    """
    if isinstance(indices, Tracer) or not indices.size or jnp.issubdtype(indices.dtype, jnp.complexfloating):
        return
    if isinstance(indices, jax.Array) and not indices.is_fully_addressable:
        return  # other processes hold a part
    known = np.asarray(indices)  # on the host: a program for each new shape would take longer than the call
    if jnp.issubdtype(known.dtype, jnp.inexact) and not (known == np.trunc(known)).all():
        got = known[known != np.trunc(known)][0]
        warnings.warn(f"{who}: indices should be whole numbers. Got {got}; its fraction is cut off.", stacklevel=3)
    low, high = int(known.min()), int(known.max())
    if low < -size or high >= size:
        raise ValueError(f"{who}: index {low if low < -size else high} is out of range for {what} of size {size}.")


@op
def take(x, indices, axis=None):
    """The slices of `x` at `indices` along `axis`; negative ones count from the end.

    Raises:
        ValueError: for an index out of range. In a compiled program, which cannot raise, its slice is NaN, or the
            least integer.
    """
    indices = jnp.asarray(indices)  # lists of indices too
    size = jnp.size(x) if axis is None else jnp.shape(x)[axis]
    if not jnp.issubdtype(indices.dtype, jnp.inexact):  # JAX refuses those
        check_indices("take", f"axis {axis}", indices, size)
    return jnp.take(x, indices, axis)


@op
def take_along_axis(x, indices, axis=None):
    """The element at the index that `indices` has at the same position."""
    return jnp.take_along_axis(x, jnp.asarray(indices), axis)


def indices_spec(x):
    """What the indices of some elements of `x` are to a graph: an array for each axis, of a size that values decide."""
    return tuple(KerasTensor((None,), "int32") for _ in x.shape)


def _where_spec(function, args, kwargs):
    condition, x1 = (*args, kwargs.get("condition"))[0], (*args, None, None)[1]
    if x1 is None and kwargs.get("x1") is None:
        return indices_spec(condition)
    return inferred_tensors(function, args, kwargs)


@functools.partial(op, spec=_where_spec)
def where(condition, x1: Any = None, x2: Any = None):
    """`x1` where the condition holds, else `x2`; with neither, the indices where it holds, which `jit` cannot know."""
    return jnp.where(condition, x1, x2)


@lift
def select(condlist, choicelist, default=0):
    """For each element the choice of the first condition that holds, else `default`."""
    return jnp.select(_listed(condlist), _listed(choicelist), default)


@op
def sort(x, axis=-1):
    """In rising order along `axis`."""
    return jnp.sort(x, axis)


@op
def argsort(x, axis=-1):
    """The indices that sort along `axis`; `None` flattens."""
    return jnp.argsort(x, axis)


@op
def searchsorted(sorted_sequence, values, side="left"):
    """Where the values would have to be inserted to keep the sequence sorted."""
    return jnp.searchsorted(jnp.asarray(sorted_sequence), values, side=side)


@op
def digitize(x, bins):
    """The index of the bin that each element falls into."""
    return jnp.digitize(x, jnp.asarray(bins))


@op
def diff(a, n=1, axis=-1):
    """The `n`-th differences of neighbours along `axis`."""
    return jnp.diff(a, n, axis)


@op
def diag(x, k=0):
    """The `k`-th diagonal of a matrix, or a matrix with it."""
    return jnp.diag(x, k)


@op
def diagonal(x, offset=0, axis1=0, axis2=1):
    """The diagonals of the planes of two axes."""
    return jnp.diagonal(x, offset, axis1, axis2)


@op
def trace(x, offset=0, axis1=0, axis2=1):
    """The sums of the diagonals of the planes of two axes."""
    return jnp.trace(x, offset, axis1, axis2)


@op
def tril(x, k=0):
    """0 above the `k`-th diagonal."""
    return jnp.tril(x, k)


@op
def triu(x, k=0):
    """0 below the `k`-th diagonal."""
    return jnp.triu(x, k)


@lift
def meshgrid(*x, indexing="xy"):
    """The coordinates of a grid with these values along its axes."""
    return list(jnp.meshgrid(*jax.tree.map(jnp.ravel, x), indexing=indexing))
