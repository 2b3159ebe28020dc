"""Small tools around training."""

import gc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from kerax.config import disable_interactive_logging as disable_interactive_logging
from kerax.config import enable_interactive_logging as enable_interactive_logging
from kerax.config import is_interactive_logging_enabled as is_interactive_logging_enabled
from kerax.config import standardize_data_format as standardize_data_format
from kerax.core import executable, variable
from kerax.core.dtypes import standardize_dtype as standardize_dtype
from kerax.core.registry import CustomObjectScope as CustomObjectScope
from kerax.core.registry import custom_object_scope as custom_object_scope
from kerax.core.registry import deserialize_keras_object as deserialize_keras_object
from kerax.core.registry import forget_uids
from kerax.core.registry import get_custom_objects as get_custom_objects
from kerax.core.registry import get_registered_name as get_registered_name
from kerax.core.registry import get_registered_object as get_registered_object
from kerax.core.registry import register_keras_serializable as register_keras_serializable
from kerax.core.registry import serialize_keras_object as serialize_keras_object
from kerax.core.seeds import set_random_seed as set_random_seed
from kerax.core.symbolic import get_source_inputs as get_source_inputs
from kerax.core.symbolic import is_keras_tensor as is_keras_tensor
from kerax.data import PyDataset as PyDataset
from kerax.data import pack_x_y_sample_weight as pack_x_y_sample_weight
from kerax.data import pad_to_buckets as pad_to_buckets
from kerax.data import unpack_x_y_sample_weight as unpack_x_y_sample_weight
from kerax.dtype_policies import forget_dtype_policy
from kerax.utils import bounding_boxes as bounding_boxes
from kerax.utils import legacy as legacy
from kerax.utils.config import Config as Config
from kerax.utils.feature_space import FeatureSpace as FeatureSpace
from kerax.utils.files import get_file as get_file
from kerax.utils.folders import audio_dataset_from_directory as audio_dataset_from_directory
from kerax.utils.folders import image_dataset_from_directory as image_dataset_from_directory
from kerax.utils.folders import text_dataset_from_directory as text_dataset_from_directory
from kerax.utils.images import array_to_img as array_to_img
from kerax.utils.images import img_to_array as img_to_array
from kerax.utils.images import load_img as load_img
from kerax.utils.images import save_img as save_img
from kerax.utils.learning_rate_finder import LearningRateSearch as LearningRateSearch
from kerax.utils.learning_rate_finder import find_learning_rate as find_learning_rate
from kerax.utils.model_plot import model_to_dot as model_to_dot
from kerax.utils.model_plot import plot_model as plot_model
from kerax.utils.progbar import Progbar as Progbar
from kerax.utils.sequence import normalize as normalize
from kerax.utils.sequence import pad_sequences as pad_sequences
from kerax.utils.splitting import split_dataset as split_dataset
from kerax.utils.splitting import timeseries_dataset_from_array as timeseries_dataset_from_array


def find_batch_size(model, batch, memory: float | None = None, most: int = 2**16) -> int:
    """The largest batch whose training step fits into memory, by what compiled programs say they need: nothing is run.

    Up to eight sizes are compiled. Under an active distribution it is the batch of all its devices together.

    Args:
        model: A compiled model.
        batch: `(x, y)` or `(x, y, sample_weight)`, arrays or `jax.ShapeDtypeStruct`s; only shapes and dtypes count.
        memory: Bytes of a device. Default: what the device says, or its data sheet; of CPUs four fifths of the
            machine's.
        most: The largest size to try.

    Returns: the number of rows, from 8 on a multiple of 8.

    Raises:
        ValueError: if not even one row for each device fits, or the model is not compiled.
    """
    from kerax.plan import planning  # few ask: who trains shall not wait for this

    return planning.find_batch_size(model, batch, memory, most)


Sequence = PyDataset  # Keras's older name


def clear_session(free_memory: bool = True):
    """Forgets compiled programs, so that a loop over many models does not fill the memory, and the dtype policy.

    There is not much other process-wide state: names of layers do not count up, models go when nobody holds them.

    Args:
        free_memory: Whether to collect garbage as well.
    """
    # JAX's own caches last: those of kerax hold compiled functions that would keep them alive.
    variable.forget_programs()
    executable.forget()
    forget_uids()
    forget_dtype_policy()
    jax.clear_caches()
    if free_memory:
        gc.collect()


def to_categorical(x, num_classes=None) -> Any:
    """Integer labels as rows with a one.

    Args:
        x: Integers of any shape; a last axis of size 1 is dropped.
        num_classes: Default: the largest label plus one.

    Returns: float32 `(..., num_classes)`, of a JAX array one of JAX's.

    Raises:
        ValueError: if a label is outside `[0, num_classes)`.
    """
    if isinstance(x, jax.Array):
        # Inside a compiled function nothing is known of the labels: what is out of range gives zeros there.
        if isinstance(x, Tracer) and num_classes is not None:
            return jax.nn.one_hot(x[..., 0] if x.ndim > 1 and x.shape[-1] == 1 else x, num_classes)
        return jnp.asarray(to_categorical(np.asarray(x), num_classes))
    labels = np.asarray(x).astype(np.int64)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    count = int(labels.max(initial=-1)) + 1 if num_classes is None else num_classes
    if labels.size and (labels.min() < 0 or labels.max() >= count):
        raise ValueError(f"to_categorical: labels must be in [0, {count}). Got {labels.min()} to {labels.max()}.")
    # Compared, not indexed: an axis more, whatever the rank.
    return (labels[..., None] == np.arange(count)).astype(np.float32)
