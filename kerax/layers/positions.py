"""Where in a sequence a vector stands: rotary, learned and sinusoidal positions."""

from typing import Any

import jax.numpy as jnp

from kerax import initializers
from kerax.core import caching
from kerax.layers.options import PassesMasks, check, check_positive
from kerax.ops import cpu, rotary
from kerax.ops.products import repeated


def _positions(inputs, start_index, positions, axis: int = 1):
    """The positions of a call, `(length,)` or `(batch, length)`: those given, else those of the cache around, else
    one after the other."""
    if positions is None:
        positions = caching.positions_of_call(inputs.shape[axis])
    positions = jnp.arange(inputs.shape[axis]) if positions is None else jnp.asarray(positions)
    return positions + jnp.asarray(start_index, positions.dtype)


class RotaryEmbedding(PassesMasks):
    """Inputs with pairs of features turned by angles that grow with the position.

    Feature `i` and feature `i + size / 2` are a pair; at position `p` it is turned by `p * max_wavelength ** (-2i /
    size)`. Products of two vectors turned so depend on the distance of their positions alone.

    Args:
        max_wavelength: Base of the wavelengths, `rope_theta` of Hugging Face's configs.
        scaling_factor: Positions are divided by it.
        sequence_axis: Axis of positions.
        feature_axis: Axis of features, an even number of them.
        scaling: How longer sequences than those of the training are reached, in the form of `rope_scaling` in
            Hugging Face's configs: a dict with `rope_type` (`"default"`, `"linear"`, `"dynamic"`, `"yarn"`,
            `"llama3"` or `"longrope"`) and the fields of that kind. `dynamic`, `yarn` and `longrope` need
            `original_max_position_embeddings` there, which those configs may have beside it.
        rotary_dim: Number of first features that are turned. Default: all.

    Call arguments:
        inputs: Any shape with both axes, `(batch, positions, heads, features)` for example.
        start_index: Position of the first vector.
        positions: `(positions,)` or `(batch, positions)`, for `start_index` to be added to. Default: one after the
            other; in a call with a cache, where that says.

    Output shape: the inputs'. Angles are computed in float32, whatever the inputs.
    Sources: Su et al. 2021, https://arxiv.org/abs/2104.09864; YaRN: Peng et al. 2023,
        https://arxiv.org/abs/2309.00071; LongRoPE: Ding et al. 2024, https://arxiv.org/abs/2402.13753

    Raises:
        ValueError: if an argument is out of its range, or `scaling` is of an unknown kind or lacks a field.
    """

    def __init__(
        self,
        max_wavelength: float = 10000,
        scaling_factor: float = 1.0,
        sequence_axis: int = 1,
        feature_axis: int = -1,
        *,
        scaling: dict | None = None,
        rotary_dim: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check(self, max_wavelength > 0, "`max_wavelength` must be above 0", max_wavelength=max_wavelength)
        check(self, scaling_factor > 0, "`scaling_factor` must be above 0", scaling_factor=scaling_factor)
        self.max_wavelength, self.scaling_factor = max_wavelength, scaling_factor
        self.sequence_axis, self.feature_axis = sequence_axis, feature_axis
        self.scaling = None if scaling is None else rotary.read_scaling(str(self), scaling)
        self.rotary_dim = rotary_dim
        check(self, rotary_dim is None or rotary_dim > 0 == rotary_dim % 2, "`rotary_dim` must be even", got=rotary_dim)

    def call(self, inputs: Any, start_index: Any = 0, positions: Any = None) -> Any:
        axes = [axis % inputs.ndim for axis in (0, self.sequence_axis, self.feature_axis)]
        positions = _positions(inputs, start_index, positions, self.sequence_axis)
        size = inputs.shape[self.feature_axis]
        num_turned = size if self.rotary_dim is None else self.rotary_dim
        check(self, num_turned % 2 == 0 and num_turned <= size, "features must be pairs", features=size)
        angles, factor = rotary.angles(
            positions.astype(jnp.float32) / self.scaling_factor, num_turned, self.max_wavelength, self.scaling
        )  # (batch or none, positions, pairs)
        # As many axes as the inputs have, so that they broadcast over heads.
        shape = [1] * inputs.ndim
        for axis, length in zip(axes[3 - angles.ndim :], angles.shape, strict=True):
            shape[axis] = length
        order = sorted(range(angles.ndim), key=lambda index: axes[3 - angles.ndim + index])
        angles = jnp.transpose(angles, order).reshape(shape)
        return rotary.turned(inputs, angles, factor, self.feature_axis, num_turned)


class PositionEmbedding(PassesMasks):
    """A trained vector for each position, in the shape of the inputs, for them to be added to.

    Args:
        sequence_length: Number of positions.
        initializer: Of the table.

    Call arguments: `inputs (batch, ..., positions, features)`; `start_index` and `positions` as in
        `RotaryEmbedding`.
    Weights: `embeddings (sequence_length, features)`.
    Output shape: the inputs'.

    Raises:
        ValueError: if the inputs have more positions than the table.
    """

    def __init__(self, sequence_length: int, initializer: Any = "glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        check_positive(self, sequence_length=sequence_length)
        self.sequence_length, self.initializer = sequence_length, initializers.get(initializer)

    def build(self, input_shape: Any) -> None:
        shape = self.sequence_length, input_shape[-1]
        self.position_embeddings = self.add_weight(name="embeddings", shape=shape, initializer=self.initializer)

    def call(self, inputs: Any, start_index: Any = 0, positions: Any = None) -> Any:
        length, table = inputs.shape[-2], self.position_embeddings.value
        if isinstance(length, int):
            fits = length <= self.sequence_length
            check(self, fits, f"at most {self.sequence_length} positions have a vector", positions=length)
        found = cpu.take_rows(table, _positions(inputs, start_index, positions, -2))
        if found.ndim == 2 and inputs.ndim == 3:  # the same of all rows: a gradient that XLA lays out well
            return repeated(found, inputs.shape[0])
        return jnp.broadcast_to(_as_inputs(found, inputs.ndim), inputs.shape)


class SinePositionEncoding(PassesMasks):
    """Sines and cosines of the positions, in the shape of the inputs, for them to be added to.

    Feature `2i` is `sin(p * max_wavelength ** (-2i / features))`, feature `2i + 1` the cosine.

    Args:
        max_wavelength: Base of the wavelengths.

    Call arguments: `inputs (batch, ..., positions, features)`; `start_index` and `positions` as in
        `RotaryEmbedding`.
    Output shape: the inputs'. Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762
    """

    def __init__(self, max_wavelength: float = 10000, **kwargs):
        super().__init__(**kwargs)
        check(self, max_wavelength > 0, "`max_wavelength` must be above 0", max_wavelength=max_wavelength)
        self.max_wavelength = max_wavelength

    def call(self, inputs: Any, start_index: Any = 0, positions: Any = None) -> Any:
        feature = jnp.arange(inputs.shape[-1])
        # (features,): angles per position
        rates = jnp.float32(self.max_wavelength) ** ((feature // 2).astype(jnp.float32) * (-2 / inputs.shape[-1]))
        angles = _positions(inputs, start_index, positions, -2)[..., None].astype(jnp.float32) * rates
        found = jnp.where(feature % 2 == 0, jnp.sin(angles), jnp.cos(angles)).astype(self.compute_dtype)
        return jnp.broadcast_to(_as_inputs(found, inputs.ndim), inputs.shape)


def _as_inputs(found, ndim: int):
    """`(positions, features)` or `(batch, positions, features)` with axes between the first and these for inputs."""
    return found if found.ndim == 2 else jnp.expand_dims(found, tuple(range(1, ndim - 2)))
