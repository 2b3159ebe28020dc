"""Crossentropy of logits that are never held all at once: products of hidden vectors with a table of classes."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from kerax.core.lift import lift
from kerax.ops.nn import sparse_categorical_crossentropy

_MOST = 2**30  # logits held at a time: 2 GiB in bfloat16


def _linear_crossentropy(target, inputs, table, soft_cap=None, most_logits=None):
    """`-log_softmax(inputs @ table.T)[target]` of each position, in float32; 0 for a target that is no class.

    Logits of large vocabularies are the largest array of a step: of 64 rows of 1,024 tokens and 50,304 classes 6.6 GB,
    of 256,000 classes 34 GB. Where there are more than `most_logits`, they are computed for some positions at a time,
    and again for the gradient, which costs a fourth product beside three.

    Args:
        target: Class indices `(batch, ...)`.
        inputs: `(batch, ..., features)`, as the layer before the logits gives them.
        table: `(classes, features)`, for example the `embeddings` of a `ReversibleEmbedding`, in the dtype that its
            gradient is to be summed in; products are in the dtype of `inputs`.
        soft_cap: Logits become `cap * tanh(logits / cap)`. Default: none.
        most_logits: How many to hold at a time. Default: 2**30.
    """
    inputs, table = jnp.asarray(inputs), jnp.asarray(table)
    target = jnp.asarray(target).astype(jnp.int32)
    if target.shape != inputs.shape[:-1] or table.ndim != 2 or table.shape[1] != inputs.shape[-1]:
        raise ValueError(
            "linear_crossentropy: expected `target` (batch, ...), `inputs` (batch, ..., features) and `table` "
            f"(classes, features). Got shapes {target.shape}, {inputs.shape} and {table.shape}."
        )

    def loss(inputs, target):
        logits = inputs @ table.astype(inputs.dtype).T
        logits = logits if soft_cap is None else soft_cap * jnp.tanh(logits / soft_cap)
        exact = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        return sparse_categorical_crossentropy(target, exact, from_logits=True)

    most = _MOST if most_logits is None else most_logits
    sizes = (*target.shape, table.shape[0])
    if target.ndim == 0 or not all(isinstance(size, int) for size in sizes) or math.prod(sizes) <= most:
        return loss(inputs, target)
    return _by_blocks(loss, inputs, target, max(most * sizes[target.ndim - 1] // math.prod(sizes), 1))


def _by_blocks(loss, inputs, target, size: int):
    """The losses of `size` positions at a time along the last axis of targets: the first may lie on many devices."""
    axis = target.ndim - 1
    length = target.shape[axis]
    count = -(-length // size)
    missing = count * size - length

    def cut(array):
        widths = [(0, missing if place == axis else 0) for place in range(array.ndim)]
        blocks = jnp.pad(array, widths).reshape(*array.shape[:axis], count, size, *array.shape[axis + 1 :])
        return jnp.moveaxis(blocks, axis, 0)

    body = jax.checkpoint(lambda own: loss(*own), prevent_cse=False)
    values = jnp.moveaxis(lax.map(body, (cut(inputs), cut(target))), 0, axis)
    return lax.slice_in_dim(values.reshape(*target.shape[:axis], count * size), 0, length, axis=axis)


linear_crossentropy = lift(_linear_crossentropy, "linear_crossentropy")
__all__ = ["linear_crossentropy"]
