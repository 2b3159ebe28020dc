"""What `keras.src.trainers` has beyond the public API: helpers of its data adapters."""

from typing import Any

import jax
import numpy as np

from kerax.data.arrays import weights_of_classes


def class_weight_to_sample_weights(y, class_weight: dict) -> Any:
    """The weight of each row, from the weights of the classes."""
    return weights_of_classes(np.asarray(y), class_weight, None)


def list_to_tuple(maybe_list) -> Any:
    """A tuple of a list, anything else as it is."""
    return tuple(maybe_list) if isinstance(maybe_list, list) else maybe_list


def check_data_cardinality(data) -> None:
    """Raises `ValueError` unless all arrays have one number of rows."""
    counts = {leaf.shape[0] for leaf in jax.tree.leaves(data)}
    if len(counts) > 1:
        raise ValueError(f"All arrays must have one number of rows. Got {sorted(counts)}.")


def is_jax_array(value) -> bool:
    """Whether `value` is an array of JAX's."""
    return isinstance(value, jax.Array)
