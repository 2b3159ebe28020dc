"""Normalization by statistics of the batch, of each sample, or of groups of channels."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from kerax import config, initializers
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.core.variable import Variable, call_initializer
from kerax.layers.options import PassesMasks, check, check_rate, weight_options, without
from kerax.ops import normalizations


def _read_axis(layer: Layer, axis: Any) -> int | list[int]:
    """An axis, or several as a list, as configs have them."""
    if not isinstance(axis, (int, list, tuple)):
        raise TypeError(f"{layer}: `axis` must be an integer or a list of integers. Got axis={axis!r}.")
    return axis if isinstance(axis, int) else list(axis)


def _check_axis(layer: Layer, axis, input_shape) -> list[int]:
    """The axes as they are given, in the order of the input's."""
    axes = [axis] if isinstance(axis, int) else list(axis)
    is_within = all(-len(input_shape) <= item < len(input_shape) for item in axes)
    check(layer, is_within, "`axis` is out of range for the input", axis=axis, input_shape=input_shape)
    return sorted(axes, key=lambda item: item % len(input_shape))


def _fitting(axes: list[int], sizes: list[int]) -> InputSpec:
    """Inputs of these sizes; of any rank that has the axes, as in Keras."""
    spec = InputSpec(axes=dict(zip(axes, sizes, strict=True)))
    spec.min_ndim = max(axis + 1 if axis >= 0 else -axis for axis in axes)
    return spec


def _counted(axes: list[int], inputs: Any) -> list[int]:
    """The axes counted from 0."""
    return [axis % inputs.ndim for axis in axes]


class _Affine(PassesMasks):
    """What normalizations with a weight to multiply by, `gamma`, and one to add, `beta`, share: their options."""

    gamma: Variable | None
    beta: Variable | None

    def __init__(self, center: bool, scale: bool, beta: tuple, gamma: tuple, **kwargs):
        """`beta`, `gamma`: what the constructor says of each: initializer, regularizer and constraint."""
        super().__init__(**kwargs)
        self.center, self.scale = center, scale
        self.beta_initializer, self.beta_regularizer, self.beta_constraint = weight_options(*beta)
        self.gamma_initializer, self.gamma_regularizer, self.gamma_constraint = weight_options(*gamma)

    def add_gamma_and_beta(self, shape: Any, has_gamma: bool, has_beta: bool, autocast: bool = True) -> None:
        """Makes those of the weights that the layer has."""
        options = {"regularizer": self.gamma_regularizer, "constraint": self.gamma_constraint, "autocast": autocast}
        self.gamma = self.add_weight(shape, self.gamma_initializer, name="gamma", **options) if has_gamma else None
        options = {"regularizer": self.beta_regularizer, "constraint": self.beta_constraint, "autocast": autocast}
        self.beta = self.add_weight(shape, self.beta_initializer, name="beta", **options) if has_beta else None


class BatchNormalization(_Affine):
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta`, per channel.

    While training, mean and variance are those of the batch, which also move the averages used otherwise:
    `moving = momentum * moving + (1 - momentum) * batch`. With `trainable=False` the averages are always used and kept.

    Args:
        axis: The channel axis.
        momentum: Weight of the past in the moving averages, a fraction.
        epsilon: Added to the variance.
        center, scale: Whether to add `beta`, to multiply by `gamma`.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: Options.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: Options.
        renorm: Whether to use batch renormalization while training (Ioffe 2017, https://arxiv.org/abs/1702.03275).
        renorm_clipping: Limits `rmin`, `rmax`, `dmax` of its corrections.
        renorm_momentum: Momentum of its averages.
        synchronized: Kept for Keras's signature: under `jit` the batch is the whole batch, on however many devices.

    Call arguments: `mask`, true where a position counts, of the input's shape without the last axis.
    Weights: `gamma`, `beta`, `moving_mean`, `moving_variance` (channels,); with `renorm` also `moving_stddev`,
        `renorm_mean`, `renorm_stddev`.
    Source: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167

    Raises:
        ValueError: if an argument is out of its range, or the channel axis is missing or of unknown size.
    """

    moving_mean: Variable
    moving_variance: Variable

    def __init__(
        self,
        axis=-1,
        momentum=0.99,
        epsilon=0.001,
        center=True,
        scale=True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        renorm=False,
        renorm_clipping=None,
        renorm_momentum=0.99,
        synchronized=False,
        **kwargs,
    ):
        beta = beta_initializer, beta_regularizer, beta_constraint
        super().__init__(center, scale, beta, (gamma_initializer, gamma_regularizer, gamma_constraint), **kwargs)
        check(self, isinstance(axis, int), "`axis` must be an integer", axis=axis)
        check_rate(self, momentum=momentum, renorm_momentum=renorm_momentum)
        limits = dict(renorm_clipping or {})
        are_known = not set(limits) - {"rmin", "rmax", "dmax"} and limits.get("dmax", 0) >= 0
        expected = "`renorm_clipping` may hold 'rmin', 'rmax' and 'dmax' >= 0"
        check(self, are_known, expected, renorm_clipping=renorm_clipping)
        ascends = limits.get("rmin", 0) <= limits.get("rmax", math.inf)
        check(self, ascends, "`renorm_clipping` must have rmin <= rmax", renorm_clipping=renorm_clipping)
        self.axis, self.momentum, self.epsilon = axis, float(momentum), float(epsilon)
        self.synchronized = synchronized
        self.renorm, self.renorm_clipping, self.renorm_momentum = renorm, renorm_clipping, renorm_momentum
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)

    def build(self, input_shape: Any) -> None:
        (axis,) = _check_axis(self, self.axis, input_shape)
        shape = (input_shape[axis],)
        axis %= len(input_shape)
        self.add_gamma_and_beta(shape, self.scale, self.center, autocast=False)  # used in float32, as the statistics
        self.moving_mean = self._add_state("moving_mean", shape, self.moving_mean_initializer)
        self.moving_variance = self._add_state("moving_variance", shape, self.moving_variance_initializer)
        if self.renorm:
            # The deviation that belongs to the variance the layer begins with.
            def initial_stddev(shape, dtype, key):
                return jnp.sqrt(call_initializer(self.moving_variance_initializer, key, shape, dtype))

            self.moving_stddev = self._add_state("moving_stddev", shape, initial_stddev)
            self.renorm_mean = self._add_state("renorm_mean", shape, self.moving_mean_initializer)
            self.renorm_stddev = self._add_state("renorm_stddev", shape, initial_stddev)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={axis: shape[0]})

    def _add_state(self, name: str, shape, initializer) -> Variable:
        return self.add_weight(shape, initializer, trainable=False, autocast=False, name=name)

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if mask is not None and mask.ndim != inputs.ndim - 1:
            raise ValueError(
                f"{self}: `mask` must have the inputs' axes but the last. Got {mask.shape} for {inputs.shape}."
            )
        given, inputs = inputs, normalizations.upcast(inputs)
        gamma = 1.0 if self.gamma is None else self.gamma.value
        beta = 0.0 if self.beta is None else self.beta.value
        if training and self.trainable:  # frozen, it neither looks at the batch nor moves: as in Keras
            mean, variance = self._moments(given if mask is None else inputs, mask)
            if self.renorm:
                gamma, beta = self._renormalize(mean, variance, gamma, beta)
            else:
                _move(self.moving_mean, mean, self.momentum)
                _move(self.moving_variance, variance, self.momentum)
        else:
            mean, variance = self.moving_mean.value, self.moving_variance.value
        outputs = normalizations.batch_normalization(
            inputs, mean, variance, self.axis, beta, gamma, epsilon=self.epsilon
        )
        return outputs.astype(self.compute_dtype)

    def _moments(self, inputs, mask):
        axes = [axis for axis in range(inputs.ndim) if axis != self.axis % inputs.ndim]
        if mask is None:
            return normalizations.moments(inputs, axes)
        kept = jnp.broadcast_to(mask.astype(bool)[..., None], inputs.shape)
        kept_rows = jnp.sum(kept, axes, keepdims=True).astype(inputs.dtype)  # float32 at least
        count = kept_rows + config.epsilon()  # a batch may be masked altogether
        mean = jnp.sum(jnp.where(kept, inputs, 0), axes, keepdims=True) / count
        variance = jnp.sum(jnp.where(kept, jnp.square(inputs - mean), 0), axes, keepdims=True) / count
        return mean.reshape(-1), variance.reshape(-1)

    def _renormalize(self, mean, variance, gamma, beta):
        """Scale and offset that correct the batch's statistics towards the moving ones, which are moved."""
        limits = self.renorm_clipping or {}
        stddev = jnp.sqrt(variance + self.epsilon)
        known_stddev = jnp.maximum(self.renorm_stddev.value, math.sqrt(self.epsilon))
        r = jnp.clip(stddev / known_stddev, limits.get("rmin"), limits.get("rmax"))
        d = (mean - self.renorm_mean.value) / known_stddev
        if limits.get("dmax") is not None:
            d = jnp.clip(d, -limits["dmax"], limits["dmax"])
        r, d = lax.stop_gradient((r, d))  # constants, says the paper: the gradient goes through the batch's alone
        _move(self.renorm_mean, mean, self.renorm_momentum)
        _move(self.renorm_stddev, stddev, self.renorm_momentum)
        _move(self.moving_mean, mean, self.momentum)
        _move(self.moving_stddev, stddev, self.momentum)
        self.moving_variance.assign(jnp.maximum(jnp.square(self.moving_stddev.value) - self.epsilon, 0))
        return r * gamma, d * gamma + beta


def _move(moving, batch, momentum):
    moving.assign(momentum * moving.value + (1 - momentum) * batch)


class LayerNormalization(_Affine):
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta` with the statistics of each sample.

    Args:
        axis: Axis, or list of axes, that the statistics are taken over.
        epsilon: Added to the variance.
        center, scale: Whether to add `beta`, to multiply by `gamma`.
        beta_initializer, gamma_initializer: Options.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: Options.
        rms_scaling: Old files of Keras may have it: divides by the standard deviation without subtracting the mean.

    Weights: `gamma`, `beta`, the sizes of `axis`. Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon=0.001,
        center=True,
        scale=True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        rms_scaling=False,
        **kwargs,
    ):
        beta = beta_initializer, beta_regularizer, beta_constraint
        super().__init__(center, scale, beta, (gamma_initializer, gamma_regularizer, gamma_constraint), **kwargs)
        self.axis = _read_axis(self, axis)
        self.epsilon, self.rms_scaling = epsilon, rms_scaling
        self.autocast = False  # computed in float32, cast at the end

    def build(self, input_shape: Any) -> None:
        self._axes = _check_axis(self, self.axis, input_shape)
        shape = [input_shape[axis] for axis in self._axes]
        # What `rms_scaling` meant in Keras: always multiplied, never shifted.
        has_gamma, has_beta = self.scale or self.rms_scaling, self.center and not self.rms_scaling
        self.add_gamma_and_beta(shape, has_gamma, has_beta)
        self.input_spec = _fitting(self._axes, shape)

    def call(self, inputs: Any) -> Any:
        gamma, beta = (None if weight is None else weight.value for weight in (self.gamma, self.beta))
        outputs = normalizations.layer_normalization(
            inputs, gamma, beta, _counted(self._axes, inputs), self.epsilon, not self.rms_scaling, self.compute_dtype
        )
        return outputs.astype(self.compute_dtype)


class RMSNormalization(PassesMasks):
    """`(offset + scale) * x / sqrt(mean(x ** 2) + epsilon)`.

    Args:
        axis: Axis, or list of axes, that the mean is taken over.
        epsilon: Added to the mean square.
        offset: What is added to `scale`, which starts so that both are 1. Keras has no such argument; with 1 it is the
            normalization of Gemma.

    Weights: `scale`, the sizes of `axis`. Source: Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467
    """

    def __init__(self, axis: int | Sequence[int] = -1, epsilon=1e-06, *, offset: float | None = None, **kwargs):
        super().__init__(**kwargs)
        self.axis, self.epsilon, self.offset = axis, epsilon, offset

    def build(self, input_shape: Any) -> None:
        self._axes = _check_axis(self, self.axis, input_shape)
        shape = [input_shape[axis] for axis in self._axes]
        initializer = "ones" if self.offset is None else initializers.Constant(1 - self.offset)
        self.scale = self.add_weight(name="scale", shape=shape, initializer=initializer)
        self.input_spec = _fitting(self._axes, shape)

    def call(self, inputs: Any) -> Any:
        scale = self.scale.value
        # In float32: near 1 half precision would round the small weights away.
        scale = scale if self.offset is None else self.offset + scale.astype(jnp.float32)
        outputs = normalizations.rms_normalization(
            inputs, scale, _counted(self._axes, inputs), self.epsilon, self.compute_dtype
        )
        return outputs.astype(self.compute_dtype)

    def get_config(self) -> dict:
        """The constructor's arguments, `offset` only if it is set."""
        return without(super().get_config(), "offset")


class GroupNormalization(_Affine):
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta` with the statistics of groups of channels of a sample.

    Args:
        groups: Number of groups, a divisor of the number of channels; -1 makes every channel a group.
        axis: The channel axis.
        epsilon: Added to the variance.
        center, scale: Whether to add `beta`, to multiply by `gamma`.
        beta_initializer, gamma_initializer: Options.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: Options.

    Weights: `gamma`, `beta` (channels,). Source: Wu & He 2018, https://arxiv.org/abs/1803.08494
    """

    def __init__(
        self,
        groups=32,
        axis=-1,
        epsilon=0.001,
        center=True,
        scale=True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        beta = beta_initializer, beta_regularizer, beta_constraint
        super().__init__(center, scale, beta, (gamma_initializer, gamma_regularizer, gamma_constraint), **kwargs)
        is_number = isinstance(groups, int) and (groups >= 1 or groups == -1)
        check(self, is_number, "`groups` must be an integer of at least 1, or -1", groups=groups)
        self.groups, self.axis, self.epsilon = groups, axis, epsilon
        self.autocast = False  # computed in float32, cast at the end

    def build(self, input_shape: Any) -> None:
        (axis,) = _check_axis(self, self.axis, input_shape)
        channels = input_shape[axis]
        fits = channels is not None and channels % self.groups == 0  # of -1 every number is a multiple
        expected = f"the number of channels must be known and a multiple of `groups`={self.groups}"
        check(self, fits, expected, channels=channels, input_shape=input_shape)
        self.add_gamma_and_beta((channels,), self.scale, self.center)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={axis: channels})

    def call(self, inputs: Any) -> Any:
        axis = self.axis % inputs.ndim
        channels = inputs.shape[axis]
        groups = channels if self.groups == -1 else self.groups
        # (batch, ..., groups, channels of a group, ...): the statistics are over all but batch and groups.
        split = (*inputs.shape[:axis], groups, channels // groups, *inputs.shape[axis + 1 :])
        axes = [other for other in range(1, inputs.ndim + 1) if other != axis]
        outputs = normalizations.standardize(inputs.reshape(split), axes, self.epsilon).reshape(inputs.shape)
        if self.gamma is not None:
            outputs = outputs * normalizations.along([axis], self.gamma.value, inputs.ndim)
        if self.beta is not None:
            outputs = outputs + normalizations.along([axis], self.beta.value, inputs.ndim)
        return outputs.astype(self.compute_dtype)


class UnitNormalization(PassesMasks):
    """Inputs divided by their Euclidean norm; zeros stay zeros.

    Args:
        axis: Axis, or list of axes, that the norm is taken over.
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs):
        super().__init__(**kwargs)
        self.axis = _read_axis(self, axis)

    def call(self, inputs: Any) -> Any:
        return normalizations.unit_normalization(inputs, _check_axis(self, self.axis, inputs.shape), 1e-6)
