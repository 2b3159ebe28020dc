"""Masks that travel with arrays: which steps of a batch are padding. Kept beside the arrays, dropped when they die."""

import weakref

_masks: dict[int, tuple] = {}


def set_mask(array, mask):
    """Attaches `mask` to `array` (an array, a tracer or a symbolic tensor)."""
    if mask is None:
        _masks.pop(id(array), None)
        return
    key = id(array)
    _masks[key] = (weakref.ref(array, lambda _: _masks.pop(key, None)), mask)


def get_mask(array):
    """The mask attached to `array`, or `None`."""
    entry = _masks.get(id(array))
    return entry[1] if entry is not None and entry[0]() is array else None
