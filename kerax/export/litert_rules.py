"""What LiteRT's converter or runtime lacks, done otherwise."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.export.rewriting import LINEAR_ALGEBRA, Rules, add_formulas

_ROOM = 2**22
"""Numbers that may be written where a scatter compares every index with every place."""


def _dot_general(x, y, **params):
    wanted = params["preferred_element_type"]
    if x.dtype == jnp.bfloat16:
        wide = params | {"preferred_element_type": np.dtype(np.float32)}
        return jax.lax.dot_general_p.bind(_cast(x, np.float32), _cast(y, np.float32), **wide).astype(wanted or x.dtype)
    if x.dtype.itemsize > 1 or x.dtype.kind not in "iu":
        return NotImplemented
    # Floats hold products of 8-bit integers, and sums of a thousand of them, exactly.
    wide = params | {"preferred_element_type": np.dtype(np.float32)}
    product = jax.lax.dot_general_p.bind(_cast(x, np.float32), _cast(y, np.float32), **wide)
    return product.astype(wanted or np.int32)


def _cast(array, dtype):
    return jax.lax.convert_element_type(array, dtype)


def _widely(name: str) -> Callable:
    """On integers that LiteRT's operator does not take, by way of int32."""
    operation = getattr(jax.lax, name)

    def apply(*values, **params):
        dtype = values[0].dtype
        if dtype.kind not in "iu" or dtype == np.int32 or dtype.itemsize > 4:
            return NotImplemented
        result = operation(*(_cast(value, np.int32) for value in values))
        return result if result.dtype == bool else _cast(result, dtype)

    return apply


def _ordered(name: str) -> Callable:
    operation = getattr(jax.lax, name)

    def apply(x, y, **params):
        wide = np.float32 if x.dtype.kind == "f" else np.int32
        return operation(_cast(x, wide), _cast(y, wide))  # NaN is not told apart

    return apply


def _rem(x, y, **params):
    if x.dtype.kind == "f":  # its own has the sign of the divisor
        quotient = x / y
        return x - jnp.sign(quotient) * jnp.floor(jnp.abs(quotient)) * y
    if x.dtype != np.int32:
        return _widely("rem")(x, y)
    return jnp.where(y == 0, x, jax.lax.rem(x, jnp.where(y == 0, 1, y)))  # its own fails


def _round(x, rounding_method, **params):
    if rounding_method != jax.lax.RoundingMethod.AWAY_FROM_ZERO:
        return NotImplemented
    size = jnp.abs(x)
    whole = jnp.floor(size)
    return jnp.sign(x) * (whole + (size - whole >= 0.5))


def _on_bits(operation: Callable) -> Callable:
    """An operation on int32, for integers of 32 bits and fewer."""

    def apply(x, y, **params):
        if x.dtype == bool or x.dtype.itemsize > 4:
            return NotImplemented
        return _cast(operation(_cast(x, np.int32), _cast(y, np.int32)), x.dtype)

    return apply


def _and(x, y):
    # x + y is x ^ y plus twice what both have. Without the last bits nothing overflows.
    halves = [jax.lax.shift_right_arithmetic(number, np.int32(1)) for number in (x, y)]
    last = [number - 2 * half for number, half in zip((x, y), halves, strict=True)]
    return halves[0] + halves[1] - jax.lax.bitwise_xor(*halves) + last[0] * last[1]


def _or(x, y):
    return x + y - _and(x, y)


def _shift_left(x, y):
    return x * jnp.asarray(np.append(2 ** np.arange(31), -(2**31)).astype(np.int32))[y]


def _xor(x, y, **params):
    return x != y if x.dtype == bool else NotImplemented


def _sort(*operands, dimension: int, is_stable: bool, num_keys: int):
    key = jnp.moveaxis(operands[0], dimension, -1)
    if num_keys != 1 or key.dtype not in (np.float32, np.int32) or not isinstance(key.shape[-1], int):
        return NotImplemented
    # The largest of the turned keys, of equal ones the first. NaN is last.
    turned = ~key if key.dtype == np.int32 else jnp.where(jnp.isnan(key), -jnp.inf, -key)
    _, places = jax.lax.top_k(turned, key.shape[-1])
    moved = [jnp.moveaxis(operand, dimension, -1) for operand in operands]
    return [jnp.moveaxis(jnp.take_along_axis(x, places, -1), -1, dimension) for x in moved]


def _conv_general_dilated(x, kernel, **params):
    """A transposed convolution of a stretched input, where the converter would take it for one of another shape."""
    dilation, spec = params["lhs_dilation"], params["dimension_numbers"]
    if set(dilation) == {1}:
        return _in_groups(x, kernel, params)
    if _is_plainly_transposed(x, kernel, params):
        return NotImplemented
    for axis, step in zip(spec.lhs_spec[2:], dilation, strict=True):
        # Zeros behind each number, but for the last; of few axes, for not more than five can be filled up.
        before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        x = jnp.pad(x.reshape(math.prod(before) * size, 1, math.prod(after)), [(0, 0), (0, step - 1), (0, 0)])
        x = jax.lax.slice_in_dim(x.reshape(*before, size * step, *after), 0, size * step - step + 1, axis=axis)
    return _in_groups(x, kernel, params | {"lhs_dilation": (1,) * len(dilation)})


def _in_groups(x, kernel, params: dict):
    """A convolution, each group of its channels by itself where there are three dimensions."""
    convolve, spec = jax.lax.conv_general_dilated_p.bind, params["dimension_numbers"]
    groups = params["feature_group_count"]
    if groups == 1 or x.ndim < 5:
        return convolve(x, kernel, **params)
    parts = zip(jnp.split(x, groups, spec.lhs_spec[1]), jnp.split(kernel, groups, spec.rhs_spec[0]), strict=True)
    return jnp.concatenate(
        [convolve(*part, **params | {"feature_group_count": 1}) for part in parts], axis=spec.out_spec[1]
    )


def _is_plainly_transposed(x, kernel, params: dict) -> bool:
    """Whether a convolution undoes one of two dimensions without padding, which the converter has an operator for."""
    spec, steps = params["dimension_numbers"], params["lhs_dilation"]
    if len(steps) != 2 or params["feature_group_count"] > 1 or set(params["rhs_dilation"]) != {1}:
        return False
    sizes = [kernel.shape[axis] for axis in spec.rhs_spec[2:]]
    valid = tuple((size - 1, size - 1) for size in sizes)
    return params["padding"] == valid and all(size >= step for size, step in zip(sizes, steps, strict=True))


def _scatter(name: str) -> Callable:
    """By comparing all indices with all places, where each index is one of whole axes."""

    def apply(operand, indices, updates, dimension_numbers, mode, **params):
        axes = {kind: tuple(map(int, places)) for kind, places in dimension_numbers._asdict().items()}
        rows = axes.pop("operand_batching_dims")
        are_first = axes.pop("scatter_indices_batching_dims") == rows == tuple(range(len(rows)))
        axes = {kind: tuple(axis - len(rows) for axis in places) for kind, places in axes.items()}
        scattered, window = axes["scatter_dims_to_operand_dims"], axes["update_window_dims"]
        rest = [axis for axis in range(operand.ndim - len(rows)) if axis not in scattered]
        sizes = operand.shape[len(rows) :]
        if (
            mode == jax.lax.GatherScatterMode.CLIP
            or not are_first
            or not all(isinstance(size, int) for size in (*operand.shape, *updates.shape))
            or set(axes["inserted_window_dims"]) != set(scattered)
            or [updates.shape[len(rows) :][axis] for axis in window] != [sizes[axis] for axis in rest]
            or updates.size * math.prod(sizes[axis] for axis in scattered) > _ROOM
        ):
            return NotImplemented

        def scatter(operand, indices, updates):
            # What is indexed comes first, what stays whole last.
            order = [*scattered, *rest]
            others = [axis for axis in range(updates.ndim) if axis not in window]
            new = _scattered(name, operand.transpose(order), indices, updates.transpose(*others, *window))
            return new.transpose(np.argsort(order))

        for _ in rows:
            scatter = jax.vmap(scatter)
        return scatter(operand, indices, updates)

    return apply


def _scattered(name: str, operand, indices, updates):
    depth, shape = indices.shape[-1], operand.shape
    num, places, window = math.prod(indices.shape[:-1]), math.prod(shape[:depth]), shape[depth:]
    sizes = np.array(shape[:depth], np.int32)
    strides = np.append(np.cumprod(sizes[:0:-1])[::-1], 1).astype(np.int32)
    rows = indices.reshape(num, depth).astype(np.int32)
    is_inside = jnp.all((rows >= 0) & (rows < sizes), -1)
    flat = jnp.where(is_inside, jnp.sum(rows * strides, -1), -1)
    hits = flat[:, None] == np.arange(places, dtype=np.int32)  # (updates, places)
    values, old = updates.reshape(num, *window), operand.reshape(places, *window)
    if name == "scatter":  # of several the last one stays
        last = jnp.max(jnp.where(hits, np.arange(1, num + 1, dtype=np.int32)[:, None], 0), 0)
        new = jnp.take(values, jnp.maximum(last - 1, 0), 0)
        new = jnp.where((last > 0).reshape(places, *[1] * len(window)), new, old)
    else:
        reduce, combine, neutral = _REDUCTIONS[name](operand.dtype)
        hits = hits.reshape(num, places, *[1] * len(window))
        new = combine(old, reduce(jnp.where(hits, values[:, None], neutral), 0).astype(old.dtype))
    return new.reshape(shape)


def _lowest(dtype) -> Any:
    return -jnp.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _highest(dtype) -> Any:
    return jnp.inf if dtype.kind == "f" else np.iinfo(dtype).max


_REDUCTIONS = {
    "scatter-add": lambda dtype: (jnp.sum, jnp.add, 0),
    "scatter-mul": lambda dtype: (jnp.prod, jnp.multiply, 1),
    "scatter-min": lambda dtype: (jnp.min, jnp.minimum, _highest(dtype)),
    "scatter-max": lambda dtype: (jnp.max, jnp.maximum, _lowest(dtype)),
}


RULES: Rules = {name: _widely(name) for name in ("gt", "lt", "ge", "le", "eq", "ne", "div", "add", "sub")}
RULES |= {name: _widely(name) for name in ("mul", "max", "min", "sign", "abs", "neg")}
RULES |= {
    "and": _on_bits(_and),
    "or": _on_bits(_or),
    "lt_to": _ordered("lt"),
    "le_to": _ordered("le"),
    "dot_general": _dot_general,
}
RULES |= {"rem": _rem, "round": _round, "xor": _xor, "shift_left": _on_bits(_shift_left), "sort": _sort}
RULES |= {"conv_general_dilated": _conv_general_dilated}
RULES |= {name: _scatter(name) for name in ("scatter", *_REDUCTIONS)}
add_formulas(RULES, *LINEAR_ALGEBRA, "cbrt")
