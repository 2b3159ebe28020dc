"""F scores: precision and recall in one number."""

import jax.numpy as jnp

from kerax import config as settings
from kerax.losses.loss import align, to_arrays
from kerax.metrics.metric import Metric


class FBetaScore(Metric):
    """`(1 + beta**2) * precision * recall / (beta**2 * precision + recall)` per class.

    Args:
        average: `None` (one score per class), `"micro"` (all decisions together), `"macro"` (mean over classes) or
            `"weighted"` (mean weighted by how often a class occurs).
        beta: Weight of recall, above 0.
        threshold: Score above which a class is a yes, in (0, 1]. Default: the largest score is the yes.

    Other arguments as `Metric`. Labels and scores have shape `(batch, classes)`.

    Raises:
        ValueError: if an argument is none of the above.
    """

    _direction = "up"

    def __init__(self, average=None, beta: float = 1.0, threshold=None, name: str = "fbeta_score", dtype=None):
        super().__init__(dtype, name)
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(f"{self.name}: `average` must be None, 'micro', 'macro' or 'weighted'. Got {average!r}.")
        if not isinstance(beta, float) or beta <= 0:
            raise ValueError(f"{self.name}: `beta` must be a float above 0. Got {beta!r}.")
        if threshold is not None and not (isinstance(threshold, float) and 0 < threshold <= 1):
            raise ValueError(f"{self.name}: `threshold` must be a float in (0, 1]. Got {threshold!r}.")
        self.average, self.beta, self.threshold = average, beta, threshold
        # The number of classes is known with the first batch.
        self.built = False

    def build(self, y_true_shape, y_pred_shape):
        """Adds the counts for each class, or for all together with `"micro"`."""
        if len(y_pred_shape) != 2:
            raise ValueError(f"{self.name}: `y_pred` must have shape (batch, classes). Got {tuple(y_pred_shape)}.")
        shape = () if self.average == "micro" else (y_pred_shape[-1],)  # "micro": all classes together
        self.true_positives = self.add_variable(shape, "zeros", name="true_positives")
        self.false_positives = self.add_variable(shape, "zeros", name="false_positives")
        self.false_negatives = self.add_variable(shape, "zeros", name="false_negatives")
        self.intermediate_weights = self.add_variable(shape, "zeros", name="intermediate_weights")
        self.built = True

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes in a batch; `sample_weight` has shape `(batch,)`."""
        y_true, y_pred = align(self.name, to_arrays(y_true), to_arrays(y_pred).astype(self.sum_dtype))
        if not self.built:
            self.build(y_true.shape, y_pred.shape)
        if self.threshold is None:
            # All classes that share the largest score; a row of zeros has none.
            yeses = (y_pred >= jnp.max(y_pred, axis=-1, keepdims=True)) & (jnp.abs(y_pred) > 1e-9)
        else:
            yeses = y_pred > self.threshold
        yeses = yeses.astype(self.sum_dtype)
        # (batch, 1): a sample's weight holds for all classes
        weights = 1 if sample_weight is None else jnp.reshape(jnp.asarray(sample_weight, self.sum_dtype), (-1, 1))
        axis = None if self.average == "micro" else 0
        for variable, counted in (
            (self.true_positives, yeses * y_true),
            (self.false_positives, yeses * (1 - y_true)),
            (self.false_negatives, (1 - yeses) * y_true),
            (self.intermediate_weights, y_true),
        ):
            variable.assign_add(jnp.sum(counted * weights, axis=axis))

    def result(self):
        """The score: one per class without an average."""
        # `epsilon` in each divisor, as in Keras: the score of perfect predictions is a little below 1.
        tp, fuzz, factor = self.true_positives.value, settings.epsilon(), self.beta**2
        precision = tp / (tp + self.false_positives.value + fuzz)
        recall = tp / (tp + self.false_negatives.value + fuzz)
        score = (1 + factor) * precision * recall / (factor * precision + recall + fuzz)
        if self.average == "weighted":
            # How often each class occurs, with weights, is what `"weighted"` weighs by.
            occurrences = self.intermediate_weights.value
            return jnp.sum(score * occurrences / (jnp.sum(occurrences) + fuzz))
        return score if self.average is None else jnp.mean(score)


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall: `FBetaScore` with `beta=1`."""

    def __init__(self, average=None, threshold=None, name: str = "f1_score", dtype=None):
        super().__init__(average, 1.0, threshold, name, dtype)
