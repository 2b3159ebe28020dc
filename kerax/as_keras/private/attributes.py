"""Private attributes of Keras's classes, lent to kerax's for as long as nobody has one of that name of their own."""

import importlib
from collections import deque
from collections.abc import Iterator
from typing import Any

from kerax.as_keras.private import attention
from kerax.as_keras.private.lending import Lent
from kerax.core.tracking import Alias, members
from kerax.layers import GroupQueryAttention, Layer, MultiHeadAttention, Rescaling
from kerax.layers.image import ImageLayer
from kerax.losses import Loss
from kerax.metrics import Metric
from kerax.models import Model


def _layers(item) -> list[Layer]:
    children = list(item.layers) if isinstance(item, Model) else []
    seen = {id(layer) for layer in children}
    return children + [layer for _, layer in members(item, Layer) if id(layer) not in seen and not seen.add(id(layer))]


def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> Iterator[Layer]:
    """The layers below a layer, each once, in Keras's order, which numbers them in files of LoRA weights."""
    if include_self:
        yield self
    seen, ahead = {id(self)}, deque(_layers(self))
    while ahead:
        layer = ahead.popleft()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        if recursive:
            ahead.extendleft(_layers(layer))


class _Tracker:
    """Keras's ledger of what an object owns. Here attributes are looked at when they are asked for."""

    locked = False

    def track(self, thing) -> Any:
        """The thing itself."""
        return thing

    def unlock(self) -> None:
        """Nothing: there is no lock."""

    lock = unlock


def _backend(_) -> Any:
    return importlib.import_module("keras.src.backend")


def _own_variables(item, trainable: bool) -> list:
    return [variable for _, variable in item._own_variables() if variable.trainable == trainable]


_LENT: dict[type, dict[str, Any]] = {
    Layer: {
        "_flatten_layers": _flatten_layers,
        "_layers": Lent(_layers),
        "_tracker": Lent(lambda item: _Tracker()),
        "_trainable_variables": Lent(lambda item: _own_variables(item, True)),
        "_non_trainable_variables": Lent(lambda item: _own_variables(item, False)),
        "_seed_generators": Lent(lambda item: [child for _, child in item._children() if not isinstance(child, Layer)]),
        "_dtype_policy": Alias("dtype_policy"),
        "_metrics": Lent(lambda item: [metric for _, metric in members(item, Metric)]),
    },
    Model: {"_loss_tracker": Lent(lambda model: model.kerax_compilation.loss_tracker)},
    Loss: {"_dtype": Alias("dtype")},
    # What these do outside of Keras's backend, in a pipeline of TensorFlow's; here they have one.
    Rescaling: {"backend": Lent(_backend)},
    ImageLayer: {"backend": Lent(_backend)},
}
_LENT |= dict.fromkeys((MultiHeadAttention, GroupQueryAttention), attention.ATTRIBUTES)


def lend() -> None:
    """Gives kerax's classes the attributes that they have not."""
    for owner, attributes in _LENT.items():
        for name, value in attributes.items():
            if not hasattr(owner, name):
                setattr(owner, name, value)
