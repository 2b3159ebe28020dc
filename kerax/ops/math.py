"""Segments, rankings and special functions."""

import functools

import jax
import jax.numpy as jnp

from kerax.core.symbolic import KerasTensor
from kerax.ops.lifting import binary, op, reduction, unary

__all__ = (
    "erf erfc erfinv gammainc in_top_k logsumexp rsqrt segment_max segment_min segment_prod segment_sum top_k"
).split()

erf = unary(jax.scipy.special.erf)
erfc = unary(jax.scipy.special.erfc)
erfinv = unary(jax.scipy.special.erfinv)
gammainc = binary(jax.scipy.special.gammainc)
# In `lax` only, which takes no Python numbers.
rsqrt = unary(lambda x: jax.lax.rsqrt(jnp.asarray(x)), "rsqrt")
logsumexp = reduction(jax.nn.logsumexp)


def _segment_spec(function, args, kwargs):
    call = dict(zip(("data", "segment_ids", "num_segments"), args, strict=False)) | kwargs
    data, num_segments = call["data"], call.get("num_segments")
    _check_ids(data.shape, call["segment_ids"].shape)
    return KerasTensor((num_segments, *data.shape[1:]), data.dtype)


def _check_ids(data: tuple, ids: tuple):
    if None not in (data[0], ids[0]) and data[0] != ids[0]:
        raise ValueError(f"`segment_ids` must have one number for each row of `data`. Got shapes {ids} and {data}.")


def _segments(reduce, data, segment_ids, num_segments, sorted):
    data, segment_ids = jnp.asarray(data), jnp.asarray(segment_ids)
    _check_ids(data.shape, segment_ids.shape)
    return reduce(data, segment_ids, num_segments, sorted)


@functools.partial(op, spec=_segment_spec)
def segment_sum(data, segment_ids, num_segments=None, sorted=False):
    """The sums of the rows of `data` that share a segment id. Under `jit` give `num_segments`."""
    return _segments(jax.ops.segment_sum, data, segment_ids, num_segments, sorted)


@functools.partial(op, spec=_segment_spec)
def segment_max(data, segment_ids, num_segments=None, sorted=False):
    """The largest of the rows of `data` that share a segment id. Under `jit` give `num_segments`."""
    return _segments(jax.ops.segment_max, data, segment_ids, num_segments, sorted)


@functools.partial(op, spec=_segment_spec)
def segment_min(data, segment_ids, num_segments=None, sorted=False):
    """The smallest of the rows of `data` that share a segment id. Under `jit` give `num_segments`."""
    return _segments(jax.ops.segment_min, data, segment_ids, num_segments, sorted)


@functools.partial(op, spec=_segment_spec)
def segment_prod(data, segment_ids, num_segments=None, sorted=False):
    """The products of the rows of `data` that share a segment id. Under `jit` give `num_segments`."""
    return _segments(jax.ops.segment_prod, data, segment_ids, num_segments, sorted)


@op
def top_k(x, k, sorted=True, is_stable=True):
    """The `k` largest values along the last axis and their indices, largest first.

    Args:
        sorted, is_stable: Kept for Keras's signature: they are always sorted, of equal ones the first comes first.
    """
    return tuple(jax.lax.top_k(jnp.asarray(x), k))


@op
def in_top_k(targets, predictions, k):
    """Whether fewer than `k` predictions exceed that of the target class."""
    predictions = jnp.asarray(predictions)
    own = jnp.take_along_axis(predictions, jnp.asarray(targets)[..., None], axis=-1)
    # A class whose score is NaN is among no best ones: everything exceeds it.
    own = jnp.where(jnp.isnan(own), -jnp.inf, own)
    return jnp.sum(predictions > own, axis=-1) < k
