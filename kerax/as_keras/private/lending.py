"""How an attribute is lent."""

from collections.abc import Callable
from typing import Any


class Lent:
    """An attribute that is computed when it is read. A value that is assigned stands before it."""

    def __init__(self, read: Callable):
        self.read = read

    def __get__(self, item, _=None) -> Any:
        return self if item is None else self.read(item)
