"""Masks that travel with arrays: which steps of a batch are padding. Kept beside the arrays, dropped when they die."""

import weakref

import jax.numpy as jnp

_masks: dict[int, tuple] = {}


def set_mask(array, mask):
    """Attaches `mask` to `array` (an array, a tracer or a symbolic tensor)."""
    if mask is None:
        _masks.pop(id(array), None)
        return
    key = id(array)
    _masks[key] = (weakref.ref(array, lambda _, pop=_masks.pop: pop(key, None)), mask)


def masked(array, mask):
    """The array with `mask` attached, or a copy of it that has, so that the caller's own array stays as it was."""
    if mask is None or get_mask(array) is mask:
        return array
    array = jnp.copy(array)
    set_mask(array, mask)
    return array


def are_there() -> bool:
    """Whether any array has a mask."""
    return bool(_masks)


def get_mask(array):
    """The mask attached to `array`, or `None`."""
    entry = _masks.get(id(array))
    return entry[1] if entry is not None and entry[0]() is array else None
