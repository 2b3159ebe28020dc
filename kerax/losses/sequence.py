"""Losses of sequences whose alignment with their labels is unknown."""

import jax.numpy as jnp
import optax

from kerax.core.variable import unwrap
from kerax.losses.loss import LOSSES, LossFunctionWrapper, mismatch

_BLANK = 0


@LOSSES.add
def ctc(y_true, y_pred):
    """`-log` of the probability of the labels, summed over all ways to spread them over the frames.

    Args:
        y_true: Class indices `(batch, length)`; index 0 is the blank and fills up shorter sequences.
        y_pred: Logits `(batch, frames, classes)`, every frame counting.

    Returns: `(batch,)`, at least float32. Labels that need more frames than there are cost about 1e5.
    Source: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891

    Raises:
        ValueError: if the shapes are not these.
    """
    y_pred, labels = jnp.asarray(unwrap(y_pred)), jnp.asarray(unwrap(y_true))
    if labels.ndim != 2 or y_pred.ndim != 3 or labels.shape[0] != y_pred.shape[0]:
        way_out = "Expected class indices (batch, length) and logits (batch, frames, classes) of the same batch."
        raise ValueError(mismatch("ctc", labels.shape, y_pred.shape, way_out))
    # Labels end where the blanks begin: no separate lengths, as in Keras.
    lengths = jnp.sum(labels != _BLANK, axis=1, keepdims=True)
    paddings = jnp.arange(labels.shape[1]) >= lengths
    # Sums over long alignments lose too much in half precision.
    logits = y_pred.astype(jnp.promote_types(y_pred.dtype, jnp.float32))
    no_paddings = jnp.zeros(y_pred.shape[:2], logits.dtype)
    return optax.ctc_loss(logits, no_paddings, labels.astype(jnp.int32), paddings.astype(logits.dtype), blank_id=_BLANK)


class CTC(LossFunctionWrapper):
    """Connectionist temporal classification of `(batch, length)` labels. See `ctc`; arguments as `Loss`."""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "ctc", dtype=None):
        super().__init__(ctc, reduction, name, dtype)
