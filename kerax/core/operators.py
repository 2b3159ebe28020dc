"""Python's operators as functions of arrays, which variables and symbolic tensors get in loops."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp


def dtype_of_sums(*factors) -> str | None:
    """The dtype in which products of arrays are added up: one of 8-bit integers alone would overflow at once."""
    return "int32" if all(getattr(factor, "dtype", None) == jnp.int8 for factor in factors) else None


def matmul(x1, x2):
    """`x1 @ x2`."""
    return jnp.matmul(x1, x2, preferred_element_type=dtype_of_sums(x1, x2))


# Names without underscores, with what each does. `&`, `|`, `^` and `~` are logical, as Keras's are.
BINARY: dict[str, Callable] = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "truediv": jnp.true_divide,
    "floordiv": jnp.floor_divide,
    "mod": jnp.mod,
    "divmod": jnp.divmod,
    "pow": jnp.power,
    "matmul": matmul,
    "and": jnp.logical_and,
    "or": jnp.logical_or,
    "xor": jnp.logical_xor,
    "lshift": jnp.left_shift,
    "rshift": jnp.right_shift,
}
COMPARISONS: dict[str, Callable] = {
    "eq": jnp.equal,
    "ne": jnp.not_equal,
    "lt": jnp.less,
    "le": jnp.less_equal,
    "gt": jnp.greater,
    "ge": jnp.greater_equal,
}
UNARY: dict[str, Callable] = {
    "neg": jnp.negative,
    "pos": jnp.positive,
    "abs": jnp.absolute,
    "invert": jnp.logical_not,
    "round": jnp.round,
}


class Operators:
    """The operators that arrays have."""

    __array_priority__ = 1000  # NumPy's numbers and arrays on the left leave the operation to these operators

    __add__: Callable[[Any], Any]
    __radd__: Callable[[Any], Any]
    __sub__: Callable[[Any], Any]
    __rsub__: Callable[[Any], Any]
    __mul__: Callable[[Any], Any]
    __rmul__: Callable[[Any], Any]
    __truediv__: Callable[[Any], Any]
    __rtruediv__: Callable[[Any], Any]
    __floordiv__: Callable[[Any], Any]
    __rfloordiv__: Callable[[Any], Any]
    __mod__: Callable[[Any], Any]
    __rmod__: Callable[[Any], Any]
    __divmod__: Callable[[Any], Any]
    __rdivmod__: Callable[[Any], Any]
    __pow__: Callable[[Any], Any]
    __rpow__: Callable[[Any], Any]
    __matmul__: Callable[[Any], Any]
    __rmatmul__: Callable[[Any], Any]
    __and__: Callable[[Any], Any]
    __rand__: Callable[[Any], Any]
    __or__: Callable[[Any], Any]
    __ror__: Callable[[Any], Any]
    __xor__: Callable[[Any], Any]
    __rxor__: Callable[[Any], Any]
    __lshift__: Callable[[Any], Any]
    __rlshift__: Callable[[Any], Any]
    __rshift__: Callable[[Any], Any]
    __rrshift__: Callable[[Any], Any]
    __lt__: Callable[[Any], Any]
    __le__: Callable[[Any], Any]
    __gt__: Callable[[Any], Any]
    __ge__: Callable[[Any], Any]
    __neg__: Callable[[], Any]
    __pos__: Callable[[], Any]
    __abs__: Callable[[], Any]
    __invert__: Callable[[], Any]
    __round__: Callable[..., Any]
