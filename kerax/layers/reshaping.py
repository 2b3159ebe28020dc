"""Layers that move or repeat values and have no weights."""

import math
from typing import Any

import jax.numpy as jnp

from kerax import config
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.layers.options import check, check_positive, is_integer


class Flatten(Layer):
    """All axes but the batch axis made one.

    Args:
        data_format: `"channels_last"` or `"channels_first"`; the latter is moved last before flattening.

    Output shape: `(batch, features)`.
    """

    kerax_builds_in_call = True

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Any) -> Any:
        if self.data_format == "channels_first" and inputs.ndim > 2:
            inputs = jnp.moveaxis(inputs, 1, -1)
        # Not -1: an empty batch would leave it open.
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))


class Reshape(Layer):
    """The same values in another shape.

    Args:
        target_shape: Sizes without the batch axis; one of them may be -1.

    Output shape: `(batch, *target_shape)`.

    Raises:
        ValueError: if two sizes are -1, or the number of values differs.
    """

    def __init__(self, target_shape, **kwargs):
        super().__init__(**kwargs)
        self.target_shape = tuple(target_shape) if isinstance(target_shape, (list, tuple)) else (target_shape,)
        are_sizes = all(is_integer(size) and size >= -1 for size in self.target_shape)
        fits = are_sizes and self.target_shape.count(-1) <= 1
        check(self, fits, "`target_shape` must hold sizes and at most one -1", target_shape=target_shape)

    def call(self, inputs: Any) -> Any:
        known = math.prod(size for size in self.target_shape if size != -1)
        given = math.prod(inputs.shape[1:])
        if isinstance(given, int):
            # With a size left open the others must divide; a size of 0 beside it leaves nothing to find.
            fits = given % known == 0 if -1 in self.target_shape and known else given == known
            expected = f"cannot give {given} values per sample the shape `target_shape`={self.target_shape}"
            check(self, fits, expected, input_shape=inputs.shape)
        rest = given // known if -1 in self.target_shape else None
        return inputs.reshape(inputs.shape[0], *(rest if size == -1 else size for size in self.target_shape))


class Permute(Layer):
    """The axes in another order.

    Args:
        dims: Order of the axes from 1, without the batch axis: `(2, 1)` swaps the first two.

    Raises:
        ValueError: if `dims` is not an order of 1, 2, ...
    """

    kerax_builds_in_call = True

    def __init__(self, dims, **kwargs):
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        is_order = sorted(self.dims) == list(range(1, len(self.dims) + 1))
        check(self, is_order, f"`dims` must be an order of 1, ..., {len(self.dims)}", dims=dims)
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs: Any) -> Any:
        return jnp.transpose(inputs, (0, *self.dims))


class RepeatVector(Layer):
    """The inputs `n` times along a new axis.

    Args:
        n: Number of repetitions.

    Input shape: `(batch, features)`. Output shape: `(batch, n, features)`.
    """

    kerax_builds_in_call = True

    def __init__(self, n, **kwargs):
        super().__init__(**kwargs)
        check_positive(self, n=n)
        self.n = n
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs: Any) -> Any:
        # (batch, features) to (batch, n, features), without a copy where XLA can do without.
        return jnp.broadcast_to(inputs[:, None], (inputs.shape[0], self.n, inputs.shape[1]))
