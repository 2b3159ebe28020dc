"""Attention of queries to keys: by the formula, whole or by blocks, or by a platform's fused kernel."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kerax import config
from kerax.ops import cpu, long_attention, tpu

_MORE_FEATURES, _WIDEST = 8, 128  # of a head, for cuDNN
_LOW = -30000.0  # a score that no other comes near, and that float16 still holds


def attend(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale=None,
    is_causal=False,
    flash_attention=None,
    cap=None,
    drop: Callable | None = None,
    with_weights=False,
    sliding_window: int | None = None,
):
    """`softmax(query @ key.T * scale + bias) @ value` for `(batch, ..., positions, heads, features)`, and the weights.

    The softmax is taken in float32, whatever the inputs. Neighbouring heads of the query may share one of key and
    value. A query that sees no key gets the mean of all values.

    How it is computed: on GPUs by cuDNN, on TPUs by JAX's Pallas kernel, where these take the arrays; else by the
    formula, of blocks of queries where the scores of all would take more than 1 GiB. In all of these memory grows with
    the length, not with its square. Of 32,768 positions, 12 heads of 64, forward and gradient take 0.1 GiB beside what
    goes in and comes out on an H200 (0.4 with padding, 0.5 in float32), 0.6 on a TPU v5e and 0.5 on a CPU; the scores
    alone would be 48 GiB.

    Args:
        mask: Whether a query may look at a key: `(batch, ..., heads or 1, queries, keys)`. For one of keys alone,
            `(batch, 1, 1, keys)`, no larger one is made.
        scale: Default: `1 / sqrt(features)`.
        is_causal: Whether a query may only look at keys up to its own position.
        flash_attention: As `uses_fused_attention` takes it.
        cap: Scores `s` become `cap * tanh(s / cap)`.
        drop: What to make of the weights before the values are weighted.
        with_weights: Whether to return the weights `(batch, ..., heads, queries, keys)`, else `None`.
        sliding_window: Largest distance plus 1 between a query and a key that it sees. Default: any.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    is_plain = drop is None and not with_weights
    fused = is_plain and cap is None and query.ndim == 4 and uses_fused_attention(flash_attention, query, key, value)
    is_short = not (is_plain and long_attention.is_long(query, key))
    key_mask = _of_keys(mask, key)
    if fused and (is_short or not _makes_scores(query, key, mask, is_causal, sliding_window)):
        if not is_short and key_mask is not None:
            query, key, value, width = *_with_masked_keys(query * scale, key, value, key_mask), value.shape[-1]
            outputs = _by_cudnn(query, key, value, bias, None, 1.0, is_causal, sliding_window)[..., :width]
            value = value[..., :width]
            return long_attention.mean_where_none(outputs, value, key_mask, is_causal, sliding_window), None
        return _by_cudnn(query, key, value, bias, mask, scale, is_causal, sliding_window), None
    is_of_keys = bias is None and (mask is None or key_mask is not None)
    if is_plain and is_of_keys and flash_attention is not False and tpu.has_attention(query, key, value):
        return tpu.attend(query, key, value, scale, is_causal, sliding_window, key_mask, cap), None

    if is_short:
        length = query.shape[-3]
        # (batch, ..., heads, positions, features)
        query, key, value = jnp.swapaxes(query, -2, -3), jnp.swapaxes(key, -2, -3), jnp.swapaxes(value, -2, -3)
        is_halved = is_causal and sliding_window is mask is bias is cap is None and is_plain
        if is_halved and cpu.favors_halves(query, key):
            return _in_halves(query, key, value, scale), None
        if sliding_window is None:
            # A constant: distances would be compared anew wherever they are looked at.
            seen = jnp.tril(jnp.ones((length, key.shape[-2]), bool)) if is_causal else None
        else:
            seen = long_attention.visible(jnp.arange(length), key.shape[-2], is_causal, sliding_window)
        mask = seen if mask is None else mask if seen is None else seen & mask
        return _by_formula(query, key, value, bias, mask, scale, cap, drop, with_weights)

    def of_rows(rows, query, bias, mask):
        seen = long_attention.visible(rows, key.shape[-3], is_causal, sliding_window)
        mask = seen if mask is None else mask if seen is None else seen & mask
        of_heads = [jnp.swapaxes(part, -2, -3) for part in (query, key, value)]
        return _by_formula(of_heads[0], of_heads[1], of_heads[2], bias, mask, scale, cap, drop, with_weights)[0]

    return long_attention.by_blocks(of_rows, query, key, bias, mask), None


def _by_formula(query, key, value, bias, mask, scale, cap, drop, with_weights):
    """Of `(batch, ..., heads, positions, features)`, outputs of `(batch, ..., positions, heads, features)`."""
    # Scaled before the product: there are fewer queries than scores, and half precision cannot overflow so soon.
    scores = _product(query * scale, jnp.swapaxes(key, -1, -2))  # (batch, ..., heads, queries, keys)
    scores = scores if bias is None else scores + bias
    scores = scores if cap is None else cap * jnp.tanh(scores / cap)
    outputs, weights = weighted_mean(scores, value, mask, drop, with_weights)
    return jnp.swapaxes(outputs, -2, -3), weights


def _in_halves(query, key, value, scale):
    """Causal, of `(batch, ..., heads, positions, features)`: the first half of the queries sees half of the keys."""
    length = query.shape[-2]
    middle = (length + 1) // 2
    outputs = []
    for start, end in ((0, middle), (middle, length)):
        seen = jnp.arange(start, end)[:, None] >= jnp.arange(end)
        parts = query[..., start:end, :], key[..., :end, :], value[..., :end, :]
        outputs.append(_by_formula(*parts, None, seen, scale, None, None, False)[0])
    return jnp.concatenate(outputs, -3)


def _of_keys(mask, key):
    """A mask of `(batch, 1, 1, keys)` as `(batch, keys)`, or `None`."""
    if mask is None or mask.ndim != 4 or mask.shape[1:] != (1, 1, key.shape[1]):
        return None
    return mask[:, 0, 0]


def _makes_scores(query, key, mask, is_causal, sliding_window) -> bool:
    """Whether a mask as large as the scores would be made for cuDNN, where none was given."""
    if mask is not None and _of_keys(mask, key) is None:
        return False
    is_equal = query.shape[1] == key.shape[1]
    is_its_own = (is_equal or not is_causal) and (sliding_window is None or (is_causal and is_equal))
    return not is_its_own or (mask is not None and query.shape[-1] + _MORE_FEATURES > _WIDEST)


def _by_cudnn(query, key, value, bias, mask, scale, is_causal, sliding_window):
    """By cuDNN's kernel, whose own causal mask and window serve where lengths are equal and nothing else masks."""
    lengths = query.shape[1], key.shape[1]
    window = None if sliding_window is None else (sliding_window - 1, 0)
    if mask is not None or lengths[0] != lengths[1] or (window is not None and not is_causal):
        seen = long_attention.visible(jnp.arange(lengths[0]), lengths[1], is_causal, sliding_window)
        mask = seen if mask is None else mask if seen is None else seen & mask
        is_causal, window = False, None

    def whole(part):
        # The kernel wants all four axes, (batch, heads, queries, keys), and the last two in full.
        if part is None:
            return None
        part = part.reshape((1,) * (4 - part.ndim) + part.shape)
        return jnp.broadcast_to(part, (*part.shape[:2], *lengths))

    options: dict[str, Any] = {"mask": whole(mask), "scale": scale, "is_causal": is_causal, "implementation": "cudnn"}
    if window is not None:
        options["local_window_size"] = window
    return jax.nn.dot_product_attention(query, key, value, whole(bias), **options)


def _with_masked_keys(query, key, value, key_mask):
    """The three with 8 more features, so that scores of keys which do not count are low: no mask is as large as them.

    cuDNN itself knows padding at the end alone.
    """
    marks = jnp.zeros(_MORE_FEATURES, query.dtype).at[0].set(1)
    lows = jnp.where(key_mask, 0, _LOW).astype(key.dtype)[:, :, None, None] * marks
    query = jnp.concatenate([query, jnp.broadcast_to(marks, (*query.shape[:-1], _MORE_FEATURES))], -1)
    key = jnp.concatenate([key, jnp.broadcast_to(lows, (*key.shape[:-1], _MORE_FEATURES))], -1)
    return query, key, jnp.pad(value, [(0, 0)] * (value.ndim - 1) + [(0, _MORE_FEATURES)])


def weighted_mean(scores, value, mask=None, drop: Callable | None = None, with_weights=False):
    """`softmax(scores) @ value` and the weights or `None`, for scores `(batch, ..., heads, queries, keys)`.

    Args:
        value: `(batch, ..., groups, keys, features)`.
        mask, drop, with_weights: As in `attend`.
    """
    if mask is not None:
        # Half the least number, not -inf: a row in which all is masked becomes a mean instead of NaN.
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min / 2)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if drop is None and not with_weights and cpu.is_target():
        return _softmax_product(scores, value), None
    weights = jax.nn.softmax(scores).astype(value.dtype)
    outputs = _product(weights if drop is None else drop(weights), value)
    return outputs, weights if with_weights else None


def _product(left, right):
    """`left (..., heads, m, n) @ right (..., groups, n, k)`: neighbouring heads of `left` share one of `right`.

    They become more rows of one product, so that nothing is repeated.
    """
    *batch, heads, rows, size = left.shape
    groups = right.shape[-3]
    # (batch, ..., groups, heads of a group * rows, size)
    folded = left.reshape(*batch, groups, heads // groups * rows, size)
    return (folded @ right).reshape(*batch, heads, rows, right.shape[-1])


def _softmax_product(scores, value):
    """`softmax(scores) @ value`, divided by the sum of the exponentials last, where there is less to divide.

    A GPT step, 128 positions and heads of 32, takes 5 to 8% less time on CPU.
    """
    # The maximum only keeps `exp` in range: the result does not depend on it, so its gradient is left out.
    exponentials = jnp.exp(scores - lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    return (_product(exponentials.astype(value.dtype), value) / total).astype(value.dtype)


def uses_fused_attention(asked: bool | None, query, key, value) -> bool:
    """Whether attention goes to cuDNN: if it is asked to, or unless `config` forbids it, if the kernel takes the heads.

    A step of GPT-2 (124 million weights, 64 rows of 1,024, bfloat16) takes 139 ms with it on an H200, 202 without.
    """
    if asked is not None or config.is_flash_attention_enabled() is False:
        return bool(asked)
    heads, width = (query, key, value), query.shape[-1]
    return (
        config.target_platform() == "gpu"
        and _is_ampere_or_later()
        and all(x.ndim == 4 and x.dtype in (jnp.bfloat16, jnp.float16) and x.shape[-1] == width for x in heads)
        # cuDNN has programs for known sizes only.
        and all(isinstance(size, int) for x in heads for size in x.shape)
        and width % 8 == 0
        and width <= _WIDEST
    )


def _is_ampere_or_later() -> bool:
    """Whether the GPU has the kernel; one that is not there, for which is only compiled, has."""
    return jax.default_backend() != "gpu" or float(getattr(jax.devices()[0], "compute_capability", 0)) >= 8.0
