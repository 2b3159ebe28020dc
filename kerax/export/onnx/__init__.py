"""ONNX files: what a model computes, from its jaxpr, each primitive by a rule."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import onnx_ir as ir
from onnx_ir.passes import common as passes

from kerax.core.text import TEXT as STRING
from kerax.export.errors import ExportError
from kerax.export.onnx import control, elementwise, indexing, joining, products
from kerax.export.onnx import text as strings
from kerax.export.onnx.graph import INT64, TEXT, Complex, Graph, Operand, constant, data_type, is_known, stored
from kerax.export.onnx.interpreter import run
from kerax.export.text import Text

__all__ = ["ExportError", "to_onnx"]
_RULES = control, elementwise, indexing, products  # imported for the rules that they add
OPSET = 18
_IR_VERSION = 9
_OPSET_OF_TABLES = 3
_LARGEST = 1.5e9
"""Bytes of weights in the file itself, which Protocol Buffers end at 2 GiB."""


def to_onnx(
    function: Callable,
    weights: Any,
    inputs: Any,
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int = OPSET,
    text: Text | None = None,
    given: Sequence = (),
) -> ir.Model:
    """What a function computes, as a model in ONNX.

    Args:
        function: Of `weights` and `inputs`, in JAX.
        weights: A tree of arrays, which are named in the file by their paths.
        inputs: A tree of `jax.ShapeDtypeStruct`; their sizes may be symbols of `jax.export.symbolic_shape`.
        input_names: One for each input.
        output_names: One for each leaf of what `function` returns.
        opset: Version of ONNX's operators, 18 or higher.
        text: What is made of text before, which gives the `inputs`.
        given: With `text`, the shapes of the model's own inputs.

    Raises:
        ExportError: for what has no ONNX, naming the layer and the primitive.
    """
    closed = jax.make_jaxpr(function)(weights, inputs)
    graph = Graph()
    arguments: list[Operand] = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        name = jax.tree_util.keystr(path, simple=True, separator="/").partition("/")[2]
        arguments.append(constant(leaf, name or None))
    specs = jax.tree.leaves(inputs)
    sources = [_input(graph, name, spec) for name, spec in zip(input_names, given or specs, strict=True)]
    starts = sources if text is None else text.write(sources, strings.rules(graph), "onnx")
    for start, spec in zip(starts, specs, strict=True):
        value = start.result
        arguments.append(Operand(spec.shape, stored(spec.dtype), value))
        for axis, size in enumerate(spec.shape):
            if not is_known(size) and str(size) not in graph.shared.symbols:
                graph.shared.symbols[str(size)] = graph.node("Shape", [value], INT64, (1,), start=axis, end=axis + 1)
    outputs = run(graph, closed.jaxpr, [constant(array) for array in closed.consts], arguments)
    results = []
    for name, output in zip(output_names, outputs, strict=True):
        if isinstance(output, Complex):
            raise ExportError(f"output {name!r} is complex, which ONNX has no numbers for. Give its two parts instead.")
        output = graph.full(output)
        result = graph.node("Identity", [output], output.dtype, output.shape)
        result.name = graph.unique(name)
        results.append(result)
    model = ir.Model(
        ir.Graph(
            [source.result for source in sources],
            results,
            nodes=graph.nodes,
            initializers=graph.shared.initializers,
            opset_imports={"": max(opset, graph.shared.opset)} | ({"ai.onnx.ml": _OPSET_OF_TABLES} if text else {}),
            name="kerax",
        ),
        ir_version=_IR_VERSION,
        producer_name="kerax",
    )
    joining.join(model.graph)
    # Not the pass that removes identities: bodies of loops with one value as two outputs give wrong numbers in
    # onnxruntime.
    for clean in (passes.CommonSubexpressionEliminationPass(), passes.RemoveUnusedNodesPass()):
        clean(model)
    _drop_unused(model)
    return model


def _input(graph: Graph, name: str, spec: Any) -> Operand:
    dtype = TEXT if spec.dtype == STRING else stored(spec.dtype)
    shape = ir.Shape([int(size) if is_known(size) else str(size) for size in spec.shape])
    return Operand(
        spec.shape, dtype, ir.Value(name=graph.unique(name), type=ir.TensorType(data_type(dtype)), shape=shape)
    )


def _drop_unused(model: ir.Model):
    for name in [name for name, value in model.graph.initializers.items() if not value.uses()]:
        del model.graph.initializers[name]


def save(model: ir.Model, path: str):
    """Writes a model to a file; if its weights are large, they go to one beside it."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    ir.save(model, path, external_data=None if size < _LARGEST else f"{os.path.basename(path)}.data")
