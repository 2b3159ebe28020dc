"""Errors between real numbers, averaged over all samples."""

import jax.numpy as jnp

from kerax.losses import regression as losses
from kerax.losses.loss import align, to_arrays, weigh
from kerax.metrics.metric import Metric
from kerax.metrics.reduction import Mean, MeanMetricWrapper


class MeanSquaredError(MeanMetricWrapper):
    """`mean((y_true - y_pred)**2)`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name: str = "mean_squared_error", dtype=None):
        super().__init__(losses.mean_squared_error, name, dtype)


class RootMeanSquaredError(Mean):
    """`sqrt(mean((y_true - y_pred)**2))`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name: str = "root_mean_squared_error", dtype=None):
        super().__init__(name, dtype)

    # Keras's arguments, which are not those of its `Mean` either.
    def update_state(self, y_true, y_pred, sample_weight=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Takes in a batch."""
        y_true, y_pred = align(self.name, to_arrays(y_true), to_arrays(y_pred).astype(self.sum_dtype))
        super().update_state(jnp.square(y_pred - y_true), sample_weight)

    def result(self):
        """The root of the mean."""
        # The root of the mean over all batches, not the mean of roots.
        return jnp.sqrt(super().result())


class MeanAbsoluteError(MeanMetricWrapper):
    """`mean(|y_true - y_pred|)`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name: str = "mean_absolute_error", dtype=None):
        super().__init__(losses.mean_absolute_error, name, dtype)


class MeanAbsolutePercentageError(MeanMetricWrapper):
    """`100 * mean(|y_true - y_pred| / |y_true|)`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name: str = "mean_absolute_percentage_error", dtype=None):
        super().__init__(losses.mean_absolute_percentage_error, name, dtype)


class MeanSquaredLogarithmicError(MeanMetricWrapper):
    """`mean((log(1 + y_true) - log(1 + y_pred))**2)`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name: str = "mean_squared_logarithmic_error", dtype=None):
        super().__init__(losses.mean_squared_logarithmic_error, name, dtype)


class LogCoshError(MeanMetricWrapper):
    """`mean(log(cosh(y_pred - y_true)))`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name: str = "logcosh", dtype=None):
        super().__init__(losses.log_cosh, name, dtype)


class CosineSimilarity(MeanMetricWrapper):
    """The cosine of the angle between vectors along `axis` (without the loss's minus). Others as `Metric`."""

    _direction = "up"

    def __init__(self, name: str = "cosine_similarity", dtype=None, axis: int = -1):
        super().__init__(losses.cosine, name, dtype, axis=axis)


class Hinge(MeanMetricWrapper):
    """`mean(max(1 - y_true * y_pred, 0))`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name: str = "hinge", dtype=None):
        super().__init__(losses.hinge, name, dtype)


class SquaredHinge(MeanMetricWrapper):
    """`mean(max(1 - y_true * y_pred, 0)**2)`. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name: str = "squared_hinge", dtype=None):
        super().__init__(losses.squared_hinge, name, dtype)


class CategoricalHinge(MeanMetricWrapper):
    """`max(largest wrong score - right score + 1, 0)` for one-hot targets. Arguments as `Metric`."""

    _direction = "down"

    def __init__(self, name: str = "categorical_hinge", dtype=None):
        super().__init__(losses.categorical_hinge, name, dtype)


class R2Score(Metric):
    """The coefficient of determination: `1 - sum((y_true - y_pred)**2) / sum((y_true - mean(y_true))**2)`.

    Args:
        class_aggregation: `"uniform_average"` (mean over outputs), `"variance_weighted_average"` (outputs weigh as much
            as they vary), or `None` (one score per output).
        num_regressors: Number of independent variables, for the adjusted score. 0 gives the plain one. With as many
            values as regressors or fewer the plain score is given, where Keras also warns.

    Others as `Metric`. Targets and predictions have shape `(batch, outputs)` (or one `(batch,)`, the other
    `(batch, 1)`). An output whose targets are all equal scores 0 (NaN if every prediction is right).

    Raises:
        ValueError: if an argument is none of these.
    """

    _direction = "up"

    def __init__(self, class_aggregation="uniform_average", num_regressors=0, name="r2_score", dtype=None):
        super().__init__(dtype, name)
        known = (None, "uniform_average", "variance_weighted_average")
        if class_aggregation not in known:
            raise ValueError(f"{self.name}: `class_aggregation` must be one of {known}. Got {class_aggregation!r}.")
        if num_regressors < 0:
            raise ValueError(f"{self.name}: `num_regressors` must be at least 0. Got {num_regressors}.")
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors
        # Before the others, which wait for the number of outputs: Keras's order of variables.
        self.num_samples = self.add_variable((), "zeros", name="num_samples")
        self.built = False

    def build(self, y_true_shape, y_pred_shape):
        """Adds the sums, one per output."""
        rank = max(len(y_true_shape), len(y_pred_shape))
        if rank != 2:
            raise ValueError(f"{self.name}: `y_pred` must have shape (batch, outputs). Got {tuple(y_pred_shape)}.")
        # (batch,) and (batch, 1) are the same: one output
        shape = (y_pred_shape[-1] if len(y_pred_shape) == 2 else 1,)
        self.squared_sum = self.add_variable(shape, "zeros", name="squared_sum")
        self.sum = self.add_variable(shape, "zeros", name="sum")
        self.total_mse = self.add_variable(shape, "zeros", name="residual")
        self.count = self.add_variable(shape, "zeros", name="count")
        self.built = True

    def tells_rows_apart(self, y_true, y_pred) -> bool:
        """No: as in Keras, rows are counted whatever their weights."""
        return False

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes in a batch; `sample_weight` has shape `(batch,)` or that of `y_pred`."""
        y_true, y_pred = align(self.name, to_arrays(y_true), to_arrays(y_pred).astype(self.sum_dtype))
        if not self.built:
            self.build(y_true.shape, y_pred.shape)
        # Sums per output (axis 0): the mean of the targets is known only at the end.
        weights = jnp.ones_like(y_true)
        if sample_weight is not None:
            _, weights = weigh(self.name, y_true, to_arrays(sample_weight))
        for variable, values in (
            (self.squared_sum, jnp.square(y_true)),
            (self.sum, y_true),
            (self.total_mse, jnp.square(y_true - y_pred)),
            (self.count, 1),
        ):
            variable.assign_add(jnp.sum(values * weights, axis=0))
        # As in Keras all values, not rows, and whatever their weights.
        self.num_samples.assign_add(y_true.size)

    def result(self):
        """The score: one per output without an aggregation."""
        total_sum = self.sum.value
        # `sum((y - mean)**2)` from running sums; it cancels where the mean is large against the spread.
        spread = self.squared_sum.value - total_sum * (total_sum / self.count.value)
        scores = 1 - self.total_mse.value / spread
        # Targets that are all equal have no spread: 1 if they were met, else 0, as scikit-learn says.
        scores = jnp.where(spread == 0, jnp.where(self.total_mse.value == 0, 1, 0), scores)
        if self.class_aggregation == "uniform_average":
            scores = jnp.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = jnp.sum(spread * scores) / jnp.sum(spread)
        if not self.num_regressors:
            return scores
        above = self.num_samples.value - 1
        # At 0 or below the adjusted score means nothing; the inner `where` keeps a division by 0 out.
        freedom = above - self.num_regressors
        adjusted = 1 - (1 - scores) * above / jnp.where(freedom > 0, freedom, 1)
        return jnp.where(freedom > 0, adjusted, scores)
