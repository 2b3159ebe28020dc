"""The lock on what a layer holds: weights and parts are made in `__init__` and `build`, and none afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kerax.core.tracking import PLAIN, Trackable, members
from kerax.core.variable import Variable

_PARTS: Any = (Trackable, Variable)


def lock(layer) -> None:
    """From now on the layer takes no new weight or part; those it has may be put elsewhere in it."""
    if layer.kerax_locks and layer._released is None:
        layer._released = set()


def is_locked(layer) -> bool:
    """Whether the layer takes no new weights and parts."""
    return layer._released is not None


def lock_all(items: list) -> None:
    """Locks the layers that are built among what is below one which has been called."""
    for item in items:
        if getattr(item, "built", False):
            lock(item)


def unlock(layer) -> None:
    """From now on the layer takes new weights and parts."""
    layer._released = None


@contextmanager
def unlocked(layer) -> Iterator[None]:
    """Within a `with` block the layer takes new weights: of quantization, of a low-rank update."""
    before = layer._released
    unlock(layer)
    try:
        yield
    finally:
        layer._released = before


def check_attribute(layer, name: str, value) -> None:
    """Raises `ValueError` if a value for an attribute of a locked layer is, or has in it, a part that is new to it."""
    # A property decides itself: the kernel of a built layer may be tied to another's, which Keras does not allow.
    if name in layer._untracked or hasattr(getattr(type(layer), name, None), "__set__"):
        return
    if type(value) not in PLAIN:
        new = [part for part in _parts(value) if id(part) not in layer._released]
        if new:
            present = {id(part) for _, part in members(layer, _PARTS)}
            if any(id(part) not in present for part in new):
                refuse(layer, f"`{name}` is assigned {value!r}")
    release(layer, name)


def release(layer, name: str) -> None:
    """Notes the parts in an attribute that is about to go: one that is `None` for a while gets its layer again."""
    old = vars(layer).get(name)
    if layer._released is not None and type(old) not in PLAIN:
        layer._released.update(map(id, _parts(old)))


def refuse(layer, what: str) -> None:
    """Raises the `ValueError` of a locked layer."""
    raise ValueError(
        f"{layer}: it is built, and takes no new weights, layers, metrics or seed generators: who counted, saved or "
        f"optimizes its weights would not know of them. Got: {what}. Make them in `__init__` or `build`."
    )


def _parts(value, outer: tuple = ()) -> Iterator[Any]:
    if isinstance(value, (list, tuple, set, dict)):
        outer = (*outer, value)
        for inside in value.values() if isinstance(value, dict) else value:
            if not any(inside is other for other in outer):  # no container in itself
                yield from _parts(inside, outer)
    # Metrics by what they have: their floor is above this one.
    elif isinstance(value, _PARTS) or (hasattr(value, "update_state") and not isinstance(value, type)):
        yield value
