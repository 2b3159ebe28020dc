"""Nodes of a finished graph written anew where runtimes compute the same faster."""

from typing import Any

import numpy as np
import onnx_ir as ir

Found = dict[str, ir.Value]

# An operator and what its inputs are: values by names, of which one is the same wherever it stands, or operators again.
# What follows a colon names an operator's output.
_EXP = ("Exp", ("Sub", "x", ("Reshape:kept", ("ReduceMax", "x", "axes"), "shape")))
_SOFTMAX = ("Div", _EXP, ("Reshape:kept 2", ("ReduceSum", _EXP, "axes 2"), "shape 2"))
_GELU = ("Mul", ("Mul", "half", "x"), ("Sub", "one", ("Erf", ("Mul", ("Neg", "x"), "root"))))
# Normalizations stay in parts: onnxruntime's own take longer on CPUs, by a tenth of a transformer's block.


def join(graph: ir.Graph) -> None:
    """Softmax over the last axis as one node, GELU in the form that onnxruntime joins. The old nodes have no use."""
    for node in list(graph):
        if (found := _match(node, _SOFTMAX)) and _is_over_last(found):
            _replace(graph, node, "Softmax", [found["x"]], axis=-1)
        elif (found := _match(node, _GELU)) and _is_gelu(found):
            x = found["x"]
            ratio = _before(graph, node, "Div", [x, _sqrt_2(graph)])
            weight = _before(graph, node, "Add", [_before(graph, node, "Erf", [ratio]), found["one"]])
            _replace(graph, node, "Mul", [_before(graph, node, "Mul", [x, weight]), found["half"]])


def _match(node: ir.Node, pattern: tuple) -> Found | None:
    found: Found = {}
    return found if _matches(node.outputs[0], pattern, found) else None


def _matches(value: ir.Value | None, pattern: Any, found: Found) -> bool:
    if value is None:
        return False
    if isinstance(pattern, str):
        return found.setdefault(pattern, value) is value
    (kind, _, name), node = pattern[0].partition(":"), value.producer()
    if node is None or node.op_type != kind or len(node.inputs) != len(pattern) - 1:
        return False
    if name and found.setdefault(name, value) is not value:
        return False
    return all(_matches(one, part, found) for one, part in zip(node.inputs, pattern[1:]))


def _is_over_last(found: Found) -> bool:
    """Whether both reductions are over the last axis alone, which is then one of size 1."""
    shape = found["x"].shape
    if shape is None or len(shape) == 0:
        return False
    sizes = [list(found[name].shape or ()) for name in ("kept", "kept 2")]
    axes = [_constant(found[name]) for name in ("axes", "axes 2")]
    return sizes == [[*shape[:-1], 1]] * 2 and all(a is not None and a.tolist() == [len(shape) - 1] for a in axes)


def _is_gelu(found: Found) -> bool:
    """Whether `x / 2 * (1 - erf(-x * root))` has the numbers of GELU, in float32."""
    numbers = [_constant(found[name]) for name in ("half", "one", "root")]
    expected = [np.float32(0.5), np.float32(1), np.float32(np.sqrt(0.5))]
    return all(n is not None and n.dtype == np.float32 and n.size == 1 and n == e for n, e in zip(numbers, expected))


def _constant(value: ir.Value) -> np.ndarray | None:
    return None if value.const_value is None else value.const_value.numpy()


def _sqrt_2(graph: ir.Graph) -> ir.Value:
    name = "sqrt_2"
    if name not in graph.initializers:
        kind, number = ir.TensorType(ir.DataType.FLOAT), ir.tensor(np.float32(np.sqrt(2)), name=name)
        graph.register_initializer(ir.Value(name=name, type=kind, shape=ir.Shape([]), const_value=number))
    return graph.initializers[name]


def _before(graph: ir.Graph, last: ir.Node, kind: str, inputs: list[ir.Value]) -> ir.Value:
    """The output of a node that is put before another, in its type and shape."""
    name, old = f"{last.name}/{kind}", last.outputs[0]
    output = ir.Value(name=f"{name}:0", type=old.type, shape=old.shape)
    graph.insert_before(last, ir.node(kind, inputs, outputs=[output], name=name))
    return output


def _replace(graph: ir.Graph, last: ir.Node, kind: str, inputs: list[ir.Value], **attributes) -> None:
    old = last.outputs[0]
    output = ir.Value(name=old.name, type=old.type, shape=old.shape)
    graph.insert_before(last, ir.node(kind, inputs, attributes, outputs=[output], name=last.name))
    ir.convenience.replace_all_uses_with(old, output)
    graph.remove(last, safe=True)
