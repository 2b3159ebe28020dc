"""`lift`: makes a pure JAX function work on arrays, variables and symbolic tensors alike."""

import functools
import operator
import sys
import types
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core import loading, sparse, symbolic
from kerax.core.operators import BINARY, COMPARISONS, UNARY
from kerax.core.variable import KINDS, Variable, unwrap
from kerax.errors import ArgumentTypeError

Function = TypeVar("Function", bound=Callable)  # lifted, a function keeps its signature


def lift(function: Function, name: str | None = None, spec: Callable | None = None) -> Function:
    """`function` with variables read and symbolic tensors recorded.

    Args:
        function: Any pure function of arrays, for example `jnp.tanh`.
        name: Its public name; default: its own.
        spec: What it gives for symbolic tensors, as `spec(op, args, kwargs)`, where calling `op` is calling `function`.
            Default: what JAX infers, which knows no sizes that depend on values.

    Returns: a function with the same arguments. Called with a symbolic tensor it returns symbolic tensors.
    """

    key = name or function.__name__

    @functools.wraps(function)
    def lifted(*args, **kwargs):
        # One pass over the leaves for both questions.
        kinds = {type(leaf) for leaf in jax.tree.leaves((args, kwargs))}
        if symbolic.KerasTensor in kinds or symbolic.Size in kinds:
            return symbolic.record(LiftedOp(function, key), args, kwargs)
        if not kinds.isdisjoint(KINDS):
            args, kwargs = jax.tree.map(unwrap, (args, kwargs))
        if sparse.MODULE in sys.modules and sparse.holds_any(args, kwargs):
            return sparse.apply(function, key, args, kwargs)
        return function(*args, **kwargs)

    if name is not None:
        lifted.__name__ = lifted.__qualname__ = name
    # By name, for models whose files name an op.
    LIFTED[key] = function
    if spec is not None:
        SPECS[key] = spec
    return cast(Function, lifted)


LIFTED: dict[str, Callable] = {}
SPECS: dict[str, Callable] = {}
"""What ops give for symbolic tensors, of those whose results JAX cannot infer."""


def make_importable(module: dict[str, Any]) -> None:
    """Tells the functions of a module where they are found, so that models that use them can be pickled.

    Args:
        module: Its names. A function lifted from JAX says that it is JAX's, which it is not.
    """
    for name, value in module.items():
        if isinstance(value, types.FunctionType) and value.__name__ == name:
            value.__module__, value.__qualname__ = module["__name__"], name


class LiftedOp:
    """One use of a lifted function in a graph: what a layer is for a layer call."""

    def __init__(self, function: Callable, name: str):
        self.function, self.op_name = function, name
        self.name, self.auto_named, self.named_in_graph = name, True, False
        self.inbound_nodes: list = []

    def __call__(self, *args, **kwargs) -> Any:
        if symbolic.is_symbolic(args, kwargs):
            return symbolic.record(LiftedOp(self.function, self.op_name), args, kwargs)
        args, kwargs = jax.tree.map(unwrap, (args, kwargs))
        if sparse.MODULE in sys.modules and sparse.holds_any(args, kwargs):
            return sparse.apply(self.function, self.op_name, args, kwargs)
        return self.function(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs) -> Any:
        """Symbolic outputs for symbolic inputs, without recording a node."""
        try:
            return SPECS.get(self.op_name, symbolic.inferred_tensors)(self, args, kwargs)
        except (TypeError, IndexError) as error:
            # JAX's class of error depends on the operation, Keras's is `ValueError` for shapes that do not fit.
            raise ArgumentTypeError(f"{self.op_name}: {str(error) or 'an axis is out of range'}") from error

    def __getstate__(self) -> dict:
        """The name instead of the function, which `pickle` may not find."""
        return vars(self) | ({"function": None} if self.op_name in LIFTED else {})

    def __setstate__(self, state: dict):
        vars(self).update(state)
        if self.function is None:
            if self.op_name not in LIFTED:  # a process that has not used this op
                loading.load("ops")
            self.function = LIFTED[self.op_name]

    def __repr__(self):
        return f"<op {self.op_name}>"


def _operator(name: str, function: Callable, swapped: bool = False) -> Callable:
    lifted, on_sizes = lift(function, function.__name__), SIZES.get(name)

    def method(self, other):
        if other is None or isinstance(other, str):
            return NotImplemented
        pair = (other, self) if swapped else (self, other)
        if on_sizes is not None and all(isinstance(item, (int, symbolic.Size)) for item in pair):
            return on_sizes(*pair)
        return lifted(*pair)

    return method


def _equal(self, other):
    # Between symbolic tensors it stays identity: lists and dicts hold them.
    is_value = isinstance(other, (int, float, complex, np.ndarray, np.generic, jax.Array, Variable))
    return EQUAL(self, other) if is_value else NotImplemented


def _get_item(x, index):
    """`x[index]`.

    Raises:
        ValueError: for an integer beyond an axis, where JAX takes the last element.
    """
    # JSON has no tuples: an index that was saved comes back as a list, the slices in it as dicts.
    parts = index if isinstance(index, (list, tuple)) else [index]
    axis = 0
    for place, part in enumerate(parts):
        if part is Ellipsis:
            axis = x.ndim - sum(later is not None for later in parts[place + 1 :])
        elif part is not None:
            # A size that is not known yet has no end that could be told.
            size = x.shape[axis] if axis < x.ndim and isinstance(x.shape[axis], int) else None
            if type(part) is int and size is not None and not -size <= part < size:
                raise ValueError(f"get_item: index {part} is out of range for axis {axis} of size {size}.")
            axis += getattr(part, "ndim", 1) if getattr(part, "dtype", None) == np.bool_ else 1
    return x[
        tuple(slice(part["start"], part["stop"], part["step"]) if isinstance(part, dict) else part for part in parts)
    ]


def _index(self, index):
    """`self[index]`, the index written with what graphs can hold and files too: tensors in slices are seen."""

    def part(item):
        if isinstance(item, slice) and symbolic.is_symbolic([item.start, item.stop, item.step]):
            return {"start": item.start, "stop": item.stop, "step": item.step}
        return np.asarray(item) if isinstance(item, list) else item

    return GET_ITEM(self, tuple(part(item) for item in (index if isinstance(index, tuple) else (index,))))


# Of two sizes that are not known yet, or of one and a number: Python's operators, for shapes are Python's numbers.
SIZES = {
    name: lift(getattr(operator, name), f"size_{name}", symbolic.Size)
    for name in ("add", "sub", "mul", "floordiv", "mod")
}
size_of_axis = lift(lambda x, axis: x.shape[axis], "size_of_axis", symbolic.Size)
EQUAL: Callable[..., Any] = lift(jnp.equal, "equal")
GET_ITEM = lift(_get_item, "get_item")
for _name, _function in {**BINARY, **COMPARISONS}.items():
    setattr(symbolic.KerasTensor, f"__{_name}__", _operator(_name, _function))
    if _name in BINARY:
        setattr(symbolic.KerasTensor, f"__r{_name}__", _operator(_name, _function, swapped=True))
for _name, _function in UNARY.items():
    setattr(symbolic.KerasTensor, f"__{_name}__", lift(_function, _function.__name__))
_METHODS = {
    "__eq__": _equal,
    "__hash__": object.__hash__,
    "__getitem__": _index,
    "astype": lift(lambda x, dtype: x.astype(dtype), "astype"),
    "reshape": lift(lambda x, newshape: jnp.reshape(x, newshape), "reshape_tensor"),
    "squeeze": lift(lambda x, axis=None: jnp.squeeze(x, axis), "squeeze_tensor"),
}
for _name, _function in _METHODS.items():
    setattr(symbolic.KerasTensor, _name, _function)
