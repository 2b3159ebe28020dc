"""What many layers' constructors share: checks of arguments, and one constructor for a family."""

import inspect
import types
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from kerax import config, constraints, initializers, regularizers
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.errors import ArgumentTypeError

Sizes = int | tuple[int, ...] | list[int]  # one number for each axis, or one for all
_F = TypeVar("_F", bound=Callable)


def weight_options(initializer: Any, regularizer: Any, constraint: Any) -> tuple[Any, Any, Any]:
    """What the names that a constructor takes for a weight stand for."""
    return initializers.get(initializer), regularizers.get(regularizer), constraints.get(constraint)


def check(layer: Layer, holds: Any, expected: str, /, **got: Any) -> None:
    """Raises an error that is a `ValueError`, saying what was expected and which arguments came, unless `holds`."""
    if not holds:
        found = ", ".join(f"{name}={value!r}" for name, value in got.items())
        raise ArgumentTypeError(f"{layer}: {expected}. Got {found}.")


def is_integer(value: Any) -> bool:
    """Whether a value is an integer, of Python's or NumPy's; in Python `True` is one."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_positive(layer: Layer, **arguments: Any) -> None:
    """Raises `ValueError` unless every argument is an integer of at least 1."""
    for name, value in arguments.items():
        check(layer, is_integer(value) and value >= 1, f"`{name}` must be an integer of at least 1", **{name: value})


def check_rate(layer: Layer, **arguments: Any) -> None:
    """Raises `ValueError` unless every argument is a fraction from 0 to 1."""
    for name, value in arguments.items():
        check(layer, 0 <= value <= 1, f"`{name}` must be between 0 and 1", **{name: value})


def check_choice(layer: Layer, name: str, value: Any, choices: tuple) -> None:
    """Raises `ValueError` unless `value` is one of `choices`."""
    check(layer, value in choices, f"`{name}` must be one of {choices}", **{name: value})


def read_choice(layer: Layer, name: str, value: Any, choices: tuple) -> str:
    """One of `choices`, in whatever case it was given; raises `ValueError` for anything else."""
    chosen = value.lower() if isinstance(value, str) else value
    check_choice(layer, name, chosen, choices)
    return chosen


def check_unsupported(layer: Layer, **arguments: Any) -> None:
    """Raises `ValueError` for an argument of Keras that kerax does not offer, if it is set."""
    for name, value in arguments.items():
        # Not `not value`: an empty list is set, too.
        is_unset = value is None or value is False
        check(layer, is_unset, f"`{name}` is not supported by kerax; leave it out", **{name: value})


def check_window(layer: Layer, name: str, spatial: Any, spans: Any, **got: Any) -> None:
    """Raises `ValueError` if a window, called `name` in the message, spans more positions than the input has.

    Sizes that are not known are not checked.
    """
    fits = all(size is None or span <= size for size, span in zip(spatial, spans, strict=True))
    check(layer, fits, f"the {name} is larger than the input; use a smaller one or padding='same'", **got)


def sizes(layer: Layer, name: str, value: Any, rank: int, minimum: int = 1) -> tuple[int, ...]:
    """`value` as `rank` integers of at least `minimum`: one number stands for all.

    Raises:
        ValueError: if it is neither.
    """
    found = (value,) * rank if np.ndim(value) == 0 else tuple(value)
    fits = len(found) == rank and all(is_integer(size) and size >= minimum for size in found)
    check(layer, fits, f"`{name}` must be an integer of at least {minimum}, or {rank} of them", **{name: value})
    return tuple(map(int, found))


def read_window(
    layer: Layer, rank: int, kernel_size: Any, strides: Any, padding: str, dilation_rate: Any, paddings: tuple
) -> tuple[Any, Any, str, Any]:
    """The same four arguments of a convolution: sizes for each of `rank` axes, and the padding in lower case.

    Raises:
        ValueError: if one is out of its range.
    """
    kernel_size = sizes(layer, "kernel_size", kernel_size, rank)
    strides = sizes(layer, "strides", strides, rank)
    dilation_rate = sizes(layer, "dilation_rate", dilation_rate, rank)
    return kernel_size, strides, read_choice(layer, "padding", padding, paddings), dilation_rate


def spans_of(kernel_size: Any, dilation_rate: Any) -> tuple[int, ...]:
    """From how many positions of each axis a window takes its first and last input."""
    return tuple(rate * (size - 1) + 1 for size, rate in zip(kernel_size, dilation_rate, strict=True))


def check_steps(layer: Layer, strides: tuple, dilation_rate: tuple) -> None:
    """Raises `ValueError` if windows are apart and spread at once, which Keras refuses."""
    holds = max(strides) == 1 or max(dilation_rate) == 1
    expected = "`strides` and `dilation_rate` cannot both be above 1"
    check(layer, holds, expected, strides=strides, dilation_rate=dilation_rate)


def with_defaults(function: _F, **defaults: Any) -> _F:
    """A copy of a function whose parameters of these names have these defaults.

    A family of layers writes its constructor once; what differs from rank to rank is in `defaults`. Each class has a
    copy, for help looks for an argument's description in the docstring of the class that has the constructor.
    """
    made: Any = function
    parameters = [p for p in inspect.signature(function).parameters.values() if p.default is not p.empty]
    values = tuple(defaults.get(parameter.name, parameter.default) for parameter in parameters)
    # The closure goes along: `super()` without arguments finds its class there.
    found: Any = types.FunctionType(made.__code__, made.__globals__, made.__name__, values, made.__closure__)
    found.__annotations__, found.__qualname__ = made.__annotations__, made.__qualname__
    return found


def set_rank(cls: Any, rank: int | None, **defaults: Any) -> None:
    """What `class MaxPooling2D(_MaxPooling, rank=2, pool_size=(2, 2))` means: the family's constructor so."""
    if rank is not None:  # else a user's subclass, or the base of a family
        cls.rank = rank
        if "__init__" not in vars(cls):  # one of its own has another signature
            cls.__init__ = with_defaults(cls.__init__, **defaults)


class Spatial(Layer):
    """What layers over `rank` spatial axes share: their rank, and where these axes are."""

    rank: int

    def __init_subclass__(cls, rank: int | None = None, **defaults):
        super().__init_subclass__()
        set_rank(cls, rank, **defaults)

    # Positional only: in `kwargs` of a class that has no such argument it is refused by name.
    def __init__(self, data_format: str | None = None, /, **kwargs):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        first = 1 if self.data_format == "channels_last" else 2
        self.spatial_axes = tuple(range(first, first + self.rank))
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def spatial_sizes(self, input_shape: Any) -> tuple:
        """The sizes of the spatial axes."""
        return tuple(input_shape[axis] for axis in self.spatial_axes)


class PassesMasks(Layer):
    """What layers share whose outputs have the positions of their inputs, and so their mask."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True


def leave_out(config: dict, *names: str) -> dict:
    """`config` without its entries `names`: Keras's configs do not hold them."""
    return {name: value for name, value in config.items() if name not in names}


def without(config: dict, *names: str) -> dict:
    """`config` without those of its entries `names` that are not set: Keras's configs do not mention them."""
    return leave_out(config, *(name for name in names if config.get(name) is None))
