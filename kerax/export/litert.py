"""`.tflite` files for LiteRT (TensorFlow Lite), from StableHLO, without TensorFlow."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from kerax.export.endpoints import Endpoint
from kerax.export.errors import ExportError, package
from kerax.export.litert_rules import RULES
from kerax.export.rewriting import rewritten
from kerax.export.stablehlo import exported


def write(endpoints: list[Endpoint], path: str, quantize: str | None = None) -> None:
    """Writes the first endpoint; with `quantize="int8"` large weights as integers of 8 bits.

    Raises:
        ExportError: for what the converter does not take, with its words.
    """
    endpoint = endpoints[0]
    blob = _converted(endpoint)
    if quantize:
        blob = _quantized(blob)
    Path(path).write_bytes(blob)


def _converted(endpoint: Endpoint) -> bytes:
    from kerax.export import litert_loops

    mlir = "litert_converter.mlir"
    ir, passmanager, stablehlo = (package(f"{mlir}.{name}") for name in ("ir", "passmanager", "dialects.stablehlo"))
    converter = package(f"{mlir}._mlir_libs.converter_api_ext")
    program = exported(endpoint, True, ("cpu",), change=lambda call: rewritten(call, RULES))
    context = ir.Context()
    converter.prepare_mlir_context(context)
    context.allow_unregistered_dialects = True
    with context, ir.Location.unknown():
        settings = converter.ConvertToTFLConfig()
        settings.unsafe_fuse_dynamic_shaped_broadcast = True
        try:
            module: Any = stablehlo.deserialize_portable_artifact(context, program.mlir_module_serialized)
            module = module if isinstance(module, ir.Module) else ir.Module.parse(str(module))
            converter.set_signature(module.operation, "serving_default", endpoint.input_names, endpoint.output_names)
            converter.run_convert_to_tfl_passes(module, passmanager.PassManager(), settings)
            litert_loops.outline(module)
            return bytes(converter.export_flatbuffer_to_bytes(module.operation))
        except Exception as error:  # of MLIR, which has no class of its own for what it cannot convert
            raise ExportError(f"litert: the converter does not take {endpoint.name!r}: {_short(error)}") from error


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 500 else f"{text[:500]} ..."


def _quantized(blob: bytes) -> bytes:
    quantizer, recipe = package("ai_edge_quantizer.quantizer"), package("ai_edge_quantizer.recipe")
    tool = quantizer.Quantizer(bytearray(blob))
    # Products are made of integers where they are large; inputs and outputs stay floats.
    tool.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    return bytes(tool.quantize().quantized_model)


def run(path: str, endpoint: Endpoint, inputs: list) -> list:
    """What LiteRT computes of the file."""
    interpreter = package("ai_edge_litert.interpreter").Interpreter(model_path=os.fspath(path))
    runner = interpreter.get_signature_runner("serving_default")
    known = runner.get_input_details()
    given = {n: np.asarray(v) for n, v in zip(endpoint.input_names, inputs, strict=True) if n in known}
    found = runner(**given)
    return [found[name] for name in endpoint.output_names]
