"""Traced programs, looked through: by the names of their parts, for JAX's modules about them take long to import."""

from collections.abc import Callable, Iterator
from typing import Any


def inner_jaxprs(equation) -> list:
    """The jaxprs in an equation's parameters, alone, in lists or tuples, open or closed."""
    values = []
    for value in equation.params.values():
        values += value if isinstance(value, (list, tuple)) else [value]
    # A closed jaxpr has its open one as an attribute.
    found = [getattr(value, "jaxpr", value) for value in values]
    return [value for value in found if hasattr(value, "eqns")]


def equations(jaxpr) -> Iterator:
    """Every equation of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in inner_jaxprs(equation):
            yield from equations(inner)


def interpret(closed, arguments: list, rule: Callable[[Any, list], list | None]) -> list:
    """The values of a program's outputs, `None` where they are not known.

    Args:
        closed: A closed jaxpr.
        arguments: Values of its inputs, `None` where not known.
        rule: Function of an equation and its inputs' values that returns its outputs' values, or `None` if they are not
            known; an equation that calls a program is then interpreted by what is in it.
    """
    jaxpr = closed.jaxpr
    known = dict(zip(map(id, (*jaxpr.constvars, *jaxpr.invars)), (*closed.consts, *arguments), strict=True))

    def read(atom):
        return atom.val if hasattr(atom, "val") else known.get(id(atom))

    for equation in jaxpr.eqns:
        inputs, inner = list(map(read, equation.invars)), equation.params.get("jaxpr")
        outputs = rule(equation, inputs)
        # A call of an inner program, as `jit` inside `jit` is.
        if outputs is None and hasattr(inner, "consts"):
            outputs = interpret(inner, inputs, rule)
        if outputs is not None:
            known.update(zip(map(id, equation.outvars), outputs, strict=True))
    return list(map(read, jaxpr.outvars))
