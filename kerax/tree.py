"""Nested dicts of leaves addressed by paths, beside what `jax.tree` offers for any pytree."""

from collections.abc import Callable, Iterable
from typing import Any

import jax

Path = tuple[str, ...]
Tree = Any


def map_structure(func: Callable, *structures: Tree, none_is_leaf=True) -> Tree:
    """`func` applied to the leaves of structures of the same form. `None` counts as a leaf unless told otherwise.

    Raises:
        ValueError: if there is no structure, or the forms differ.
    """
    if not structures:
        raise ValueError("map_structure: expected at least one structure. Got none.")
    # To JAX `None` is a container without leaves; to Keras it is a value.
    return jax.tree.map(func, *structures, is_leaf=(lambda leaf: leaf is None) if none_is_leaf else None)


def flatten(structure: Tree) -> list:
    """The leaves of a structure, `None` included, dicts in key order."""
    return jax.tree.leaves(structure, is_leaf=lambda leaf: leaf is None)


def is_nested(structure: Tree) -> bool:
    """Whether the structure is a container rather than a leaf."""
    return isinstance(structure, (dict, list, tuple))


def pack_sequence_as(structure: Tree, flat_sequence: Iterable) -> Tree:
    """The leaves of `flat_sequence` in the form of `structure`."""
    treedef = jax.tree.structure(structure, is_leaf=lambda leaf: leaf is None)
    return jax.tree.unflatten(treedef, list(flat_sequence))


def assert_same_structure(a: Tree, b: Tree, check_types=None) -> None:
    """Raises `ValueError` when two structures differ in form. `check_types` is kept for Keras's signature."""
    forms = [jax.tree.structure(tree, is_leaf=lambda leaf: leaf is None) for tree in (a, b)]
    if forms[0] != forms[1]:
        raise ValueError(f"Structures differ: {forms[0]} and {forms[1]}.")


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


class MAP_TO_NONE:
    """What the function of `traverse` returns to put `None` in a node's place."""


def _children(structure: Tree) -> list | None:
    """`(name, child)` of a container, dicts in key order; `None` for a leaf."""
    if isinstance(structure, dict):
        return [(key, structure[key]) for key in sorted(structure)]  # the order of JAX's leaves
    return list(enumerate(structure)) if is_nested(structure) else None


def _like(structure: Tree, children: list) -> Tree:
    """A container of the kind of `structure` with other children."""
    if isinstance(structure, dict):
        named = dict(children)
        return type(structure)((key, named[key]) for key in structure)  # in the order that it had
    values = [child for _, child in children]
    # A named tuple takes its values one by one.
    return type(structure)(*values) if hasattr(structure, "_fields") else type(structure)(values)


def flatten_with_path(structure: Tree) -> list:
    """The pairs of path (a tuple of keys and indices) and leaf."""
    children = _children(structure)
    if children is None:
        return [((), structure)]
    return [((name, *path), leaf) for name, child in children for path, leaf in flatten_with_path(child)]


def assert_same_paths(a: Tree, b: Tree) -> None:
    """Raises `ValueError` unless the leaves of both structures lie at the same paths."""
    first, second = ({path for path, _ in flatten_with_path(tree)} for tree in (a, b))
    if first != second:
        raise ValueError(f"Paths differ: {first - second} only in `a`, {second - first} only in `b`.")


def lists_to_tuples(structure: Tree) -> Tree:
    """The same structure with tuples in place of lists."""
    children = _children(structure)
    if children is None:
        return structure
    changed = _like(structure, [(name, lists_to_tuples(child)) for name, child in children])
    return tuple(changed) if isinstance(changed, list) else changed


def map_shape_structure(func: Callable, structure: Tree) -> Tree:
    """`func` applied to shapes: lists and tuples of nothing but integers and `None` are leaves."""
    # Also `()`, the shape of a scalar.
    if isinstance(structure, (list, tuple)) and all(size is None or isinstance(size, int) for size in structure):
        return func(structure)
    children = _children(structure)
    if children is None:
        raise ValueError(f"map_shape_structure: expected a structure of shapes. Got {structure!r}.")
    return _like(structure, [(name, map_shape_structure(func, child)) for name, child in children])


def map_structure_up_to(shallow_structure: Tree, func: Callable, *structures: Tree) -> Tree:
    """`func` applied to what the structures have at the leaves of `shallow_structure`."""
    children = _children(shallow_structure)
    if children is None:
        return func(*structures)
    inner = lambda name, child: map_structure_up_to(child, func, *(structure[name] for structure in structures))
    return _like(shallow_structure, [(name, inner(name, child)) for name, child in children])


def traverse(func: Callable, structure: Tree, top_down: bool = True) -> Tree:
    """`structure` with every node that `func` maps to something replaced by it.

    Args:
        func: Called with each container and leaf; `None` keeps it, `MAP_TO_NONE` puts `None` in its place.
        top_down: Whether containers come before what they hold; what replaces one is then not looked into.
    """
    replaced = func(structure) if top_down else None
    if replaced is None:
        children = _children(structure)
        if children is not None:
            structure = _like(structure, [(name, traverse(func, child, top_down)) for name, child in children])
        replaced = None if top_down else func(structure)
    if replaced is None:
        return structure
    return None if replaced is MAP_TO_NONE else replaced
