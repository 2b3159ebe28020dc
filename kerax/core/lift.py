"""`lift`: makes a pure JAX function work on arrays, variables and symbolic tensors alike."""

import functools
import types
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp

from kerax.core import loading, symbolic
from kerax.core.variable import Variable, unwrap

Function = TypeVar("Function", bound=Callable)  # lifted, a function keeps its signature


def lift(function: Function, name: str | None = None) -> Function:
    """`function` with variables read and symbolic tensors recorded.

    Args:
        function: Any pure function of arrays, for example `jnp.tanh`.
        name: Its public name; default: its own.

    Returns: a function with the same arguments. Called with a symbolic tensor it returns symbolic tensors.
    """

    @functools.wraps(function)
    def lifted(*args, **kwargs):
        # One pass over the leaves for both questions.
        kinds = {type(leaf) for leaf in jax.tree.leaves((args, kwargs))}
        if symbolic.KerasTensor in kinds:
            return symbolic.record(LiftedOp(function, lifted.__name__), args, kwargs)
        if Variable in kinds:
            args, kwargs = jax.tree.map(unwrap, (args, kwargs))
        return function(*args, **kwargs)

    if name is not None:
        lifted.__name__ = lifted.__qualname__ = name
    # By name, for models whose files name an op.
    LIFTED[lifted.__name__] = function
    return cast(Function, lifted)


LIFTED: dict[str, Callable] = {}


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
        self.name, self.auto_named = name, True
        self.inbound_nodes: list = []

    def __call__(self, *args, **kwargs) -> Any:
        if symbolic.is_symbolic(args, kwargs):
            return symbolic.record(LiftedOp(self.function, self.op_name), args, kwargs)
        args, kwargs = jax.tree.map(unwrap, (args, kwargs))
        return self.function(*args, **kwargs)

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


def _reflected(function: Callable) -> Callable:
    return lambda x, other: function(other, x)


_OPERATORS = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "truediv": jnp.true_divide,
    "floordiv": jnp.floor_divide,
    "mod": jnp.mod,
    "pow": jnp.power,
    "matmul": jnp.matmul,
    "and": jnp.logical_and,
    "or": jnp.logical_or,
    "xor": jnp.logical_xor,
}
_COMPARISONS = {
    "lt": jnp.less,
    "le": jnp.less_equal,
    "gt": jnp.greater,
    "ge": jnp.greater_equal,
}
for _name, _function in {**_OPERATORS, **_COMPARISONS}.items():
    _lifted = lift(_function, _function.__name__)
    setattr(symbolic.KerasTensor, f"__{_name}__", _lifted)
    if _name in _OPERATORS:
        setattr(symbolic.KerasTensor, f"__r{_name}__", _reflected(_lifted))
for _name, _function in {"neg": jnp.negative, "abs": jnp.absolute, "invert": jnp.logical_not}.items():
    setattr(symbolic.KerasTensor, f"__{_name}__", lift(_function, _function.__name__))
_METHODS = {
    "astype": lift(lambda x, dtype: x.astype(dtype), "astype"),
    "reshape": lift(lambda x, newshape: jnp.reshape(x, newshape), "reshape_tensor"),
    "squeeze": lift(lambda x, axis=None: jnp.squeeze(x, axis), "squeeze_tensor"),
    # JSON has no tuples: an index that was saved comes back as a list.
    "__getitem__": lift(lambda x, index: x[tuple(index) if isinstance(index, list) else index], "get_item"),
}
for _name, _function in _METHODS.items():
    setattr(symbolic.KerasTensor, _name, _function)
