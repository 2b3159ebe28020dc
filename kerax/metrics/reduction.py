"""Sums and means over batches, and plain functions as metrics."""

import functools
import math

import jax
import jax.numpy as jnp

from kerax.core import masks, row_flow
from kerax.core.configurable import revive_arguments
from kerax.core.variable import unwrap
from kerax.losses.loss import (
    LOSSES,
    apply_mask,
    describe_fn,
    fitting_mask,
    match_ranks,
    name_of,
    revive_fn,
    to_arrays,
    weigh,
)
from kerax.metrics.metric import FUNCTIONS, Metric
from kerax.ops import divide_no_nan


def weighted(name: str, values, sample_weight, dtype, reduce):
    """Values and weights of one shape. Values are reduced over axes that the weights lack.

    Raises:
        ValueError: if the weights do not fit the values.
    """
    # Read first: `asarray` may make another array, which has no mask.
    mask = masks.get_mask(values)
    values = jnp.asarray(unwrap(values), dtype)
    # "sum" leaves weights unscaled: they go into `count` too, so that masked values do not count.
    weights = apply_mask(unwrap(sample_weight), mask, dtype, "sum")
    if weights is None:
        return values, None
    values, weights = match_ranks(values, jnp.asarray(weights, dtype))
    # Weights (batch,) of values (batch, steps): each sample becomes one number.
    values = reduce(values, axis=tuple(range(weights.ndim, values.ndim)))
    return weigh(name, values, weights)


class Sum(Metric):
    """The (weighted) sum of all values. Arguments as `Metric`."""

    def __init__(self, name: str = "sum", dtype=None):
        super().__init__(dtype, name)
        self.total = self.add_variable((), "zeros", name="total")

    def update_state(self, values, sample_weight=None):
        """Adds the values, each times its weight."""
        values, weights = weighted(self.name, values, sample_weight, self.sum_dtype, jnp.sum)
        self.total.assign_add(jnp.sum(values if weights is None else values * weights))

    def result(self):
        """The sum."""
        return self.total.value


class Mean(Metric):
    """The (weighted) mean of all samples. Arguments as `Metric`."""

    def __init__(self, name: str = "mean", dtype=None):
        super().__init__(dtype, name)
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, values, sample_weight=None):
        """Adds the values, each times its weight. A sample counts as its values' mean."""
        values, weights = weighted(self.name, values, sample_weight, self.sum_dtype, jnp.mean)
        # A sample of several values counts as one.
        per_sample = math.prod(values.shape[1:])
        if weights is None:
            self.total.assign_add(jnp.sum(values) / per_sample)
            self.count.assign_add(values.shape[0] if values.ndim else 1)
        else:
            self.total.assign_add(jnp.sum(values * weights) / per_sample)
            self.count.assign_add(jnp.sum(weights) / per_sample)

    def result(self):
        """The mean, 0 before the first sample."""
        return divide_no_nan(self.total.value, self.count.value)


class MeanMetricWrapper(Mean):
    """The mean of a function `fn(y_true, y_pred, **kwargs)` over all samples.

    Predictions in half precision are cast to float32 first. The mask of `y_pred` counts as a weight.

    Args:
        fn: A function of arrays that returns one number per sample (or per step of a sample).
        name: Default: the function's.
        dtype: Default: `floatx()`.
        kwargs: Passed to `fn`.
    """

    def __init__(self, fn, name: str | None = None, dtype=None, **kwargs):
        super().__init__(name or name_of(fn), dtype)
        self._fn, self._fn_kwargs = fn, kwargs

    # Keras's arguments, which are not those of its `Mean` either.
    def update_state(self, y_true, y_pred, sample_weight=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Takes in a batch."""
        # Before the cast below, which makes an array without it.
        mask = masks.get_mask(y_pred)
        y_pred = jax.tree.map(self._widen, to_arrays(y_pred))
        values = self._fn(to_arrays(y_true), y_pred, **self._fn_kwargs)
        sample_weight = apply_mask(unwrap(sample_weight), fitting_mask(mask, values), self.sum_dtype, "sum")
        super().update_state(values, sample_weight)

    def tells_rows_apart(self, y_true, y_pred) -> bool:
        """Whether the function returns something for each row."""
        values = functools.partial(self._fn, **self._fn_kwargs)
        return super().tells_rows_apart(y_true, y_pred) and row_flow.function_keeps_rows_apart(values, y_true, y_pred)

    def _widen(self, y_pred):
        return y_pred.astype(self.sum_dtype) if y_pred.dtype in (jnp.float16, jnp.bfloat16) else y_pred

    def get_config(self) -> dict:
        """The constructor's arguments, `fn` as Keras writes it."""
        return describe_fn(super().get_config())

    @classmethod
    def from_config(cls, config: dict):
        """The metric that `get_config` described."""
        return cls(**revive_arguments(revive_fn(config, LOSSES, FUNCTIONS)))
