"""Masks that travel with arrays as their attribute `_keras_mask`: which steps of a batch are padding."""

import weakref
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

Tree = Any
_NAME = "_keras_mask"
_of_tracers: dict[int, tuple] = {}  # by `id`: tracers compare as arrays do, so that they cannot be keys


def set_mask(array, mask) -> None:
    """Makes `mask` the attribute `_keras_mask` of an array, a tracer or a symbolic tensor.

    What can have no attributes, as NumPy's arrays, stays without a mask.
    """
    try:
        setattr(array, _NAME, mask)
    # NumPy's arrays have no room for it.
    except AttributeError:
        pass


def get_mask(array) -> Any:
    """The mask of an array, a tracer or a symbolic tensor, or `None`."""
    if isinstance(array, Tracer):  # whose `__getattr__` would look for it in the shape and dtype
        return _of_tracers.get(id(array), (None, None))[1]
    return getattr(array, _NAME, None)


def has_mask(tree: Tree) -> bool:
    """Whether any leaf has a mask."""
    return any(mask is not None for mask in map(get_mask, jax.tree.leaves(tree)))


def masked(array, mask) -> Any:
    """The array with `mask` attached, or a copy of it that has, so that the caller's own array stays as it was."""
    if mask is None or get_mask(array) is mask:
        return array
    # The mask is an attribute of the array itself, which the caller goes on using.
    array = jnp.copy(array)
    set_mask(array, mask)
    return array


def _read(tracer):
    entry = _of_tracers.get(id(tracer))
    if entry is None:
        raise AttributeError(_NAME)
    return entry[1]


def _write(tracer, mask):
    # A mask that is computed from its own array would keep it, and its trace, alive: compute masks from inputs.
    key = id(tracer)
    _of_tracers[key] = (weakref.ref(tracer, lambda _, pop=_of_tracers.pop: pop(key, None)), mask)


# JAX's arrays take attributes, its tracers have slots: the attribute is a property there, its values lie beside them.
setattr(Tracer, _NAME, property(_read, _write))


@jax.tree_util.register_pytree_node_class
class Carrier:
    """A tree with its masks, both of which a transformation (`jit`, `grad`, `vmap`, `checkpoint`) takes along.

    A transformation makes new arrays of those that go into a function and come out. In a `Carrier` they have
    the masks of the old ones.
    """

    def __init__(self, tree: Tree):
        self.tree = tree
        self.masks = [get_mask(leaf) for leaf in jax.tree.leaves(tree)]

    def tree_flatten(self) -> Any:
        """The tree and the masks of its leaves."""
        return (self.tree, self.masks), None

    @classmethod
    def tree_unflatten(cls, _, children) -> "Carrier":
        """A carrier of new arrays, with new masks attached to them."""
        # Not by `__init__`: JAX also unflattens placeholders, which have no masks to be read.
        carrier = object.__new__(cls)
        carrier.tree, carrier.masks = children
        # Nearly always there is none: then the tree is not flattened again.
        if any(mask is not None for mask in carrier.masks):
            for leaf, mask in zip(jax.tree.leaves(carrier.tree), carrier.masks, strict=True):
                set_mask(leaf, mask)
        return carrier
