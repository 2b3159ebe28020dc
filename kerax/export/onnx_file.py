"""`.onnx` files, and OpenVINO's, which are made of them."""

import os
import tempfile
from typing import Any

from kerax.export.endpoints import Endpoint, plain_formulations
from kerax.export.errors import package


def write(endpoints: list[Endpoint], path: str, opset_version: int | None = None, quantize: str | None = None) -> None:
    """Writes the first endpoint; with `quantize="int8"` large weights as integers of 8 bits."""
    from kerax.export import onnx
    from kerax.export.onnx import quantizing

    endpoint = endpoints[0]
    with plain_formulations():
        model = onnx.to_onnx(
            endpoint.call,
            endpoint.weights,
            endpoint.specs,
            endpoint.input_names,
            endpoint.output_names,
            opset_version or onnx.OPSET,
            endpoint.text,
            endpoint.inputs,
        )
    if quantize:
        quantizing.quantize(model)
    onnx.save(model, path)


def run(path: str, endpoint: Endpoint, inputs: list) -> list:
    """What onnxruntime computes of the file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of a machine without GPU
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # Inputs that the outputs do not depend on are inputs of the file too.
    given = dict(zip(endpoint.input_names, inputs, strict=True))
    return list(session.run(None, given))


def write_openvino(endpoints: list[Endpoint], path: str, opset_version: int | None = None) -> None:
    """Writes the first endpoint as an `.xml` file, and a `.bin` file of its weights beside it."""
    openvino = package("openvino")
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "model.onnx")
        write(endpoints, file, opset_version)
        model = openvino.convert_model(file)
    openvino.save_model(model, path, compress_to_fp16=False)


def run_openvino(path: str, endpoint: Endpoint, inputs: list) -> list:
    """What OpenVINO computes of the file, in the precision of its weights."""
    core = package("openvino").Core()
    # Its plugin for CPUs would otherwise compute in bfloat16 where the processor has it.
    compiled: Any = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    given = {name: value for name, value in zip(endpoint.input_names, inputs, strict=True) if _has(compiled, name)}
    found = compiled(given)
    return [found[output] for output in compiled.outputs]


def _has(compiled, name: str) -> bool:
    return any(name in port.get_names() for port in compiled.inputs)
