"""Optimizers with Keras's names and defaults, made of optax transformations."""

from typing import Any

import optax

from kerax.core.registry import deserialize_keras_object, serialize_keras_object
from kerax.optimizers import schedules
from kerax.optimizers.adaptive import Adadelta, Adafactor, Adamax, Ftrl, Lamb, Nadam
from kerax.optimizers.modern import Lion, Muon, ScheduleFreeAdamW
from kerax.optimizers.multi import MultiOptimizer, OptimizerMap
from kerax.optimizers.optimizer import OPTIMIZERS, Optimizer, OptimizerState
from kerax.optimizers.standard import SGD, Adagrad, Adam, AdamW, RMSprop
from kerax.optimizers.wrappers import LossScaleOptimizer, OptaxOptimizer, for_policy

__all__ = [
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "Muon",
    "Nadam",
    "OptaxOptimizer",
    "Optimizer",
    "OptimizerMap",
    "OptimizerState",
    "RMSprop",
    "SGD",
    "ScheduleFreeAdamW",
    "deserialize",
    "for_policy",
    "get",
    "schedules",
    "serialize",
]


def get(identifier) -> Any:
    """The optimizer for a name, a config, an `Optimizer`, any optax transformation, or a dict of these by part; `None`
    stays `None`.

    A dict like `{"generator": Adam(), "discriminator": "sgd"}` has the names of a model's attributes as keys and makes
    a `MultiOptimizer`.

    Raises:
        ValueError: for an unknown name, with a suggestion.
        TypeError: for anything else.
    """
    if identifier is None or isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, optax.GradientTransformation):
        return OptaxOptimizer(identifier)
    # It is no `GradientTransformation` itself.
    if isinstance(identifier, optax.MultiSteps):
        return OptaxOptimizer(identifier.gradient_transformation())
    # A config is a dict too.
    if isinstance(identifier, dict) and identifier and "class_name" not in identifier:
        return MultiOptimizer({name: get(part) for name, part in identifier.items()})
    # A function is no optimizer: `OPTIMIZERS.get` would hand any callable back.
    optimizer = None if callable(identifier) and not isinstance(identifier, type) else OPTIMIZERS.get(identifier)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"Expected an optimizer by name, config or object, or an optax transformation. Got {identifier!r}."
        )
    return optimizer


def serialize(optimizer) -> dict:
    """A JSON-able description of an optimizer."""
    return serialize_keras_object(optimizer)


def deserialize(config, custom_objects: dict | None = None) -> Optimizer:
    """The optimizer that `serialize` described."""
    return deserialize_keras_object(config, custom_objects)
