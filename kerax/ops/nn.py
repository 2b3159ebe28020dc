"""What neural networks are made of: activations, encodings, crossentropies, convolutions, pooling, normalization."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp

from kerax import activations, config
from kerax.activations import (
    celu,
    elu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    swish,
    tanh_shrink,
    threshold,
)
from kerax.core.sparse import from_dense
from kerax.ops import convolutions, gpu, normalizations
from kerax.ops.attention import attend
from kerax.ops.ctc import ctc_decode as ctc_decode
from kerax.ops.ctc import ctc_loss as ctc_loss
from kerax.ops.elementwise import polar as polar
from kerax.ops.lifting import op
from kerax.ops.pooling import pool
from kerax.ops.quality import psnr as psnr
from kerax.ops.windows import *  # noqa: F403

__all__ = [
    "average_pool",
    "batch_normalization",
    "binary_crossentropy",
    "categorical_crossentropy",
    "celu",
    "conv",
    "conv_transpose",
    "depthwise_conv",
    "dot_product_attention",
    "elu",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "layer_normalization",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "max_pool",
    "moments",
    "multi_hot",
    "normalize",
    "one_hot",
    "relu",
    "relu6",
    "rms_normalization",
    "selu",
    "separable_conv",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_categorical_crossentropy",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "swish",
    "tanh_shrink",
    "threshold",
]


def gelu(x, approximate=True):
    """`x * P(X <= x)` for a standard normal `X`, by tanh unless `approximate=False`."""
    return activations.gelu(x, approximate=approximate)


@op
def one_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    """1 at the index `x` of a new axis, 0 elsewhere; all 0 for an index out of range. Sparse as JAX's `BCOO`."""
    encoded = jax.nn.one_hot(jnp.asarray(x), num_classes, axis=axis, dtype=dtype or config.floatx())
    return from_dense(encoded, jnp.size(x)) if sparse else encoded


@op
def multi_hot(inputs, num_classes: Any = None, axis=-1, dtype=None, sparse=False):
    """1 at every index that occurs in a row of `inputs`, 0 elsewhere. Sparse as JAX's `BCOO`."""
    inputs = jnp.asarray(inputs)
    encoded = jax.nn.one_hot(inputs, num_classes, axis=axis, dtype=dtype or config.floatx())
    # The axis of the indices, behind that of the batch.
    encoded = jnp.max(encoded, axis=1 if inputs.ndim > 1 else 0)
    return from_dense(encoded, inputs.size) if sparse else encoded


def clip_probabilities(probabilities):
    """Probabilities kept `epsilon()` away from 0 and 1, so that their logarithms are finite."""
    return jnp.clip(probabilities, config.epsilon(), 1 - config.epsilon())


def _log_probabilities(output, from_logits: bool, axis: int):
    if from_logits:
        return jax.nn.log_softmax(output, axis=axis)
    return jnp.log(clip_probabilities(shares(output, axis)))


def shares(scores, axis: int = -1):
    """Scores over their sum, for those that do not add up to 1 count as Keras counts them; all 0 stay so."""
    total = jnp.sum(scores, axis, keepdims=True)
    return scores / jnp.where(total == 0, 1, total)


@jax.custom_jvp
def _log_share(part, total):
    """`log(part / total)` of a clipped share, which has no slope where it was clipped.

    XLA compiles the step of a small classifier in 0.43 s with these few operations, in 0.50 with JAX's own gradient of
    the logarithms of all classes.
    """
    return jnp.log(clip_probabilities(part / total))


@_log_share.defjvp
def _log_share_jvp(primals, tangents):
    (part, total), (d_part, d_total) = primals, tangents
    share = part / total
    is_inside = (share >= config.epsilon()) & (share <= 1 - config.epsilon())
    # d log(part / total): 1 / part for the one, -1 / total for the other.
    slope, total_slope = (jnp.where(is_inside, 1 / value, 0) for value in (part, total))
    return jnp.log(clip_probabilities(share)), slope * d_part - total_slope * d_total


def _check_shapes(name: str, expected: tuple, target: tuple, output: tuple):
    if target != expected:
        raise ValueError(f"{name}: expected `target` of shape {expected} for `output` of shape {output}. Got {target}.")


@op
def binary_crossentropy(target, output, from_logits=False):
    """`-target * log(output) - (1 - target) * log(1 - output)` of each element."""
    target, output = jnp.asarray(target), jnp.asarray(output)
    _check_shapes("binary_crossentropy", output.shape, target.shape, output.shape)
    if from_logits:
        # Not the logarithm of a sigmoid, which rounds to 0 for logits below about -100.
        return -target * jax.nn.log_sigmoid(output) - (1 - target) * jax.nn.log_sigmoid(-output)
    output = clip_probabilities(output)
    return -target * jnp.log(output) - (1 - target) * jnp.log(1 - output)


@op
def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """`-sum(target * log(output))` over the class axis."""
    target, output = jnp.asarray(target), jnp.asarray(output)
    _check_shapes("categorical_crossentropy", output.shape, target.shape, output.shape)
    if from_logits and gpu.is_accelerator():
        return gpu.crossentropy(output, target, axis % output.ndim).astype(output.dtype)
    return -jnp.sum(target * _log_probabilities(output, from_logits, axis), axis=axis)


@op
def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """`-log(output[target])` for class indices; 0 for an index that is no class."""
    target, output = jnp.asarray(target).astype(jnp.int32), jnp.asarray(output)
    axis = axis % output.ndim
    # Labels often come as a column.
    if target.ndim == output.ndim and target.shape[axis] == 1:
        target = jnp.squeeze(target, axis)
    expected = output.shape[:axis] + output.shape[axis + 1 :]
    _check_shapes("sparse_categorical_crossentropy", expected, target.shape, output.shape)
    if from_logits and gpu.is_accelerator():
        return gpu.sparse_crossentropy(output, target, axis).astype(output.dtype)
    # Compared with all classes, not gathered: the gradient of a gather is a scatter, which is slow.
    is_target = jax.lax.broadcasted_iota(jnp.int32, output.shape, axis) == jnp.expand_dims(target, axis)
    # Chosen, not multiplied: a class that is masked out by a logit of -inf would give 0 * inf.
    if from_logits:
        return -jnp.sum(jnp.where(is_target, jax.nn.log_softmax(output, axis=axis), 0), axis=axis)
    chosen = jnp.sum(jnp.where(is_target, output, 0), axis)
    is_class = (target >= 0) & (target < output.shape[axis])
    total = jnp.sum(output, axis)
    # Of scores that are all 0 each share is 0, not 0 / 0.
    return jnp.where(is_class, -_log_share(chosen, jnp.where(total == 0, 1, total)), 0)


# Layers call the plain functions, which cost no lifting.
conv = op(convolutions.conv)
conv_transpose = op(convolutions.conv_transpose)
depthwise_conv = op(convolutions.depthwise_conv)
separable_conv = op(convolutions.separable_conv)


@op
def max_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """The largest value of each window; `strides` defaults to `pool_size`."""
    return pool(jnp.asarray(inputs), "max", pool_size, strides, padding, data_format)


@op
def average_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """The mean of each window; padded places do not count. `strides` defaults to `pool_size`."""
    return pool(jnp.asarray(inputs), "average", pool_size, strides, padding, data_format)


@op
def normalize(x, axis=-1, order=2, epsilon=None):
    """`x` divided by its norm over `axis`, which is taken as at least `epsilon`."""
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"normalize: `order` must be an integer of at least 1. Got order={order!r}.")
    x, epsilon = jnp.asarray(x), config.epsilon() if epsilon is None else epsilon
    if order == 2:  # one root of the sum of squares, whose gradient at 0 is finite
        return normalizations.unit_normalization(x, axis, epsilon)
    return x / jnp.maximum(jnp.linalg.norm(x, order, axis, keepdims=True), epsilon)


@op
def moments(x, axes, keepdims=False, synchronized=False):
    """Mean and variance over `axes`, computed in float32 for half precision."""
    x = jnp.asarray(x)
    # A sum of squares soon overflows in float16.
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32)) if jnp.issubdtype(x.dtype, jnp.floating) else x
    axes = tuple(axes) if isinstance(axes, list) else axes
    found = [f(exact, axes, keepdims=keepdims) for f in (jnp.mean, jnp.var)]
    if x.dtype == jnp.float16:  # its largest number stands for all beyond, as in Keras: no mean is infinite
        found = [jnp.clip(value, jnp.finfo(x.dtype).min, jnp.finfo(x.dtype).max) for value in found]
    return tuple(value.astype(x.dtype) for value in found)


@op
def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """`(x - mean) / sqrt(variance + epsilon) * scale + offset`, the statistics lying along `axis`."""
    return normalizations.batch_normalization(jnp.asarray(x), mean, variance, axis, offset, scale, epsilon=epsilon)


@op
def layer_normalization(x, gamma=None, beta=None, axis=-1, epsilon=None, **kwargs):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`, statistics over `axis`, in float32 for half precision.

    With Keras's older `rms_scaling=True` nothing is taken off or added: `x / sqrt(variance + epsilon) * gamma`.
    """
    x, epsilon = jnp.asarray(x), config.epsilon() if epsilon is None else epsilon
    if kwargs.get("rms_scaling"):
        warnings.warn("layer_normalization: use `rms_normalization` instead of `rms_scaling=True`.", stacklevel=2)
        exact = normalizations.upcast(x)
        scale = jax.lax.rsqrt(jnp.var(exact, _axes(axis), keepdims=True) + epsilon)
        gamma = 1 if gamma is None else normalizations.along({k % x.ndim for k in _axes(axis)}, gamma, x.ndim)
        return (exact * scale * gamma).astype(x.dtype)
    return normalizations.layer_normalization(x, gamma, beta, _axes(axis), epsilon, dtype=x.dtype).astype(x.dtype)


@op
def rms_normalization(x, scale=None, axis=-1, epsilon=None):
    """`x / sqrt(mean(x**2) + epsilon) * scale`, in float32 for half precision. Source: arXiv 1910.07467"""
    x, epsilon = jnp.asarray(x), config.epsilon() if epsilon is None else epsilon
    return normalizations.rms_normalization(x, scale, _axes(axis), epsilon, x.dtype).astype(x.dtype)


def _axes(axis) -> tuple[int, ...]:
    return (axis,) if isinstance(axis, int) else tuple(axis)


@op
def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale=None,
    is_causal=False,
    flash_attention=None,
    attn_logits_soft_cap=None,
):
    """`softmax(query @ key.T * scale + bias) @ value` for `(batch, length, heads, features)`.

    Args:
        mask: Whether a query may look at a key: `(batch, heads or 1, queries, keys)`.
        scale: Default: `1 / sqrt(features)`.
        is_causal: Whether a query may only look at keys up to its own position.
        flash_attention: Whether to use cuDNN's fused kernel (GPU, half precision). Default: as `kerax.config` says.
        attn_logits_soft_cap: Scores `s` become `cap * tanh(s / cap)`. `None` leaves them as they are. Keras caps on
            TPUs only, where its fused kernel does it the same way.

    Raises:
        ValueError: for `flash_attention` with a cap, which the fused kernel does not have.
    """
    if attn_logits_soft_cap is not None and flash_attention:
        raise ValueError("dot_product_attention: `flash_attention` has no `attn_logits_soft_cap`.")
    mask = mask if mask is None else jnp.asarray(mask, bool)
    options = (bias, mask, scale, is_causal, flash_attention, attn_logits_soft_cap)
    return attend(jnp.asarray(query), jnp.asarray(key), jnp.asarray(value), *options)[0]
