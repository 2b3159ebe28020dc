"""Losses between probability distributions: crossentropies, focal losses, KL divergence, Poisson.

Probabilities are clipped to `[epsilon, 1 - epsilon]` before the logarithm; from logits nothing needs clipping.
"""

import jax
import jax.numpy as jnp

from kerax import config as settings
from kerax import ops
from kerax.core import masks
from kerax.core.variable import unwrap
from kerax.losses.loss import LOSSES, LossFunctionWrapper, align, class_indices
from kerax.ops.nn import clip_probabilities, shares


def _is_column(true_shape: tuple, pred_shape: tuple) -> bool:
    """Whether targets have one number where predictions have several."""
    return true_shape == pred_shape[:-1] or true_shape == (*pred_shape[:-1], 1)


def fix_binary(true_shape: tuple, pred_shape: tuple) -> str:
    """The way out of a mismatch between yes/no labels and predictions."""
    if _is_column(true_shape, pred_shape):
        return (
            f"For integer labels of {pred_shape[-1]} classes use 'sparse_categorical_crossentropy'; "
            "for one yes/no label give the model's last layer 1 unit."
        )
    return "They must be equal; kerax does not broadcast one over the other."


def fix_categorical(true_shape: tuple, pred_shape: tuple) -> str:
    """The way out of a mismatch between one-hot labels and predictions."""
    if _is_column(true_shape, pred_shape):
        return (
            "For integer class labels use 'sparse_categorical_crossentropy', or make them one-hot with "
            f"`kerax.utils.to_categorical(y, num_classes={pred_shape[-1]})`."
        )
    if len(true_shape) == len(pred_shape) and true_shape[:-1] == pred_shape[:-1]:
        return f"Give the model's last layer {true_shape[-1]} units, one for each class of the targets."
    return "They must be equal; kerax does not broadcast one over the other."


@LOSSES.adding("bce", "BCE")
def binary_crossentropy(y_true, y_pred, from_logits: bool = False, label_smoothing: float = 0.0, axis=-1):
    """`-y_true * log(y_pred) - (1 - y_true) * log(1 - y_pred)`, averaged over `axis`.

    Args:
        y_true: Labels 0 and 1, or probabilities, of the shape of `y_pred`.
        y_pred: Probabilities, or logits with `from_logits`.
        from_logits: Whether `y_pred` has not been through a sigmoid.
        label_smoothing: Fraction by which labels are moved towards 0.5.
        axis: Axis of the mean.
    """
    y_true, y_pred = align("binary_crossentropy", y_true, y_pred, fix_binary)
    y_true = y_true * (1 - label_smoothing) + 0.5 * label_smoothing
    # From logits no sigmoid is taken and nothing clipped: see `ops.binary_crossentropy`.
    return jnp.mean(ops.binary_crossentropy(y_true, y_pred, from_logits), axis=axis)


@LOSSES.add
def binary_focal_crossentropy(
    y_true,
    y_pred,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis=-1,
):
    """Binary crossentropy times `(1 - p)**gamma`, `p` being the probability given to the right label.

    Args:
        apply_class_balancing: Whether label 1 weighs `alpha` and label 0 `1 - alpha`.
        alpha: Weight of label 1.
        gamma: How little easy samples count.

    Other arguments as `binary_crossentropy`. Source: https://arxiv.org/abs/1708.02002
    """
    y_true, y_pred = align("binary_focal_crossentropy", y_true, y_pred, fix_binary)
    y_true = y_true * (1 - label_smoothing) + 0.5 * label_smoothing
    # The factor needs probabilities in any case, so that logits have no shorter way here.
    y_pred = jax.nn.sigmoid(y_pred) if from_logits else y_pred
    # The probability of the right label, for soft labels in proportion.
    right = y_true * y_pred + (1 - y_true) * (1 - y_pred)
    # Kept from 0, where a power below 1 has no finite slope.
    terms = jnp.power(jnp.maximum(1 - right, settings.epsilon()), gamma) * ops.binary_crossentropy(y_true, y_pred)
    if apply_class_balancing:
        terms = terms * (y_true * alpha + (1 - y_true) * (1 - alpha))
    return jnp.mean(terms, axis=axis)


def _smooth(y_true, label_smoothing: float, axis: int):
    return y_true * (1 - label_smoothing) + label_smoothing / y_true.shape[axis] if label_smoothing else y_true


@LOSSES.adding("cce")
def categorical_crossentropy(y_true, y_pred, from_logits: bool = False, label_smoothing: float = 0.0, axis=-1):
    """`-sum(y_true * log(y_pred))` over the class axis.

    Args:
        y_true: One-hot labels or probabilities, of the shape of `y_pred`.
        y_pred: Probabilities, or logits with `from_logits`.
        from_logits: Whether `y_pred` has not been through a softmax.
        label_smoothing: Fraction of each label that is spread over all classes (of `axis`; Keras takes their number
            from the last axis).
        axis: The class axis.
    """
    y_true, y_pred = align("categorical_crossentropy", y_true, y_pred, fix_categorical)
    return ops.categorical_crossentropy(_smooth(y_true, label_smoothing, axis), y_pred, from_logits, axis)


@LOSSES.add
def categorical_focal_crossentropy(
    y_true, y_pred, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1
):
    """Categorical crossentropy with each term times `alpha * (1 - y_pred)**gamma`.

    Other arguments as `categorical_crossentropy`. Source: https://arxiv.org/abs/1708.02002
    """
    y_true, y_pred = align("categorical_focal_crossentropy", y_true, y_pred, fix_categorical)
    y_pred = jax.nn.softmax(y_pred, axis=axis) if from_logits else y_pred
    # As Keras: scores that do not add up to 1 are made to before they are clipped.
    y_pred = clip_probabilities(shares(y_pred, axis))
    terms = -_smooth(y_true, label_smoothing, axis) * jnp.log(y_pred)
    return jnp.sum(alpha * jnp.power(1 - y_pred, gamma) * terms, axis=axis)


@LOSSES.adding("scce")
def sparse_categorical_crossentropy(y_true, y_pred, from_logits: bool = False, ignore_class=None, axis=-1):
    """`-log(y_pred[label])` for integer labels.

    Args:
        y_true: Class indices, of the shape of `y_pred` without its class axis, or with a class axis of size 1.
        y_pred: Probabilities, or logits with `from_logits`.
        from_logits: Whether `y_pred` has not been through a softmax.
        ignore_class: A label whose positions cost nothing and do not count in a mean, for example -1.
        axis: The class axis.

    A label that is no class costs nothing, as in Keras.
    """
    name, y_pred = "sparse_categorical_crossentropy", jnp.asarray(unwrap(y_pred))
    labels, axis = class_indices(name, y_true, y_pred, axis), axis % y_pred.ndim
    # No mask at all without `ignore_class`: it would change the reduction.
    valid = None if ignore_class is None else labels != ignore_class
    if valid is not None:
        # Chosen before the logarithm: a gradient of NaN at an ignored position would survive a later choice.
        y_pred = jnp.where(jnp.expand_dims(valid, axis), y_pred, 1)
    loss = ops.sparse_categorical_crossentropy(labels, y_pred, from_logits, axis)
    if valid is not None:
        loss = jnp.where(valid, loss, 0)
        # Which keeps those positions out of the mean as well.
        masks.set_mask(loss, valid)
    return loss


@LOSSES.add
def categorical_generalized_cross_entropy(y_true, y_pred, q):
    """`(1 - p**q) / q`, `p` being the probability given to the right class: between crossentropy and mean error.

    Args:
        y_true: Class indices, of the shape of `y_pred` without its last axis, or with a last axis of size 1.
        y_pred: Probabilities.
        q: In (0, 1): towards 0 like crossentropy, towards 1 less sensitive to wrong labels.

    At `p = 0` the gradient is 0, not infinite. Source: https://arxiv.org/abs/1805.07836
    """
    name, y_pred = "categorical_generalized_cross_entropy", jnp.asarray(unwrap(y_pred))
    labels = class_indices(name, y_true, y_pred)
    right = jnp.sum(y_pred * jax.nn.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype), axis=-1)
    # The inner `where` keeps the infinite gradient of `0**q` out; the outer one alone would make it NaN.
    powers = jnp.where(right == 0, 0, jnp.power(jnp.where(right == 0, 1, right), q))
    return (1 - powers) / q


@LOSSES.adding("kld", "KLD", "kullback_leibler_divergence")
def kl_divergence(y_true, y_pred):
    """`sum(y_true * log(y_true / y_pred))` over the last axis."""
    y_true, y_pred = align("kl_divergence", y_true, y_pred, fix_categorical)
    # `y_true` too, as in Keras: `0 * log(0)` is NaN.
    y_true, y_pred = jnp.clip(y_true, settings.epsilon(), 1), jnp.clip(y_pred, settings.epsilon(), 1)
    return jnp.sum(y_true * jnp.log(y_true / y_pred), axis=-1)


@LOSSES.add
def poisson(y_true, y_pred):
    """`mean(y_pred - y_true * log(y_pred))` over the last axis."""
    y_true, y_pred = align("poisson", y_true, y_pred)
    # Without the term `log(y_true!)`, which does not depend on predictions.
    return jnp.mean(y_pred - y_true * jnp.log(y_pred + settings.epsilon()), axis=-1)


class BinaryCrossentropy(LossFunctionWrapper):
    """Crossentropy of yes/no labels. Arguments as `binary_crossentropy` and `Loss`."""

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis=-1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_crossentropy",
        dtype=None,
    ):
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(binary_crossentropy, reduction, name, dtype, **options)


class BinaryFocalCrossentropy(LossFunctionWrapper):
    """Focal loss of yes/no labels. Arguments as `binary_focal_crossentropy` and `Loss`."""

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis=-1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_focal_crossentropy",
        dtype=None,
    ):
        options = {"apply_class_balancing": apply_class_balancing, "alpha": alpha, "gamma": gamma}
        options |= {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(binary_focal_crossentropy, reduction, name, dtype, **options)


class CategoricalCrossentropy(LossFunctionWrapper):
    """Crossentropy of one-hot labels. Arguments as `categorical_crossentropy` and `Loss`."""

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis=-1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_crossentropy",
        dtype=None,
    ):
        options = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(categorical_crossentropy, reduction, name, dtype, **options)


class CategoricalFocalCrossentropy(LossFunctionWrapper):
    """Focal loss of one-hot labels. Arguments as `categorical_focal_crossentropy` and `Loss`."""

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis=-1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_focal_crossentropy",
        dtype=None,
    ):
        options = {"alpha": alpha, "gamma": gamma}
        options |= {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(categorical_focal_crossentropy, reduction, name, dtype, **options)


class SparseCategoricalCrossentropy(LossFunctionWrapper):
    """Crossentropy of integer labels. Arguments as `sparse_categorical_crossentropy` and `Loss`."""

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class=None,
        reduction: str | None = "sum_over_batch_size",
        axis=-1,
        name: str = "sparse_categorical_crossentropy",
        dtype=None,
    ):
        options = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(sparse_categorical_crossentropy, reduction, name, dtype, **options)


class CategoricalGeneralizedCrossEntropy(LossFunctionWrapper):
    """Generalized crossentropy of integer labels. Arguments as `categorical_generalized_cross_entropy` and `Loss`."""

    def __init__(
        self,
        q: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_generalized_cross_entropy",
        dtype=None,
    ):
        # Checked here: the function would divide by 0, or silently be another loss.
        if not 0 < q < 1:
            raise ValueError(f"{name}: `q` must be above 0 and below 1. Got q={q}.")
        super().__init__(categorical_generalized_cross_entropy, reduction, name, dtype, q=q)


class KLDivergence(LossFunctionWrapper):
    """`sum(y_true * log(y_true / y_pred))`. Arguments as `Loss`."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "kl_divergence", dtype=None):
        super().__init__(kl_divergence, reduction, name, dtype)


class Poisson(LossFunctionWrapper):
    """`mean(y_pred - y_true * log(y_pred))`. Arguments as `Loss`."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "poisson", dtype=None):
        super().__init__(poisson, reduction, name, dtype)
