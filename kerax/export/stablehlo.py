"""An endpoint as StableHLO, of a version that other programs read."""

import re
from collections.abc import Callable
from typing import Any

import jax
from jax import export

from kerax.export.endpoints import Endpoint, plain_formulations

PLATFORMS = ("cpu", "cuda", "tpu")
VERSION = "1.13.0"
"""Of StableHLO. TensorFlow 2.21 reads up to 1.13.7, JAX 0.12 writes 1.18; the older version is read by all that are
newer."""
_COMPOSITE = re.compile(r'stablehlo\.composite "[^"]*" ([^{]*?) \{.*?decomposition = (@[\w.]+).*?\} :')


def exported(
    endpoint: Endpoint, holds_weights: bool, platforms: tuple[str, ...] = PLATFORMS, change: Callable | None = None
) -> export.Exported:
    """An endpoint as JAX exports it.

    Args:
        holds_weights: Whether the weights are in the program as constants. Otherwise they are its first arguments.
        change: Of a function that holds the weights, what to make of it first.
    """
    with plain_formulations():
        if holds_weights:
            weights = endpoint.weights

            def call(*inputs):
                return endpoint.call(weights, inputs)

            return export.export(jax.jit(change(call) if change else call), platforms=platforms)(*endpoint.specs)
        specs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), endpoint.weights)
        return export.export(jax.jit(endpoint.call_flat), platforms=platforms)(specs, *endpoint.flat_specs)


def portable_artifact(program: export.Exported) -> bytes:
    """A program's StableHLO at `VERSION`, without composites, whose shapes TensorFlow cannot refine.

    The only place that uses `jax.extend`, which promises no compatibility.
    """
    from jax.extend import mlir

    serialize: Any = mlir.serialize_portable_artifact  # pyright: ignore[reportAttributeAccessIssue]
    return bytes(serialize(_COMPOSITE.sub(r"func.call \2(\1) :", program.mlir_module()), VERSION))
