"""What `keras.src.utils` has beyond the public API: small helpers that libraries have come to use."""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax.numpy as jax_numpy

from kerax.as_keras.private.files import File as File
from kerax.as_keras.private.files import copy as copy
from kerax.as_keras.private.files import exists as exists
from kerax.as_keras.private.files import hash_file as hash_file
from kerax.as_keras.private.files import is_remote_path as is_remote_path
from kerax.as_keras.private.files import isdir as isdir
from kerax.as_keras.private.files import join as join
from kerax.as_keras.private.files import listdir as listdir
from kerax.as_keras.private.files import makedirs as makedirs
from kerax.as_keras.private.files import path_to_string as path_to_string
from kerax.as_keras.private.files import remove as remove
from kerax.as_keras.private.files import resolve_path as resolve_path
from kerax.as_keras.private.files import resolve_sub_path as resolve_sub_path
from kerax.as_keras.private.files import rmtree as rmtree
from kerax.as_keras.private.files import validate_file as validate_file
from kerax.core.host_arrays import to_numpy
from kerax.core.layer import Layer
from kerax.core.locking import unlocked
from kerax.core.registry import forget_uids, get_uid, to_snake_case
from kerax.core.terminal import printable
from kerax.models.summary import print_summary as print_summary

reset_uids = forget_uids


def auto_name(prefix: str) -> str:
    """A name in snake case that no other has had in this process."""
    return uniquify(to_snake_case(prefix))


def uniquify(name: str) -> str:
    """`name`, or with a number behind it from the second time on."""
    count = get_uid(name) - 1
    return f"{name}_{count}" if count else name


def get_object_name(thing) -> str:
    """The name of an object, function or class."""
    return getattr(thing, "name", None) or to_snake_case(getattr(thing, "__name__", type(thing).__name__))


def no_automatic_dependency_tracking(method: Callable) -> Callable:
    """Makes a method after which the layers and variables that it has put into attributes are no children."""

    @functools.wraps(method)
    def untracked(self, *args, **kwargs):
        before = dict(vars(self))
        with unlocked(self) if isinstance(self, Layer) else nullcontext():
            result = method(self, *args, **kwargs)
        new = {name for name, value in vars(self).items() if before.get(name, before) is not value}
        object.__setattr__(self, "_untracked", self._untracked | new)
        return result

    return untracked


class DotNotTrackScope:
    """A `with` block of Keras's in which attributes are not looked at. Here attributes are looked at later: empty."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def is_tracking_enabled() -> bool:
    """True: see `DotNotTrackScope`."""
    return True


def default(method: Callable) -> Callable:
    """Marks a method as one that a subclass may have written over."""
    method._is_default = True  # pyright: ignore[reportFunctionMemberAccess]
    return method


def is_default(method: Callable) -> bool:
    """Whether `default` has marked the method."""
    return getattr(method, "_is_default", False)


def to_list(x) -> list:
    """`x` itself if it is a list, else a list of it."""
    return x if isinstance(x, list) else [x]


def removeprefix(x: str, prefix: str) -> str:
    """`x` without that beginning."""
    return x.removeprefix(prefix)


def removesuffix(x: str, suffix: str) -> str:
    """`x` without that end."""
    return x.removesuffix(suffix)


def pythonify_logs(logs: dict | None) -> dict[str, float]:
    """Logs as plain numbers, those of nested ones by name beside the others."""
    plain: dict[str, float] = {}
    for name, value in (logs or {}).items():
        if isinstance(value, dict):
            plain |= pythonify_logs(value)
            continue
        try:
            plain[name] = float(value)
        except (TypeError, ValueError):  # as Keras: what is no number stays what it is
            plain[name] = value
    return plain


def standardize_tuple(value, n: int, name: str, allow_zero: bool = False) -> tuple[int, ...]:
    """`n` integers from one or from `n`. Raises `ValueError` for anything else."""
    sizes = (value,) * n if isinstance(value, int) else tuple(value)
    if len(sizes) != n or any(not isinstance(size, int) or size < (0 if allow_zero else 1) for size in sizes):
        least = 0 if allow_zero else 1
        raise ValueError(f"`{name}` must be {n} integers of at least {least}, or one. Got {value!r}.")
    return sizes


def standardize_padding(value, allow_causal: bool = False) -> str:
    """The padding in lower case. Raises `ValueError` for an unknown one."""
    known = ("valid", "same", "causal") if allow_causal else ("valid", "same")
    if not isinstance(value, str) or value.lower() not in known:
        raise ValueError(f"`padding` must be one of {known}. Got {value!r}.")
    return value.lower()


def print_msg(message: str, line_break: bool = True) -> None:
    """Prints a line, in characters that the terminal has."""
    sys.stdout.write(printable(f"{message}\n" if line_break else str(message)))
    sys.stdout.flush()


def in_tf_graph() -> bool:
    """Whether TensorFlow traces a graph: only where it is imported."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and not tensorflow.executing_eagerly()


def convert_tf_tensor(outputs, dtype=None) -> Any:
    """Tensors with values as arrays of JAX's; those of a graph as they are."""
    if in_tf_graph():
        return outputs
    return jax_numpy.asarray(to_numpy(outputs), dtype)


class DynamicBackend:
    """The backend of layers that in Keras have another one in TensorFlow's graphs: here it is always JAX's."""

    name = _backend = "jax"

    def __init__(self, backend: str | None = None):
        self.set_backend(backend or "jax")

    def set_backend(self, backend: str) -> None:
        """Does nothing. Raises `ValueError` for another backend than JAX's."""
        if backend != "jax":
            raise ValueError(f"DynamicBackend: kerax has one backend, 'jax'. Got {backend!r}.")

    def reset(self) -> None:
        """Does nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("keras.src.backend"), name)


def in_grain_data_pipeline() -> bool:
    """Whether this runs in a worker of Grain's or below one of its transformations."""
    frame = sys._getframe(1)
    while "grain" in sys.modules and frame is not None:
        if frame.f_globals.get("__name__", "").startswith("grain."):
            return True
        frame = frame.f_back
    return False


class LazyModule:
    """A module that is imported when something of it is read."""

    def __init__(self, name: str, pip_name: str | None = None, import_error_msg: str | None = None):
        self.name = name
        self.import_error_msg = import_error_msg or f"This needs {name}: pip install {pip_name or name}"

    @property
    def available(self) -> bool:
        """Whether it can be imported."""
        return importlib.util.find_spec(self.name) is not None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            module = importlib.import_module(self.name)
        except ImportError:
            raise ImportError(self.import_error_msg) from None
        return getattr(module, name)


tensorflow, jax, torch_xla, optree, dmtree = (
    LazyModule(name) for name in ("tensorflow", "jax", "torch_xla", "optree", "tree")
)
scipy, grain, torchvision, matplotlib, ocp = (
    LazyModule(name) for name in ("scipy", "grain", "torchvision", "matplotlib", "orbax.checkpoint")
)
