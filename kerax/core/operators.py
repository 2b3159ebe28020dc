"""Python's operators, which variables and symbolic tensors get in loops, declared for type checkers."""

from collections.abc import Callable
from typing import Any


class Operators:
    """The operators that arrays have."""

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
    __lt__: Callable[[Any], Any]
    __le__: Callable[[Any], Any]
    __gt__: Callable[[Any], Any]
    __ge__: Callable[[Any], Any]
    __neg__: Callable[[], Any]
    __abs__: Callable[[], Any]
    __invert__: Callable[[], Any]
