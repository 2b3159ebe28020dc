"""The update rules, each an optax transformation written like the equations of its paper.

All take `learning_rate` and `step` (1-based) as extra arguments and return what is added to the weights. A slot type
names in `apart` the fields that Keras's files hold after the others, each for all weights.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

Tree = Any


def rule(init: Callable, update: Callable) -> optax.GradientTransformationExtraArgs:
    """A transformation from `init(params)` and `update(grads, slots, params, learning_rate, step)`."""

    def extra(updates, state, params=None, *, learning_rate, step, **_):
        # A float, as in Keras, so that `beta**step` has the same bits.
        return update(updates, state, params, learning_rate, jnp.asarray(step, jnp.float32))

    return optax.GradientTransformationExtraArgs(init, cast(Any, extra))  # optax's annotations know no more arguments


zeros = functools.partial(jax.tree.map, jnp.zeros_like)
"""Zeros like the weights."""


class SGDSlots(NamedTuple):
    """`momentum`: the running velocity of each weight, or `()`."""

    momentum: Tree


def sgd(momentum: float, nesterov: bool) -> optax.GradientTransformationExtraArgs:
    """`v = momentum * v - lr * g`, added to the weights; with `nesterov`, `momentum * v - lr * g` is.

    Source: Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html
    """

    def init(params):
        return SGDSlots(zeros(params) if momentum else ())  # plain descent carries nothing

    def update(grads, slots, params, learning_rate, step):
        # The rate goes into the velocity, as in Keras: a change of it acts on new gradients only.
        descent = jax.tree.map(lambda g: -learning_rate * g, grads)
        if not momentum:
            return descent, slots
        velocity = jax.tree.map(lambda v, d: momentum * v + d, slots.momentum, descent)
        if nesterov:
            return jax.tree.map(lambda v, d: momentum * v + d, velocity, descent), SGDSlots(velocity)
        return velocity, SGDSlots(velocity)

    return rule(init, update)


class AdamSlots(NamedTuple):
    """First and second moments of the gradients; `velocity_hat` is the largest second moment, or `()`."""

    momentum: Tree
    velocity: Tree
    velocity_hat: Tree
    apart = ("velocity_hat",)


def adam(beta_1: float, beta_2: float, epsilon: float, amsgrad: bool) -> optax.GradientTransformationExtraArgs:
    """`m / (sqrt(v) + epsilon)` with the bias correction folded into the learning rate ("epsilon hat").

    Source: Kingma and Ba 2014, end of section 2, https://arxiv.org/abs/1412.6980
    """

    def init(params):
        return AdamSlots(zeros(params), zeros(params), zeros(params) if amsgrad else ())

    def update(grads, slots, params, learning_rate, step):
        # Once for all weights: both corrections are scalars.
        alpha = learning_rate * jnp.sqrt(1 - beta_2**step) / (1 - beta_1**step)
        # In Keras's order of operations, so that the bits agree with Keras's.
        m = jax.tree.map(lambda m, g: m + (g - m) * (1 - beta_1), slots.momentum, grads)
        v = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - beta_2), slots.velocity, grads)
        # The largest before bias correction, as in Keras.
        largest = jax.tree.map(jnp.maximum, slots.velocity_hat, v) if amsgrad else ()
        updates = jax.tree.map(lambda m, v: -alpha * m / (jnp.sqrt(v) + epsilon), m, largest if amsgrad else v)
        return updates, AdamSlots(m, v, largest)

    return rule(init, update)


class RMSpropSlots(NamedTuple):
    """Mean square of the gradients; their momentum and mean, or `()`."""

    velocity: Tree
    momentum: Tree
    average_gradient: Tree
    apart = ("velocity", "momentum", "average_gradient")


def rmsprop(rho: float, momentum: float, epsilon: float, centered: bool) -> optax.GradientTransformationExtraArgs:
    """`lr * g / sqrt(v + epsilon)` with `v` the running mean of `g**2`, less the squared mean if `centered`.

    Source: Tieleman and Hinton 2012, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf
    """

    def init(params):
        return RMSpropSlots(zeros(params), zeros(params) if momentum > 0 else (), zeros(params) if centered else ())

    def update(grads, slots, params, learning_rate, step):
        v = jax.tree.map(lambda v, g: rho * v + (1 - rho) * g * g, slots.velocity, grads)
        mean, spread = (), v
        if centered:
            mean = jax.tree.map(lambda a, g: rho * a + (1 - rho) * g, slots.average_gradient, grads)
            spread = jax.tree.map(lambda v, a: v - a * a, v, mean)
        # `epsilon` under the root, as in Keras; Adam has it outside.
        increment = jax.tree.map(lambda g, s: learning_rate * g * jax.lax.rsqrt(s + epsilon), grads, spread)
        # With `momentum` the increments are what is averaged, the rate in them.
        running = ()
        if momentum > 0:
            running = increment = jax.tree.map(lambda m, i: momentum * m + i, slots.momentum, increment)
        return jax.tree.map(jnp.negative, increment), RMSpropSlots(v, running, mean)

    return rule(init, update)


class AdagradSlots(NamedTuple):
    """Sum of the squared gradients."""

    accumulator: Tree


def adagrad(initial_accumulator_value: float, epsilon: float) -> optax.GradientTransformationExtraArgs:
    """`lr * g / sqrt(accumulator + epsilon)`, the accumulator the sum of `g**2` so far.

    Source: Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html
    """

    def init(params):
        return AdagradSlots(jax.tree.map(lambda p: jnp.full_like(p, initial_accumulator_value), params))

    def update(grads, slots, params, learning_rate, step):
        # The sum only grows: steps get shorter for ever.
        total = jax.tree.map(lambda a, g: a + g * g, slots.accumulator, grads)
        updates = jax.tree.map(lambda g, a: -learning_rate * g * jax.lax.rsqrt(a + epsilon), grads, total)
        return updates, AdagradSlots(total)

    return rule(init, update)
