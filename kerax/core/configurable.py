"""`Configurable`: `get_config` and `from_config` derived from the constructor's arguments."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Self, cast

from kerax.core.registry import deserialize_keras_object, is_serialized, serialize_keras_object
from kerax.errors import UnknownArgument, suggest


class Configurable:
    """Remembers the arguments an object was constructed with and turns them into a config and back."""

    _arguments: tuple[tuple, dict[str, Any]]
    _base_arguments: tuple[type, tuple, dict[str, Any]]  # if a user's constructor calls one of kerax's

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls) and not is_own(cls):
            base = next(base for base in cls.__mro__[1:] if "__init__" in vars(base))
            if is_own(base) and not hasattr(base.__init__, "notes_arguments"):
                base.__init__ = _noting(base)

    def __new__(cls, *args, **kwargs) -> Self:
        # In `__new__`: no constructor has to hand its arguments on, and none can forget to.
        instance = object.__new__(cls)
        instance._arguments = (args, kwargs)
        return instance

    def get_config(self) -> dict:
        """The constructor's arguments, defaults included, JSON-able. Raises `TypeError` naming one that is not."""
        return serialize_arguments(self, captured_arguments(self))

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """An object with the arguments that `get_config` described."""
        return cls(**revive_arguments(config))


def reject_unknown(instance, unknown: dict, *more_names: str) -> None:
    """Raises `UnknownArgument` with a suggestion for keyword arguments that a constructor does not take."""
    if not unknown:
        return
    parameters = list(inspect.signature(type(instance).__init__).parameters.values())[1:]
    known = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)] + list(more_names)
    name = next(iter(unknown))
    listed = ", ".join(dict.fromkeys(known))
    who = type(instance).__name__
    raise UnknownArgument(f"{who}: unknown argument {name!r}.{suggest(name, known)} Known: {listed}.")


def is_own(cls: type) -> bool:
    """Whether a class is one of kerax's, not a user's."""
    return cls.__module__.startswith("kerax.")


def _noting(base: type) -> Callable:
    """A constructor of kerax's that notes what the constructor of a user's subclass calls it with."""

    init: Callable = base.__init__

    @functools.wraps(init)
    def noted(self, *args, **kwargs):
        if type(self).__init__ is not noted and "_base_arguments" not in vars(self):
            self._base_arguments = base, args, kwargs
        init(self, *args, **kwargs)

    cast(Any, noted).notes_arguments = True
    return noted


def has_own_config(instance) -> bool:
    """Whether a user wrote `get_config`, which asks `super().get_config()` for the arguments of kerax's class."""
    return not is_own(next(cls for cls in type(instance).__mro__ if "get_config" in vars(cls)))


def captured_arguments(instance) -> dict[str, Any]:
    """The arguments of the constructor of `instance`, or of kerax's, if a user wrote `get_config`; with defaults."""
    init, (args, kwargs) = type(instance).__init__, instance._arguments
    owner = next(cls for cls in type(instance).__mro__ if "__init__" in vars(cls))
    if has_own_config(instance) and not is_own(owner):
        if "_base_arguments" not in vars(instance):
            return {}
        base, args, kwargs = instance._base_arguments
        init = base.__init__
    signature = inspect.signature(init)
    bound = signature.bind(instance, *args, **kwargs)
    bound.apply_defaults()
    captured = {}
    # What went on to kerax's constructor by position has its names there.
    base, given, _ = vars(instance).get("_base_arguments", (type(instance), (), {}))
    handed_on = list(zip(list(inspect.signature(base.__init__).parameters)[1:], given, strict=False))
    for name, value in list(bound.arguments.items())[1:]:
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            captured.update(value)
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            captured[name] = value
        else:
            captured.update((name, one) for name, one in handed_on if any(one is other for other in value))
    return captured


def serialize_arguments(instance, arguments: dict[str, Any]) -> dict[str, Any]:
    """Each argument as JSON-able data."""
    serialized = {}
    for name, value in arguments.items():
        try:
            serialized[name] = serialize_keras_object(value)
        except TypeError as error:
            raise TypeError(
                f"{instance}: argument {name!r} cannot be serialized; write `get_config`. {error}"
            ) from None
    return serialized


def revive_arguments(config: dict) -> dict:
    """A config with the objects it describes made again; plain values stay as they are."""
    return {name: deserialize_keras_object(value) if _holds_objects(value) else value for name, value in config.items()}


def _holds_objects(value) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_objects, value))
    return is_serialized(value) or (isinstance(value, dict) and any(map(_holds_objects, value.values())))
