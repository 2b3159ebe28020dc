"""Programs with some primitives done otherwise, for a converter that does not take them as JAX writes them."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from kerax.core import jaxprs

Rules = dict[str, Callable[..., Any]]
_LOOPS = ("scan", "while", "cond")


def rewritten(function: Callable, rules: Rules) -> Callable:
    """A function that computes what `function` does.

    Args:
        rules: By the primitive's name: from its inputs and parameters to its output, or to `NotImplemented` where the
            primitive itself does.
    """

    def call(*arguments):
        closed, form = jax.make_jaxpr(function, return_shape=True)(*arguments)
        outputs = jaxprs.interpret(closed.jaxpr, closed.consts, jax.tree.leaves(arguments), rule)
        return jax.tree.unflatten(jax.tree.structure(form), outputs)

    def rule(equation, values: list) -> list:
        names = str(equation.source_info.name_stack)  # of layers, which stay in the new program
        with jax.named_scope(names) if names else contextlib.nullcontext():
            return _apply(equation, values, rules, rule)

    return call


def _apply(equation, values: list, rules: Rules, rule: Callable) -> list:
    name, params = equation.primitive.name, equation.params
    if name in rules and (output := rules[name](*values, **params)) is not NotImplemented:
        return list(output) if equation.primitive.multiple_results else [output]
    if (program := jaxprs.called(equation)) is not None:
        return jaxprs.interpret(*program, values, rule)
    if name in _LOOPS:
        params = {key: _rewritten_jaxprs(value, rules) for key, value in params.items()}
    outputs = equation.primitive.bind(*values, **params)
    return list(outputs) if equation.primitive.multiple_results else [outputs]


def _rewritten_jaxprs(value, rules: Rules) -> Any:
    if isinstance(value, tuple):
        return tuple(_rewritten_jaxprs(item, rules) for item in value)
    if not hasattr(value, "jaxpr") or not hasattr(value, "consts"):
        return value
    specs = [jax.ShapeDtypeStruct(variable.aval.shape, variable.aval.dtype) for variable in value.jaxpr.invars]
    return jax.make_jaxpr(rewritten(jaxpr_as_fun(value), rules))(*specs)


# What LiteRT's converter and runtime lack.


def _dot_general(x, y, **params):
    wanted = params["preferred_element_type"]
    if x.dtype == jnp.bfloat16:
        wide = params | {"preferred_element_type": np.dtype(np.float32)}
        return jax.lax.dot_general_p.bind(_cast(x, np.float32), _cast(y, np.float32), **wide).astype(wanted or x.dtype)
    if x.dtype.itemsize > 1 or x.dtype.kind not in "iu":
        return NotImplemented
    # Floats hold products of 8-bit integers, and sums of a thousand of them, exactly.
    wide = params | {"preferred_element_type": np.dtype(np.float32)}
    product = jax.lax.dot_general_p.bind(_cast(x, np.float32), _cast(y, np.float32), **wide)
    return product.astype(wanted or np.int32)


def _cast(array, dtype):
    return jax.lax.convert_element_type(array, dtype)


def _widely(name: str) -> Callable:
    """On integers that LiteRT's operator does not take, by way of int32."""
    operation = getattr(jax.lax, name)

    def apply(*values, **params):
        dtype = values[0].dtype
        if dtype.kind not in "iu" or dtype == np.int32 or dtype.itemsize > 4:
            return NotImplemented
        result = operation(*(_cast(value, np.int32) for value in values))
        return result if result.dtype == bool else _cast(result, dtype)

    return apply


def _ordered(name: str) -> Callable:
    operation = getattr(jax.lax, name)

    def apply(x, y, **params):
        wide = np.float32 if x.dtype.kind == "f" else np.int32
        return operation(_cast(x, wide), _cast(y, wide))  # NaN is not told apart

    return apply


FOR_LITERT: Rules = {name: _widely(name) for name in ("gt", "lt", "ge", "le", "eq", "ne", "div", "rem", "add", "sub")}
FOR_LITERT |= {name: _widely(name) for name in ("mul", "max", "min", "sign", "abs", "neg", "bitwise_and")}
FOR_LITERT |= {"lt_to": _ordered("lt"), "le_to": _ordered("le"), "dot_general": _dot_general}
FOR_LITERT["and"] = FOR_LITERT.pop("bitwise_and")
