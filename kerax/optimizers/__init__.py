"""Optimizers with Keras's names and defaults, made of optax transformations."""

import optax

from kerax.core.registry import deserialize_keras_object, serialize_keras_object
from kerax.optimizers import schedules
from kerax.optimizers.optimizer import OPTIMIZERS, OptaxOptimizer, Optimizer, OptimizerState
from kerax.optimizers.standard import SGD, Adagrad, Adam, AdamW, RMSprop

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "OptaxOptimizer",
    "Optimizer",
    "OptimizerState",
    "RMSprop",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]


def get(identifier) -> Optimizer:
    """The optimizer for a name, a config, an `Optimizer`, or any optax transformation.

    Raises:
        ValueError: for an unknown name, with a suggestion.
        TypeError: for anything else.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, optax.GradientTransformation):
        return OptaxOptimizer(identifier)
    if isinstance(identifier, optax.MultiSteps):
        return OptaxOptimizer(identifier.gradient_transformation())
    optimizer = None if callable(identifier) and not isinstance(identifier, type) else OPTIMIZERS.get(identifier)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"Expected an optimizer by name, config or object, or an optax transformation. Got {identifier!r}."
        )
    return optimizer


def serialize(optimizer) -> dict:
    """A JSON-able description of an optimizer."""
    return serialize_keras_object(optimizer)


def deserialize(config, custom_objects=None) -> Optimizer:
    """The optimizer that `serialize` described."""
    return deserialize_keras_object(config, custom_objects)
