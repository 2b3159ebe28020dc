"""Files of `jax.export`, for CPUs, CUDA GPUs and TPUs at once: `jax.export.deserialize(...).call(inputs)`."""

import dataclasses
from pathlib import Path

import jax

from kerax.export.endpoints import Endpoint
from kerax.export.stablehlo import exported, portable_artifact


def write(endpoints: list[Endpoint], path: str) -> None:
    """Writes the first endpoint, with its weights in it."""
    program = exported(endpoints[0], holds_weights=True)
    older = dataclasses.replace(program, mlir_module_serialized=portable_artifact(program))
    Path(path).write_bytes(older.serialize())


def run(path: str, endpoint: Endpoint, inputs: list) -> list:
    """What the file computes."""
    program = jax.export.deserialize(bytearray(Path(path).read_bytes()))
    return jax.tree.leaves(program.call(*endpoint.unflatten(inputs)))
