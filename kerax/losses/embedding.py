"""Losses of embeddings: close within a class, far between classes."""

import jax
import jax.numpy as jnp

from kerax.core import masks
from kerax.core.variable import unwrap
from kerax.losses.loss import LOSSES, LossFunctionWrapper, mismatch


@LOSSES.add
def circle(y_true, y_pred, ref_labels=None, ref_embeddings=None, remove_diagonal=True, gamma: float = 80, margin=0.4):
    """`softplus(logsumexp over positives + logsumexp over negatives)` of weighted cosine distances.

    Args:
        y_true: Class indices `(batch,)` or `(batch, 1)`.
        y_pred: Embeddings of length 1, `(batch, features)`.
        ref_labels: Class indices of the embeddings to compare with. Default: `y_true`.
        ref_embeddings: Embeddings to compare with, of length 1. Default: `y_pred`.
        remove_diagonal: Whether a sample is no positive of itself.
        gamma: Scale.
        margin: Distance up to which a positive, and from 1 minus which a negative, is good enough.

    Returns: `(batch,)`, 0 for a sample with no positive or no negative; those do not count in a mean. Their gradient
    is 0, where Keras has NaN. Source: https://arxiv.org/abs/2002.10857

    Raises:
        ValueError: if the shapes are not these.
    """
    y_pred, labels = _check("y_true", y_true, "y_pred", y_pred)
    if (ref_labels is None) != (ref_embeddings is None):
        raise ValueError("circle: `ref_labels` and `ref_embeddings` belong together. Got only one of them.")
    other, other_labels = y_pred, labels
    if ref_embeddings is not None:
        other, other_labels = _check("ref_labels", ref_labels, "ref_embeddings", ref_embeddings)
    distances = jnp.maximum(1 - y_pred @ other.T, 0)  # (batch, references)
    is_positive = labels[:, None] == other_labels  # (batch, references)
    # Before the diagonal goes: a sample is no negative of itself either.
    is_negative = ~is_positive
    if remove_diagonal:
        is_positive = is_positive & ~jnp.eye(*is_positive.shape, dtype=bool)
    # The weight of each distance shrinks as it gets good: that is the circle of the paper.
    positives = -gamma * jnp.maximum(distances + margin, 0) * (margin - distances)
    negatives = gamma * jnp.maximum(1 + margin - distances, 0) * (1 - margin - distances)
    # A finite lowest value: of -inf alone `logsumexp` has no gradient.
    lowest = float(jnp.finfo(distances.dtype).min) / 4
    parts = ((positives, is_positive), (negatives, is_negative))
    positive, negative = (jax.nn.logsumexp(jnp.where(mask, part, lowest), axis=1) for part, mask in parts)
    loss = jax.nn.softplus(positive + negative)
    # Not `loss > 0`: a mask made of the traced array it belongs to would keep it, and its trace, alive for ever.
    masks.set_mask(loss, jax.nn.softplus(positive + negative) > 0)
    return loss


def _check(label_name: str, labels, embedding_name: str, embeddings):
    embeddings, labels = jnp.asarray(unwrap(embeddings)), jnp.asarray(unwrap(labels))
    if embeddings.ndim != 2 or labels.shape not in (embeddings.shape[:1], (*embeddings.shape[:1], 1)):
        way_out = f"Expected class indices `{label_name}` (batch,) and embeddings `{embedding_name}` (batch, features)."
        raise ValueError(mismatch("circle", labels.shape, embeddings.shape, way_out))
    return embeddings, labels.reshape(-1).astype(jnp.int32)


class Circle(LossFunctionWrapper):
    """Circle loss of embeddings of length 1. Arguments as `circle` and `Loss`."""

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "circle",
        dtype=None,
    ):
        options = {"gamma": gamma, "margin": margin, "remove_diagonal": remove_diagonal}
        super().__init__(circle, reduction, name, dtype, **options)
