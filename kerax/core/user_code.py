"""The code of users' classes and functions, which IPython's `%autoreload` replaces beside programs made of it."""

import sys
from collections.abc import Iterable
from types import CodeType, FunctionType
from typing import Any

_NOT_RELOADED = ("kerax", "jax", "builtins", "__main__", "numpy")


def may_change() -> bool:
    """Whether somebody may replace the code of a function: a script, or a notebook without it, need not look."""
    return "IPython.extensions.autoreload" in sys.modules


def code_of(parts: Iterable[Any]) -> tuple[CodeType, ...]:
    """The code of all functions in the modules that the classes of some objects, or functions, come from.

    All functions there, for those that a layer's `call` is made of are no part of the layer.
    """
    names = {str(base.__module__) for part in parts for base in _classes(part)}
    wanted = [name for name in sorted(names) if name.split(".")[0] not in _NOT_RELOADED]
    modules = [sys.modules[name] for name in wanted if name in sys.modules]  # code run by `exec` is of no module
    found = [vars(module).values() for module in modules]
    classes = [item for values in found for item in values if isinstance(item, type) and item.__module__ in names]
    found += [vars(item).values() for item in classes]
    return tuple(item.__code__ for values in found for item in values if isinstance(item, FunctionType))


def _classes(part: Any) -> tuple:
    return (part,) if isinstance(part, FunctionType) else type(part).__mro__
