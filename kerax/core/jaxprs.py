"""Traced programs, looked through: by the names of their parts, for JAX's modules about them take long to import."""

from collections.abc import Callable, Iterator, Sequence
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


_CALLS = frozenset(
    "jit pjit closed_call core_call remat remat2 checkpoint custom_jvp_call custom_vjp_call "
    "custom_vjp_call_jaxpr".split()
)


def called(equation) -> tuple[Any, Any] | None:
    """The jaxpr that an equation calls on its inputs, and its constants; `None` if it does anything else."""
    if equation.primitive.name not in _CALLS:
        return None
    program = next(equation.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in equation.params)
    return getattr(program, "jaxpr", program), getattr(program, "consts", ())


def scan_counts(equation) -> tuple[int, int]:
    """How many inputs of a `scan` stay the same in all steps, and how many are carried from step to step."""
    params = equation.params
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    # JAX 0.12 has other parameters. The ranks tell: what is stacked has an axis more than in the body.
    body = inner_jaxprs(equation)[0]
    carried = sum(
        len(outside.aval.shape) == len(inside.aval.shape)
        for outside, inside in zip(equation.outvars, body.outvars, strict=True)
    )
    scanned = sum(
        len(outside.aval.shape) > len(inside.aval.shape)
        for outside, inside in zip(equation.invars, body.invars, strict=True)
    )
    return len(equation.invars) - carried - scanned, carried


def interpret(jaxpr, constants: Sequence, arguments: Sequence, rule: Callable[[Any, list], Any]) -> list:
    """The values of a program's outputs, `None` where they are not known.

    Args:
        jaxpr: An open jaxpr. constants: The values of its constants.
        arguments: Values of its inputs, `None` where not known.
        rule: Function of an equation and its inputs' values that returns a sequence of its outputs' values, or `None`
            if they are not known; an equation that calls a program is then interpreted by what is in it.
    """
    known = dict(zip(map(id, (*jaxpr.constvars, *jaxpr.invars)), (*constants, *arguments), strict=True))

    def read(atom):
        return atom.val if hasattr(atom, "val") else known.get(id(atom))

    for equation in jaxpr.eqns:
        inputs = list(map(read, equation.invars))
        outputs = rule(equation, inputs)
        if outputs is None and (program := called(equation)):
            outputs = interpret(*program, inputs, rule)
        if outputs is not None:
            known.update(zip(map(id, equation.outvars), outputs, strict=True))
    return list(map(read, jaxpr.outvars))
