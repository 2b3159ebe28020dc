"""The structure of a layer: its variables and sublayers by path, found in its attributes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType, MethodType
from typing import Any

from kerax.core.variable import Variable

Path = tuple[str, ...]


class Trackable:
    """Something that owns variables and may hold others that do: a layer or a seed generator."""

    _untracked: frozenset[str] = frozenset()

    def _own_variables(self) -> list[tuple[str, Variable]]:
        """Variables that belong to no child, by name."""
        return []

    def _children(self) -> Iterator[tuple[Path, "Trackable"]]:
        """Children by the path of attribute name and container indices, in the order they were assigned."""
        for name, value in attributes(self):
            if isinstance(value, _HOLDERS) and name not in self._untracked:
                yield from _search(value, (name.lstrip("_") or name,))

    def _patterns(self) -> list["Trackable"]:
        """What is computed in here with other variables than its own: no children."""
        return []


_HOLDERS = (Trackable, list, tuple, dict)
_EMPTY = frozenset({str, int, float, bool, type(None), type, FunctionType, MethodType})  # what most attributes are


def _search(value, path: Path) -> Iterator[tuple[Path, Trackable]]:
    if isinstance(value, Trackable):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if isinstance(item, _HOLDERS):
                yield from _search(item, (*path, str(index)))
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, _HOLDERS):
                yield from _search(item, (*path, str(key)))


def owned_variables(item: Trackable) -> Iterator[tuple[Path, Variable]]:
    """(path, variable) of the variables that an object's attributes or their containers hold."""
    for name, value in attributes(item):
        if isinstance(value, (Variable, list, tuple, dict)) and name not in item._untracked:
            yield from search_variables(value, (name.lstrip("_") or name,))


def search_variables(value, path: Path) -> Iterator[tuple[Path, Variable]]:
    """Variables held directly by an attribute or its containers."""
    if isinstance(value, Variable):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from search_variables(item, (*path, str(index)))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from search_variables(item, (*path, str(key)))


def unique(name: str, taken) -> str:
    """`name`, or `name_1`, `name_2`, ... if it is taken."""
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate


_remembered: ContextVar[dict | None] = ContextVar("kerax_structure", default=None)


@contextmanager
def _holding(known: dict | None):
    token = _remembered.set(known)
    try:
        yield
    finally:
        _remembered.reset(token)


def remembering():
    """Within a `with` block in which no structure changes, each is looked through once."""
    return _holding({})


def forgetting():
    """Within a `with` block, inside one of `remembering`, structures may change."""
    return _holding(None)


def _once(find, root) -> Iterator:
    known = _remembered.get()
    if known is None:
        return iter(find(root))
    key = find, id(root)
    if key not in known:
        known[key] = list(find(root))
    return iter(known[key])


def attributes(item) -> Iterator[tuple[str, Any]]:
    """(name, value) of attributes that may hold something."""
    return _once(_attributes, item)


def _attributes(item) -> list[tuple[str, Any]]:
    return [pair for pair in vars(item).items() if type(pair[1]) not in _EMPTY]


def walk(root: Trackable) -> Iterator[tuple[Path, Variable]]:
    """Every variable below `root` with its path, each once: own ones first, then the children's in order."""
    return _once(_walk, root)


def _walk(root: Trackable, path: Path = (), seen: set[int] | None = None) -> Iterator[tuple[Path, Variable]]:
    seen = set() if seen is None else seen
    seen.add(id(root))
    taken: set[str] = set()
    for name, variable in root._own_variables():
        if id(variable) not in seen:
            seen.add(id(variable))
            name = unique(name, taken)
            taken.add(name)
            yield (*path, name), variable
    for child_path, child in root._children():
        if id(child) not in seen:
            head = unique(child_path[0], taken) if len(child_path) == 1 else child_path[0]
            taken.update([head] if len(child_path) == 1 else [])
            yield from _walk(child, (*path, head, *child_path[1:]), seen)


def descendants(root: Trackable) -> Iterator[Trackable]:
    """`root` and everything below it, each once, parents first."""
    return _once(_descend, root)


def _descend(root: Trackable, seen: set[int] | None = None) -> Iterator[Trackable]:
    seen = set() if seen is None else seen
    seen.add(id(root))
    yield root
    for _, child in root._children():
        if id(child) not in seen:
            yield from _descend(child, seen)


def all_that_compute(root: Trackable) -> Iterator[Trackable]:
    """`descendants`, and the patterns that some of them repeat with theirs."""
    for item in descendants(root):
        yield item
        for pattern in item._patterns():
            yield from all_that_compute(pattern)
