"""Programs with some primitives done otherwise, for a converter that does not take them as JAX writes them."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from kerax.core import jaxprs
from kerax.export.formulas import FORMULAS

Rules = dict[str, Callable[..., Any]]
LINEAR_ALGEBRA = ("cholesky", "lu", "triangular_solve")
"""Primitives that JAX does by LAPACK, which other programs do not have."""
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
        atoms = *equation.invars, *equation.outvars
        is_wide = any(getattr(atom.aval, "dtype", np.dtype(bool)).itemsize == 8 for atom in atoms)
        context = jax.enable_x64(True) if is_wide else contextlib.nullcontext()
        with context, jax.named_scope(names) if names else contextlib.nullcontext():
            return _apply(equation, values, rules, rule)

    return call


def _apply(equation, values: list, rules: Rules, rule: Callable) -> list:
    name, params = equation.primitive.name, equation.params
    if name in rules and (output := rules[name](*values, **params)) is not NotImplemented:
        return list(output) if equation.primitive.multiple_results else [output]
    if (program := jaxprs.called(equation)) is not None:
        return jaxprs.interpret(*program, values, rule)
    if (expand := getattr(params.get("_prim"), "expand", None)) is not None:  # the newest tell what they are made of
        return jax.tree.leaves(rewritten(expand, rules)(*values))
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


def add_formulas(rules: Rules, *names: str) -> Rules:
    """Adds to rules those for primitives that are done by `kerax.export.formulas`, and by the rules in turn."""

    def by_formula(name: str) -> Callable:
        return lambda *values, **params: rewritten(FORMULAS[name](**params), rules)(*values)

    def solve(*values, const_lengths, jaxprs):
        before = const_lengths.matvec + const_lengths.vecmat
        own, rest = values[before : before + const_lengths.solve], values[sum(const_lengths) :]
        return rewritten(jaxpr_as_fun(jaxprs.solve), rules)(*own, *rest)

    rules.update({name: by_formula(name) for name in names}, custom_linear_solve=solve)
    return rules
