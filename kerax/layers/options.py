"""What many layers' constructors share: checks of arguments, and one constructor for a family."""

import inspect
import types
from collections.abc import Callable
from typing import Any, TypeVar

from kerax import constraints, initializers, regularizers
from kerax.core.layer import Layer

Sizes = int | tuple[int, ...] | list[int]  # one number for each axis, or one for all
_F = TypeVar("_F", bound=Callable)


def weight_options(initializer: Any, regularizer: Any, constraint: Any) -> tuple[Any, Any, Any]:
    """What the names that a constructor takes for a weight stand for."""
    return initializers.get(initializer), regularizers.get(regularizer), constraints.get(constraint)


def check_positive(layer: Layer, **arguments: Any) -> None:
    """Raises `ValueError` unless every argument is an integer of at least 1."""
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{layer}: `{name}` must be an integer of at least 1. Got {name}={value!r}.")


def check_rate(layer: Layer, **arguments: Any) -> None:
    """Raises `ValueError` unless every argument is a fraction from 0 to 1."""
    for name, value in arguments.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{layer}: `{name}` must be between 0 and 1. Got {name}={value!r}.")


def check_choice(layer: Layer, name: str, value: Any, choices: tuple) -> None:
    """Raises `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{layer}: `{name}` must be one of {choices}. Got {name}={value!r}.")


def check_unsupported(layer: Layer, **arguments: Any) -> None:
    """Raises `ValueError` for an argument of Keras that kerax does not offer, if it is set."""
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise ValueError(f"{layer}: `{name}` is not supported by kerax; leave it out. Got {name}={value!r}.")


def sizes(layer: Layer, name: str, value: Any, rank: int, minimum: int = 1) -> tuple[int, ...]:
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


def with_defaults(function: _F, **defaults: Any) -> _F:
    """A copy of a function whose parameters of these names have these defaults.

    A family of layers writes its constructor once; what differs from rank to rank is in `defaults`. Each class has a
    copy, for help looks for an argument's description in the docstring of the class that has the constructor.
    """
    made: Any = function
    parameters = [p for p in inspect.signature(function).parameters.values() if p.default is not p.empty]
    values = tuple(defaults.get(parameter.name, parameter.default) for parameter in parameters)
    found: Any = types.FunctionType(made.__code__, made.__globals__, made.__name__, values, made.__closure__)
    found.__annotations__, found.__qualname__ = made.__annotations__, made.__qualname__
    return found


def set_rank(cls: Any, rank: int | None, **defaults: Any) -> None:
    """What `class MaxPooling2D(_MaxPooling, rank=2, pool_size=(2, 2))` means: the family's constructor so."""
    if rank is not None:  # else a user's subclass
        cls.rank = rank
        if "__init__" not in vars(cls):
            cls.__init__ = with_defaults(cls.__init__, **defaults)


def without(config: dict, *names: str) -> dict:
    """`config` without those of its entries `names` that are not set: Keras's configs do not mention them."""
    return {name: value for name, value in config.items() if name not in names or value not in (None, "auto")}
