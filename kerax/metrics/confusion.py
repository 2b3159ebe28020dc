"""Counts of right and wrong yes/no decisions at thresholds, and what is made of them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kerax import config as settings
from kerax.core.variable import Variable
from kerax.losses.loss import align, to_arrays
from kerax.metrics.metric import Metric
from kerax.ops import divide_no_nan

_LOWEST = -1e10  # the score of a class outside the top k, and the threshold that any other score exceeds
_FEW = 8  # up to so many thresholds, comparing with each is faster than counting by intervals


class Counts(NamedTuple):
    """Weights of the four kinds of decisions, one row per threshold."""

    true_positives: jax.Array
    false_positives: jax.Array
    true_negatives: jax.Array
    false_negatives: jax.Array


def count_decisions(y_true, y_pred, thresholds, weights=None, per_label: bool = False) -> Counts:
    """How often `y_pred > threshold` is right and wrong, for each threshold.

    Args:
        y_true: Labels; anything but 0 is a yes.
        y_pred: Scores of the same shape.
        thresholds: Any numbers, in any order.
        weights: Array of the same shape, or `None` for 1.
        per_label: Whether the columns of `(batch, labels)` are counted apart.
    """
    # Everything is brought to (samples, columns); one column unless labels are counted apart.
    columns = y_pred.shape[-1] if per_label else 1
    scores = jnp.reshape(y_pred, (-1, columns))
    weights = jnp.ones_like(scores) if weights is None else jnp.reshape(weights, (-1, columns))
    labels = jnp.reshape(y_true, (-1, columns)) != 0
    yes, no = jnp.where(labels, weights, 0), jnp.where(labels, 0, weights)
    # In the dtype of the scores, or a threshold of 0.1 would differ from a score of 0.1.
    thresholds = np.asarray(thresholds, scores.dtype)
    tally = _compare if len(thresholds) <= _FEW else _count_by_intervals
    # Only the yeses are counted at each threshold; the noes are what is left of the totals.
    tp, fp = tally(scores, thresholds, yes, no)
    counts = Counts(tp, fp, jnp.sum(no, axis=0) - fp, jnp.sum(yes, axis=0) - tp)
    return counts if per_label else Counts(*(count[:, 0] for count in counts))


def _compare(scores, thresholds, *weights):
    is_above = scores[None] > thresholds[:, None, None]  # (thresholds, samples, columns)
    return [jnp.sum(jnp.where(is_above, weight[None], 0), axis=1) for weight in weights]


def _count_by_intervals(scores, thresholds, *weights):
    """Sums the weights between neighbouring thresholds, then adds up from the highest one down."""
    # One pass over the scores, whatever the number of thresholds: memory for (samples,), not (thresholds, samples).
    order = np.argsort(thresholds)
    intervals = jnp.searchsorted(thresholds[order], scores, side="left")  # how many thresholds are below
    sums = jax.vmap(lambda weight, ids: jax.ops.segment_sum(weight, ids, len(order) + 1), in_axes=1, out_axes=1)
    # Interval 0 is below all thresholds; the sums from the top down start after it.
    above = [jnp.flip(jnp.cumsum(jnp.flip(sums(weight, intervals), 0), 0), 0)[1:] for weight in weights]
    # Back in the order in which the thresholds were given.
    return [count[np.argsort(order)] for count in above]


def prepare(name: str, y_true, y_pred, sample_weight, dtype, top_k=None, class_id=None):
    """Labels, scores and weights of one shape, restricted to the `top_k` scores and to one class."""
    y_true, y_pred = align(name, to_arrays(y_true), to_arrays(y_pred).astype(dtype))
    weights = None
    if sample_weight is not None:
        weights = jnp.asarray(to_arrays(sample_weight), dtype)
        # (batch, 1) for scores (batch,)
        if weights.ndim == y_pred.ndim + 1 and weights.shape[-1] == 1:
            weights = weights[..., 0]
        # (batch,) for scores (batch, labels): one weight for all labels of a sample
        weights = jnp.expand_dims(weights, tuple(range(weights.ndim, y_pred.ndim)))
        if any(w not in (1, p) for w, p in zip(weights.shape, y_pred.shape, strict=False)):
            raise ValueError(
                f"{name}: `sample_weight` of shape {weights.shape} does not fit `y_pred` of shape {y_pred.shape}."
            )
        weights = jnp.broadcast_to(weights, y_pred.shape)
    if top_k is not None:
        if not 1 <= top_k <= y_pred.shape[-1]:
            raise ValueError(f"{name}: `top_k` must be at most {y_pred.shape[-1]}, the number of scores. Got {top_k}.")
        chosen = jax.nn.one_hot(jax.lax.top_k(y_pred, top_k)[1], y_pred.shape[-1], dtype=bool).any(axis=-2)
        # Below every threshold, so that they are noes.
        y_pred = jnp.where(chosen, y_pred, _LOWEST)
    # After `top_k`, which ranks the scores of all classes.
    if class_id is not None:
        if y_pred.ndim < 2:
            raise ValueError(f"{name}: `class_id` needs `y_pred` of shape (batch, classes). Got {y_pred.shape}.")
        if not 0 <= class_id < y_pred.shape[-1]:  # JAX would take the last column instead
            raise ValueError(f"{name}: `class_id` must be in [0, {y_pred.shape[-1]}). Got {class_id}.")
        y_true, y_pred = y_true[..., class_id], y_pred[..., class_id]
        weights = None if weights is None else weights[..., class_id]
    return y_true, y_pred, weights


def _parse_thresholds(name: str, thresholds, default: float) -> list[float]:
    parsed = list(thresholds) if isinstance(thresholds, (list, tuple, np.ndarray)) else [thresholds]
    if thresholds is None:
        return [default]
    if any(threshold is None or not 0 <= threshold <= 1 for threshold in parsed):
        raise ValueError(f"{name}: `thresholds` must be in [0, 1]. Got {thresholds}.")
    return parsed


class Decisions(Metric):
    """A metric of some of the four counts at thresholds: of two counts, the share of the first.

    Args:
        thresholds: One or more numbers in [0, 1]. Default: 0.5, or none with `top_k`.
        top_k: Only the `top_k` largest scores of a sample can be yeses.
        class_id: Only this column counts.

    Other arguments as `Metric`.
    """

    _direction = "up"

    _counted: tuple[str, ...] = ()
    true_positives: Variable
    true_negatives: Variable
    false_positives: Variable
    false_negatives: Variable

    def __init__(self, thresholds=None, top_k=None, class_id=None, name: str | None = None, dtype=None):
        super().__init__(dtype, name)
        self.top_k, self.class_id = top_k, class_id
        self.thresholds = _parse_thresholds(self.name, thresholds, 0.5 if top_k is None else _LOWEST)
        # Only the counts that the metric needs are kept, in Keras's names.
        shape = (len(self.thresholds),)
        vars(self).update({counted: self.add_variable(shape, "zeros", name=counted) for counted in self._counted})

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes in a batch of labels and scores of one shape."""
        y_true, y_pred, weights = prepare(
            self.name, y_true, y_pred, sample_weight, self.sum_dtype, self.top_k, self.class_id
        )
        counts = count_decisions(y_true, y_pred, self.thresholds, weights)
        for counted in self._counted:
            getattr(self, counted).assign_add(getattr(counts, counted))

    def result(self):
        """The share at each threshold: a scalar for one."""
        return _scalar(self._ratios(*self._counted))

    def _ratios(self, first: str, second: str):
        """`first / (first + second)` at each threshold."""
        # Before the first batch both are 0, and so is the ratio.
        first, second = getattr(self, first).value, getattr(self, second).value
        return divide_no_nan(first, first + second)


def _scalar(values):
    return values[0] if values.shape == (1,) else values


class _Count(Metric):
    """One of the four counts."""

    _counted = ""

    def __init__(self, thresholds=None, name: str | None = None, dtype=None):
        super().__init__(dtype, name)
        self.thresholds = _parse_thresholds(self.name, thresholds, 0.5)
        self.accumulator = self.add_variable((len(self.thresholds),), "zeros", name="accumulator")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes in a batch of labels and scores of one shape."""
        y_true, y_pred, weights = prepare(self.name, y_true, y_pred, sample_weight, self.sum_dtype)
        self.accumulator.assign_add(getattr(count_decisions(y_true, y_pred, self.thresholds, weights), self._counted))

    def result(self):
        """The count: a scalar for one threshold."""
        return _scalar(self.accumulator.value)


class TruePositives(_Count):
    """Number of right yeses. `thresholds`: one or more numbers in [0, 1], default 0.5. Others as `Metric`."""

    _counted = "true_positives"


class TrueNegatives(_Count):
    """Number of right noes. Arguments as `TruePositives`."""

    _counted = "true_negatives"


class FalsePositives(_Count):
    """Number of wrong yeses. Arguments as `TruePositives`."""

    _counted = "false_positives"


class FalseNegatives(_Count):
    """Number of wrong noes. Arguments as `TruePositives`."""

    _counted = "false_negatives"


class Precision(Decisions):
    """Fraction of yeses that are right. Arguments as `Decisions`."""

    _counted = ("true_positives", "false_positives")


class Recall(Decisions):
    """Fraction of yes labels that were found. Arguments as `Decisions`."""

    _counted = ("true_positives", "false_negatives")


class AUC(Metric):
    """Area under a curve of decisions, approximated at thresholds.

    Args:
        num_thresholds: Number of thresholds spread over [0, 1], at least 2.
        curve: `"ROC"` (recall over false positive rate), `"PR"` (precision over recall) or `"PRGAIN"`.
        summation_method: `"interpolation"` (mid-points; for `"PR"` Davis & Goadrich's), `"minoring"`, `"majoring"`.
        thresholds: Own thresholds in [0, 1] instead; 0 and 1 are added.
        multi_label: Whether each column of `y_pred` has a curve of its own; the result is their mean.
        num_labels: Number of columns with `multi_label`. Default: the first batch's.
        label_weights: Weights of the columns.
        from_logits: Whether scores have not been through a sigmoid.

    Other arguments as `Metric`. Scores are clipped to [0, 1].
    Source of the PR interpolation: https://doi.org/10.1145/1143844.1143874
    """

    _direction = "up"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype=None,
        thresholds=None,
        multi_label: bool = False,
        num_labels=None,
        label_weights=None,
        from_logits: bool = False,
    ):
        super().__init__(dtype, name)
        self.curve, self.summation_method = str(curve).upper(), str(summation_method).lower()
        for argument, value, known in (
            ("curve", self.curve, ("ROC", "PR", "PRGAIN")),
            ("summation_method", self.summation_method, ("interpolation", "minoring", "majoring")),
        ):
            if value not in known:
                raise ValueError(f"{self.name}: `{argument}` must be one of {known}. Got {value!r}.")
        if thresholds is None and num_thresholds < 2:
            raise ValueError(f"{self.name}: `num_thresholds` must be at least 2. Got {num_thresholds}.")
        if num_labels and not multi_label:
            raise ValueError(f"{self.name}: `num_labels` needs `multi_label=True`. Got num_labels={num_labels}.")
        inner = np.linspace(0, 1, num_thresholds)[1:-1] if thresholds is None else sorted(thresholds)
        _parse_thresholds(self.name, list(inner), 0.5)
        fuzz = settings.epsilon()  # a score of 0 must exceed the first threshold, a score of 1 not the last
        self.thresholds = [0.0 - fuzz, *map(float, inner), 1.0 + fuzz]
        self.num_thresholds = len(self.thresholds)
        self.multi_label, self.num_labels, self.from_logits = multi_label, num_labels, from_logits
        self.label_weights = None if label_weights is None else np.asarray(label_weights, self.sum_dtype)
        self.built = False
        # Otherwise the first batch tells the number of labels.
        if num_labels or not multi_label:
            self.build(None, (None, num_labels))

    def build(self, y_true_shape, y_pred_shape):
        """Adds the four counts, for each label with `multi_label`."""
        if self.multi_label and len(y_pred_shape) != 2:
            raise ValueError(f"{self.name}: `multi_label` needs `y_pred` of shape (batch, labels). Got {y_pred_shape}.")
        shape = (self.num_thresholds, y_pred_shape[-1]) if self.multi_label else (self.num_thresholds,)
        vars(self).update({counted: self.add_variable(shape, "zeros", name=counted) for counted in Counts._fields})
        self.built = True

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes in a batch of labels and scores of one shape."""
        y_true, y_pred, weights = prepare(self.name, y_true, y_pred, sample_weight, self.sum_dtype)
        if not self.built:
            self.build(y_true.shape, y_pred.shape)
        y_pred = jnp.clip(jax.nn.sigmoid(y_pred) if self.from_logits else y_pred, 0, 1)
        # With `multi_label` they weigh the areas instead: see `result`.
        if self.label_weights is not None and not self.multi_label:
            weights = jnp.broadcast_to(self.label_weights, y_pred.shape) * (1 if weights is None else weights)
        counts = count_decisions(y_true, y_pred, self.thresholds, weights, self.multi_label)
        for name, count in counts._asdict().items():
            getattr(self, name).assign_add(count)

    def result(self):
        """The area; with `multi_label` the (weighted) mean over labels."""
        counts = Counts(*(getattr(self, name).value for name in Counts._fields))
        # Precision is not linear between two points of a PR curve: trapezoids would be too optimistic.
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = jnp.sum(_interpolated_pr(counts), axis=0)
        else:
            # Thresholds rise, so that x falls from one point to the next.
            x, y = _CURVES[self.curve](counts)
            left, right = y[:-1], y[1:]
            heights = {
                "interpolation": (left + right) / 2,
                "minoring": jnp.minimum(left, right),
                "majoring": jnp.maximum(left, right),
            }[self.summation_method]
            areas = jnp.sum((x[:-1] - x[1:]) * heights, axis=0)
        if not self.multi_label:
            return areas
        if self.label_weights is None:
            return jnp.mean(areas)
        return divide_no_nan(jnp.sum(areas * self.label_weights), jnp.sum(self.label_weights))

    def get_config(self) -> dict:
        """The constructor's arguments; `thresholds` only if they were given."""
        config = super().get_config() | {"curve": self.curve, "summation_method": self.summation_method}
        # Given thresholds come back without the two that were added at the ends.
        config["num_thresholds"] = self.num_thresholds
        if config.pop("thresholds") is not None:
            config["thresholds"] = self.thresholds[1:-1]
        return config


def _roc(counts: Counts):
    tp, fp, tn, fn = counts
    return divide_no_nan(fp, fp + tn), divide_no_nan(tp, tp + fn)


def _pr(counts: Counts):
    tp, fp, _, fn = counts
    return divide_no_nan(tp, tp + fn), divide_no_nan(tp, tp + fp)


def _pr_gain(counts: Counts):
    """Source: https://papers.nips.cc/paper/5867-precision-recall-gain-curves-pr-analysis-done-right"""
    tp, fp, tn, fn = counts
    odds = divide_no_nan(tp + fn, tn + fp)
    recall_gain = jnp.where(tp == 0, 0, 1 - odds * divide_no_nan(fn, tp))
    precision_gain = jnp.where(tp == 0, 1, 1 - odds * divide_no_nan(fp, tp))
    return jnp.maximum(recall_gain, 0), precision_gain


_CURVES = {"ROC": _roc, "PR": _pr, "PRGAIN": _pr_gain}


def _interpolated_pr(counts: Counts):
    """Areas between neighbouring thresholds, true positives taken as linear in the number of yeses between them."""
    tp, fp, _, fn = counts
    yeses = tp + fp
    left, right = yeses[:-1], yeses[1:]
    # Between two thresholds `tp = slope * yeses + intercept`.
    slope = divide_no_nan(tp[:-1] - tp[1:], jnp.maximum(left - right, 0))
    intercept = tp[1:] - slope * right
    # Else the logarithm below would be of 0 or infinity.
    has_both = (left > 0) & (right > 0)
    growth = jnp.where(has_both, divide_no_nan(left, jnp.maximum(right, 0)), 1)
    return divide_no_nan(slope * (tp[:-1] - tp[1:] + intercept * jnp.log(growth)), jnp.maximum(tp[1:] + fn[1:], 0))
