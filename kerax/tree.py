"""Nested structures of leaves, as Keras sees them, and nested dicts addressed by paths.

Containers are dicts of any kind, lists, tuples, named tuples and deques; all else, `None` included, is a leaf. Dicts
are gone through in the order of their keys, an `OrderedDict` in its own. Other pytrees are `jax.tree`'s affair.
"""

import copy
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any

Path = tuple[str, ...]
Tree = Any


class MAP_TO_NONE:
    """What the function of `traverse` returns to put `None` in a node's place."""


def is_nested(structure: Tree) -> bool:
    """Whether the structure is a container rather than a leaf."""
    return isinstance(structure, (dict, list, tuple, deque))


def flatten(structure: Tree) -> list:
    """The leaves of a structure, `None` included, dicts in key order."""
    return [leaf for _, leaf in flatten_with_path(structure)]


def flatten_with_path(structure: Tree) -> list:
    """The pairs of path (a tuple of keys and indices) and leaf."""
    if not is_nested(structure):
        return [((), structure)]
    return [((key, *path), leaf) for key, child in _children(structure) for path, leaf in flatten_with_path(child)]


def map_structure(func: Callable, *structures: Tree, none_is_leaf: bool = True) -> Tree:
    """`func` applied to the leaves of structures of the same form, in the form of the first.

    Args:
        func: Function of as many leaves as there are structures.
        none_is_leaf: Whether `None` counts as a leaf; else it stays as it is, and must be `None` in all structures.

    Raises:
        ValueError: if there is no structure, or the forms differ.
        TypeError: if `func` cannot be called.
    """
    _check_callable("map_structure", func)
    if not structures:
        raise ValueError("map_structure: expected at least one structure. Got none.")
    for other in structures[1:]:
        assert_same_structure(structures[0], other)

    def apply(*leaves):
        if none_is_leaf or all(leaf is not None for leaf in leaves):
            return func(*leaves)
        if any(leaf is not None for leaf in leaves):
            raise ValueError(f"map_structure: `None` is no leaf here, and others lie in its place. Got {leaves}.")
        return None

    return _map_up_to(structures[0], apply, structures)


def map_structure_up_to(shallow_structure: Tree, func: Callable, *structures: Tree) -> Tree:
    """`func` applied to what the structures have at the leaves of `shallow_structure`.

    Raises:
        ValueError: if there is no structure, or one has another form above these leaves.
        TypeError: if `func` cannot be called.
    """
    _check_callable("map_structure_up_to", func)
    if not structures:
        raise ValueError("map_structure_up_to: expected at least one structure. Got none.")
    for structure in structures:
        difference = _difference(shallow_structure, structure, looks_below=False)
        if difference:
            raise ValueError(f"map_structure_up_to: the structures have different forms. {difference}")
    return _map_up_to(shallow_structure, func, structures)


def map_shape_structure(func: Callable, structure: Tree) -> Tree:
    """`func` applied to shapes: lists and tuples of nothing but integers and `None` are leaves too.

    Raises:
        TypeError: if `func` cannot be called.
    """
    _check_callable("map_shape_structure", func)
    is_shape = isinstance(structure, (list, tuple)) and all(n is None or isinstance(n, int) for n in structure)
    if is_shape or not is_nested(structure):
        return func(structure)
    return _like(structure, [(key, map_shape_structure(func, child)) for key, child in _children(structure)])


def pack_sequence_as(structure: Tree, flat_sequence: Iterable) -> Tree:
    """The leaves of `flat_sequence` in the form of `structure`.

    Raises:
        ValueError: if there are more or fewer than the structure has.
        TypeError: if they are no sequence.
    """
    leaves, count = list(flat_sequence), len(flatten(structure))
    if len(leaves) != count:
        raise ValueError(f"pack_sequence_as: the structure has {count} leaves. Got {len(leaves)}: {leaves}.")
    rest = iter(leaves)

    # Leaves are handed out in the order of `flatten`, which is that of `_children`.
    def pack(node):
        if not is_nested(node):
            return next(rest)
        return _like(node, [(key, pack(child)) for key, child in _children(node)])

    return pack(structure)


def assert_same_structure(a: Tree, b: Tree, check_types=None) -> None:
    """Raises `ValueError` when two structures differ in form: all dicts with the same keys are alike.

    Args:
        check_types: Kept for Keras's signature: types other than of dicts always count.
    """
    difference = _difference(a, b)
    if difference:
        raise ValueError(f"The structures have different forms. {difference} Got {a!r} and {b!r}.")


def assert_same_paths(a: Tree, b: Tree) -> None:
    """Raises `ValueError` unless the leaves of both structures lie at the same paths."""
    first, second = ({path for path, _ in flatten_with_path(tree)} for tree in (a, b))
    if first != second:
        raise ValueError(f"Paths differ: {first - second} only in `a`, {second - first} only in `b`.")


def lists_to_tuples(structure: Tree) -> Tree:
    """The same structure with tuples in place of lists."""
    if not is_nested(structure):
        return structure
    changed = _like(structure, [(key, lists_to_tuples(child)) for key, child in _children(structure)])
    return tuple(changed) if isinstance(changed, list) else changed


def traverse(func: Callable, structure: Tree, top_down: bool = True) -> Tree:
    """`structure` with every node that `func` maps to something replaced by it.

    Args:
        func: Called with each container and leaf; `None` keeps it, `MAP_TO_NONE` puts `None` in its place.
        top_down: Whether containers come before what they hold; what replaces one is then not looked into.
    """
    _check_callable("traverse", func)
    replaced = func(structure) if top_down else None
    if replaced is None:
        if is_nested(structure):
            structure = _like(structure, [(key, traverse(func, item, top_down)) for key, item in _children(structure)])
        replaced = None if top_down else func(structure)
    if replaced is None:
        return structure
    return None if replaced is MAP_TO_NONE else replaced


def _children(structure: Tree) -> list[tuple[Any, Tree]]:
    """(key or index, child) of a container."""
    if not isinstance(structure, dict):
        return list(enumerate(structure))
    if isinstance(structure, OrderedDict):
        return list(structure.items())
    # Keys of several types have no order among each other; their types' names do.
    return sorted(structure.items(), key=lambda item: (type(item[0]).__name__, item[0]))


def _like(structure: Tree, children: list[tuple[Any, Tree]]) -> Tree:
    """A container of the kind of `structure` with other children."""
    if isinstance(structure, dict):
        made = copy.copy(structure)  # keeps a `defaultdict`'s factory, and the order in which keys came
        made.update(children)
        return made
    values = [child for _, child in children]
    if isinstance(structure, deque):
        return deque(values, structure.maxlen)
    return type(structure)(*values) if hasattr(structure, "_fields") else type(structure)(values)


def _map_up_to(shallow: Tree, func: Callable, structures: tuple) -> Tree:
    """`func` applied where `shallow` has leaves; the forms were compared before."""
    if not is_nested(shallow):
        return func(*structures)
    children = [
        (key, _map_up_to(child, func, tuple(structure[key] for structure in structures)))
        for key, child in _children(shallow)
    ]
    return _like(shallow, children)


def _difference(a: Tree, b: Tree, looks_below: bool = True) -> str:
    """Where the forms of two structures part, in words.

    Args:
        looks_below: Whether a container in the place of a leaf of `a` is a difference.
    """
    if not is_nested(a):
        return f"One has a leaf where the other has {b!r}." if looks_below and is_nested(b) else ""
    are_dicts = isinstance(a, dict) and isinstance(b, dict)
    if not are_dicts and type(a) is not type(b):
        return f"One has {type(a).__name__} where the other has {type(b).__name__}."
    if len(a) != len(b) or (are_dicts and a.keys() != b.keys()):
        return f"One has {list(a)} where the other has {list(b)}."
    return next(filter(None, (_difference(child, b[key], looks_below) for key, child in _children(a))), "")


def _check_callable(who: str, func: Any) -> None:
    if not callable(func):
        raise TypeError(f"{who}: `func` must be a function. Got {func!r}.")


def nest(leaves: Iterable[tuple[Path, Any]]) -> dict:
    """A nested dict with each leaf at its path."""
    root: dict = {}
    for path, leaf in leaves:
        node = root
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = leaf
    return root


def unnest(nested: dict, prefix: Path = ()) -> dict[Path, Any]:
    """The inverse of `nest`: every leaf that is not a dict, by path."""
    leaves = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            leaves.update(unnest(value, (*prefix, name)))
        else:
            leaves[(*prefix, name)] = value
    return leaves
