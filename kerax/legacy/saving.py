"""Descriptions of objects as Keras 2 wrote them: a class's name and its config."""

import inspect
from typing import Any

from kerax.core import registry
from kerax.core.registry import get_registered_name, get_registered_object, is_serialized

__all__ = ["deserialize_keras_object", "serialize_keras_object"]


def serialize_keras_object(instance: Any) -> Any:
    """`{"class_name", "config"}` of an object, the name of a function.

    Raises:
        ValueError: if `instance` is neither.
    """
    if instance is None:
        return None
    if hasattr(instance, "get_config"):
        return {"class_name": get_registered_name(type(instance)), "config": instance.get_config()}
    if hasattr(instance, "__name__"):
        return get_registered_name(instance)
    raise ValueError(f"serialize_keras_object: {instance!r} has neither a `get_config` method nor a name.")


def deserialize_keras_object(
    identifier: Any,
    module_objects: dict | None = None,
    custom_objects: dict | None = None,
    printable_module_name="object",
) -> Any:
    """The object of such a description, or the one of that name; a class of that name is called.

    Args:
        identifier: The description or name. A function stays what it is.
        module_objects: Classes and functions by name.
        custom_objects: More of them, which come first.
        printable_module_name: What is described, for messages.

    Raises:
        ValueError: if the name is not known.
    """
    if isinstance(identifier, str):
        found = get_registered_object(identifier, custom_objects, module_objects)
        if found is None:
            raise ValueError(
                f"Unknown {printable_module_name} {identifier!r}. Pass it in `custom_objects`, or register it with "
                "`register_keras_serializable`."
            )
        return found() if inspect.isclass(found) else found
    if identifier is None or inspect.isfunction(identifier) or is_serialized(identifier):
        return registry.deserialize_keras_object(identifier, custom_objects, module_objects=module_objects)
    raise ValueError(f"Cannot make {printable_module_name} of {identifier!r}.")
