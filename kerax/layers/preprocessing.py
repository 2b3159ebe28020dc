"""Layers that prepare numbers: `Rescaling` and `Normalization`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax import config
from kerax.core import calling, symbolic
from kerax.core import scope as scopes
from kerax.core.layer import Layer


class Rescaling(Layer):
    """`inputs * scale + offset`, as floats.

    Args:
        scale: Number or array; with the image layout `"channels_first"` its axes are the first of an image.
        offset: Number or array.
    """

    def __init__(self, scale, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        dtype = self.compute_dtype
        scale = jnp.asarray(self.scale, dtype)
        if scale.ndim and config.image_data_format() == "channels_first":
            scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))
        return inputs.astype(dtype) * scale + jnp.asarray(self.offset, dtype)


class Normalization(Layer):
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
        if (mean is None) != (variance is None) or np.shape(mean) != np.shape(variance):
            raise ValueError(
                f"{self}: `mean` and `variance` must be given together and have the same shape. "
                f"Got mean={mean}, variance={variance}."
            )
        if mean is not None and np.ndim(mean) > len(self.axis):
            raise ValueError(f"{self}: `mean` may have as many axes as `axis`={self.axis}. Got shape {np.shape(mean)}.")
        self.input_mean, self.input_variance, self.invert = mean, variance, invert
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        ndim = len(input_shape)
        if any(not -ndim <= axis < ndim for axis in self.axis):
            raise ValueError(f"{self}: `axis`={self.axis} is out of range. Got input shape {input_shape}.")
        kept = sorted(axis % ndim for axis in self.axis)
        if any(input_shape[axis] is None for axis in kept):
            raise ValueError(f"{self}: the sizes of `axis`={self.axis} must be known. Got input shape {input_shape}.")
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

    def __call__(self, inputs: Any, **kwargs) -> Any:
        inputs = calling.caster(self, self.compute_dtype if self.autocast else None)(inputs)  # refuses text
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
