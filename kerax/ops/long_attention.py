"""Attention without all its scores in memory at a time: by blocks of queries, computed again for the gradient."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from kerax import config

_LONG = 2**28  # scores: 1 GiB of float32
_BLOCK = 2**24  # scores held at a time
_FEWEST, _MOST = 16, 512  # queries of a block


def is_long(query, key) -> bool:
    """Whether the scores of `(batch, ..., positions, heads, features)` would take more than 1 GiB of float32.

    Up to there all at once is faster. A known length is needed, as is a program that runs here rather than a file's.
    """
    sizes = (*query.shape[:-1], key.shape[-3])
    are_known = all(isinstance(size, int) for size in sizes)
    return are_known and config.target_platform() != "export" and math.prod(sizes) > _LONG


def visible(rows, num_keys: int, is_causal: bool, sliding_window: int | None):
    """Whether the queries at these positions see each key: `(queries, keys)`; `None` if all see all."""
    if not is_causal and sliding_window is None:
        return None
    distance = rows[:, None] - jnp.arange(num_keys)[None, :]
    seen = distance >= 0 if is_causal else None
    if sliding_window is None:
        return seen
    near = abs(distance) < sliding_window
    return near if seen is None else seen & near


def mean_where_none(outputs, value, key_mask, is_causal: bool, sliding_window: int | None):
    """The outputs of a kernel, but the mean of all values for queries that see no key.

    Args:
        outputs: `(batch, queries, heads, features)`; `value` likewise, of fewer heads.
        key_mask: Whether a key counts, `(batch or 1, keys)`.
    """
    rows, num_keys = jnp.arange(outputs.shape[1]), value.shape[1]
    reach = num_keys if sliding_window is None else sliding_window - 1
    first = jnp.maximum(rows - reach, 0)
    last = jnp.minimum(rows if is_causal else rows + reach, num_keys - 1)
    # How many keys count before each place.
    before = jnp.pad(jnp.cumsum(key_mask, axis=1), [(0, 0), (1, 0)])
    sees_any = before[:, last + 1] > before[:, jnp.minimum(first, num_keys)]
    means = jnp.mean(value, axis=1, keepdims=True).repeat(outputs.shape[2] // value.shape[2], axis=2)
    return jnp.where(sees_any[:, :, None, None], outputs, means.astype(outputs.dtype))


def by_blocks(attend_rows: Callable, query, key, bias=None, mask=None):
    """`attend_rows(rows, query, bias, mask)` for blocks of queries one after the other, put together again.

    Args:
        attend_rows: Attention of a block: the positions of its queries, and what belongs to them.
        query: `(batch, ..., queries, heads, features)`; `key` likewise.
        bias, mask: `(batch, ..., heads or 1, queries or 1, keys)`.
    """
    length, num_keys = query.shape[-3], key.shape[-3]
    size = _BLOCK // (math.prod(query.shape[:-3]) * query.shape[-2] * num_keys) // _FEWEST * _FEWEST
    size = min(max(size, _FEWEST), _MOST, length)
    num_blocks = -(-length // size)
    missing = num_blocks * size - length  # rows that are computed and dropped
    axis = query.ndim - 3
    padded = jnp.pad(query, [(0, missing if place == axis else 0) for place in range(query.ndim)])
    blocks = jnp.moveaxis(padded.reshape(*query.shape[:axis], num_blocks, size, *query.shape[axis + 1 :]), axis, 0)

    def rows_of(array, start):
        if array is None or array.shape[-2] == 1:
            return array
        widths = [(0, missing if place == array.ndim - 2 else 0) for place in range(array.ndim)]
        return lax.dynamic_slice_in_dim(jnp.pad(array, widths), start, size, array.ndim - 2)

    def block(index, part):
        start = index * size
        return attend_rows(start + jnp.arange(size), part, rows_of(bias, start), rows_of(mask, start))

    # Of a block only its queries are kept for the gradient.
    body = jax.checkpoint(lambda own: block(*own), prevent_cse=False)
    outputs = lax.map(body, (jnp.arange(num_blocks), blocks))  # (blocks, batch, ..., rows, heads, features)
    outputs = jnp.moveaxis(outputs, 0, axis)
    joined = outputs.reshape(*outputs.shape[:axis], num_blocks * size, *outputs.shape[axis + 2 :])
    return lax.slice_in_dim(joined, 0, length, axis=axis)
