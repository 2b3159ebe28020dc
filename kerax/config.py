"""Process-wide settings: default float dtype, fuzz factor, image layout, dtype policy, traceback filtering."""

import jax.numpy as jnp

from kerax import dtype_policies
from kerax.dtype_policies import dtype_policy, set_dtype_policy
from kerax.errors import disable_traceback_filtering, enable_traceback_filtering, is_traceback_filtering_enabled

__all__ = [
    "backend",
    "disable_traceback_filtering",
    "dtype_policy",
    "enable_traceback_filtering",
    "epsilon",
    "floatx",
    "image_data_format",
    "is_traceback_filtering_enabled",
    "set_dtype_policy",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "standardize_data_format",
]

_epsilon = 1e-7
_image_data_format = "channels_last"


def backend() -> str:
    """`"jax"`: the only one."""
    return "jax"


def floatx() -> str:
    """The default float dtype, `"float32"` unless set."""
    return dtype_policies._default_name


def set_floatx(value: str):
    """Sets the default float dtype. Raises `ValueError` unless float16, bfloat16, float32 or float64."""
    name = jnp.dtype(value).name
    if name not in dtype_policies._FLOATS:
        raise ValueError(f"set_floatx: expected one of {dtype_policies._FLOATS}. Got {value!r}.")
    dtype_policies._default_name = name


def epsilon() -> float:
    """The fuzz factor of numerically delicate formulas, 1e-7 unless set."""
    return _epsilon


def set_epsilon(value: float):
    """Sets the fuzz factor."""
    global _epsilon
    _epsilon = float(value)


def image_data_format() -> str:
    """`"channels_last"` (the default) or `"channels_first"`."""
    return _image_data_format


def set_image_data_format(data_format: str):
    """Sets the default image layout. Raises `ValueError` for an unknown one."""
    global _image_data_format
    _image_data_format = standardize_data_format(data_format)


def standardize_data_format(data_format: str | None) -> str:
    """`data_format` checked, or the default for `None`."""
    if data_format is None:
        return _image_data_format
    if data_format not in ("channels_first", "channels_last"):
        raise ValueError(f"`data_format` must be 'channels_first' or 'channels_last'. Got {data_format!r}.")
    return data_format
