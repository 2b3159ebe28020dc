"""Keys and values kept of earlier positions: how they are stored, renewed and attended to.

A cache is a dict of `key (batch, heads, length, size)` and `value`, of integers with `key_scale (batch, heads, length)`
and `value_scale` beside them. Heads come before positions: so those of a head lie next to each other, and a product
with them reads memory in order.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kerax.core import placement
from kerax.ops import cpu, tpu

_NAMES = ("key", "value")
_AXES = ("batch", "heads", None, None)


def empty(batch: int, heads: int, length: int, sizes: tuple[int, int], dtype) -> dict[str, Any]:
    """A cache of zeros with keys and values of these sizes."""
    found = {name: jnp.zeros((batch, heads, length, size), dtype) for name, size in zip(_NAMES, sizes, strict=True)}
    if dtype == jnp.int8:
        found |= {f"{name}_scale": jnp.zeros((batch, heads, length), jnp.float32) for name in _NAMES}
    return _constrained(found)


def updated(cache: dict, key, value, positions) -> dict[str, Any]:
    """The cache with keys and values `(batch, inputs, heads, size)` written at their positions.

    Args:
        positions: `()` or `(batch,)`, that of the first input; `(batch, inputs)`, of which those outside the cache are
            not written; or `None`, from the start.
    """
    length = cache["key"].shape[2]
    if isinstance(key.shape[1], int) and key.shape[1] > length:
        raise ValueError(
            f"The cache has room for {length} positions. Got {key.shape[1]} inputs at once; make a longer one by "
            "`init_cache`."
        )
    found = {}
    for name, new in zip(_NAMES, (key, value), strict=True):
        new = jnp.swapaxes(new, 1, 2)  # (batch, heads, inputs, size)
        if f"{name}_scale" in cache:
            new, scale = _rounded(new)
            found[f"{name}_scale"] = _written(cache[f"{name}_scale"], scale, positions)
        found[name] = _written(cache[name], new.astype(cache[name].dtype), positions)
    return _constrained({name: found[name] for name in cache})


def _rounded(values) -> tuple[Any, Any]:
    """`values` as integers up to 127, and what to multiply them by, one for each vector."""
    values = values.astype(jnp.float32)
    scale = jnp.maximum(jnp.max(jnp.abs(values), axis=-1), 1e-12) / 127
    return jnp.round(values / scale[..., None]).astype(jnp.int8), scale


def _written(cache, new, positions):
    """`cache (batch, heads, length, ...)` with `new (batch, heads, inputs, ...)` in it."""
    start = jnp.zeros((), jnp.int32) if positions is None else positions
    if start.ndim == 0:
        return lax.dynamic_update_slice_in_dim(cache, new, start, 2)
    if start.ndim == 1:
        start = start[:, None] + jnp.arange(new.shape[2])
    start = jnp.where(start < 0, cache.shape[2], start)  # which else would count from the end
    if new.shape[2] == 1 and tpu.is_target() and not placement.is_spread():
        return _written_by_rows(cache, new, start[:, 0])
    rows = jnp.arange(new.shape[0])[:, None]
    if cache.dtype == jnp.bfloat16 and cpu.is_target():  # else it would become float32, and bfloat16 again
        bits = _written(*(lax.bitcast_convert_type(part, jnp.uint16) for part in (cache, new)), positions=start)
        return lax.bitcast_convert_type(bits, jnp.bfloat16)
    if new.shape[0] == new.shape[2] == 1 and cpu.is_target():
        # Written at one place, XLA's CPU backend would make the update anew in whatever reads it, and copy the cache
        # four times a step to keep what was before. Written at a place for each head, it lies where it lay.
        columns = jnp.arange(new.shape[1])[:, None]
        return cache.at[rows[..., None], columns, start[..., None]].set(new, mode="drop", unique_indices=True)
    return cache.at[rows, :, start].set(jnp.swapaxes(new, 1, 2), mode="drop", unique_indices=True)


def _written_by_rows(cache, new, positions):
    """`cache (batch, heads, length, ...)` with `new (batch, heads, 1, ...)` in it, row after row.

    For XLA's scatter on TPUs a loop over tokens would keep caches in another layout than products read, and copy all of
    them in each turn.
    """
    length = cache.shape[2]

    def put(row, cache):
        place = (row, 0, positions[row], *(0,) * (cache.ndim - 3))
        old = lax.dynamic_slice(cache, place, (1, *new.shape[1:]))
        given = lax.dynamic_slice_in_dim(new, row, 1)
        return lax.dynamic_update_slice(cache, jnp.where(positions[row] < length, given, old), place)

    return lax.fori_loop(0, new.shape[0], put, cache)


def _constrained(cache: dict) -> dict:
    return {name: placement.constrain(leaf, _AXES[: leaf.ndim]) for name, leaf in cache.items()}


def empty_states(states: list, length: int) -> dict[str, Any]:
    """Room for a recurrent layer's states `(batch, ...)` after each of `length` steps."""
    found = {f"state_{index}": leaf for index, leaf in enumerate(states)}
    return {name: jnp.zeros((leaf.shape[0], 1, length, *leaf.shape[1:]), leaf.dtype) for name, leaf in found.items()}


def states_before(cache: dict, positions, first: list) -> list:
    """The states that steps start from: those kept of the position before theirs, or `first` at the start.

    Args:
        positions: Of the first step, `()` or `(batch,)`; `None`: the start.
    """
    if positions is None:
        return first
    positions = jnp.broadcast_to(positions, first[0].shape[:1])
    rows = jnp.arange(len(positions))
    found = []
    for index, leaf in enumerate(first):
        kept = cache[f"state_{index}"][rows, 0, jnp.maximum(positions - 1, 0)]
        is_start = (positions == 0).reshape(-1, *(1,) * (leaf.ndim - 1))
        found.append(jnp.where(is_start, leaf, kept.astype(leaf.dtype)))
    return found


def updated_states(cache: dict, states: list, positions) -> dict[str, Any]:
    """The cache with the states `(batch, steps, ...)` after each step; positions as in `states_before`."""
    return {
        f"state_{index}": _written(cache[f"state_{index}"], leaf[:, None], positions)
        for index, leaf in enumerate(states)
    }


def attend(query, cache: dict, positions, scale: float, window: int | None = None, cap: float | None = None):
    """`softmax(query @ key.T * scale) @ value` of queries `(batch, queries, heads, size)` over what is kept up to them.

    Args:
        positions: `(queries,)` or `(batch, queries)`.
        window: Number of last positions that a query sees. Default: all.
        cap: Scores `s` become `cap * tanh(s / cap)`.
    """
    batch, queries, heads, size = query.shape
    key, value = cache["key"], cache["value"]
    groups, length = key.shape[1:3]
    # (batch, groups, heads of a group * queries, size): more rows of one product, so that no key is repeated.
    query = jnp.swapaxes(query * scale, 1, 2).reshape(batch, groups, -1, size)
    scores = _product(query, key, -1)
    if "key_scale" in cache:  # of a whole vector, so it may as well be of its product
        scores = scores * cache["key_scale"][:, :, None, :]
    scores = scores if cap is None else cap * jnp.tanh(scores / cap)
    places = jnp.arange(length)
    seen = places <= positions[..., None]  # (batch or none, queries, length)
    if window is not None:
        seen &= places > positions[..., None] - window
    seen = seen if seen.ndim == 3 else seen[None]
    seen = jnp.tile(seen, (1, heads // groups, 1))[:, None]
    weights = jax.nn.softmax(jnp.where(seen, scores, jnp.finfo(scores.dtype).min / 2))
    if "value_scale" in cache:
        weights = weights * cache["value_scale"][:, :, None, :]
    outputs = _product(weights, value, -2).astype(query.dtype)
    return jnp.swapaxes(outputs.reshape(batch, heads, queries, -1), 1, 2)


def _product(left, right, axis: int):
    """A product in float32 of values with what is kept, in whatever dtype that is."""
    dtype = left.dtype if jnp.issubdtype(right.dtype, jnp.integer) else right.dtype
    return cpu.product_of_few_rows(left.astype(dtype), right.astype(dtype), jnp.float32, axis)
