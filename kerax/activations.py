"""Activation functions: pure functions of one array, also usable on variables and symbolic tensors.

The functions that JAX already has carry JAX's own docstrings.
"""

import functools
import math
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp

from kerax import config
from kerax.core.lift import lift, make_importable
from kerax.core.registry import Family, deserialize_keras_object, serialize_keras_object
from kerax.core.remat import computed_for_gradient, opaque_zero

ACTIVATIONS = Family("activations", "activation")


def _activation(function: Callable, name: str | None = None, aliases: tuple[str, ...] = ()) -> Callable:
    return ACTIVATIONS.add(lift(function, name), *aliases)


@_activation
def linear(x):
    """`x`."""
    return x


@_activation
def relu(x, negative_slope: float = 0.0, max_value=None, threshold: float = 0.0):
    """`x` above `threshold`, at most `max_value`; below it `negative_slope * (x - threshold)`."""
    if threshold == 0 and negative_slope != 0 and max_value is None:
        return jax.nn.leaky_relu(x, negative_slope)
    if threshold == 0:
        # Whose gradients are 0 at the corners.
        positive = jax.nn.relu6(x) if max_value == 6 else jax.nn.relu(x)
        if max_value not in (None, 6):
            positive = jnp.minimum(positive, max_value)
    else:
        positive = jnp.where(x > threshold, x, 0)  # not moved: the function jumps at the threshold, as Keras's does
        if max_value is not None:
            positive = jnp.clip(positive, 0, max_value)
    if negative_slope == 0:
        return positive
    return positive - negative_slope * jax.nn.relu(threshold - x)


@_activation
def leaky_relu(x, negative_slope: float = 0.2):
    """`x` above 0, `negative_slope * x` below."""
    return jax.nn.leaky_relu(x, negative_slope)


@_activation
def gelu(x, approximate: bool = False):
    """`x * P(X <= x)` for a standard normal `X`; `approximate` uses tanh. Source: https://arxiv.org/abs/1606.08415"""
    if config.target_platform() == "export":
        return jax.nn.gelu(x, approximate)
    x = jnp.asarray(x)
    return _gelu(x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(config.floatx()), approximate)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
@functools.partial(jax.jit, static_argnums=1)
def _gelu(x, approximate):
    """GELU computed in float32, of which the gradient needs the inputs alone.

    XLA otherwise writes parts of the forward pass out: a block of GPT-2 then moves 3 GB around it on an H200 instead
    of 2. By `erf`, as in PyTorch: JAX's own by `erfc` takes 2.5 times as long on a CPU, and differs by rounding.
    """
    exact = _in_float32(x)
    return (exact * (0.5 + 0.5 * _curve(exact, approximate))).astype(x.dtype)


@_gelu.defjvp
def _gelu_jvp(approximate, primals, tangents):
    def slope(x, tangent):
        exact = _in_float32(x) + opaque_zero()
        curve = _curve(exact, approximate)
        if approximate:
            steepness = math.sqrt(2 / math.pi) * (1 - curve**2) * (1 + 3 * 0.044715 * exact**2)
        else:
            steepness = math.sqrt(2 / math.pi) * jnp.exp(-0.5 * exact**2)
        return (0.5 * (1 + curve + exact * steepness) * tangent).astype(x.dtype)

    return _gelu(*primals, approximate), computed_for_gradient(slope, *primals, *tangents)


def _curve(x, approximate: bool):
    """`2 * P(X <= x) - 1` for a standard normal `X`."""
    if approximate:
        return jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return jax.lax.erf(math.sqrt(0.5) * x)


def _in_float32(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@_activation
def gelu_approximate(x):
    """`gelu` by tanh under a name, for configs; GPT-2 and Gemma have it. Keras has no such name."""
    return jax.nn.gelu(x, approximate=True)


@_activation
def mish(x):
    """`x * tanh(softplus(x))`. Source: https://arxiv.org/abs/1908.08681"""
    return x * jnp.tanh(jax.nn.softplus(x))


@_activation
def soft_shrink(x, threshold: float = 0.5):
    """`x` moved towards 0 by `threshold`, and 0 between `-threshold` and `threshold`."""
    return jnp.where(x > threshold, x - threshold, jnp.where(x < -threshold, x + threshold, 0.0))


@_activation
def hard_shrink(x, threshold: float = 0.5):
    """`x` where `|x| > threshold`, else 0."""
    return jnp.where(jnp.abs(x) > threshold, x, 0.0)


@_activation
def tanh_shrink(x):
    """`x - tanh(x)`."""
    return x - jnp.tanh(x)


@_activation
def threshold(x, threshold, default_value):
    """`x` above `threshold`, else `default_value`."""
    return jnp.where(x > threshold, x, default_value)


@_activation
def sparsemax(x, axis=-1):
    """The point of the probability simplex nearest to `x` along `axis`. Source: https://arxiv.org/abs/1602.02068

    Keras's outputs do not sum to 1 where three or more of them are not 0; these do.
    """
    scores = jnp.moveaxis(x, axis, -1)
    # The support is the k largest scores, for the largest k whose smallest score is still above the common cut.
    descending = -jnp.sort(-scores, axis=-1)
    excess = jnp.cumsum(descending, axis=-1) - 1  # what the k largest scores exceed a sum of 1 by
    support = descending * jnp.arange(1, scores.shape[-1] + 1) > excess
    size = jnp.sum(support, axis=-1, keepdims=True)
    tau = jnp.take_along_axis(excess, size - 1, axis=-1) / size
    return jnp.moveaxis(jax.nn.relu(scores - tau), -1, axis)


relu6 = _activation(jax.nn.relu6)
elu = _activation(jax.nn.elu)
selu = _activation(jax.nn.selu)
celu = _activation(jax.nn.celu)
sigmoid = _activation(jax.nn.sigmoid)
hard_sigmoid = _activation(jax.nn.hard_sigmoid)
sparse_sigmoid = _activation(jax.nn.sparse_sigmoid)
log_sigmoid = _activation(jax.nn.log_sigmoid)
silu = swish = _activation(jax.nn.silu, "silu", aliases=("swish",))
hard_silu = hard_swish = _activation(jax.nn.hard_silu, "hard_silu", aliases=("hard_swish",))
tanh = _activation(jnp.tanh)
hard_tanh = _activation(jax.nn.hard_tanh)
exponential = _activation(jnp.exp, "exponential", aliases=("exp",))


@_activation
def softmax(x, axis=-1):
    """`exp(x) / sum(exp(x))` over `axis`. Warns of an axis of size 1, over which it is 1 whatever `x` is."""
    if isinstance(axis, int) and jnp.ndim(x) and jnp.shape(x)[axis] == 1:
        warnings.warn(
            f"softmax: axis {axis} of the input, which has shape {jnp.shape(x)}, has size 1: all outputs are 1. For a "
            "single output use `sigmoid`.",
            stacklevel=2,
        )
    return jax.nn.softmax(x, axis)


log_softmax = _activation(jax.nn.log_softmax)
softplus = _activation(jax.nn.softplus)
softsign = _activation(jax.nn.soft_sign, "softsign")
sparse_plus = _activation(jax.nn.sparse_plus)
squareplus = _activation(jax.nn.squareplus)
glu = _activation(jax.nn.glu)


def get(identifier) -> Callable:
    """The activation for a name, a config or a function; `None` is `linear`."""
    return linear if identifier is None else ACTIVATIONS.get(identifier)


def serialize(activation) -> str | dict:
    """The name of an activation of kerax, or a description of a registered one."""
    return serialize_keras_object(activation)


def deserialize(config, custom_objects: dict | None = None) -> Callable:
    """The activation that `serialize` described."""
    return ACTIVATIONS.get(deserialize_keras_object(config, custom_objects))


make_importable(globals())
