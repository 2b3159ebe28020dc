"""Nested dicts of leaves addressed by paths, beside what `jax.tree` offers for any pytree."""

from collections.abc import Callable, Iterable
from typing import Any

import jax

Path = tuple[str, ...]
Tree = Any


def map_structure(func: Callable, *structures: Tree) -> Tree:
    """`func` applied to the leaves of structures of the same form. `None` counts as a leaf."""
    return jax.tree.map(func, *structures, is_leaf=lambda leaf: leaf is None)


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


def assert_same_structure(first: Tree, second: Tree):
    """Raises `ValueError` when two structures differ in form."""
    forms = [jax.tree.structure(tree, is_leaf=lambda leaf: leaf is None) for tree in (first, second)]
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
