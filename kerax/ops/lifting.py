"""How the functions of `kerax.ops` are made from those of JAX."""

import functools
import inspect
import operator
from collections.abc import Callable, Collection
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from kerax.core import scope
from kerax.core.host_arrays import is_foreign_type, to_numpy
from kerax.core.lift import Function, lift
from kerax.core.symbolic import KerasTensor, inferred_tensors, is_symbolic

# Parameters of these names take arrays, so lists and tuples passed for them become arrays. Shapes and axes do not.
_ARRAYS = frozenset(
    "x x1 x2 y a b array inputs target output targets predictions values indices updates data segment_ids kernel "
    "sorted_sequence condition mean variance weights".split()
)
# Parameters of these names are integers wherever they occur.
_INTEGERS = frozenset("indices index targets segment_ids start_indices".split())


def op(function: Function, integers: Collection[str] = (), spec: Callable | None = None) -> Function:
    """`function` lifted to variables and symbolic tensors, with nested lists of numbers taken for arrays.

    Args:
        integers: Parameters that take integers only. An `Input` is of floats unless told otherwise: a graph is made of
            it all the same, as in Keras, and refused where it runs on floats.
        spec: As that of `lift`.
    """
    names = list(inspect.signature(function).parameters)
    integers = _INTEGERS.union(integers)

    def convert(name, value):
        if is_foreign_type(type(value)):
            return jnp.asarray(to_numpy(value))
        if name in integers and is_float(value) and scope.infers_shapes():
            return value.astype(jnp.int32)
        return jnp.asarray(value) if name in _ARRAYS and isinstance(value, (list, tuple)) else value

    @functools.wraps(function)
    def converted(*args, **kwargs):
        # More arguments than names go to `*args`, whose own name takes no arrays.
        named = zip((*names, *[""] * len(args)), args, strict=False)
        return function(
            *[convert(name, value) for name, value in named],
            **{name: convert(name, value) for name, value in kwargs.items()},
        )

    return cast(Function, lift(converted, spec=spec))


def product_spec(axes_of: Callable) -> Callable:
    """The spec of a product that sums over axes of several arrays.

    Args:
        axes_of: From the arguments of a call to groups of `(position of the array, axis)` that have one size: one that
            is not known is that of the others.
    """

    def spec(function, args, kwargs):
        if is_symbolic(kwargs):
            return inferred_tensors(function, args, kwargs)
        shapes = [list(arg.shape if hasattr(arg, "shape") else np.shape(arg)) for arg in args]
        for group in axes_of(*args, **kwargs):
            known = next((size for i, axis in group if (size := shapes[i][axis]) is not None), None)
            for i, axis in group:
                shapes[i][axis] = known if shapes[i][axis] is None else shapes[i][axis]
        filled = [
            KerasTensor(shape, arg.dtype, sparse=arg.sparse) if isinstance(arg, KerasTensor) else arg
            for arg, shape in zip(args, shapes, strict=True)
        ]
        return inferred_tensors(function, tuple(filled), kwargs)

    return spec


def is_float(value) -> bool:
    """Whether a value is an array of floats."""
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating)


def _named(
    function: Callable, source: Callable, name: str | None, doc: str, integers=(), spec=None
) -> Callable[..., Any]:
    # The name goes into configs of graphs, where functions are found by it.
    function.__name__ = function.__qualname__ = name or source.__name__
    function.__doc__ = doc.format(function.__name__)
    return op(function, integers, spec)


def unary(source: Callable, name: str | None = None, integers: Collection[str] = ()) -> Callable[..., Any]:
    """An op `(x)`."""
    # A lambda with Keras's argument names around JAX's function, whose own are others.
    return _named(lambda x: source(x), source, name, "`{}(x)` of each element.", integers)


def binary(
    source: Callable, name: str | None = None, integers: Collection[str] = (), spec: Callable | None = None
) -> Callable[..., Any]:
    """An op `(x1, x2)`."""
    doc = "`{}(x1, x2)` of each pair of elements, broadcast."
    return _named(lambda x1, x2: source(x1, x2), source, name, doc, integers, spec)


def bitwise(source: Callable, name: str | None = None) -> Callable[..., Any]:
    """An op `(x, y)`."""
    doc = "`{}(x, y)` of each pair of integers, broadcast."
    return _named(lambda x, y: source(x, y), source, name, doc, ("x", "y"))


def reduction(source: Callable, name: str | None = None) -> Callable[..., Any]:
    """An op `(x, axis=None, keepdims=False)`."""
    return _named(
        lambda x, axis=None, keepdims=False: source(x, axis=axis, keepdims=keepdims),
        source,
        name,
        "`{}` over `axis` (an int, a tuple, or `None` for all axes); `keepdims` keeps them with size 1.",
    )


def keeps_sizes(function: Function) -> Function:
    """`function`, whose results for a few integers that are known are known too, while a program is traced.

    A `call` that computes a shape by ops, as `ops.concatenate([[batch_size], [1, 1]])`, can so use it as one.
    """
    first = next(iter(inspect.signature(function).parameters))

    @functools.wraps(function)
    def known_or_not(*args, **kwargs):
        if not _is_known(args[0] if args else kwargs.get(first)):
            return function(*args, **kwargs)
        with jax.ensure_compile_time_eval():
            return function(*args, **kwargs)

    return cast(Function, known_or_not)


def as_sizes(shape) -> Any:
    """A shape or repeats as they are; of an array its integers, for JAX takes an array for one that is not known."""
    if not isinstance(shape, (np.ndarray, jax.Array)) or not shape.ndim:
        return shape
    known = shape if isinstance(shape, Tracer) else np.asarray(shape)
    return [operator.index(size) for size in known]


def _is_known(value) -> bool:
    if isinstance(value, (list, tuple)):
        return 0 < len(value) <= _MOST_AXES and all(map(_is_known, value))
    if isinstance(value, (np.ndarray, jax.Array)):
        return not isinstance(value, Tracer) and value.size <= _MOST_AXES and value.dtype.kind in "iu"
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


_MOST_AXES = 8
