"""What neural networks are made of: activations, encodings, crossentropies, convolutions, pooling, normalization."""

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
from kerax.ops.conv_gradients import convolve
from kerax.ops.ctc import ctc_decode as ctc_decode
from kerax.ops.ctc import ctc_loss as ctc_loss
from kerax.ops.elementwise import polar as polar
from kerax.ops.lifting import op
from kerax.ops.quality import psnr as psnr
from kerax.ops.windows import *  # noqa: F403

__all__ = [
    "average_pool",
    "batch_normalization",
    "binary_crossentropy",
    "categorical_crossentropy",
    "celu",
    "conv",
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
    """1 at the index `x` of a new axis, 0 elsewhere; all 0 for an index out of range."""
    return jax.nn.one_hot(jnp.asarray(x), num_classes, axis=axis, dtype=dtype or config.floatx())


@op
def multi_hot(inputs, num_classes: Any = None, axis=-1, dtype=None, sparse=False):
    """1 at every index that occurs in a row of `inputs`, 0 elsewhere."""
    inputs = jnp.asarray(inputs)
    encoded = jax.nn.one_hot(inputs, num_classes, axis=axis, dtype=dtype or config.floatx())
    return jnp.max(encoded, axis=1 if inputs.ndim > 1 else 0)


def _clip(probabilities):
    return jnp.clip(probabilities, config.epsilon(), 1 - config.epsilon())


def _log_probabilities(output, from_logits: bool, axis: int):
    if from_logits:
        return jax.nn.log_softmax(output, axis=axis)
    return jnp.log(_clip(output / jnp.sum(output, axis, keepdims=True)))


@jax.custom_jvp
def _log_share(part, total):
    """`log(part / total)` of a clipped share, which has no slope where it was clipped.

    XLA compiles the step of a small classifier in 0.43 s with these few operations, in 0.50 with JAX's own gradient of
    the logarithms of all classes.
    """
    return jnp.log(_clip(part / total))


@_log_share.defjvp
def _log_share_jvp(primals, tangents):
    (part, total), (d_part, d_total) = primals, tangents
    share = part / total
    is_inside = (share >= config.epsilon()) & (share <= 1 - config.epsilon())
    slope, total_slope = (jnp.where(is_inside, 1 / value, 0) for value in (part, total))
    return jnp.log(_clip(share)), slope * d_part - total_slope * d_total


def _check_shapes(name: str, expected: tuple, target: tuple, output: tuple):
    if target != expected:
        raise ValueError(f"{name}: expected `target` of shape {expected} for `output` of shape {output}. Got {target}.")


@op
def binary_crossentropy(target, output, from_logits=False):
    """`-target * log(output) - (1 - target) * log(1 - output)` of each element."""
    target, output = jnp.asarray(target), jnp.asarray(output)
    _check_shapes("binary_crossentropy", output.shape, target.shape, output.shape)
    if from_logits:
        return -target * jax.nn.log_sigmoid(output) - (1 - target) * jax.nn.log_sigmoid(-output)
    output = _clip(output)
    return -target * jnp.log(output) - (1 - target) * jnp.log(1 - output)


@op
def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """`-sum(target * log(output))` over the class axis."""
    target, output = jnp.asarray(target), jnp.asarray(output)
    _check_shapes("categorical_crossentropy", output.shape, target.shape, output.shape)
    return -jnp.sum(target * _log_probabilities(output, from_logits, axis), axis=axis)


@op
def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """`-log(output[target])` for class indices; 0 for an index that is no class."""
    target, output = jnp.asarray(target).astype(jnp.int32), jnp.asarray(output)
    axis = axis % output.ndim
    if target.ndim == output.ndim and target.shape[axis] == 1:
        target = jnp.squeeze(target, axis)
    expected = output.shape[:axis] + output.shape[axis + 1 :]
    _check_shapes("sparse_categorical_crossentropy", expected, target.shape, output.shape)
    is_target = jax.lax.broadcasted_iota(jnp.int32, output.shape, axis) == jnp.expand_dims(target, axis)
    # Chosen, not multiplied: a class that is masked out by a logit of -inf would give 0 * inf.
    if from_logits:
        return -jnp.sum(jnp.where(is_target, jax.nn.log_softmax(output, axis=axis), 0), axis=axis)
    chosen = jnp.sum(jnp.where(is_target, output, 0), axis)
    is_class = (target >= 0) & (target < output.shape[axis])
    return jnp.where(is_class, -_log_share(chosen, jnp.sum(output, axis)), 0)


def _spatial(value, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _convolve(inputs, kernel, strides, padding, data_format, dilation_rate, groups):
    rank = inputs.ndim - 2
    return convolve(
        inputs,
        kernel.astype(inputs.dtype),
        _spatial(strides, rank),
        padding.upper() if isinstance(padding, str) else padding,
        _spatial(dilation_rate, rank),
        groups,
        config.standardize_data_format(data_format) == "channels_last",
    )


def _channels(inputs, data_format):
    return inputs.shape[-1 if config.standardize_data_format(data_format) == "channels_last" else 1]


@op
def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolution of 1, 2 or 3 dimensions with a kernel `(*window, channels // groups, filters)`."""
    inputs, kernel = jnp.asarray(inputs), jnp.asarray(kernel)
    channels = _channels(inputs, data_format)
    if channels % kernel.shape[-2]:
        raise ValueError(
            f"conv: the number of input channels must be a multiple of the kernel's. "
            f"Got inputs of shape {inputs.shape} and a kernel of shape {kernel.shape}."
        )
    return _convolve(inputs, kernel, strides, padding, data_format, dilation_rate, channels // kernel.shape[-2])


@op
def depthwise_conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolution of each channel with its own filters: kernel `(*window, channels, multiplier)`."""
    inputs, kernel = jnp.asarray(inputs), jnp.asarray(kernel)
    channels = kernel.shape[-2]
    kernel = jnp.reshape(kernel, (*kernel.shape[:-2], 1, channels * kernel.shape[-1]))
    return _convolve(inputs, kernel, strides, padding, data_format, dilation_rate, channels)


@op
def separable_conv(
    inputs, depthwise_kernel, pointwise_kernel, strides=1, padding="valid", data_format=None, dilation_rate=1
):
    """`depthwise_conv`, then a convolution with a kernel of window size 1."""
    hidden = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(hidden, pointwise_kernel, 1, "valid", data_format, 1)


def _pool(inputs, start, combine, pool_size, strides, padding, data_format):
    rank = inputs.ndim - 2
    window = _spatial(pool_size, rank)
    step = window if strides is None else _spatial(strides, rank)
    if config.standardize_data_format(data_format) == "channels_last":
        window, step = (1, *window, 1), (1, *step, 1)
    else:
        window, step = (1, 1, *window), (1, 1, *step)
    return jax.lax.reduce_window(inputs, start, combine, window, step, padding.upper())


@op
def max_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """The largest value of each window; `strides` defaults to `pool_size`."""
    inputs = jnp.asarray(inputs)
    lowest = -jnp.inf if jnp.issubdtype(inputs.dtype, jnp.floating) else jnp.iinfo(inputs.dtype).min
    return _pool(inputs, lowest, jax.lax.max, pool_size, strides, padding, data_format)


@op
def average_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """The mean of each window; padded places do not count. `strides` defaults to `pool_size`."""
    inputs = jnp.asarray(inputs)
    options = (pool_size, strides, padding, data_format)
    return _pool(inputs, 0.0, jax.lax.add, *options) / _pool(jnp.ones_like(inputs), 0.0, jax.lax.add, *options)


@op
def normalize(x, axis=-1, order=2, epsilon=None):
    """`x` divided by its norm over `axis`, which is taken as at least `epsilon`."""
    x, epsilon = jnp.asarray(x), config.epsilon() if epsilon is None else epsilon
    if order == 2:
        return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis, keepdims=True), epsilon**2))
    return x / jnp.maximum(jnp.linalg.norm(x, order, axis, keepdims=True), epsilon)


@op
def moments(x, axes, keepdims=False, synchronized=False):
    """Mean and variance over `axes`, computed in float32 for half precision."""
    x = jnp.asarray(x)
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32)) if jnp.issubdtype(x.dtype, jnp.floating) else x
    axes = tuple(axes) if isinstance(axes, list) else axes
    return tuple(f(exact, axes, keepdims=keepdims).astype(x.dtype) for f in (jnp.mean, jnp.var))


@op
def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """`(x - mean) / sqrt(variance + epsilon) * scale + offset`, the statistics lying along `axis`."""
    x = jnp.asarray(x)
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    along = lambda value: jnp.expand_dims(value, others)
    factor = jax.lax.rsqrt(along(variance) + epsilon)
    factor = factor if scale is None else factor * along(scale)
    outputs = (x - along(mean)) * factor
    return outputs if offset is None else outputs + along(offset)


@op
def layer_normalization(x, gamma=None, beta=None, axis=-1, epsilon=None):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`, statistics over `axis`, in float32 for half precision."""
    x, epsilon = jnp.asarray(x), config.epsilon() if epsilon is None else epsilon
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axis = tuple(axis) if isinstance(axis, list) else axis
    mean, variance = jnp.mean(exact, axis, keepdims=True), jnp.var(exact, axis, keepdims=True)
    outputs = (exact - mean) * jax.lax.rsqrt(variance + epsilon)
    return _affine(outputs, gamma, beta, axis).astype(x.dtype)


@op
def rms_normalization(x, scale=None, axis=-1, epsilon=None):
    """`x / sqrt(mean(x**2) + epsilon) * scale`, in float32 for half precision. Source: arXiv 1910.07467"""
    x, epsilon = jnp.asarray(x), config.epsilon() if epsilon is None else epsilon
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    outputs = exact * jax.lax.rsqrt(jnp.mean(jnp.square(exact), axis, keepdims=True) + epsilon)
    return _affine(outputs, scale, None, axis).astype(x.dtype)


def _affine(outputs, scale, offset, axis):
    axes = {i % outputs.ndim for i in (axis if isinstance(axis, tuple) else (axis,))}
    shape = [size if i in axes else 1 for i, size in enumerate(outputs.shape)]
    outputs = outputs if scale is None else outputs * jnp.reshape(scale, shape)
    return outputs if offset is None else outputs + jnp.reshape(offset, shape)


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
    if attn_logits_soft_cap is not None:
        if flash_attention:
            raise ValueError("dot_product_attention: `flash_attention` has no `attn_logits_soft_cap`.")
        return _capped_attention(query, key, value, bias, mask, scale, is_causal, attn_logits_soft_cap)
    if uses_fused_attention(flash_attention, query, key, value):
        options = {"scale": scale, "is_causal": is_causal, "implementation": "cudnn"}
        return jax.nn.dot_product_attention(query, key, value, bias, mask, **options)
    return jax.nn.dot_product_attention(query, key, value, bias, mask, scale=scale, is_causal=is_causal)


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
        and all(isinstance(size, int) for x in heads for size in x.shape)
        and width % 8 == 0
        and width <= 128
    )


def _is_ampere_or_later() -> bool:
    """Whether the GPU has the kernel; one that is not there, for which is only compiled, has."""
    return jax.default_backend() != "gpu" or float(getattr(jax.devices()[0], "compute_capability", 0)) >= 8.0


def _capped_attention(query, key, value, bias, mask, scale, is_causal, cap):
    """Attention whose scores stay within `-cap` and `cap`."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    repeats = query.shape[-2] // key.shape[-2]  # of the keys' heads in grouped attention
    key, value = (jnp.repeat(heads, repeats, axis=-2) for heads in (key, value))
    scores = jnp.einsum("...qhf,...khf->...hqk", query, key, preferred_element_type=jnp.float32) * scale
    scores = scores if bias is None else scores + bias
    scores = cap * jnp.tanh(scores / cap)
    allowed = jnp.ones(scores.shape[-2:], bool)
    allowed = jnp.tril(allowed) if is_causal else allowed
    allowed = allowed if mask is None else allowed & mask
    weights = jax.nn.softmax(jnp.where(allowed, scores, jnp.finfo(scores.dtype).min), axis=-1).astype(value.dtype)
    return jnp.einsum("...hqk,...khf->...qhf", weights, value)
