"""Losses: what training makes small."""

from collections.abc import Callable

from kerax.core.registry import deserialize_keras_object, serialize_keras_object
from kerax.losses.embedding import Circle, circle
from kerax.losses.loss import LOSSES, Loss, LossFunctionWrapper
from kerax.losses.probabilistic import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    KLDivergence,
    Poisson,
    SparseCategoricalCrossentropy,
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    kl_divergence,
    poisson,
    sparse_categorical_crossentropy,
)
from kerax.losses.regression import (
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    SquaredHinge,
    categorical_hinge,
    cosine_similarity,
    hinge,
    huber,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    squared_hinge,
)
from kerax.losses.segmentation import Dice, Tversky, dice, tversky
from kerax.losses.sequence import CTC, ctc

__all__ = [
    "CTC",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "Circle",
    "CosineSimilarity",
    "Dice",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "LossFunctionWrapper",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Tversky",
    "as_loss",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
    "circle",
    "cosine_similarity",
    "crossentropy_for",
    "ctc",
    "deserialize",
    "dice",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "serialize",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
]


def get(identifier) -> Callable | None:
    """The loss object or function for a name, a config, a class or an object; `None` stays `None`."""
    return LOSSES.get(identifier)


def as_loss(identifier) -> Loss | None:
    """`get(identifier)` as a `Loss`: a function `f(y_true, y_pred)` is wrapped under its name; `None` stays `None`."""
    loss = get(identifier)
    if loss is None or isinstance(loss, Loss):
        return loss
    return LossFunctionWrapper(loss, name=identifier if isinstance(identifier, str) else None)


def crossentropy_for(y_true_shape, y_pred_shape) -> Callable:
    """The crossentropy function that `"crossentropy"` means for these shapes."""
    return {
        "binary": binary_crossentropy,
        "sparse": sparse_categorical_crossentropy,
        "categorical": categorical_crossentropy,
    }[kind_of_labels(y_true_shape, y_pred_shape)]


def kind_of_labels(y_true_shape, y_pred_shape) -> str:
    """`"binary"` for predictions with a last axis of 1, `"sparse"` for integer labels, else `"categorical"`."""
    if y_pred_shape[-1] == 1:
        return "binary"
    is_sparse = len(y_true_shape) < len(y_pred_shape) or (y_true_shape[-1] == 1 and y_pred_shape[-1] > 1)
    return "sparse" if is_sparse else "categorical"


def serialize(loss) -> dict | str:
    """A JSON-able description."""
    return serialize_keras_object(loss)


def deserialize(name, custom_objects: dict | None = None) -> Callable | None:
    """The loss that `serialize` described, or the one called `name`."""
    return LOSSES.get(deserialize_keras_object(name, custom_objects))
