"""What `keras.src.models` has beyond the public API."""

from kerax.models import clone_model as clone_model
from kerax.models.functional import Functional as Functional


def functional_like_constructor(cls: type) -> bool:
    """Whether a model class is made of `(inputs, outputs, name)`."""
    return Functional.is_made_of_tensors(cls)
