"""From a jaxpr to an ONNX graph: each equation by the rule of its primitive."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core import jaxprs
from kerax.export.errors import ExportError
from kerax.export.formulas import FORMULAS
from kerax.export.onnx.graph import (
    Complex,
    Graph,
    Operand,
    are_known,
    constant,
    is_known,
    is_same,
    stored,
)

RULES: dict[str, Callable[..., Any]] = {}
"""By the primitive's name: from the graph, the equation and its inputs to its output, or a list of several."""

FUNCTIONS: dict[str, tuple[Callable, Callable[..., Any]]] = {}
"""By their names functions of JAX's that ONNX has an operator for: of one array of float32, and what writes it."""

PARTWISE: set[str] = set()
"""Primitives that do to a complex value what they do to each of its parts."""

_LOOPS = ("scan", "while", "cond")
_ROOM = 65536
"""Bytes of a constant that may be computed here from smaller ones. Larger ones (dequantized weights) would only fill
the file."""


def rule(*names: str):
    """Makes a function the rule of primitives."""

    def add(function):
        RULES.update({name: function for name in names})
        return function

    return add


def parts(jaxpr) -> tuple[Any, list[Operand]]:
    """A closed jaxpr and its constants."""
    return getattr(jaxpr, "jaxpr", jaxpr), [constant(array) for array in getattr(jaxpr, "consts", ())]


def run(graph: Graph, jaxpr, constants: Sequence, arguments: Sequence) -> list:
    """Writes the equations of a jaxpr. Returns its outputs.

    Raises:
        ExportError: for what has no ONNX, naming the layer and the primitive.
    """
    outside = graph.shared.scope

    def rule(equation, values: list) -> list:
        values = [
            value if isinstance(value, (Operand, Complex)) else constant(np.asarray(value, atom.aval.dtype))
            for value, atom in zip(values, equation.invars, strict=True)
        ]
        graph.shared.scope = _scope(outside, str(equation.source_info.name_stack))
        try:
            outputs = _write(graph, equation, values)
        except ExportError as error:
            if not hasattr(error, "layer"):  # the innermost name says most
                error.layer = graph.shared.scope  # pyright: ignore[reportAttributeAccessIssue]
                error.args = (f"{error} (layer {graph.shared.scope!r}, primitive {equation.primitive.name!r})",)
            raise
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return [_as_told(one, variable.aval) for one, variable in zip(outputs, equation.outvars, strict=True)]

    outputs = jaxprs.interpret(jaxpr, constants, arguments, rule)
    graph.shared.scope = outside
    # An output that is a number in the program.
    return [value if isinstance(value, (Operand, Complex)) else constant(value) for value in outputs]


def _scope(outside: str, inner: str) -> str:
    # Inside a function of its own an equation tells the names from the beginning, or from there on: JAX's versions
    # differ.
    if not inner or not outside or inner.startswith(outside):
        return inner or outside
    return outside if outside.endswith(inner) else f"{outside}/{inner}"


def _as_told(output: Any, aval: Any):
    """A rule's output in the shape that JAX knows: of what broadcasts, rules know less."""
    if isinstance(output, Complex):
        return output
    if not is_same(output.shape, aval.shape):
        actual = output.actual if len(output.actual) == len(aval.shape) else None
        output = Operand(aval.shape, output.dtype, output.result, output.constant, actual, output.name)
    if output.dtype != stored(aval.dtype):
        raise ExportError(f"expected {stored(aval.dtype)}, got {output.dtype}: a mistake of kerax's. Please report it")
    return output


def _write(graph: Graph, equation, values: list) -> Any:
    name = equation.primitive.name
    if (program := jaxprs.called(equation)) is not None:
        jaxpr, constants = program
        if (write := _operator(equation)) is not None:
            return write(graph, *values)
        return run(graph, jaxpr, list(map(constant, constants)), values)
    if any(isinstance(value, Complex) for value in values):
        return _write_complex(graph, equation, values)
    if name not in _LOOPS and name != "broadcast_in_dim" and all(value.constant is not None for value in values):
        folded = _fold(equation, values)
        if folded is not None:
            return folded
    if name in RULES:
        return RULES[name](graph, equation, *values)
    # The newest primitives of JAX tell what they are made of.
    prim = equation.params.get("_prim")
    function = FORMULAS[name](**equation.params) if name in FORMULAS else getattr(prim, "expand", None)
    if function is None:
        raise ExportError("ONNX has no operator for it")
    return trace(graph, function, values)


def _operator(equation) -> Callable[..., Any] | None:
    """What writes a function of JAX's; for another's of the same name there is nothing, by its other equations."""
    function, write = FUNCTIONS.get(equation.params.get("name"), (None, None))
    avals = [atom.aval for atom in equation.invars]
    if function is None or len(avals) != 1 or avals[0].dtype != np.float32:
        return None
    (expected,) = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(avals[0].shape, np.float32)).eqns
    return write if _equations(expected) == _equations(equation) else None


def _equations(equation) -> str:
    """What a call computes in the end: calls around calls are not the same in all of JAX's versions."""
    program: Any = jaxprs.called(equation)
    while len(program[0].eqns) == 1 and jaxprs.called(program[0].eqns[0]) is not None:
        program = jaxprs.called(program[0].eqns[0])
    return str(program)


def trace(graph: Graph, function: Callable, values: Sequence[Operand]) -> list:
    """Writes what a function in JAX computes of values."""
    wide = any(value.dtype.itemsize == 8 for value in values)  # of counters, where JAX itself has left 32 bits
    with jax.enable_x64(True) if wide else contextlib.nullcontext():
        specs = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in values]
        closed = jax.make_jaxpr(function)(*specs)
    return run(graph, closed.jaxpr, [constant(array) for array in closed.consts], list(values))


def _write_complex(graph: Graph, equation, values: list) -> Any:
    name = equation.primitive.name
    if name in PARTWISE:
        halves = []
        for half in ("real", "imaginary"):
            given = [getattr(value, half) if isinstance(value, Complex) else value for value in values]
            halves.append(RULES[name](graph, equation, *given))
        if isinstance(halves[0], (list, tuple)):
            return [Complex(*pair) for pair in zip(*halves, strict=True)]
        return Complex(*halves)
    if f"complex {name}" in RULES:
        return RULES[f"complex {name}"](graph, equation, *values)
    raise ExportError("ONNX has no complex numbers, and kerax writes no parts for it")


def _fold(equation, values: list[Operand]) -> list[Operand] | None:
    """What an equation gives for constants, if the file is not larger for it."""
    avals = [variable.aval for variable in equation.outvars]
    if any(not are_known(aval.shape) for aval in avals) or _has_symbols(equation.params):
        return None
    if not all(hasattr(aval.dtype, "itemsize") and np.dtype(aval.dtype).kind in "biufV" for aval in avals):
        return None
    room = max(sum(value.constant.nbytes for value in values), _ROOM)
    if sum(int(np.prod(aval.shape)) * stored(aval.dtype).itemsize for aval in avals) > room:
        return None
    name = values[0].name if len(values) == 1 else None
    arrays = [np.broadcast_to(value.constant, [int(size) for size in value.shape]) for value in values]
    if equation.primitive.name in _BY_NUMPY:  # in no time, where JAX would compile a program for each shape
        with np.errstate(all="ignore"):
            array = _BY_NUMPY[equation.primitive.name](equation, *arrays)
        return [constant(np.asarray(array, stored(avals[0].dtype)).reshape(avals[0].shape), name)]
    wide = any(np.dtype(aval.dtype).itemsize == 8 for aval in [*avals, *(atom.aval for atom in equation.invars)])
    with jax.ensure_compile_time_eval(), jax.enable_x64(True) if wide else contextlib.nullcontext():
        given = [jnp.asarray(array, atom.aval.dtype) for array, atom in zip(arrays, equation.invars, strict=True)]
        outputs = equation.primitive.bind(*given, **equation.params)
    outputs = outputs if equation.primitive.multiple_results else [outputs]
    return [constant(np.asarray(output), name) for output in outputs]


def _has_symbols(params: dict) -> bool:
    return any(
        not is_known(leaf) and hasattr(leaf, "scope") and hasattr(leaf, "dimension_as_value")
        for leaf in jax.tree.leaves(list(params.values()))
    )


def _reordered(array: np.ndarray, axes) -> np.ndarray:
    return array if axes is None else np.transpose(array, axes)


_BY_NUMPY: dict[str, Callable[..., Any]] = {
    "add": lambda _, x, y: x + y,
    "sub": lambda _, x, y: x - y,
    "mul": lambda _, x, y: x * y,
    "neg": lambda _, x: -x,
    "sqrt": lambda _, x: np.sqrt(x),
    "rsqrt": lambda _, x: np.asarray(1, x.dtype) / np.sqrt(x),
    "reshape": lambda equation, x: _reordered(x, equation.params["dimensions"]),
    "squeeze": lambda _, x: x,
    "expand_dims": lambda _, x: x,
    "copy": lambda _, x: x,
    "transpose": lambda equation, x: np.transpose(x, equation.params["permutation"]),
    "convert_element_type": lambda equation, x: x.astype(stored(equation.params["new_dtype"])),
}
