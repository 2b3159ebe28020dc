"""Private attributes of Keras's classes, lent to kerax's for as long as nobody has one of that name of their own."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from kerax.core.tracking import Alias, Trackable, members
from kerax.layers import GroupQueryAttention, Layer, MultiHeadAttention, Softmax
from kerax.losses import Loss
from kerax.models import Model


class Lent:
    """An attribute that is computed when it is read. A value that is assigned stands before it."""

    def __init__(self, read: Callable):
        self.read = read

    def __get__(self, item, _=None) -> Any:
        return self if item is None else self.read(item)


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
    },
    Loss: {"_dtype": Alias("dtype")},
}
for _attention in (MultiHeadAttention, GroupQueryAttention):
    _LENT[_attention] = {
        f"_{name}": Alias(name)
        for name in ("query_dense", "key_dense", "value_dense", "output_dense", "key_dim", "num_heads", "value_dim")
    } | {
        "_dropout": Alias("dropout"),
        "_use_bias": Alias("use_bias"),
        "_inverse_sqrt_key_dim": Lent(lambda item: item.key_dim**-0.5),
        "_softmax": Lent(lambda item: Softmax(axis=-1, dtype=item.dtype_policy)),
        "_kernel_initializer": Alias("kernel_initializer"),
        "_bias_initializer": Alias("bias_initializer"),
    }
_ = Trackable


def lend() -> None:
    """Gives kerax's classes the attributes that they have not."""
    for owner, attributes in _LENT.items():
        for name, value in attributes.items():
            if not hasattr(owner, name):
                setattr(owner, name, value)
