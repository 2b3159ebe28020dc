"""Loops and branches."""

from typing import Any

import numpy as np

from kerax.core.jaxprs import scan_counts
from kerax.export.onnx.graph import BOOL, INT32, INT64, Graph, Operand, constant, stored
from kerax.export.onnx.interpreter import parts, rule, run


@rule("scan")
def _scan(graph: Graph, equation, *values: Operand):
    params = equation.params
    jaxpr, constants = parts(params["jaxpr"])
    num_fixed, num_carried = scan_counts(equation)
    values = tuple(graph.full(value) for value in values)
    fixed, carried = values[:num_fixed], values[num_fixed : num_fixed + num_carried]
    scanned = values[num_fixed + num_carried :]
    num_stacked = len(jaxpr.outvars) - num_carried
    counted = ()
    if not scanned:  # Scan wants something to go through
        length, zero = params["length"], constant(np.zeros(1, np.int64))
        counted = (graph.full(Operand((length,), INT64, None, zero.constant, (1,))),)
    specs = [(v.shape, v.dtype) for v in carried] + [(v.shape[1:], v.dtype) for v in (*scanned, *counted)]

    def step(body: Graph, *given: Operand):
        return run(body, jaxpr, constants, [*fixed, *given[: len(given) - len(counted)]])

    going_back = int(params["reverse"])
    stacked: dict[str, Any] = {"scan_output_directions": [going_back] * num_stacked} if num_stacked else {}
    results = graph.node(
        "Scan",
        [*carried, *scanned, *counted],
        outputs=num_carried + num_stacked,
        body=graph.body(step, specs),
        num_scan_inputs=len(scanned) + len(counted),
        scan_input_directions=[going_back] * (len(scanned) + len(counted)),
        **stacked,
    )
    return _values(equation, results)


def _values(equation, results) -> list[Operand]:
    results = results if isinstance(results, list) else [results]
    return [
        Operand(variable.aval.shape, stored(variable.aval.dtype), result)
        for variable, result in zip(equation.outvars, results, strict=True)
    ]


@rule("while")
def _while(graph: Graph, equation, *values: Operand):
    params = equation.params
    num_test, num_body = params["cond_nconsts"], params["body_nconsts"]
    values = tuple(graph.full(value) for value in values)
    of_test, of_body = values[:num_test], values[num_test : num_test + num_body]
    carried = values[num_test + num_body :]
    (test, test_constants), (body, body_constants) = parts(params["cond_jaxpr"]), parts(params["body_jaxpr"])

    def step(inner: Graph, count: Operand, goes_on: Operand, *given: Operand):
        new = run(inner, body, body_constants, [*of_body, *given])
        return [*run(inner, test, test_constants, [*of_test, *new]), *new]

    specs = [((), INT64), ((), BOOL)] + [(value.shape, value.dtype) for value in carried]
    first = graph.full(run(graph, test, test_constants, [*of_test, *carried])[0])
    results = graph.node("Loop", [None, first, *carried], outputs=len(carried), body=graph.body(step, specs))
    return _values(equation, results)


@rule("cond")
def _cond(graph: Graph, equation, which: Operand, *values: Operand):
    branches = equation.params["branches"]
    values = tuple(graph.full(value) for value in values)

    def choose(inner: Graph, index: int):
        jaxpr, constants = parts(branches[index])
        if index == len(branches) - 1:
            return run(inner, jaxpr, constants, list(values))
        at = inner.cast(inner.full(which), INT32)
        test = inner.elementwise("LessOrEqual", [at, constant(np.array(index, np.int32))], BOOL)
        results = inner.node(
            "If",
            [test],
            outputs=len(equation.outvars),
            then_branch=inner.body(lambda body: run(body, jaxpr, constants, list(values)), []),
            else_branch=inner.body(lambda body: choose(body, index + 1), []),
        )
        return _values(equation, results)

    return choose(graph, 0)


@rule("custom_linear_solve")
def _solve(graph: Graph, equation, *values: Operand):
    lengths, jaxprs = equation.params["const_lengths"], equation.params["jaxprs"]
    before = lengths.matvec + lengths.vecmat
    own, rest = values[before : before + lengths.solve], values[sum(lengths) :]
    jaxpr, constants = parts(jaxprs.solve)
    return run(graph, jaxpr, constants, [*own, *rest])
