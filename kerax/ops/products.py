"""Products of arrays with kernels, in the form that suits the platform."""

import math

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from kerax.core import placement
from kerax.ops import cpu, gpu


def product_form(inputs, kernel, num_axes: int = 1) -> tuple[tuple, tuple, int, tuple]:
    """In which form to multiply `inputs (..., *contracted) @ kernel (*contracted, *new)`.

    On CPU as one plain matrix product: XLA's CPU backend then needs no transposed copies. Forward and gradient,
    best of 12, ms: `(32,128,256) @ (256,512)` 13.2 as a batched product, 9.2 as a plain one; in a GPT step the plain
    products save 40%. Elsewhere the axes stay apart, so that sharded ones are never merged.

    Returns: shapes to give the two, the number of axes for `tensordot`, and the result's shape `(..., *new)`.
    """
    result = (*inputs.shape[:-num_axes], *kernel.shape[num_axes:])
    if not cpu.is_target():
        return inputs.shape, kernel.shape, num_axes, result
    features = math.prod(kernel.shape[:num_axes])
    return (-1, features), (features, -1), 1, result


def contract(inputs, kernel, num_axes: int = 1):
    """`inputs (..., *contracted) @ kernel (*contracted, *new)`, shape `(..., *new)`."""
    # Nothing to reshape: the plain product is one operation, eagerly too.
    if inputs.ndim == kernel.ndim == 2:
        return jnp.matmul(inputs, kernel)
    if gpu.is_one_row(inputs, num_axes):
        return gpu.product_of_one_row(inputs, kernel, num_axes)
    rows, matrix, num_axes, shape = product_form(inputs, kernel, num_axes)
    return jnp.tensordot(inputs.reshape(rows), kernel.reshape(matrix), num_axes).reshape(shape)


def repeated(value, count):
    """`count` copies of an array along a new first axis, for a batch to be added to.

    The gradient of a broadcast is a sum over the batch, for which XLA lays out on GPUs all that it sums with the batch
    as the fastest axis, up to the whole residual stream of a GPT: 45 of the 260 GB of a step.
    """
    copies = jnp.broadcast_to(value, (count, *value.shape))
    if not gpu.is_target():
        return copies
    # XLA would gather from all devices what has a layout to keep; the gradient of a product is a product.
    if placement.is_spread():
        return jnp.tensordot(jnp.ones(count, value.dtype), value, 0)
    # Transposed, it is said of the gradient.
    return with_layout_constraint(copies, Layout(tuple(range(copies.ndim))))


def computed_once(inputs):
    """The same values, on CPU computed once before they are used, and their gradient likewise.

    XLA's CPU backend otherwise computes cheap operations anew in everything that reads them. A GPT step whose residual
    sums are computed before they are normalized takes 4% less time.
    """
    return jax.lax.optimization_barrier(inputs) if cpu.is_target() else inputs


def is_projected_ahead(growth: float) -> bool:
    """Whether to multiply the inputs of all steps of a recurrent layer by the kernel at once, before the loop.

    One large product serves accelerators best. On CPU it only pays where the inputs are wider than the gates, else the
    loop reads more than it saves. LSTM, (batch, steps, features) -> units, forward and gradient in loop / ahead, ms:
    (64,100,32) -> 128: 6.0 and 32.9 / 11.5 and 40.0. (32,50,16) -> 64: 0.5 and 2.2 / 1.2 and 1.9.
    (32,100,256) -> 256: 10.5 and 63 / 19.7 and 64. (32,64,512) -> 128: 7.0 and 27.3 / 5.3 and 15.6.

    Args:
        growth: How many times larger the products are than the inputs.
    """
    return not cpu.is_target() or growth <= 1
