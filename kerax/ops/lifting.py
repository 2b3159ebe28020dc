"""How the functions of `kerax.ops` are made from those of JAX."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

import jax.numpy as jnp

from kerax.core.host_arrays import is_foreign_type, to_numpy
from kerax.core.lift import Function, lift

# Parameters of these names take arrays, so lists and tuples passed for them become arrays. Shapes and axes do not.
_ARRAYS = frozenset(
    "x x1 x2 y a b array inputs target output targets predictions values indices updates data segment_ids kernel "
    "sorted_sequence condition mean variance weights".split()
)


def op(function: Function) -> Function:
    """`function` lifted to variables and symbolic tensors, with nested lists of numbers taken for arrays."""
    names = list(inspect.signature(function).parameters)

    def convert(name, value):
        if is_foreign_type(type(value)):
            return jnp.asarray(to_numpy(value))
        return jnp.asarray(value) if name in _ARRAYS and isinstance(value, (list, tuple)) else value

    @functools.wraps(function)
    def converted(*args, **kwargs):
        # More arguments than names go to `*args`, whose own name takes no arrays.
        named = zip((*names, *[""] * len(args)), args, strict=False)
        return function(
            *[convert(name, value) for name, value in named],
            **{name: convert(name, value) for name, value in kwargs.items()},
        )

    return cast(Function, lift(converted))


def _named(function: Callable, source: Callable, name: str | None, doc: str) -> Callable[..., Any]:
    # The name goes into configs of graphs, where functions are found by it.
    function.__name__ = function.__qualname__ = name or source.__name__
    function.__doc__ = doc.format(function.__name__)
    return op(function)


def unary(source: Callable, name: str | None = None) -> Callable[..., Any]:
    """An op `(x)`."""
    # A lambda with Keras's argument names around JAX's function, whose own are others.
    return _named(lambda x: source(x), source, name, "`{}(x)` of each element.")


def binary(source: Callable, name: str | None = None) -> Callable[..., Any]:
    """An op `(x1, x2)`."""
    return _named(lambda x1, x2: source(x1, x2), source, name, "`{}(x1, x2)` of each pair of elements, broadcast.")


def bitwise(source: Callable, name: str | None = None) -> Callable[..., Any]:
    """An op `(x, y)`."""
    return _named(lambda x, y: source(x, y), source, name, "`{}(x, y)` of each pair of integers, broadcast.")


def reduction(source: Callable, name: str | None = None) -> Callable[..., Any]:
    """An op `(x, axis=None, keepdims=False)`."""
    return _named(
        lambda x, axis=None, keepdims=False: source(x, axis=axis, keepdims=keepdims),
        source,
        name,
        "`{}` over `axis` (an int, a tuple, or `None` for all axes); `keepdims` keeps them with size 1.",
    )
