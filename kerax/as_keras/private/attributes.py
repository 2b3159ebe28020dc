"""Private attributes of Keras's classes, lent to kerax's for as long as nobody has one of that name of their own."""

from collections import deque
from typing import Any

from kerax.as_keras.private import attention
from kerax.as_keras.private.layers import DataLayer
from kerax.as_keras.private.lending import Lent
from kerax.as_keras.private.utils import DynamicBackend
from kerax.callbacks.monitors import Monitor
from kerax.core import locking
from kerax.core.tracking import Alias, members
from kerax.layers import GroupQueryAttention, Layer, MultiHeadAttention, Rescaling
from kerax.layers.image import ImageLayer
from kerax.losses import Loss
from kerax.metrics import Metric
from kerax.models import Functional, Model, Sequential


def _layers(item) -> list[Layer]:
    children = list(item.layers) if isinstance(item, Model) else []
    seen = {id(layer) for layer in children}
    inside = [child for _, child in item._children() if isinstance(child, Layer)]
    return children + [layer for layer in inside if id(layer) not in seen and not seen.add(id(layer))]


def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> list[Layer]:
    """The layers below a layer, each once, in Keras's order, which numbers them in files of LoRA weights."""
    found = [self] if include_self else []
    seen, ahead = {id(self)}, deque(_layers(self))
    while ahead:
        layer = ahead.popleft()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        found.append(layer)
        if recursive:
            ahead.extendleft(_layers(layer))
    return found


class _Tracker:
    """Keras's ledger of what a layer owns. Here attributes are looked at when they are asked for; the lock is real."""

    def __init__(self, layer: Layer):
        self._layer = layer

    @property
    def locked(self) -> bool:
        """Whether the layer takes no new weights and parts."""
        return locking.is_locked(self._layer)

    def track(self, thing) -> Any:
        """The thing itself."""
        return thing

    def unlock(self) -> None:
        """From now on the layer takes new weights and parts."""
        locking.unlock(self._layer)

    def lock(self, msg: str | None = None) -> None:
        """From now on the layer takes none."""
        locking.lock(self._layer)


def _build_at_init(layer: Layer) -> None:
    """Marks a layer as built that makes nothing in `build`."""
    if type(layer).build is Layer.build:
        layer.built = True
        locking.lock(layer)


_BACKEND = DynamicBackend()


def _get_seed_generator(self, backend=None) -> Any:
    """The generator that a layer on data made in its constructor."""
    return getattr(self, "generator", None) or self.seed_generator


def _own_variables(item, trainable: bool) -> list:
    return [variable for _, variable in item._own_variables() if variable.trainable == trainable]


def _functional(model: Sequential) -> Functional | None:
    """The graph that a built model is, whose layers and weights are its own."""
    return Functional(model.inputs, model.outputs, name=model.name) if hasattr(model, "output") else None


def _set_monitor_op(self: Monitor) -> None:
    self.find_direction(self.monitor, [])


_LENT: dict[type, dict[str, Any]] = {
    Layer: {
        "_flatten_layers": _flatten_layers,
        "_layers": Lent(_layers),
        "_build_at_init": _build_at_init,
        "_lock_state": locking.lock,
        "_tracker": Lent(_Tracker),
        "_trainable_variables": Lent(lambda item: _own_variables(item, True)),
        "_non_trainable_variables": Lent(lambda item: _own_variables(item, False)),
        "_seed_generators": Lent(lambda item: [child for _, child in item._children() if not isinstance(child, Layer)]),
        "_dtype_policy": Alias("dtype_policy"),
        "_metrics": Lent(lambda item: [metric for _, metric in members(item, Metric)]),
    },
    Model: {
        "_loss_tracker": Lent(lambda model: model.kerax_compilation.loss_tracker),
        "_compile_metrics": Lent(lambda model: model.kerax_compilation.metrics if model.compiled else None),
    },
    Functional: {"_operations": Alias("operations")},
    Sequential: {"_functional": Lent(_functional)},
    Monitor: {"_is_improvement": Monitor.is_better, "_set_monitor_op": _set_monitor_op},
    Loss: {"_dtype": Alias("dtype")},
    # What these do outside of Keras's backend, in a pipeline of TensorFlow's; here they have one.
    Rescaling: {"backend": _BACKEND},
    ImageLayer: {"backend": _BACKEND, "_get_seed_generator": _get_seed_generator},
    DataLayer: {"_get_seed_generator": _get_seed_generator},
}
_LENT |= dict.fromkeys((MultiHeadAttention, GroupQueryAttention), attention.ATTRIBUTES)


def lend() -> None:
    """Gives kerax's classes the attributes that they have not."""
    for owner, attributes in _LENT.items():
        for name, value in attributes.items():
            if not hasattr(owner, name):
                setattr(owner, name, value)
