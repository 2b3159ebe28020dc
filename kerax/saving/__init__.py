"""Saving and loading: models, weights, registered classes and their descriptions."""

from kerax.core.registry import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)
from kerax.saving.file_editor import KerasFileEditor
from kerax.saving.hub import push_to_hub
from kerax.saving.models import load_model, save_model
from kerax.saving.weights import load_weights, save_weights

__all__ = [
    "CustomObjectScope",
    "KerasFileEditor",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "load_model",
    "load_weights",
    "push_to_hub",
    "register_keras_serializable",
    "save_model",
    "save_weights",
    "serialize_keras_object",
]
