"""Weights as integers of 8 bits, in an ONNX model that is otherwise as it was."""

import numpy as np
import onnx_ir as ir

_CHANNELS = {"MatMul": -1, "Conv": 0, "ConvTranspose": 1, "Gather": 0, "GatherND": 0}
"""Where the channels of an operator's weights are; of tables, where the rows are."""
_SMALLEST = 1024
"""Numbers in a weight that is worth it."""


def quantize(model: ir.Model) -> None:
    """Keeps the large weights of products, convolutions and tables as int8, with a scale for each of their channels.

    `DequantizeLinear` makes floats of them: in onnxruntime at each call (MobileNetV3Small: 3.0 ms a row, not 1.0), with
    its setting `session.disable_quant_qdq` once, when the model is loaded (1.1 ms).
    """
    graph = model.graph
    first = next(iter(graph), None)
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        kinds = {use.node.op_type for use in value.uses()}
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < _SMALLEST or len(tensor.shape) < 2:
            continue
        if first is None or len(axes := {_CHANNELS.get(kind) for kind in kinds}) != 1 or None in axes:
            continue
        array = tensor.numpy()
        axis = next(iter(axes)) % array.ndim  # pyright: ignore[reportOptionalOperand]
        others = tuple(other for other in range(array.ndim) if other != axis)
        largest = np.abs(array).max(others, keepdims=True)
        scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        rounded = np.round(array / scales).astype(np.int8)
        parts = [_initializer(name, rounded), _initializer(f"{name}_scale", scales.ravel())]
        node = ir.node("DequantizeLinear", parts, {"axis": axis}, name=f"{name}_dequantized")
        node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = node.name, value.shape, value.type
        ir.convenience.replace_all_uses_with(value, node.outputs[0])
        del graph.initializers[name]
        for part in parts:
            graph.register_initializer(part)
        graph.insert_before(first, node)


def _initializer(name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.Tensor(array, name=name)
    return ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
