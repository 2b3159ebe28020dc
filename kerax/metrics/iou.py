"""Overlap of predicted and true regions: intersection over union, from a confusion matrix."""

import math
import warnings

import jax
import jax.numpy as jnp

from kerax import config as settings
from kerax.core import sums
from kerax.core.variable import unwrap
from kerax.losses.loss import mismatch, to_arrays
from kerax.metrics.metric import Metric


class IoU(Metric):
    """Mean over some classes of `true positives / (true positives + false positives + false negatives)`.

    Args:
        num_classes: Number of classes. Labels and predictions outside `[0, num_classes)` do not count.
        target_class_ids: The classes to average over; those that never occur are left out.
        name: As in `Metric`.
        dtype: Dtype of the confusion matrix. Default: int32, in which weights lose their fractions, as in Keras.
        ignore_class: A label whose positions do not count, for example 255 or -1.
        sparse_y_true: Whether labels are class indices; else the largest value along `axis` is the class.
        sparse_y_pred: Whether predictions are class indices; else likewise.
        axis: The class axis of labels and predictions that are not indices.

    Raises:
        ValueError: if a target class is none of the classes.
    """

    _direction = "up"

    def __init__(
        self,
        num_classes,
        target_class_ids,
        name: str | None = None,
        dtype=None,
        ignore_class=None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        # Counts, so int32 unless told otherwise: float32 stops counting at 2**24.
        super().__init__("int32" if dtype in (None, "int") else dtype, name)
        if num_classes < 1:
            raise ValueError(f"{self.name}: `num_classes` must be at least 1. Got {num_classes}.")
        self.num_classes, self.target_class_ids = num_classes, list(target_class_ids)
        if not self.target_class_ids or any(not 0 <= index < num_classes for index in self.target_class_ids):
            raise ValueError(
                f"{self.name}: `target_class_ids` must be class indices in [0, {num_classes}). Got {target_class_ids}."
            )
        self.ignore_class, self.axis = ignore_class, axis
        self.sparse_y_true, self.sparse_y_pred = sparse_y_true, sparse_y_pred
        dtype = self.dtype if jnp.issubdtype(self.dtype, jnp.integer) else self.sum_dtype
        self.total_cm = self.add_variable((num_classes,) * 2, "zeros", dtype, name="total_confusion_matrix")

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        return config | ({"target_class_ids": self.target_class_ids} if "target_class_ids" in config else {})

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts a batch. `sample_weight`: one number, one per sample, or one per position."""
        y_true, y_pred = to_arrays(y_true), to_arrays(y_pred)
        labels = y_true if self.sparse_y_true else jnp.argmax(y_true, axis=self.axis)
        guesses = y_pred if self.sparse_y_pred else jnp.argmax(y_pred, axis=self.axis)
        # Sizes, not shapes: labels (batch, h, w, 1) fit predictions (batch, h, w).
        if labels.size != guesses.size:
            hint = "For scores per class set `sparse_y_pred=False`, for one-hot labels `sparse_y_true=False`."
            raise ValueError(mismatch(self.name, y_true.shape, y_pred.shape, hint))
        weights = self._weights(sample_weight, labels.shape)
        labels, guesses = (array.reshape(-1).astype(jnp.int32) for array in (labels, guesses))
        # Out-of-range indices would be dropped by `segment_sum` only where they leave the whole matrix.
        counts = (labels >= 0) & (labels < self.num_classes) & (guesses >= 0) & (guesses < self.num_classes)
        if self.ignore_class is not None:
            counts = counts & (labels != self.ignore_class)
        # The matrix as one row: cell (true, predicted) is at `true * num_classes + predicted`.
        cells = jnp.where(counts, labels * self.num_classes + guesses, 0)
        matrix = jax.ops.segment_sum(jnp.where(counts, weights, 0), cells, self.num_classes**2)
        self.total_cm.assign_add(matrix.reshape(self.total_cm.shape))

    def _weights(self, sample_weight, shape: tuple):
        if sample_weight is None:
            # A scalar: it broadcasts without an array of the labels' size.
            return jnp.ones((), self.total_cm.dtype)
        weights = jnp.asarray(unwrap(sample_weight))
        if jnp.issubdtype(weights.dtype, jnp.floating) and jnp.issubdtype(self.total_cm.dtype, jnp.integer):
            warnings.warn(
                f"{self.name}: float `sample_weight` loses its fractions, as the metric counts in "
                f"{self.total_cm.dtype}. Make it with `dtype='float32'` to keep them.",
                stacklevel=3,
            )
        # The given shape is for the message below; casting to int drops fractions, as in Keras.
        given, weights = weights.shape, weights.astype(self.total_cm.dtype)
        # One weight per position, whatever the shape it comes in.
        if weights.size == math.prod(shape):
            return weights.reshape(-1)
        weights = jnp.expand_dims(weights, tuple(range(weights.ndim, len(shape))))
        if weights.ndim > len(shape) or any(w not in (1, s) for w, s in zip(weights.shape, shape, strict=True)):
            raise ValueError(f"{self.name}: `sample_weight` of shape {given} does not fit labels of shape {shape}.")
        return jnp.broadcast_to(weights, shape).reshape(-1)

    def result(self):
        """The mean over the target classes, float32; 0 if none of them occurred."""
        matrix = sums.whole(self.total_cm)
        right = jnp.diagonal(matrix)  # rows are true classes, columns predicted ones
        union = jnp.sum(matrix, axis=0) + jnp.sum(matrix, axis=1) - right
        ids = jnp.asarray(self.target_class_ids)
        right, union = right[ids], union[ids]
        # A class that neither labels nor predictions have is left out of the mean.
        occurs = union > 1e-9
        scores = jnp.where(occurs, right / (union + settings.epsilon()), 0)
        return jnp.sum(scores) / (jnp.sum(occurs) + settings.epsilon())


class MeanIoU(IoU):
    """`IoU` averaged over all classes that occur. Arguments as `IoU`."""

    def __init__(
        self,
        num_classes,
        name: str | None = None,
        dtype=None,
        ignore_class=None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        super().__init__(num_classes, range(num_classes), name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)


class BinaryIoU(IoU):
    """`IoU` of yes/no labels and scores: a score of at least `threshold` is class 1. Others as `IoU`."""

    def __init__(self, target_class_ids=(0, 1), threshold: float = 0.5, name: str | None = None, dtype=None):
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts a batch, as `IoU`."""
        super().update_state(y_true, to_arrays(y_pred).astype(jnp.float32) >= self.threshold, sample_weight)


class OneHotIoU(IoU):
    """`IoU` of one-hot labels, and of scores per class unless `sparse_y_pred`. Others as `IoU`."""

    def __init__(
        self,
        num_classes,
        target_class_ids,
        name: str | None = None,
        dtype=None,
        ignore_class=None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ):
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)


class OneHotMeanIoU(MeanIoU):
    """`MeanIoU` of one-hot labels, and of scores per class unless `sparse_y_pred`. Others as `IoU`."""

    def __init__(self, num_classes, name=None, dtype=None, ignore_class=None, sparse_y_pred=False, axis: int = -1):
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)
