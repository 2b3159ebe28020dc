"""Losses on the overlap of regions."""

import jax.numpy as jnp

from kerax import config as settings
from kerax.losses.loss import LOSSES, LossFunctionWrapper, align


@LOSSES.add
def dice(y_true, y_pred, axis=None):
    """`1 - 2 * sum(y_true * y_pred) / (sum(y_true) + sum(y_pred))` over `axis`, `None` for all axes."""
    y_true, y_pred = align("dice", y_true, y_pred)
    overlap = jnp.sum(y_true * y_pred, axis=axis)
    # `epsilon` in the divisor only, as in Keras: two empty regions cost 1, not 0.
    return 1 - 2 * overlap / (jnp.sum(y_true, axis=axis) + jnp.sum(y_pred, axis=axis) + settings.epsilon())


@LOSSES.add
def tversky(y_true, y_pred, alpha: float = 0.5, beta: float = 0.5, axis=None):
    """`1 - overlap / (overlap + alpha * invented + beta * missed)` over `axis`, `None` for all axes.

    Args:
        y_true, y_pred: Labels 0 and 1, and probabilities, of one shape.
        alpha: Weight of false positives, what `y_pred` has and `y_true` lacks.
        beta: Weight of false negatives.
        axis: Axes of one region.

    Deviation from Keras 3.15, which does the opposite of what it says: there `alpha` weighs false negatives.
    Source: https://arxiv.org/abs/1706.05721
    """
    y_true, y_pred = align("tversky", y_true, y_pred)
    overlap = jnp.sum(y_true * y_pred, axis=axis)
    missed = jnp.sum(y_true * (1 - y_pred), axis=axis)
    invented = jnp.sum((1 - y_true) * y_pred, axis=axis)
    # With `alpha` and `beta` of 0.5 this is `dice`.
    return 1 - overlap / (overlap + alpha * invented + beta * missed + settings.epsilon())


class Dice(LossFunctionWrapper):
    """`1 -` the Dice coefficient. Arguments as `dice` and `Loss`."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "dice", axis=None, dtype=None):
        super().__init__(dice, reduction, name, dtype, axis=axis)


class Tversky(LossFunctionWrapper):
    """`1 -` the Tversky index. Arguments as `tversky` and `Loss`."""

    def __init__(
        self, alpha=0.5, beta=0.5, reduction: str | None = "sum_over_batch_size", name="tversky", axis=None, dtype=None
    ):
        super().__init__(tversky, reduction, name, dtype, alpha=alpha, beta=beta, axis=axis)
