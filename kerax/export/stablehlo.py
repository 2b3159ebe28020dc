"""An endpoint as StableHLO, of a version that other programs read."""

import re
from collections.abc import Callable
from typing import Any

import jax
from jax import export

from kerax.export.endpoints import Endpoint, plain_formulations
from kerax.export.errors import ExportError

PLATFORMS = ("cpu", "cuda", "tpu")
VERSION = "1.13.0"
"""Of StableHLO. TensorFlow 2.21 reads up to 1.13.7, JAX 0.12 writes 1.18; the older version is read by all that are
newer."""
_COMPOSITE = re.compile(
    r'stablehlo\.composite "[^"]*" ([^{(]*?) (?:\(\{[\s\S]*?\n\s*\}\) )?\{.*?decomposition = (@[\w.]+).*?\} :'
)
"""A call of a composite, some of which have a region."""


def exported(
    endpoint: Endpoint, holds_weights: bool, platforms: tuple[str, ...] = PLATFORMS, change: Callable | None = None
) -> export.Exported:
    """An endpoint as JAX exports it.

    Args:
        holds_weights: Whether the weights are in the program as constants. Otherwise they are its first arguments.
        change: What to make of the function first.
    """
    weights = endpoint.weights
    if holds_weights:
        function, specs = lambda *inputs: endpoint.call(weights, inputs), endpoint.specs
    else:
        shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), weights)
        function, specs = endpoint.call_flat, (shapes, *endpoint.flat_specs)
    # Inputs that the outputs do not depend on are inputs of the file too.
    program = jax.jit(change(function) if change else function, keep_unused=holds_weights)
    with plain_formulations():
        try:
            return export.export(program, platforms=platforms)(*specs)
        except NotImplementedError as error:
            raise ExportError(f"export: JAX does not write what {endpoint.name!r} computes: {error}") from error


def portable_artifact(program: export.Exported) -> bytes:
    """A program's StableHLO at `VERSION`, without composites, whose shapes TensorFlow cannot refine.

    The only place that uses `jax.extend`, which promises no compatibility.
    """
    from jax.extend import mlir

    serialize: Any = mlir.serialize_portable_artifact  # pyright: ignore[reportAttributeAccessIssue]
    return bytes(serialize(_COMPOSITE.sub(r"func.call \2(\1) :", program.mlir_module()), VERSION))
