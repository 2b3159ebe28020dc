"""Whether inputs have the shapes that a model was made for."""

from typing import Any


def fits_shape(shape: tuple, expected: tuple) -> bool:
    """Whether an input fits what a model was made for. The batch size is free."""
    # So are sizes that are not known, of the model or of a symbolic input.
    return len(shape) == len(expected) and all(
        want is None or not isinstance(size, int) or size == want
        for size, want in zip(shape[1:], expected[1:], strict=True)
    )


def fit_shape(who: str, value, expected: tuple) -> Any:
    """An input in the rank that a model was made for: `(batch,)` for `(batch, 1)`, and the other way round.

    Raises:
        ValueError: naming `who`, if it does not fit.
    """
    shape = value.shape
    if len(shape) == len(expected) - 1 and expected[-1] == 1:
        value = value[..., None]
    elif len(shape) == len(expected) + 1 and shape[-1] == 1:
        value = value[..., 0]
    if fits_shape(value.shape, expected):
        return value
    hint = f"Reshape the data, or build the model for inputs of shape {tuple(shape[1:])}."
    if fits_shape(shape, expected[1:]):
        hint = "It is one row: add the axis of the batch, `x[None]`."
    raise ValueError(f"{who} must have shape {expected}. Got {tuple(shape)}. {hint}")
