"""Traced programs, looked through: by the names of their parts, for JAX's modules about them take long to import."""

from collections.abc import Iterator


def inner_jaxprs(equation) -> list:
    """The jaxprs in an equation's parameters, alone, in lists or tuples, open or closed."""
    values = []
    for value in equation.params.values():
        values += value if isinstance(value, (list, tuple)) else [value]
    found = [getattr(value, "jaxpr", value) for value in values]
    return [value for value in found if hasattr(value, "eqns")]


def equations(jaxpr) -> Iterator:
    """Every equation of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in inner_jaxprs(equation):
            yield from equations(inner)
