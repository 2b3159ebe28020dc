"""The values of a function that only fills arrays with constants, found without compiling it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kerax.core.jaxprs import interpret

Tree = Any


def constant_results(function: Callable, *specs: Tree) -> Tree:
    """What `function` returns for arguments of these shapes and dtypes if it depends on nothing else, as NumPy arrays.

    `None` if it does more than fill arrays and has to be compiled and run. An optimizer's state is 0 nearly always;
    compiling that takes XLA 0.1 s for two dense layers. An array of one number is broadcast, so that it takes no
    memory.
    """
    # Traced only: no program is made.
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*specs)
    values = interpret(closed.jaxpr, closed.consts, [None] * len(closed.jaxpr.invars), _filled)
    if any(value is None for value in values):
        return None
    return jax.tree.unflatten(jax.tree.structure(shapes), map(np.asarray, values))


def constant_of(value) -> float | None:
    """The number that an array repeats, if it takes no memory for that."""
    # Strides of 0: every element is the same memory.
    if isinstance(value, np.ndarray) and value.size > 1 and not any(value.strides):
        return value.flat[0].item()
    return None


def _astype(value: np.ndarray, dtype) -> np.ndarray:
    if constant_of(value) is None:
        return value.astype(dtype)
    # The view stays one number, whatever its shape.
    return np.broadcast_to(value.flat[0].astype(dtype), value.shape)


def _filled(equation, inputs: list) -> list | None:
    """What an equation that fills, converts or copies an array gives."""
    if not inputs or inputs[0] is None:
        return None
    name, out = equation.primitive.name, equation.outvars[0].aval
    if name == "broadcast_in_dim" and len(inputs) == 1 and np.ndim(inputs[0]) == 0:
        return [np.broadcast_to(np.asarray(inputs[0], out.dtype), out.shape)]
    return [_astype(np.asarray(inputs[0]), out.dtype)] if name in ("convert_element_type", "copy") else None
