"""`TernaryDense`: an affine map by weights of -1, 0 and 1."""

from typing import Any

import jax
import jax.numpy as jnp

from kerax import activations, ops
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.layers.options import check, check_positive, weight_options


class TernaryDense(Layer):
    """Affine map whose kernel is -1, 0 or 1 in each product, trained by straight-through gradients.

    `activation(beta * inputs @ ternary + bias)`, where `ternary` is the kernel's sign where its size is above
    `threshold`, else 0, and `beta` is the mean size of the kernel. The gradient of `ternary` goes to the kernel as it
    is (Ma et al.: The Era of 1-bit LLMs, 2024, section 3.1).

    Args:
        units: Size of the last output axis, at least 1.
        threshold: Size up to which weights are 0. Default: half the mean size, of each call.
        activation: Name or function applied to the result. `None` applies nothing.
        use_bias: Whether to add `bias`.
        kernel_initializer, bias_initializer: Names or functions `(shape, dtype) -> array`.
        kernel_regularizer, bias_regularizer: Penalties on the weights.
        activity_regularizer: Penalty on the outputs.
        kernel_constraint, bias_constraint: Projections applied after each update.

    Weights: `kernel (features, units)`, floats, and `bias (units,)`.
    Input shape: `(batch, ..., features)`, floating point.
    Output shape: `(batch, ..., units)`, in the layer's compute dtype.

    Raises:
        ValueError: if `units` is below 1, `threshold` is negative, or the input has fewer than 2 axes.
    """

    def __init__(
        self,
        units: int,
        threshold: float | None = None,
        activation=None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        check_positive(self, units=units)
        check(self, threshold is None or threshold >= 0, "`threshold` must be at least 0", threshold=threshold)
        self.units, self.threshold, self.use_bias = units, threshold, use_bias
        self.activation = activations.get(activation)
        self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint = weight_options(
            kernel_initializer, kernel_regularizer, kernel_constraint
        )
        self.bias_initializer, self.bias_regularizer, self.bias_constraint = weight_options(
            bias_initializer, bias_regularizer, bias_constraint
        )
        self.input_spec = InputSpec(min_ndim=2)
        self.supports_masking = True  # only the last axis changes

    def build(self, input_shape: Any) -> None:
        self.kernel: Any = self.add_weight(
            (input_shape[-1], self.units),
            self.kernel_initializer,
            name="kernel",
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias: Any = None
        if self.use_bias:
            self.bias = self.add_weight(
                (self.units,),
                self.bias_initializer,
                name="bias",
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_shape[-1]})

    def call(self, inputs: Any) -> Any:
        kernel = self.kernel.value
        size = jnp.abs(kernel)
        mean = jnp.mean(size)
        limit = mean / 2 if self.threshold is None else self.threshold
        ternary = jnp.where(size > limit, jnp.sign(kernel), 0)
        # Forward the ternary one, backward the kernel: rounding has no gradient of its own.
        ternary = kernel + jax.lax.stop_gradient(ternary - kernel)
        outputs = mean * ops.matmul(inputs, ternary)
        outputs = outputs if self.bias is None else outputs + self.bias
        return outputs if self.activation is None else self.activation(outputs)
