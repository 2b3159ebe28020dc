"""More update rules: Adadelta, Adafactor, Adamax, Nadam, FTRL, LAMB, Lion and schedule-free AdamW. See `rules`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kerax.optimizers.rules import rule, zeros

Tree = Any


class AdadeltaSlots(NamedTuple):
    """Running means of the squared gradients and of the squared updates."""

    accumulated_grad: Tree
    accumulated_delta_var: Tree


def adadelta(rho: float, epsilon: float) -> optax.GradientTransformationExtraArgs:
    """`lr * RMS(updates) / RMS(gradients) * g`, with `RMS(x) = sqrt(E[x**2] + epsilon)`.

    Source: Zeiler 2012, algorithm 1, https://arxiv.org/abs/1212.5701
    """

    def init(params):
        return AdadeltaSlots(zeros(params), zeros(params))

    def update(grads, slots, params, learning_rate, step):
        squares = jax.tree.map(lambda e, g: rho * e + (1 - rho) * g * g, slots.accumulated_grad, grads)
        # With the mean of the updates before this one, which starts at 0: `epsilon` sets off the first.
        changes = jax.tree.map(
            lambda g, e, d: -jnp.sqrt(d + epsilon) / jnp.sqrt(e + epsilon) * g,
            grads,
            squares,
            slots.accumulated_delta_var,
        )
        moved = jax.tree.map(lambda d, x: rho * d + (1 - rho) * x * x, slots.accumulated_delta_var, changes)
        # The running mean is of updates without the rate.
        return jax.tree.map(lambda x: learning_rate * x, changes), AdadeltaSlots(squares, moved)

    return rule(init, update)


class AdafactorSlots(NamedTuple):
    """Mean squares over the last axis and over the one before, of weights with 2 axes or more; of others, all."""

    row: Tree
    column: Tree
    velocity: Tree


def adafactor(
    beta_2_decay: float, epsilon_1: float, epsilon_2: float, clip_threshold: float
) -> optax.GradientTransformationExtraArgs:
    """The gradient over the root of its factored mean square, its RMS clipped, times
    `min(lr, 1 / sqrt(step)) * max(epsilon_2, RMS(w))`.

    Source: Shazeer and Stern 2018, algorithms 4 and 5, https://arxiv.org/abs/1804.04235
    """

    def init(params):
        def pick(of_matrix, of_other):
            return jax.tree.map(lambda p: of_matrix(p) if p.ndim >= 2 else of_other(p), params)

        # A place without leaves: no memory, and none in files.
        empty = lambda p: ()
        return AdafactorSlots(
            pick(lambda p: jnp.zeros(p.shape[:-1], p.dtype), empty),
            pick(lambda p: jnp.zeros(p.shape[:-2] + p.shape[-1:], p.dtype), empty),
            pick(empty, jnp.zeros_like),
        )

    def update(grads, slots, params, learning_rate, step):
        # The schedule of the paper where `learning_rate` is above it.
        rate = jnp.minimum(learning_rate, jax.lax.rsqrt(step))
        # 0 at the first step: the mean starts without a bias to be corrected.
        beta_2 = 1 - step**beta_2_decay

        def mean(old, new):
            return beta_2 * old + (1 - beta_2) * new

        def one(g, w, row, column, velocity):
            square = g * g + epsilon_1
            if w.ndim >= 2:
                # (..., rows) and (..., columns): far less memory than a mean per element
                row, column = mean(row, jnp.mean(square, -1)), mean(column, jnp.mean(square, -2))
                share = row / jnp.mean(row, -1, keepdims=True)
                root = jnp.sqrt(share[..., :, None] * column[..., None, :])  # (..., rows, columns)
            else:
                velocity = mean(velocity, square)
                root = jnp.sqrt(velocity)
            u = g / root
            # Means that lag behind growing gradients make updates too large: section 6 of the paper.
            u = u / jnp.maximum(1.0, _rms(u) / clip_threshold)
            return -rate * jnp.maximum(epsilon_2, _rms(w)) * u, row, column, velocity

        updates, *new = _each(one, grads, params, *slots)
        return updates, AdafactorSlots(*new)

    return rule(init, update)


class AdamaxSlots(NamedTuple):
    """First moment and exponentially weighted infinity norm of the gradients."""

    momentum: Tree
    norm: Tree


def adamax(beta_1: float, beta_2: float, epsilon: float) -> optax.GradientTransformationExtraArgs:
    """`lr / (1 - beta_1**step) * m / (u + epsilon)`, `u = max(beta_2 * u, |g|)`.

    Source: Kingma and Ba 2014, algorithm 2, https://arxiv.org/abs/1412.6980
    """

    def init(params):
        return AdamaxSlots(zeros(params), zeros(params))

    def update(grads, slots, params, learning_rate, step):
        # The norm is a maximum: only the first moment is biased towards 0.
        rate = learning_rate / (1 - beta_1**step)
        m = jax.tree.map(lambda m, g: m + (g - m) * (1 - beta_1), slots.momentum, grads)
        u = jax.tree.map(lambda u, g: jnp.maximum(beta_2 * u, jnp.abs(g)), slots.norm, grads)
        return jax.tree.map(lambda m, u: -rate * m / (u + epsilon), m, u), AdamaxSlots(m, u)

    return rule(init, update)


class NadamSlots(NamedTuple):
    """First and second moments of the gradients; the product of the momentum schedule so far."""

    momentum: Tree
    velocity: Tree
    schedule: Any


def nadam(beta_1: float, beta_2: float, epsilon: float) -> optax.GradientTransformationExtraArgs:
    """Adam with Nesterov momentum, whose coefficient warms up as `beta_1 * (1 - 0.5 * 0.96**step)`.

    Source: Dozat 2015, algorithm 2, https://cs229.stanford.edu/proj2015/054_report.pdf
    """

    def init(params):
        return NadamSlots(zeros(params), zeros(params), jnp.ones((), jnp.float32))

    def update(grads, slots, params, learning_rate, step):
        # The coefficients of this step and of the next, which Nesterov's look ahead needs.
        mu, mu_next = (beta_1 * (1 - 0.5 * 0.96**t) for t in (step, step + 1))
        # One scalar for all weights, so that it has a slot of its own.
        product = slots.schedule * mu
        m = jax.tree.map(lambda m, g: m + (g - m) * (1 - beta_1), slots.momentum, grads)
        v = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - beta_2), slots.velocity, grads)

        def one(g, m, v):
            ahead = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
            return -learning_rate * ahead / (jnp.sqrt(v / (1 - beta_2**step)) + epsilon)

        return jax.tree.map(one, grads, m, v), NadamSlots(m, v, product)

    return rule(init, update)


class FtrlSlots(NamedTuple):
    """Sum of the squared gradients, and the linear term `z` of the paper."""

    accumulator: Tree
    linear: Tree


def ftrl(
    power: float, initial: float, l1: float, l2: float, l2_shrinkage: float, beta: float
) -> optax.GradientTransformationExtraArgs:
    """`w = (clip(z, -l1, l1) - z) / (n**-power / lr + 2 * l2 + beta / lr)`, with `n` the sum of `g**2`.

    Source: McMahan et al. 2013, algorithm 1, https://research.google/pubs/pub41159 ; `l2_shrinkage` adds
    `2 * l2_shrinkage * w` to the gradient in `z` alone.
    """

    def init(params):
        return FtrlSlots(jax.tree.map(lambda p: jnp.full_like(p, initial), params), zeros(params))

    def update(grads, slots, params, learning_rate, step):
        def one(g, w, n, z):
            total = n + g * g  # `n` and `z` are those of the paper
            sigma = (total**-power - n**-power) / learning_rate
            z = z + g + 2 * l2_shrinkage * w - sigma * w
            curvature = total**-power / learning_rate + 2 * l2 + beta / learning_rate
            # The rule gives the weight itself; what is returned is added to the old one.
            return (jnp.clip(z, -l1, l1) - z) / curvature - w, total, z

        updates, total, z = _each(one, grads, params, *slots)
        return updates, FtrlSlots(total, z)

    return rule(init, update)


class MomentSlots(NamedTuple):
    """First and second moments of the gradients."""

    momentum: Tree
    velocity: Tree


def lamb(beta_1: float, beta_2: float, epsilon: float) -> optax.GradientTransformationExtraArgs:
    """Adam's direction for each weight, scaled to the norm of the weight.

    Source: You et al. 2019, algorithm 2, https://arxiv.org/abs/1904.00962
    """

    def init(params):
        return MomentSlots(zeros(params), zeros(params))

    def update(grads, slots, params, learning_rate, step):
        m = jax.tree.map(lambda m, g: m + (g - m) * (1 - beta_1), slots.momentum, grads)
        v = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - beta_2), slots.velocity, grads)

        def one(w, m, v):
            r = m / (1 - beta_1**step) / (jnp.sqrt(v / (1 - beta_2**step)) + epsilon)
            weight_norm, norm = jnp.linalg.norm(w.ravel()), jnp.linalg.norm(r.ravel())
            # A weight of zeros, as a fresh bias, would never move; the inner `where` keeps 0 / 0 out.
            is_usable = (weight_norm > 0) & (norm > 0)
            return -learning_rate * jnp.where(is_usable, weight_norm / jnp.where(is_usable, norm, 1.0), 1.0) * r

        return jax.tree.map(one, params, m, v), MomentSlots(m, v)

    return rule(init, update)


class LionSlots(NamedTuple):
    """The running mean of the gradients."""

    momentum: Tree


def lion(beta_1: float, beta_2: float) -> optax.GradientTransformationExtraArgs:
    """`lr * sign(beta_1 * m + (1 - beta_1) * g)`, and then `m = beta_2 * m + (1 - beta_2) * g`.

    Source: Chen et al. 2023, algorithm 2, https://arxiv.org/abs/2302.06675
    """

    def init(params):
        return LionSlots(zeros(params))

    def update(grads, slots, params, learning_rate, step):
        # The step looks at the old momentum, mixed with another share than the momentum's own.
        signs = jax.tree.map(lambda m, g: jnp.sign(beta_1 * m + (1 - beta_1) * g), slots.momentum, grads)
        m = jax.tree.map(lambda m, g: beta_2 * m + (1 - beta_2) * g, slots.momentum, grads)
        return jax.tree.map(lambda sign: -learning_rate * sign, signs), LionSlots(m)

    return rule(init, update)


def schedule_free_adamw(
    beta_1: float, beta_2: float, epsilon: float, warmup_steps: int
) -> optax.GradientTransformationExtraArgs:
    """Adam's step on `z` (the slot `momentum`), the mean `x` of all `z` so far, and the weights between the two:
    `y = (1 - beta_1) * z + beta_1 * x`. `x` is not kept, but found from `y` and `z`.

    Source: Defazio et al. 2024, algorithm 1, https://arxiv.org/abs/2405.15682 , with all steps of the same weight.
    """

    def init(params):
        # `z` starts at the weights. A copy: both are donated to the step, and one array cannot be twice.
        return MomentSlots(jax.tree.map(jnp.copy, params), zeros(params))

    def update(grads, slots, params, learning_rate, step):
        rate = learning_rate * jnp.minimum(1.0, step / warmup_steps) if warmup_steps else learning_rate

        def one(g, y, z, v):
            v = beta_2 * v + (1 - beta_2) * g * g
            x = (y - (1 - beta_1) * z) / beta_1  # hence `beta_1` above 0
            z = z - rate * g / (jnp.sqrt(v / (1 - beta_2**step)) + epsilon)
            x = x + (z - x) / step
            return (1 - beta_1) * z + beta_1 * x - y, z, v

        updates, z, v = _each(one, grads, params, *slots)
        return updates, MomentSlots(z, v)

    return rule(init, update)


def _rms(x):
    return jnp.sqrt(jnp.mean(x * x))


def _each(one, grads: Tree, *trees: Tree) -> list[Tree]:
    """The trees of what `one` returns for each gradient and what the other trees have in its place."""
    treedef = jax.tree.structure(grads)
    # `flatten_up_to`: where a slot is empty, `one` gets `()` in its place.
    rows = zip(*(treedef.flatten_up_to(tree) for tree in (grads, *trees)), strict=True)
    return [jax.tree.unflatten(treedef, column) for column in zip(*(one(*row) for row in rows), strict=True)]
