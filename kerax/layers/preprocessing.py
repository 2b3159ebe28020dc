"""Layers that prepare numbers: `Rescaling` and `Normalization`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax import config
from kerax.core import calling, symbolic
from kerax.core import scope as scopes
from kerax.core.tensorflow_graphs import outside_of_graphs
from kerax.layers.options import PassesMasks, check


class Rescaling(PassesMasks):
    """`inputs * scale + offset`, as floats.

    Args:
        scale: Number or array; with the image layout `"channels_first"` its axes are the first of an image.
        offset: Number or array.
    """

    def __init__(self, scale, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset

    def call(self, inputs: Any) -> Any:
        dtype = self.compute_dtype
        scale = jnp.asarray(self.scale, dtype)
        # Numbers for the channels, in front of height and width.
        if scale.ndim and config.image_data_format() == "channels_first":
            scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))
        return inputs.astype(dtype) * scale + jnp.asarray(self.offset, dtype)


class Normalization(PassesMasks):
    """`(inputs - mean) / sqrt(variance)`, with statistics that are given or found by `adapt`.

    Args:
        axis: Axis or axes that have statistics of their own. `None`: one mean and variance for all.
        mean, variance: Statistics that broadcast to the sizes of `axis`; both or neither.
        invert: Whether to undo a normalization: `inputs * sqrt(variance) + mean`.

    Weights: `mean`, `variance` (sizes of `axis`), `count` (), unless the statistics are given.

    Raises:
        ValueError: if only one statistic is given, or their shapes do not fit.
    """

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        are_alike = (mean is None) == (variance is None) and np.shape(mean) == np.shape(variance)
        expected = "`mean` and `variance` must be given together and have the same shape"
        check(self, are_alike, expected, mean=mean, variance=variance)
        fits = mean is None or np.ndim(mean) <= len(self.axis)
        check(self, fits, f"`mean` may have as many axes as `axis`={self.axis}", mean=mean)
        self.input_mean, self.input_variance, self.invert = mean, variance, invert

    def build(self, input_shape: Any) -> None:
        ndim = len(input_shape)
        is_within = all(-ndim <= axis < ndim for axis in self.axis)
        check(self, is_within, f"`axis`={self.axis} is out of range", input_shape=input_shape)
        kept = sorted(axis % ndim for axis in self.axis)
        are_known = all(input_shape[axis] is not None for axis in kept)
        check(self, are_known, f"the sizes of `axis`={self.axis} must be known", input_shape=input_shape)
        self._reduced_axes = tuple(axis for axis in range(ndim) if axis not in kept)
        self._kept_sizes = tuple(input_shape[axis] for axis in kept)
        if self.input_mean is None:
            state = {"shape": self._kept_sizes, "trainable": False}
            self.adapt_mean = self.add_weight(name="mean", initializer="zeros", **state)
            self.adapt_variance = self.add_weight(name="variance", initializer="ones", **state)
            self.count = self.add_weight(name="count", initializer="zeros", dtype="int32", trainable=False)

    @property
    def mean(self) -> Any:
        """The mean, with size-1 axes where it is shared."""
        return self._spread(self.input_mean if self.input_mean is not None else self.adapt_mean.value)

    @property
    def variance(self) -> Any:
        """The variance, with size-1 axes where it is shared."""
        return self._spread(self.input_variance if self.input_variance is not None else self.adapt_variance.value)

    def _spread(self, statistic):
        statistic = jnp.broadcast_to(jnp.asarray(statistic, self.compute_dtype), self._kept_sizes)
        return jnp.expand_dims(statistic, self._reduced_axes)

    @outside_of_graphs
    def __call__(self, inputs: Any, **kwargs) -> Any:
        inputs = calling.caster(self, self.compute_dtype if self.autocast else None)(inputs)  # refuses text
        # Inside a model or a pure call it is too late, and while building one too early, to ask for `adapt`.
        is_alone = calling.call_context.get() is None and scopes.current_scope() is None
        if is_alone and self.input_mean is None and not symbolic.is_symbolic((inputs,), {}) and not self._is_adapted():
            raise ValueError(
                f"{self}: the statistics are not known yet. Call `adapt(data)`, or give `mean` and `variance`."
            )
        return super().__call__(inputs, **kwargs)

    def _is_adapted(self) -> bool:
        """Whether the statistics are others than those that the layer begins with."""
        if not self.built:
            return False
        return bool(np.any(self.adapt_mean.numpy()) or np.any(self.adapt_variance.numpy() != 1))

    def call(self, inputs: Any) -> Any:
        inputs = inputs.astype(self.compute_dtype)
        # A constant feature has no deviation: it becomes 0, not NaN.
        stddev = jnp.maximum(jnp.sqrt(self.variance), config.epsilon())
        return inputs * stddev + self.mean if self.invert else (inputs - self.mean) / stddev

    def adapt(self, data: Any) -> None:
        """Sets the statistics to those of `data`: an array, or an iterable of batches (of arrays, or tuples of them).

        Raises:
            ValueError: if the layer was given statistics, or there are no data.
        """
        if self.input_mean is not None:
            raise ValueError(f"{self}: `adapt` finds what `mean` and `variance` already say. Leave them out.")
        batches = [data] if isinstance(data, (np.ndarray, jax.Array)) else data
        total, mean, variance = 0, 0.0, 0.0
        for batch in batches:
            # In float64: the sums of long data lose digits in float32.
            array = np.asarray(batch[0] if isinstance(batch, (tuple, list)) else batch, np.float64)
            if not self.built:
                self.build((None, *array.shape[1:]))
            if tuple(np.delete(array.shape, self._reduced_axes)) != self._kept_sizes:
                raise ValueError(
                    f"{self}: data must have sizes {self._kept_sizes} along `axis`={self.axis}. Got {array.shape}."
                )
            count = array.size // max(1, int(np.prod(self._kept_sizes)))
            if count:
                batch_mean, batch_variance = array.mean(self._reduced_axes), array.var(self._reduced_axes)
                # Chan et al. 1979: variances of two parts combine with the squared distance of their means.
                share = count / (total + count)
                variance = (
                    (1 - share) * variance + share * batch_variance + share * (1 - share) * (batch_mean - mean) ** 2
                )
                mean = (1 - share) * mean + share * batch_mean
                total += count
        if not total:
            raise ValueError(f"{self}: `adapt` got no data.")
        self.adapt_mean.assign(mean)
        self.adapt_variance.assign(variance)
