"""Attention of queries to keys, by the formula or by cuDNN's fused kernel."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from kerax import config
from kerax.ops import cpu


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
):
    """`softmax(query @ key.T * scale + bias) @ value` for `(batch, ..., positions, heads, features)`, and the weights.

    The softmax is taken in float32, whatever the inputs. Neighbouring heads of the query may share one of key and
    value. A query that sees no key gets the mean of all values.

    Args:
        mask: Whether a query may look at a key: `(batch, ..., heads or 1, queries, keys)`.
        scale: Default: `1 / sqrt(features)`.
        is_causal: Whether a query may only look at keys up to its own position.
        flash_attention: As `uses_fused_attention` takes it.
        cap: Scores `s` become `cap * tanh(s / cap)`.
        drop: What to make of the weights before the values are weighted.
        with_weights: Whether to return the weights `(batch, ..., heads, queries, keys)`, else `None`.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    is_plain = drop is None and not with_weights
    fused = is_plain and cap is None and query.ndim == 4 and uses_fused_attention(flash_attention, query, key, value)
    # The kernel's own causal mask serves where lengths are equal and nothing else masks; elsewhere it is made here.
    if is_causal and not (fused and mask is None and query.shape[1] == key.shape[1]):
        past = jnp.tril(jnp.ones((query.shape[-3], key.shape[-3]), bool))
        mask, is_causal = past if mask is None else past & mask, False
    if fused:
        lengths = query.shape[1], key.shape[1]

        def whole(part):
            # The kernel wants all four axes, (batch, heads, queries, keys), and the last two in full.
            if part is None:
                return None
            part = part.reshape((1,) * (4 - part.ndim) + part.shape)
            return jnp.broadcast_to(part, (*part.shape[:2], *lengths))

        options = {"mask": whole(mask), "scale": scale, "is_causal": is_causal, "implementation": "cudnn"}
        return jax.nn.dot_product_attention(query, key, value, whole(bias), **options), None
    # (batch, ..., heads, positions, features)
    query, key, value = jnp.swapaxes(query, -2, -3), jnp.swapaxes(key, -2, -3), jnp.swapaxes(value, -2, -3)
    # Scaled before the product: there are fewer queries than scores, and half precision cannot overflow so soon.
    scores = _product(query * scale, jnp.swapaxes(key, -1, -2))  # (batch, ..., heads, queries, keys)
    scores = scores if bias is None else scores + bias
    scores = scores if cap is None else cap * jnp.tanh(scores / cap)
    outputs, weights = weighted_mean(scores, value, mask, drop, with_weights)
    return jnp.swapaxes(outputs, -2, -3), weights


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
        and width <= 128
    )


def _is_ampere_or_later() -> bool:
    """Whether the GPU has the kernel; one that is not there, for which is only compiled, has."""
    return jax.default_backend() != "gpu" or float(getattr(jax.devices()[0], "compute_capability", 0)) >= 8.0
