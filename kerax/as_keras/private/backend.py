"""What `keras.src.backend` has beyond the public API: masks, dtypes, scopes, the wishes of JAX's backend."""

import builtins
from typing import Any

import jax
import numpy as np

from kerax import config, ops
from kerax.core import masks, remat, scope, seed_generator, symbolic
from kerax.core.shapes import read_shape
from kerax.core.sparse import is_sparse
from kerax.core.stateless import SymbolicScope

JaxVariable = None
IS_THREAD_SAFE = True
SUPPORTS_COMPLEX_DTYPES = True
SUPPORTS_RAGGED_TENSORS = False
SUPPORTS_SPARSE_TENSORS = True
DEFAULT_TF_VERSION = None
_FLOATX = "float32"
BOOL_TYPES = ("bool",)
INT_TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
FLOAT_TYPES = ("bfloat16", "float16", "float32", "float64")
FLOAT8_TYPES = ("float8_e4m3fn", "float8_e5m2")
COMPLEX_TYPES = ("complex64", "complex128")
ALLOWED_DTYPES = (*FLOAT_TYPES, *INT_TYPES, *BOOL_TYPES, *COMPLEX_TYPES, *FLOAT8_TYPES, "string")

get_keras_mask, set_keras_mask = masks.get_mask, masks.set_mask
draw_seed = jax_draw_seed = seed_generator.next_key
any_symbolic_tensors = lambda args=(), kwargs=None: symbolic.is_symbolic(args, kwargs or {})
get_stateless_scope = get_symbolic_scope = scope.current_scope
RematScope, get_current_remat_mode = remat.RematScope, remat.current_mode
standardize_data_format = config.standardize_data_format
_state: dict[str, Any] = {}


def in_stateless_scope() -> bool:
    """Whether a computation runs that must change nothing."""
    return scope.current_scope() is not None


def in_symbolic_scope() -> bool:
    """Whether only shapes are asked for."""
    return scope.infers_shapes() or isinstance(scope.current_scope(), SymbolicScope)


def standardize_shape(shape) -> tuple:
    """A shape as a tuple of integers and `None`. Raises `ValueError` for anything else."""
    if not isinstance(shape, (builtins.list, builtins.tuple)):
        raise ValueError(f"standardize_shape: expected a list or tuple of sizes. Got {shape!r}.")
    return read_shape("standardize_shape", shape)


def convert_to_tensor(x, dtype=None, sparse=None, ragged=None) -> Any:
    """`keras.ops.convert_to_tensor`, which knows nothing of ragged arrays."""
    return ops.convert_to_tensor(x, dtype=dtype, sparse=sparse)


def is_tensor(x) -> bool:
    """Whether `x` is an array of JAX's, dense or sparse."""
    return isinstance(x, jax.Array) or is_sparse(x)


def convert_to_numpy(x) -> np.ndarray:
    """The array on the host."""
    return np.asarray(ops.convert_to_numpy(x))


def compute_output_spec(function, *args, **kwargs) -> Any:
    """The shapes and dtypes of what a function returns for symbolic tensors."""
    return symbolic.inferred_tensors(function, args, kwargs)


def get_global_attribute(name: str, default=None, set_to_default=False) -> Any:
    """What `set_global_attribute` has kept."""
    return _state.setdefault(name, default) if set_to_default and default is not None else _state.get(name, default)


def set_global_attribute(name: str, value) -> None:
    """Keeps a value for the process."""
    _state[name] = value


def keras_home() -> str:
    """The folder of a user's settings and caches."""
    from kerax.as_keras.aliases import settings_file

    return str(settings_file().parent)
