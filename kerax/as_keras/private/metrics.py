"""What `keras.src.metrics` has beyond the public API."""

from typing import Any

from kerax.metrics.reduction import weighted


def reduce_to_samplewise_values(values, sample_weight, reduce_fn, dtype) -> tuple[Any, Any]:
    """Values and weights with one entry for each that is counted."""
    return weighted("reduce_to_samplewise_values", values, sample_weight, dtype, reduce_fn)
