"""Formulations that move fewest bytes on GPUs, judged by what `kerax plan` says of whole training steps.

XLA decides what is written to memory for a later kernel to read. Gradients here are computed again from what the
forward pass was given, and from a number or two for each row, which `jax.checkpoint` keeps apart from the forward pass:
else what both compute is written out once, in float32, and read twice. A step of GPT-2 124M, 64 rows of 1,024 in
bfloat16, on an H200: 260 GB in 1,550 kernels with the plain formulas, 190 GB in 994 with these.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from kerax import config
from kerax.core import placement
from kerax.core.remat import computed_for_gradient

_SMALL = 2**14  # elements of an array for which a kernel takes longer to start than to run


def is_target() -> bool:
    """Whether programs are traced for a GPU."""
    return config.target_platform() == "gpu"


def is_accelerator() -> bool:
    """Whether programs are traced for a GPU or a TPU, whose memory a loss's copies of its logits would fill."""
    return config.target_platform() in ("gpu", "tpu")


def _exact(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def is_one_row(inputs, num_axes: int) -> bool:
    """Whether `inputs (..., *contracted)` are one row, on one GPU."""
    if not is_target() or placement.is_spread():
        return False
    rows = math.prod(inputs.shape[: inputs.ndim - num_axes])
    return isinstance(rows, int) and rows == 1


def product_of_one_row(inputs, kernel, num_axes: int, dtype=None):
    """`jnp.tensordot(inputs, kernel, num_axes)` for one row, of which a second, of zeros, is made.

    Of one row XLA makes an array of all products first, and then their sums: it moves three times the bytes.
    """
    row = inputs.reshape(1, -1)
    pair = jnp.concatenate([row, jnp.zeros_like(row)])
    product = jnp.matmul(pair, kernel.reshape(row.shape[1], -1), preferred_element_type=dtype)
    return product[0].reshape(*inputs.shape[: inputs.ndim - num_axes], *kernel.shape[num_axes:])


def has_affine(inputs, kernel, num_axes: int) -> bool:
    """Whether `affine` is for these: in half precision, and to no more features than there are.

    What makes more features is followed by an activation, which adds the bias on its way. Weights that are gathered
    from other devices, or cut from stacked ones, are added by a kernel of their own all the same.
    """
    is_half = inputs.dtype == kernel.dtype and kernel.dtype in (jnp.bfloat16, jnp.float16)
    is_narrow = math.prod(kernel.shape[num_axes:]) <= math.prod(kernel.shape[:num_axes])
    return is_target() and is_half and is_narrow and not placement.shards_weights()


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def affine(inputs, kernel, bias, num_axes):
    """`inputs @ kernel + bias` over `num_axes` axes, rounded once, after the bias of float32 is added.

    XLA adds such a bias in the kernel of the product; for one that was rounded before it takes another kernel.
    """
    if is_one_row(inputs, num_axes):
        product = product_of_one_row(inputs, kernel, num_axes, jnp.float32)
    else:
        product = jnp.tensordot(inputs, kernel, num_axes, preferred_element_type=jnp.float32)
    return (product + bias).astype(inputs.dtype)


@affine.defjvp
def _affine_jvp(num_axes, primals, tangents):
    inputs, kernel, bias = primals
    d_inputs, d_kernel, d_bias = tangents
    product = jnp.tensordot(d_inputs, kernel, num_axes) + jnp.tensordot(inputs, d_kernel, num_axes)
    # The bias's in half precision: XLA would otherwise keep the gradient of the outputs in float32.
    return affine(inputs, kernel, bias, num_axes), product + d_bias.astype(product.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _two_sums(x, axes):
    """The sums of the numbers and of their squares, which XLA fuses with what makes the numbers as if they were one."""
    zero = jnp.zeros((), x.dtype)
    sums = lax.reduce((x, jnp.square(x)), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), axes)
    return tuple(sums)


@_two_sums.defjvp
def _two_sums_jvp(axes, primals, tangents):
    (x,), (tangent,) = primals, tangents
    return tuple(_two_sums(x, axes)), (jnp.sum(tangent, axes), jnp.sum(2 * x * tangent, axes))


def moments(x, axes):
    """Mean and variance over axes, in float32."""
    exact, count = _exact(x), math.prod(x.shape[axis] for axis in axes)
    if x.dtype != jnp.bfloat16:
        mean = jnp.mean(exact, axes, keepdims=True)
        return jnp.squeeze(mean, axes), jnp.mean(jnp.square(exact - mean), axes)
    # Both sums in one pass. Its numbers have 8 binary digits: where the difference of squares loses them, the mean is
    # so large that the inputs had lost them before.
    mean, square = (part / count for part in _two_sums(exact, axes))
    return mean, jnp.maximum(square - jnp.square(mean), 0)


def _statistics(x, axes, epsilon):
    """Mean and inverse deviation over axes, which stay with size 1, in float32."""
    mean, variance = (jnp.expand_dims(part, axes) for part in moments(x, axes))
    return mean, lax.rsqrt(variance + epsilon)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4, 5))
def layer_normalization(x, gamma, beta, axes, epsilon, dtype):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` over `axes`, counted from 0, computed in float32.

    Args:
        gamma, beta: Arrays with the axes of `x`, or scalars.
        dtype: Of the outputs.
    """
    mean, scale = _statistics(x, axes, epsilon)
    return ((_exact(x) - mean) * scale * gamma + beta).astype(dtype)


@layer_normalization.defjvp
def _layer_normalization_jvp(axes, epsilon, dtype, primals, tangents):
    x, gamma, beta = primals
    # The statistics are kept: with them the sums for `gamma` and `beta` are read together.
    mean, scale = _statistics(x, axes, epsilon)

    def slope(x, mean, scale, gamma, d_x, d_gamma, d_beta):
        x, mean, scale = lax.optimization_barrier((x, mean, scale))
        normal, d_x = (_exact(x) - mean) * scale, _exact(d_x)
        along = jnp.mean(normal * d_x, axes, keepdims=True)
        d_normal = scale * (d_x - jnp.mean(d_x, axes, keepdims=True) - normal * along)
        return lax.optimization_barrier((d_normal * gamma + normal * d_gamma + d_beta).astype(dtype))

    outputs = ((_exact(x) - mean) * scale * gamma + beta).astype(dtype)
    return outputs, computed_for_gradient(slope, x, mean, scale, gamma, *tangents)


def _combine(left, right):
    """The maximum and the sum of exponentials, divided by that of the maximum, of two parts together."""
    (high, total), (other_high, other_total) = left, right
    is_left, highest = high >= other_high, jnp.maximum(high, other_high)
    lower = jnp.where(is_left, other_high, high)
    # Both may be -inf, whose difference is no number.
    scale = jnp.where(lower == highest, 1, jnp.exp(lower - highest))
    large, small = jnp.where(is_left, total, other_total), jnp.where(is_left, other_total, total)
    return highest, large + small * scale


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _log_total(logits, axis: int):
    """`log(sum(exp(logits)))` over an axis, with one pass over the logits instead of two, one exponential for each."""
    exact = _exact(logits)
    if not is_target():  # a TPU has no program for such a reduction
        return jax.nn.logsumexp(exact, axis)
    start = jnp.array(-jnp.inf, exact.dtype), jnp.zeros((), exact.dtype)
    high, total = lax.reduce((exact, jnp.ones_like(exact)), start, _combine, (axis,))
    return high + jnp.log(total)


@_log_total.defjvp
def _log_total_jvp(axis, primals, tangents):
    (logits,), (tangent,) = primals, tangents
    total = _log_total(logits, axis)
    return total, jnp.sum(jnp.exp(_exact(logits) - jnp.expand_dims(total, axis)) * _exact(tangent), axis)


def _sparse_crossentropy(logits, labels, axis):
    total = _log_total(logits, axis)
    is_class = (labels >= 0) & (labels < logits.shape[axis])
    place = jnp.expand_dims(jnp.where(is_class, labels, 0), axis)
    chosen = jnp.squeeze(jnp.take_along_axis(logits, place, axis), axis)
    return jnp.where(is_class, total - _exact(chosen), 0), total


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def sparse_crossentropy(logits, labels, axis):
    """`log(sum(exp(logits))) - logits[label]` over an axis, in float32; 0 for a label that is no class."""
    return _sparse_crossentropy(logits, labels, axis)[0]


@sparse_crossentropy.defjvp
def _sparse_crossentropy_jvp(axis, primals, tangents):
    logits, labels = primals
    loss, total = _sparse_crossentropy(logits, labels, axis)

    def slope(logits, labels, total, tangent):
        labels = jnp.expand_dims(labels, axis)
        is_class = (labels >= 0) & (labels < logits.shape[axis])
        is_label = lax.broadcasted_iota(jnp.int32, logits.shape, axis) == labels
        shares = jnp.exp(_exact(logits) - jnp.expand_dims(total, axis))
        return jnp.sum(jnp.where(is_class, shares - is_label, 0) * _exact(tangent), axis)

    return loss, computed_for_gradient(slope, logits, labels, total, tangents[0])


def _crossentropy(logits, targets, axis):
    total, weight = _log_total(logits, axis), jnp.sum(_exact(targets), axis)
    # Of a class that is masked out by a logit of -inf, 0 * inf is not wanted.
    products = jnp.where(targets == 0, 0, _exact(targets) * _exact(logits))
    return total * weight - jnp.sum(products, axis), total


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def crossentropy(logits, targets, axis):
    """`-sum(targets * log_softmax(logits))` over an axis, in float32."""
    return _crossentropy(logits, targets, axis)[0]


@crossentropy.defjvp
def _crossentropy_jvp(axis, primals, tangents):
    logits, targets = primals
    loss, total = _crossentropy(logits, targets, axis)

    def slope(logits, targets, total, d_logits, d_targets):
        exact, total = _exact(logits), jnp.expand_dims(total, axis)
        weight = jnp.sum(_exact(targets), axis, keepdims=True)
        terms = (jnp.exp(exact - total) * weight - targets) * _exact(d_logits) + (total - exact) * _exact(d_targets)
        return jnp.sum(terms, axis)

    return loss, computed_for_gradient(slope, logits, targets, total, *tangents)


def sum_of_squares(arrays: list):
    """The sum of the squares of all elements, in few kernels: one for each large array, and one for all else together.

    Each array is summed by itself where weights are sharded: their parts lie on different devices.
    """
    if placement.shards_weights():
        return sum(jnp.sum(jnp.square(array)) for array in arrays)
    large = [array for array in arrays if array.size > _SMALL and array.ndim > 1]
    small = [array for array in arrays if array.size <= _SMALL or array.ndim <= 1]
    parts = [jnp.sum(jnp.square(array), range(1, array.ndim)) for array in large]
    parts += [jnp.square(array).reshape(-1) for array in small]
    # Without the barrier XLA sums each part by itself after all.
    return jnp.sum(lax.optimization_barrier(jnp.concatenate(parts)))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def rms_normalization(x, scale, axes, epsilon, dtype):
    """`x / sqrt(mean(x**2) + epsilon) * scale` over `axes`, counted from 0, computed in float32.

    Args:
        scale: An array with the axes of `x`, or a scalar.
        dtype: Of the outputs.
    """
    return (_exact(x) * _inverse_root(x, axes, epsilon) * scale).astype(dtype)


def _inverse_root(x, axes, epsilon):
    return lax.rsqrt(jnp.mean(jnp.square(_exact(x)), axes, keepdims=True) + epsilon)


@rms_normalization.defjvp
def _rms_normalization_jvp(axes, epsilon, dtype, primals, tangents):
    x, scale = primals
    inverse = _inverse_root(x, axes, epsilon)

    def slope(x, inverse, scale, d_x, d_scale):
        x, inverse = lax.optimization_barrier((x, inverse))
        normal, d_x = _exact(x) * inverse, _exact(d_x)
        d_normal = inverse * (d_x - normal * jnp.mean(normal * d_x, axes, keepdims=True))
        return lax.optimization_barrier((d_normal * scale + normal * d_scale).astype(dtype))

    outputs = (_exact(x) * inverse * scale).astype(dtype)
    return outputs, computed_for_gradient(slope, x, inverse, scale, *tangents)
