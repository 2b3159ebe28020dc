"""Models: sequences and graphs of layers, or subclasses with `call`."""

import json

from kerax.core.registry import deserialize_keras_object
from kerax.models.functional import Functional, clone_model
from kerax.models.model import Model
from kerax.models.sequential import Sequential
from kerax.saving.models import load_model, save_model

__all__ = ["Functional", "Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model"]


def model_from_json(json_string: str, custom_objects: dict | None = None) -> Model:
    """The model that `to_json` described, with fresh weights."""
    return deserialize_keras_object(json.loads(json_string), custom_objects)
