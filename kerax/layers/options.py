"""What many layers' constructors share: checks of arguments, and weights described by named options."""

import inspect
import types
from typing import Any

from kerax import constraints, initializers, regularizers
from kerax.core.layer import Layer
from kerax.core.variable import Variable

Sizes = int | tuple[int, ...] | list[int]  # one number for each axis, or one for all
_GETTERS = {"initializer": initializers.get, "regularizer": regularizers.get, "constraint": constraints.get}


def set_weight_options(layer: Layer, **options):
    """Sets attributes such as `kernel_initializer` to the objects that the given names stand for."""
    for name, value in options.items():
        setattr(layer, name, _GETTERS[name.rpartition("_")[2]](value))


def add_weight(layer: Layer, name: str, shape, options: str | None = None, **kwargs) -> Variable:
    """The weight `name` with the layer's `{options}_initializer`, `_regularizer` and `_constraint`, if it has them."""
    found: dict[str, Any] = {kind: getattr(layer, f"{options or name}_{kind}", None) for kind in _GETTERS}
    return layer.add_weight(name=name, shape=shape, **(found | kwargs))


def check_positive(layer: Layer, **arguments) -> None:
    """Raises `ValueError` unless every argument is an integer of at least 1."""
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{layer}: `{name}` must be an integer of at least 1. Got {name}={value!r}.")


def check_rate(layer: Layer, **arguments) -> None:
    """Raises `ValueError` unless every argument is a fraction from 0 to 1."""
    for name, value in arguments.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{layer}: `{name}` must be between 0 and 1. Got {name}={value!r}.")


def check_choice(layer: Layer, name: str, value, choices: tuple) -> None:
    """Raises `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{layer}: `{name}` must be one of {choices}. Got {name}={value!r}.")


def check_unsupported(layer: Layer, **arguments) -> None:
    """Raises `ValueError` for an argument of Keras that kerax does not offer, if it is set."""
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise ValueError(f"{layer}: `{name}` is not supported by kerax; leave it out. Got {name}={value!r}.")


def sizes(layer: Layer, name: str, value, rank: int, minimum: int = 1) -> tuple[int, ...]:
    """`value` as `rank` integers of at least `minimum`: one number stands for all.

    Raises:
        ValueError: if it is neither.
    """
    found = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(found) != rank or any(not isinstance(size, int) or size < minimum for size in found):
        raise ValueError(
            f"{layer}: `{name}` must be an integer of at least {minimum}, or {rank} of them. Got {name}={value!r}."
        )
    return found


def with_defaults(function, **defaults):
    """A copy of a function whose parameters of these names have these defaults.

    A family of layers writes its constructor once; what differs from rank to rank is in `defaults`.
    """
    parameters = [p for p in inspect.signature(function).parameters.values() if p.default is not p.empty]
    values = tuple(defaults.get(parameter.name, parameter.default) for parameter in parameters)
    found = types.FunctionType(function.__code__, function.__globals__, function.__name__, values, function.__closure__)
    found.__annotations__, found.__qualname__ = function.__annotations__, function.__qualname__
    return found


def without(config: dict, *names: str) -> dict:
    """`config` without those of its entries `names` that are not set: Keras's configs do not mention them."""
    return {name: value for name, value in config.items() if name not in names or value not in (None, "auto")}
