"""How weights are stored when quantized, and the products with them: pure functions of arrays.

A stored weight is a dict of arrays by the ends of their names: `""` the integers, `"_scale"`, `"_zero"`, and what
blocks of rows need, `"g_idx"`.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from kerax.ops import cpu
from kerax.quantizers.configs import AbsMaxQuantizer
from kerax.quantizers.functions import (
    abs_max_quantize_grouped_with_zero_point,
    compute_float8_amax_history,
    compute_float8_scale,
    dequantize_with_sz_map,
    pack_int4,
    quantize_and_dequantize,
    unpack_int4,
)

# Those of a normal distribution's quantiles, evenly spaced from 0 outwards on either side, over the largest of them.
_NF4 = np.array(
    [
        *(-1, -0.69619280, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0),
        *(0.07958030, 0.16093020, 0.24611230, 0.33791524, 0.44070983, 0.56261700, 0.72295684, 1),
    ],
    "float32",
)


def contracted(equation: str, operand: int) -> tuple[int, ...]:
    """The axes of the inputs (0) or the kernel (1) that the outputs do not have."""
    operands, outputs = equation.split("->")
    letters = operands.split(",")[operand]
    # Counted from the end where `...` stands for any number of axes in front.
    offset = -len(letters.removeprefix("...")) if letters.startswith("...") else 0
    letters = letters.replace("...", "")
    return tuple(i + offset for i, letter in enumerate(letters) if letter not in outputs)


def num_contracted(equation: str) -> int:
    """How many last axes of the inputs meet as many first ones of the kernel while all others keep their order.

    0 where the einsum is no such product.
    """
    inputs, kernel, outputs = equation.replace("->", ",").split(",")
    shared = "".join(letter for letter in inputs if letter not in outputs)
    free = inputs.removesuffix(shared)
    is_product = inputs == free + shared and kernel == shared + outputs.removeprefix(free)
    return len(shared) if is_product else 0


# Weights as integers, and back.


def split_int8(kernel: Any, config: Any, equation: str) -> dict:
    """8-bit integers of the kernel of an einsum, each of its columns with a scale of its own."""
    integers, scale = _quantized(kernel, contracted(equation, 1), config)
    num_letters = len(equation.split(",")[0].replace("...", ""))
    # With size-1 axes in place of the contracted ones, the einsum only moves the scale to the outputs' axes.
    return {"": integers, "_scale": jnp.einsum(equation, jnp.ones((1,) * num_letters, scale.dtype), scale)}


def split_matrix(matrix: Any, config: Any, pack_axis: int) -> dict:
    """4-bit integers of `(rows, columns)`, each column (of a block of rows) with a scale of its own."""
    if config.block_size in (None, -1):
        integers, scale = _quantized(matrix, 0, config)
        return {"": pack_int4(integers, pack_axis)[0], "_scale": scale[0]}
    integers, scale, zero = abs_max_quantize_grouped_with_zero_point(
        matrix, config.block_size, to_numpy=_is_known(matrix)
    )
    parts = {"": pack_int4(integers, pack_axis)[0], "_scale": scale, "_zero": zero}
    return parts | {"g_idx": blocks(matrix.shape[0], config)}


def blocks(num_rows: int, config: Any) -> Any:
    """The block that each row belongs to."""
    return (jnp.arange(num_rows) // config.block_size).astype("float32")


def _quantized(weight, axes, config):
    quantizer = config.weight_quantizer
    if quantizer is None:
        quantizer = AbsMaxQuantizer(value_range=(-127, 127) if config.mode == "int8" else (-8, 7))
        return quantizer(weight, axes, to_numpy=_is_known(weight))
    return quantizer(weight, quantizer.axis or axes, to_numpy=_is_known(weight))


def _is_known(array) -> bool:
    return not isinstance(array, Tracer)


def join_int8(parts: dict, equation: str) -> Any:
    """The kernel as floats."""
    operands, outputs = equation.replace("...", "").split("->")
    letters = operands.split(",")[1]
    kept = "".join(letter for letter in letters if letter in outputs)
    # The stored scale has the outputs' axes, of size 1 where only the inputs have them: summing takes those away.
    scale = jnp.einsum(f"{outputs}->{kept}", parts["_scale"])
    shape = [size if letter in kept else 1 for letter, size in zip(letters, parts[""].shape, strict=True)]
    return parts[""] / scale.reshape(shape)


def join_int4(
    parts: dict, size: int, pack_axis: int = -1, has_scaled_rows: bool = False, block_size: int | None = None
) -> Any:
    """The matrix `(rows, columns)` as floats, of `size` integers along `pack_axis`.

    Each column has a scale of its own; with `has_scaled_rows` each row, of which there may be any axes: a table's.
    With a `block_size` scales are of so many rows one after the other. That is what `"g_idx"` says too, but rows picked
    by numbers that a program does not know become matrices of their own. A step of low-rank updates of 4 blocks of
    Llama 2 7B at 2,048 tokens, compiled for a v5p, had 960 MB of temporaries with them and has 571 so.
    """
    integers = unpack_int4(parts[""], size, axis=pack_axis)
    if "_zero" in parts and block_size is not None and not has_scaled_rows:
        scale, zero = (_spread(parts[part], block_size, integers.shape[0]) for part in ("_scale", "_zero"))
        return (integers.astype(scale.dtype) - zero.astype(scale.dtype)) * scale
    if "_zero" in parts:
        group_axis = -1 if has_scaled_rows else 0
        return dequantize_with_sz_map(integers, parts["_scale"], parts["_zero"], parts["g_idx"], group_axis)
    scale = parts["_scale"][..., None] if has_scaled_rows else parts["_scale"]
    return integers.astype(scale.dtype) / scale


def _spread(array: Any, block_size: int, num_rows: int) -> Any:
    """`(blocks, columns)` as `(rows, columns)`."""
    shape = array.shape[0], block_size, array.shape[1]
    return jnp.broadcast_to(array[:, None], shape).reshape(-1, array.shape[1])[:num_rows]


def split_nf4(matrix: Any, block_size: int, pack_axis: int) -> dict:
    """NF4 numbers of `(rows, columns)`, each column of a block of rows with a scale of its own.

    The paper's scale is the largest magnitude. From there it goes twice to the one with the least squared error for the
    numbers found: of normal weights, blocks of 64, an error of 0.089 deviations instead of 0.092.
    """
    rows, columns = matrix.shape
    size = rows if block_size == -1 else block_size
    in_blocks = jnp.pad(matrix, ((0, -rows % size), (0, 0))).reshape(-1, size, columns).astype("float32")
    scale = jnp.max(jnp.abs(in_blocks), axis=1, keepdims=True)
    for _ in range(2):
        numbers = _nf4_number(_nf4_code(in_blocks, scale), scale.dtype)
        squares = jnp.sum(numbers**2, axis=1, keepdims=True)
        scale = jnp.sum(in_blocks * numbers, axis=1, keepdims=True) / jnp.where(squares == 0, 1, squares)
    scale = scale.astype(matrix.dtype)
    codes = _nf4_code(in_blocks, scale.astype("float32")).reshape(-1, columns)[:rows]
    return {"": pack_int4(codes, pack_axis, "uint8")[0], "_scale": scale[:, 0]}


def _nf4_code(values, scale):
    ratios = values / jnp.where(scale == 0, 1, scale)
    return jnp.asarray(sum((ratios > middle).astype("uint8") for middle in (_NF4[1:] + _NF4[:-1]) / 2))


def _nf4_number(codes, dtype):
    # Chosen bit by bit: a lookup for each number is no fast thing on TPUs.
    found = [jnp.asarray(value, dtype) for value in _NF4]
    for bit in range(4):
        is_set = (codes >> bit) & 1 == 1
        found = [jnp.where(is_set, high, low) for low, high in zip(found[::2], found[1::2], strict=True)]
    return found[0]


def join_nf4(parts: dict, size: int, block_size: int, pack_axis: int, rows_axis: int = 0) -> Any:
    """The matrix `(rows, columns)` as floats, of `size` numbers along `pack_axis`; rows may be another axis."""
    codes, scale = unpack_int4(parts[""], size, axis=pack_axis, dtype="uint8"), parts["_scale"]
    num_rows = codes.shape[rows_axis]
    scale = jnp.repeat(scale, num_rows if block_size == -1 else block_size, rows_axis)
    return _nf4_number(codes, scale.dtype) * lax.slice_in_dim(scale, 0, num_rows, axis=rows_axis)


def join_groups(parts: dict, weight_bits: int, columns: int) -> Any:
    """The matrix `(rows, columns)` as floats, from the transposed integers of GPTQ and AWQ."""
    integers = parts[""]
    if weight_bits == 4:
        integers = unpack_int4(integers, columns, axis=0, dtype="uint8")
    # Stored (columns, rows): each column's groups lie side by side.
    matrix = dequantize_with_sz_map(integers, parts["_scale"], parts["_zero"], parts["g_idx"]).T
    return matrix / parts["awq_scales"][:, None] if "awq_scales" in parts else matrix


def empty_groups(rows: int, columns: int, weight_bits: int, group_size: int, dtype: str, is_awq: bool) -> dict:
    """Shapes and dtypes of what `join_groups` takes."""
    num_groups = 1 if group_size == -1 else -(-rows // group_size)
    spec = jax.ShapeDtypeStruct
    found = {
        "": spec((-(-columns // 2) if weight_bits == 4 else columns, rows), "uint8"),
        "_scale": spec((columns, num_groups), dtype),
        "_zero": spec((columns, num_groups), "uint8"),
    }
    return found | ({"awq_scales": spec((rows,), dtype)} if is_awq else {}) | {"g_idx": spec((rows,), "float32")}


# Products.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def int8_product(equation: Any, quantizer: Any, inputs: Any, kernel: Any, scale: Any) -> Any:
    """The einsum of integers, scaled back; its gradient is that of the einsum with the kernel as floats."""
    integers, inputs_scale = quantizer(inputs, axis=contracted(equation, 0))
    # The einsum with ones only moves the scale to the outputs' axes.
    inputs_scale = jnp.einsum(equation, inputs_scale, jnp.ones((1,) * kernel.ndim, inputs_scale.dtype))
    # Summed in 32 bits: two products of 8-bit integers already overflow 16.
    product = _integer_product(equation, integers, kernel)
    return product.astype(inputs.dtype) / (inputs_scale * scale)


def _integer_product(equation, integers, kernel):
    num_rows = math.prod(integers.shape[: -len(contracted(equation, 0))])
    is_one = isinstance(num_rows, int) and num_rows == 1 and cpu.is_target()
    if is_one:  # as `cpu.product_of_few_rows`, whatever the order of the kernel's axes
        integers = jnp.concatenate([integers, jnp.zeros_like(integers)])
    product = jnp.einsum(equation, integers, kernel, preferred_element_type="int32")
    return product[:1] if is_one else product


def _int8_forward(equation, quantizer, inputs, kernel, scale):
    return int8_product(equation, quantizer, inputs, kernel, scale), (inputs, kernel, scale)


def _int8_backward(equation, quantizer, saved, upstream):
    inputs, kernel, scale = saved
    # Rounding has no gradient of its own: it is passed over, for the inputs alone.
    _, pull_back = jax.vjp(lambda x: jnp.einsum(equation, x, kernel.astype(x.dtype)), inputs)
    return *pull_back(upstream / scale), None, None


int8_product.defvjp(_int8_forward, _int8_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def rounded(quantizer: Any, axes: Any, inputs: Any) -> Any:
    """Inputs rounded to what a quantizer's integers stand for; gradients pass as if they were not."""
    integers, scale = quantizer(inputs, axis=axes)
    return (integers / scale).astype(inputs.dtype)


rounded.defvjp(lambda quantizer, axes, x: (rounded(quantizer, axes, x), None), lambda *arguments: arguments[-1:])


# 8-bit floats. The "gradients" of a scale and of its history are their next values, which the optimizer puts in their
# place. Source: Micikevicius et al. 2022, https://arxiv.org/abs/2209.05433


@jax.custom_vjp
def float8_operand(x: Any, scale: Any, history: Any) -> Any:
    """`x` rounded to an E4M3 number times `scale`."""
    return quantize_and_dequantize(x, scale, "float8_e4m3fn", x.dtype)


def _next(x, scale, history, dtype: str):
    largest = jnp.finfo(dtype).max.astype("float32")
    return compute_float8_scale(jnp.max(history), scale, largest), compute_float8_amax_history(x, history)


float8_operand.defvjp(
    lambda x, scale, history: (float8_operand(x, scale, history), _next(x, scale, history, "float8_e4m3fn")),
    lambda following, upstream: (upstream, *following),
)


@jax.custom_vjp
def float8_gradient(outputs: Any, scale: Any, history: Any) -> Any:
    """The outputs as they are, whose gradient is rounded to an E5M2 number times `scale`."""
    return outputs


def _float8_backward(saved, upstream):
    scale, history = saved
    rounded_gradient = quantize_and_dequantize(upstream, scale, "float8_e5m2", upstream.dtype)
    return rounded_gradient, *_next(upstream, scale, history, "float8_e5m2")


float8_gradient.defvjp(lambda outputs, scale, history: (outputs, (scale, history)), _float8_backward)
