"""Activation functions as layers."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kerax import activations
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.core.variable import Variable
from kerax.layers.options import PassesMasks, check, weight_options


def _check_not_negative(layer: Layer, **arguments):
    for name, value in arguments.items():
        check(layer, value is not None and value >= 0, f"`{name}` must be a number of at least 0", **{name: value})


class Activation(PassesMasks):
    """An activation function applied to the inputs.

    Args:
        activation: Name or function.
    """

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: Any) -> Any:
        return self.activation(inputs)


class ReLU(PassesMasks):
    """`x` above `threshold`, at most `max_value`; below it `negative_slope * (x - threshold)`.

    Args:
        max_value: Largest output. `None` sets no limit.
        negative_slope: Slope below the threshold.
        threshold: Where the function starts.

    Raises:
        ValueError: if an argument is negative.
    """

    def __init__(self, max_value=None, negative_slope=0.0, threshold=0.0, **kwargs):
        super().__init__(**kwargs)
        limit = {} if max_value is None else {"max_value": max_value}  # the others may not be `None`
        _check_not_negative(self, negative_slope=negative_slope, threshold=threshold, **limit)
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def call(self, inputs: Any) -> Any:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(PassesMasks):
    """`x` above 0, `negative_slope * x` below.

    Args:
        negative_slope: Slope below 0, not negative.
        **kwargs: Arguments of every layer; `alpha` is the old name of `negative_slope`.
    """

    def __init__(self, negative_slope=0.3, **kwargs):
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        _check_not_negative(self, negative_slope=negative_slope)
        self.negative_slope = negative_slope

    def call(self, inputs: Any) -> Any:
        return activations.leaky_relu(inputs, self.negative_slope)


class PReLU(PassesMasks):
    """`x` above 0, `alpha * x` below, with a learned slope for every position.

    Args:
        alpha_initializer, alpha_regularizer, alpha_constraint: Options of `alpha`.
        shared_axes: Axes (from 1) along which one slope is shared.

    Weights: `alpha`, the input's shape without the batch axis, 1 along `shared_axes`.
    Source: He et al. 2015, https://arxiv.org/abs/1502.01852
    """

    alpha: Variable

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer=None,
        alpha_constraint=None,
        shared_axes=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        options = alpha_initializer, alpha_regularizer, alpha_constraint
        self.alpha_initializer, self.alpha_regularizer, self.alpha_constraint = weight_options(*options)
        shared = (shared_axes,) if isinstance(shared_axes, int) else shared_axes
        self.shared_axes = None if shared is None else list(shared)

    def build(self, input_shape: Any) -> None:
        shape = list(input_shape[1:])
        for axis in self.shared_axes or ():  # counted with the batch axis, which a weight has not
            shape[axis - 1] = 1
        options = {"regularizer": self.alpha_regularizer, "constraint": self.alpha_constraint}
        self.alpha = self.add_weight(shape, self.alpha_initializer, name="alpha", **options)
        own = {axis: size for axis, size in enumerate(input_shape) if axis and axis not in (self.shared_axes or ())}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=own)

    def call(self, inputs: Any) -> Any:
        # Two halves rather than `where`: the gradient of the slope is that of the negative half alone.
        return jax.nn.relu(inputs) - self.alpha.value * jax.nn.relu(-inputs)


class ELU(PassesMasks):
    """`x` above 0, `alpha * (exp(x) - 1)` below.

    Args:
        alpha: Limit of the negative outputs, with the sign changed.

    Source: Clevert et al. 2016, https://arxiv.org/abs/1511.07289
    """

    def __init__(self, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs: Any) -> Any:
        return jax.nn.elu(inputs, self.alpha)


class Softmax(PassesMasks):
    """`exp(x) / sum(exp(x))` along an axis; masked positions get 0.

    Args:
        axis: Axis, or list of axes that are normalised together.

    Call arguments: `mask`, true where a position counts, of a shape that broadcasts to the inputs.

    Raises:
        ValueError: if the mask does not broadcast to the inputs.
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any, mask: Any = None) -> Any:
        # Configs hold lists, JAX takes tuples.
        axis = tuple(self.axis) if isinstance(self.axis, (list, tuple)) else self.axis
        if mask is None:
            return jax.nn.softmax(inputs, axis)
        if mask.ndim > inputs.ndim or any(m not in (1, x) for m, x in zip(mask.shape[::-1], inputs.shape[::-1])):
            raise ValueError(
                f"{self}: `mask` of shape {mask.shape} does not broadcast to inputs of shape {inputs.shape}."
            )
        kept = mask if mask.dtype == bool else mask > 0.5
        # A large finite number, not -inf: rows without any kept position would become NaN, also in the gradient.
        lowest = -3e4 if inputs.dtype == jnp.float16 else -1e9
        return jnp.where(kept, jax.nn.softmax(jnp.where(kept, inputs, lowest), axis), 0)
