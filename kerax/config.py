"""Process-wide settings: default float dtype, fuzz factor, image layout, dtype policy, traceback filtering, memory."""

import ctypes
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

from kerax import dtype_policies
from kerax.dtype_policies import dtype_policy as dtype_policy
from kerax.dtype_policies import set_dtype_policy as set_dtype_policy
from kerax.places import local_path
from kerax.tracebacks import disable_traceback_filtering as disable_traceback_filtering
from kerax.tracebacks import enable_traceback_filtering as enable_traceback_filtering
from kerax.tracebacks import is_traceback_filtering_enabled as is_traceback_filtering_enabled

_epsilon = 1e-7
_image_data_format = "channels_last"


def backend() -> str:
    """`"jax"`: the only one."""
    return "jax"


def floatx() -> str:
    """The default float dtype, `"float32"` unless set."""
    return dtype_policies.default_float


def set_floatx(value: str) -> None:
    """Sets the default float dtype. Raises `ValueError` unless float16, bfloat16, float32 or float64."""
    name = jnp.dtype(value).name
    if name not in dtype_policies.FLOATS:
        raise ValueError(f"set_floatx: expected one of {dtype_policies.FLOATS}. Got {value!r}.")
    dtype_policies.default_float = name


def epsilon() -> float:
    """The fuzz factor of numerically delicate formulas, 1e-7 unless set."""
    return _epsilon


def set_epsilon(value: float) -> None:
    """Sets the fuzz factor."""
    global _epsilon
    _epsilon = float(value)


def image_data_format() -> str:
    """`"channels_last"` (the default) or `"channels_first"`."""
    return _image_data_format


def set_image_data_format(data_format: str) -> None:
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


# A context variable, not a global: a plan is traced for a TPU while another thread feeds a running model.
_target: ContextVar[str | None] = ContextVar("kerax_target_platform", default=None)


def target_platform() -> str:
    """What programs are traced for, `"cpu"`, `"gpu"` or `"tpu"`: JAX's default platform, or that of `compiling_for`."""
    return _target.get() or jax.default_backend()


@contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """A `with` block in which programs are traced for a platform that need not be there."""
    token = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(token)


_resident_bytes: int | None = None


def resident_bytes() -> int:
    """Largest data set, in bytes, that is copied to an accelerator whole, or to every device of a distribution.

    A larger one is streamed. On a CPU alone blocks of batches are gathered from wherever the arrays lie.

    Default: 2 GiB; for a distribution on CPUs 256 MiB.
    """
    if _resident_bytes is not None:
        return _resident_bytes
    # CPU devices share the host's memory, of which a copy on every device would take its part.
    return 256 * 2**20 if jax.default_backend() == "cpu" else 2 * 2**30


def set_resident_bytes(value: int | None) -> None:
    """Sets `resident_bytes`; 0 streams everything, `None` is the default again."""
    global _resident_bytes
    if value is not None and (not isinstance(value, int) or value < 0):
        raise ValueError(f"set_resident_bytes: expected an integer of at least 0, or None. Got {value!r}.")
    _resident_bytes = value


def keep_host_memory() -> Any:
    """Makes the process keep freed memory for its next use instead of giving it back to the system.

    For training on CPU with one step per dispatch (a callback that looks at every batch, native convolutions): XLA
    allocates a step's temporary memory anew each time, and mapping 77 MB took 40 of 77 ms. Peak memory grew by three
    quarters in that case. It concerns the whole process and needs glibc; elsewhere nothing happens.

    Returns: whether it took effect.
    """
    # The process itself, as a library: without glibc it has no such function, or cannot be opened so.
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    never_map, never_trim, one_arena = (-4, 0), (-1, -1), (-8, 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX
    return all(mallopt(*option) for option in (never_map, never_trim, one_arena))


def enable_compilation_cache(directory=None, min_compile_seconds: float = 0.0) -> Any:
    """Keeps compiled programs on disk, so that the next process need not compile them again.

    Args:
        directory: Folder of the cache. Default: `$JAX_COMPILATION_CACHE_DIR`, else `~/.cache/kerax/xla`.
        min_compile_seconds: Only programs that took at least this long to compile are kept.

    Returns: the folder.
    """
    default = os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.path.join("~", ".cache", "kerax", "xla")
    path = os.path.abspath(
        os.path.expanduser(default if directory is None else local_path(directory, "enable_compilation_cache"))
    )
    os.makedirs(path, exist_ok=True)
    if not jax.config.values["jax_enable_compilation_cache"]:
        from jax.experimental.compilation_cache import compilation_cache

        jax.config.update("jax_enable_compilation_cache", True)
        compilation_cache.reset_cache()  # JAX has noted that there is none
    jax.config.update("jax_compilation_cache_dir", path)
    # JAX's default leaves out what compiles in less than a second: most programs of a small model.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", min_compile_seconds)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return path


def set_backend(backend: str) -> None:
    """Nothing for `"jax"`; raises `ValueError` for anything else."""
    if backend != "jax":
        raise ValueError(f"set_backend: kerax runs on only 'jax'. Got {backend!r}.")


def is_nnx_enabled() -> bool:
    """`False`: variables are kerax's own."""
    return False


_flash_attention: bool | None = None  # nothing was said, which allows it


def enable_flash_attention() -> None:
    """Lets attention use cuDNN's fused kernel where it fits, which is the default: on a GPU of compute capability 8 or
    later, in half precision, without dropout, with heads of a multiple of 8 features up to 128.
    """
    global _flash_attention
    _flash_attention = True


def disable_flash_attention() -> None:
    """Keeps attention from the fused kernel, unless a call asks for it."""
    global _flash_attention
    _flash_attention = False


def is_flash_attention_enabled() -> bool | None:
    """`False` where attention may not use the fused kernel unless asked to; `True` or, if nothing was said, `None`."""
    return _flash_attention


def enable_unsafe_deserialization() -> None:
    """Warns: kerax never runs code that a file holds, so there is nothing to allow.

    Deviation from Keras, where a file's lambdas are run from then on. Register named functions instead.
    """
    warnings.warn(
        "kerax runs no code from files. Register your functions with `kerax.saving.register_keras_serializable`, or "
        "pass them in `custom_objects`.",
        stacklevel=2,
    )


_COMPATIBLE = ("kerax", "keras")
_compatibility = "kerax"
_compatible_here: ContextVar[str | None] = ContextVar("kerax_compatibility", default=None)


def compatibility() -> str:
    """`"kerax"`, or `"keras"` where `set_compatibility` or `compatibility_scope` says so."""
    return _compatible_here.get() or _compatibility


def set_compatibility(value: str) -> None:
    """Sets whose way is gone where kerax and Keras differ on purpose, `"kerax"` (the default) or `"keras"`.

    With `"keras"`
    - targets and predictions of different shapes are broadcast by losses and metrics, where Keras does it;
    - a class or function that is not registered is imported from the module that a file or config names: load such
      files only from those you trust. Files that are saved name the modules of your classes.

    For one call, use `compatibility_scope`.
    """
    global _compatibility
    _compatibility = _check_compatibility(value)


@contextmanager
def compatibility_scope(value: str) -> Iterator[None]:
    """A `with` block in which `set_compatibility(value)` holds.

    >>> with compatibility_scope("keras"):
    ...     print(compatibility())
    keras
    """
    token = _compatible_here.set(_check_compatibility(value))
    try:
        yield
    finally:
        _compatible_here.reset(token)


def _check_compatibility(value: str) -> str:
    if value not in _COMPATIBLE:
        raise ValueError(f"set_compatibility: expected one of {_COMPATIBLE}. Got {value!r}.")
    return value


_interactive_logging = True
_limits: dict[str, int | None] = {"max_epochs": None, "max_steps_per_epoch": None}


def enable_interactive_logging() -> None:
    """Shows progress as a bar on the terminal, the default."""
    global _interactive_logging
    _interactive_logging = True


def disable_interactive_logging() -> None:
    """Shows progress as plain lines."""
    global _interactive_logging
    _interactive_logging = False


def is_interactive_logging_enabled() -> bool:
    """Whether progress is shown as a bar."""
    return _interactive_logging


# Checked here, once for both, under the names of the functions that set them.
def _set_limit(name: str, value: int | None):
    if value is not None and (not isinstance(value, int) or value < 1):
        raise ValueError(f"set_{name}: expected an integer of at least 1, or None. Got {value!r}.")
    _limits[name] = value


def max_epochs() -> int | None:
    """The most epochs that any `fit` runs, `None` for as many as it is told."""
    return _limits["max_epochs"]


def set_max_epochs(max_epochs: int | None) -> None:
    """Sets `max_epochs`."""
    _set_limit("max_epochs", max_epochs)


def max_steps_per_epoch() -> int | None:
    """The most steps that any epoch has, `None` for as many as there are."""
    return _limits["max_steps_per_epoch"]


def set_max_steps_per_epoch(max_steps_per_epoch: int | None) -> None:
    """Sets `max_steps_per_epoch`."""
    _set_limit("max_steps_per_epoch", max_steps_per_epoch)
