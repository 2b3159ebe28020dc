"""Functions that refer to symbolic tensors around them, as `lambda v: v + total`: as the graph's calls need them.

The tensors become arguments of the call that is recorded. Their names stand for them in the function meanwhile, also in
files, and their values come in their places where the graph runs.
"""

import functools
import types
from collections.abc import Callable
from typing import Any

import jax

from kerax.core.lift import lift
from kerax.core.symbolic import KerasTensor, is_symbolic

_STANDS_FOR = "symbolic tensor "


def taking_functions(function: Callable) -> Callable:
    """`function`, which takes functions, lifted with what those refer to."""

    def run(*args, captured=None, **kwargs):
        if captured:
            args, kwargs = _in_functions((args, kwargs), functools.partial(_value, captured), captured)
        return function(*args, **kwargs)

    run = functools.wraps(function)(run)
    lifted = lift(run)

    @functools.wraps(lifted)
    def call(*args, **kwargs):
        captured = captures(args, kwargs)
        if captured:
            args, kwargs = _in_functions((args, kwargs), functools.partial(_name, captured), {})
            kwargs["captured"] = captured
        return lifted(*args, **kwargs)

    return call


def captures(*arguments) -> dict[str, Any]:
    """The symbolic tensors that functions among the arguments refer to, by name."""
    found: dict[str, Any] = {}
    for leaf in jax.tree.leaves(arguments):
        if isinstance(leaf, types.FunctionType):
            for name, value in _references(leaf):
                if isinstance(value, types.FunctionType):
                    found |= captures(value)
                elif is_symbolic(value) and found.setdefault(name, value) is not value:
                    raise ValueError(f"Two functions refer to different tensors by the name {name!r}. Rename one.")
    return found


def _references(function: types.FunctionType) -> list[tuple[str, Any]]:
    code, cells = function.__code__, function.__closure__ or ()
    inner = [(name, cell.cell_contents) for name, cell in zip(code.co_freevars, cells, strict=True) if _is_set(cell)]
    # Names of the module around, as a notebook's; not the functions there, which are found by their names.
    outer = [(name, function.__globals__.get(name)) for name in code.co_names]
    return inner + [(name, value) for name, value in outer if isinstance(value, KerasTensor)]


def _is_set(cell) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # of a function that is still being defined
        return False


def _name(captured: dict, name: str, value) -> Any:
    return _STANDS_FOR + name if name in captured else value


def _value(captured: dict, name: str, value) -> Any:
    return captured[name] if isinstance(value, str) and value == _STANDS_FOR + name else value


def _in_functions(arguments, replace: Callable, outer: dict) -> Any:
    """The arguments with functions in which `replace(name, value)` is in each closed-over value's place."""

    def changed(leaf):
        if not isinstance(leaf, types.FunctionType):
            return leaf
        code = leaf.__code__
        cells = []
        for name, cell in zip(code.co_freevars, leaf.__closure__ or (), strict=True):
            value = cell.cell_contents if _is_set(cell) else None
            value = changed(value) if isinstance(value, types.FunctionType) else replace(name, value)
            cells.append(types.CellType(value))
        names = {name: value for name, value in outer.items() if name in code.co_names}
        around = {**leaf.__globals__, **names} if names else leaf.__globals__
        made = types.FunctionType(code, around, leaf.__name__, leaf.__defaults__, tuple(cells))
        made.__kwdefaults__, made.__qualname__, made.__module__ = (
            leaf.__kwdefaults__,
            leaf.__qualname__,
            leaf.__module__,
        )
        return made

    return jax.tree.map(changed, arguments)
