"""What Keras offers as `keras.backend`: settings, dtypes, names. There is one backend, JAX."""

from kerax.config import (
    backend,
    epsilon,
    floatx,
    image_data_format,
    set_epsilon,
    set_floatx,
    set_image_data_format,
)
from kerax.core.dtypes import is_float_dtype, is_int_dtype, result_type, standardize_dtype
from kerax.core.registry import get_uid
from kerax.core.stateless import device, name_scope
from kerax.core.symbolic import is_keras_tensor
from kerax.utils import clear_session

__all__ = [
    "backend",
    "clear_session",
    "device",
    "epsilon",
    "floatx",
    "get_uid",
    "image_data_format",
    "is_float_dtype",
    "is_int_dtype",
    "is_keras_tensor",
    "name_scope",
    "result_type",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "standardize_dtype",
]
