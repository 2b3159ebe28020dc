"""Small tools around training."""

import gc

import jax
import numpy as np

from kerax.config import (
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
    standardize_data_format,
)
from kerax.core import variable
from kerax.core.dtypes import standardize_dtype
from kerax.core.registry import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    forget_uids,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)
from kerax.core.seeds import set_random_seed
from kerax.core.symbolic import get_source_inputs, is_keras_tensor
from kerax.data import PyDataset
from kerax.utils import bounding_boxes
from kerax.utils.config import Config
from kerax.utils.feature_space import FeatureSpace
from kerax.utils.files import get_file
from kerax.utils.folders import (
    audio_dataset_from_directory,
    image_dataset_from_directory,
    text_dataset_from_directory,
)
from kerax.utils.images import array_to_img, img_to_array, load_img, save_img
from kerax.utils.learning_rate_finder import LearningRateSearch, find_learning_rate
from kerax.utils.model_plot import model_to_dot, plot_model
from kerax.utils.progbar import Progbar
from kerax.utils.sequence import normalize, pack_x_y_sample_weight, pad_sequences, unpack_x_y_sample_weight
from kerax.utils.splitting import split_dataset, timeseries_dataset_from_array

__all__ = [
    "Config",
    "CustomObjectScope",
    "FeatureSpace",
    "LearningRateSearch",
    "Progbar",
    "PyDataset",
    "Sequence",
    "array_to_img",
    "audio_dataset_from_directory",
    "bounding_boxes",
    "clear_session",
    "custom_object_scope",
    "deserialize_keras_object",
    "disable_interactive_logging",
    "enable_interactive_logging",
    "find_learning_rate",
    "get_custom_objects",
    "get_file",
    "get_registered_name",
    "get_registered_object",
    "get_source_inputs",
    "image_dataset_from_directory",
    "img_to_array",
    "is_interactive_logging_enabled",
    "is_keras_tensor",
    "load_img",
    "model_to_dot",
    "normalize",
    "pack_x_y_sample_weight",
    "pad_sequences",
    "plot_model",
    "register_keras_serializable",
    "save_img",
    "serialize_keras_object",
    "set_random_seed",
    "split_dataset",
    "standardize_data_format",
    "standardize_dtype",
    "text_dataset_from_directory",
    "timeseries_dataset_from_array",
    "to_categorical",
    "unpack_x_y_sample_weight",
]

Sequence = PyDataset


def clear_session(free_memory: bool = True):
    """Forgets compiled programs, so that a loop over many models does not fill the memory.

    kerax has no other process-wide state: names do not count up, and models go when nobody holds them.

    Args:
        free_memory: Whether to collect garbage as well.
    """
    variable.forget_programs()
    forget_uids()
    jax.clear_caches()
    if free_memory:
        gc.collect()


def to_categorical(x, num_classes=None) -> np.ndarray:
    """Integer labels as rows with a one.

    Args:
        x: Integers of any shape; a last axis of size 1 is dropped.
        num_classes: Default: the largest label plus one.

    Returns: float32 `(..., num_classes)`.

    Raises:
        ValueError: if a label is outside `[0, num_classes)`.
    """
    labels = np.asarray(x).astype(np.int64)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    count = int(labels.max(initial=-1)) + 1 if num_classes is None else num_classes
    if labels.size and (labels.min() < 0 or labels.max() >= count):
        raise ValueError(f"to_categorical: labels must be in [0, {count}). Got {labels.min()} to {labels.max()}.")
    return (labels[..., None] == np.arange(count)).astype(np.float32)
