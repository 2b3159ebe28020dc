"""Muon's update rule: see `rules`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from kerax.optimizers.adaptive_rules import MomentSlots
from kerax.optimizers.rules import rule, zeros


def muon(uses_adam: Callable, adam: tuple, momentum: tuple, coefficients: tuple):
    """`lr * orthogonal(m)`, `m = momentum * m + g`, for matrices; Adam's step for weights that `uses_adam` names.

    Args:
        uses_adam: Function of (path, weight).
        adam: Both decays, epsilon, and the ratio of Adam's learning rate to Muon's.
        momentum: Decay, whether to look ahead, number of iterations, and RMS of the updates or `None`.
        coefficients: Of `orthogonal`.

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon ; the scale `rms * sqrt(max(rows, columns))` from
    Liu et al. 2025, section 2.2, https://arxiv.org/abs/2502.16982
    """
    beta_1, beta_2, epsilon, ratio = adam
    decay, nesterov, num_steps, rms = momentum
    map_with_path = jax.tree_util.tree_map_with_path

    def init(params):
        second = map_with_path(lambda path, p: jnp.zeros_like(p) if uses_adam(path, p) else (), params)
        # Muon needs no second moment: half of Adam's memory for matrices.
        return MomentSlots(zeros(params), second)

    def update(grads, slots, params, learning_rate, step):
        # Adam's correction, as in `rules.adam`.
        alpha = learning_rate * ratio * jnp.sqrt(1 - beta_2**step) / (1 - beta_1**step)

        # A sum for Muon, whose scale `orthogonal` takes out again; a mean for Adam.
        def first_moment(path, g, m):
            return m + (g - m) * (1 - beta_1) if uses_adam(path, g) else decay * m + g

        def second_moment(path, g, v):
            return v + (g * g - v) * (1 - beta_2) if uses_adam(path, g) else ()

        def descend(path, g, m, v):
            if uses_adam(path, g):
                return -alpha * m / (jnp.sqrt(v) + epsilon)
            direction = orthogonal(decay * m + g if nesterov else m, num_steps, coefficients)
            return -learning_rate * scaled(direction, rms)

        m = map_with_path(first_moment, grads, slots.momentum)
        v = map_with_path(second_moment, grads, slots.velocity)
        return map_with_path(descend, grads, m, v), MomentSlots(m, v)

    return rule(init, update)


def scaled(direction, rms: float | None):
    """An orthogonal matrix times the factor that gives its elements the RMS `rms`; `None` leaves it."""
    return direction if rms is None else rms * max(direction.shape) ** 0.5 * direction


def orthogonal(matrix, num_steps: int, coefficients: tuple):
    """About `U @ V.T` of the matrix `U @ S @ V.T`: each step maps singular values `s` to `a s + b s**3 + c s**5`.

    Source: the Newton-Schulz iteration in https://kellerjordan.github.io/posts/muon
    """
    a, b, c = coefficients
    # The smaller of both Gram matrices: (columns, columns) for a tall matrix.
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    # All singular values at most 1, where the iteration converges.
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(num_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if is_tall else x
