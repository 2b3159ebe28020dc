"""Layers that add noise while training and change nothing otherwise.

With `seed=None` the noise comes from the running call's key, with an integer from a stream of the layer's own.
"""

from typing import Any

import jax
import jax.numpy as jnp

from kerax import random
from kerax.core.layer import Layer
from kerax.core.seed_generator import generator_for
from kerax.layers.options import PassesMasks, Spatial, check, check_rate, leave_out

_SELU_LOWEST = -1.6732632423543772 * 1.0507009873554805


class _Noise(PassesMasks):
    """What noise drawn for each value shares: where the random numbers come from, and masks that pass unchanged."""

    def __init__(self, seed: int | None, strength: float, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        # As in Keras, what draws nothing holds no state.
        self.seed_generator = generator_for(seed) if strength else None

    def as_floats(self, inputs: Any) -> Any:
        """The inputs, integers in the compute dtype: what noise is added to or multiplied with is no integer."""
        return inputs if jnp.issubdtype(inputs.dtype, jnp.floating) else inputs.astype(self.compute_dtype)


def _check_noise_shape(layer: Layer, noise_shape) -> tuple | None:
    if noise_shape is None:
        return None
    fits = isinstance(noise_shape, (list, tuple)) and all(
        size is None or (isinstance(size, int) and size >= 1) for size in noise_shape
    )
    check(layer, fits, "`noise_shape` must hold sizes of at least 1 or None", noise_shape=noise_shape)
    return tuple(noise_shape)


class Dropout(_Noise):
    """Inputs with a random fraction `rate` set to 0 and the others scaled by `1 / (1 - rate)`.

    Args:
        rate: Fraction to drop, from 0 to 1.
        noise_shape: Shape of the draw, broadcast to the inputs; `None` entries are the inputs' sizes.
        seed: Integer for a stream of the layer's own.

    Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html
    """

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(seed, rate, **kwargs)
        check_rate(self, rate=rate)
        self.rate = rate
        self.noise_shape = _check_noise_shape(self, noise_shape)

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        return random.dropout(inputs, self.rate, self.noise_shape, self.next_key())


class _SpatialDropout(Spatial):
    """What dropout of whole channels of any rank shares."""

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(data_format, name=name, dtype=dtype)
        check_rate(self, rate=rate)
        self.rate, self.seed, self.supports_masking = rate, seed, True
        self.seed_generator = generator_for(seed) if rate else None

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        # Neighbouring positions are alike: dropped one by one they would be restored from them.
        shape = [1 if axis in self.spatial_axes else None for axis in range(self.rank + 2)]
        return random.dropout(inputs, self.rate, shape, self.next_key())

    def get_config(self) -> dict:
        """The constructor's arguments; this one does not take `trainable`."""
        return leave_out(super().get_config(), "trainable")


class SpatialDropout1D(_SpatialDropout, rank=1):
    """Dropout of whole channels of sequences.

    Args:
        rate: Fraction of channels to drop, from 0 to 1.
        seed: Integer for a stream of the layer's own.

    Input shape: `(batch, steps, channels)`. Source: Tompson et al. 2015, https://arxiv.org/abs/1411.4280
    """

    def __init__(self, rate: float, seed: int | None = None, name: str | None = None, dtype: Any = None):
        super().__init__(rate, "channels_last", seed, name, dtype)


class SpatialDropout2D(_SpatialDropout, rank=2):
    """Dropout of whole channels of images.

    Args:
        rate: Fraction of channels to drop, from 0 to 1.
        data_format: `"channels_last"` or `"channels_first"`.
        seed: Integer for a stream of the layer's own.

    Input shape: `(batch, height, width, channels)`. Source: Tompson et al. 2015, https://arxiv.org/abs/1411.4280
    """


class SpatialDropout3D(_SpatialDropout, rank=3):
    """Dropout of whole channels of volumes.

    Args:
        rate: Fraction of channels to drop, from 0 to 1.
        data_format: `"channels_last"` or `"channels_first"`.
        seed: Integer for a stream of the layer's own.

    Input shape: `(batch, depth, height, width, channels)`.
    Source: Tompson et al. 2015, https://arxiv.org/abs/1411.4280
    """


class GaussianNoise(_Noise):
    """Inputs plus normal noise of mean 0.

    Args:
        stddev: Standard deviation of the noise, at least 0.
        seed: Integer for a stream of the layer's own.
    """

    def __init__(self, stddev, seed=None, **kwargs):
        super().__init__(seed, stddev, **kwargs)
        check(self, stddev >= 0, "`stddev` must be at least 0", stddev=stddev)
        self.stddev = stddev

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.stddev == 0:
            return inputs
        inputs = self.as_floats(inputs)
        return inputs + self.stddev * jax.random.normal(self.next_key(), inputs.shape, inputs.dtype)


class GaussianDropout(_Noise):
    """Inputs times normal noise of mean 1 and standard deviation `sqrt(rate / (1 - rate))`.

    Args:
        rate: As in `Dropout`, whose mean and variance this noise has; from 0 to below 1.
        seed: Integer for a stream of the layer's own.

    Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(seed, rate, **kwargs)
        self.rate = rate
        check(self, 0 <= rate < 1, "`rate` must be at least 0 and below 1", rate=rate)  # the noise would be infinite

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        inputs = self.as_floats(inputs)
        stddev = jnp.asarray((self.rate / (1 - self.rate)) ** 0.5, inputs.dtype)
        return inputs * (1 + stddev * jax.random.normal(self.next_key(), inputs.shape, inputs.dtype))


class AlphaDropout(_Noise):
    """Inputs with a random fraction set to the lowest value of `selu`, then moved back to their mean and variance.

    Args:
        rate: Fraction to drop, from 0 to below 1.
        noise_shape: Shape of the draw, broadcast to the inputs; `None` entries are the inputs' sizes.
        seed: Integer for a stream of the layer's own.

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515
    """

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(seed, rate, **kwargs)
        self.rate = rate
        check(self, 0 <= rate < 1, "`rate` must be at least 0 and below 1", rate=rate)  # nothing would be left to scale
        self.noise_shape = _check_noise_shape(self, noise_shape)

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        shape = self.noise_shape or inputs.shape
        shape = [own if size is None else size for size, own in zip(shape, inputs.shape, strict=True)]
        kept = jax.random.bernoulli(self.next_key(), 1 - self.rate, shape)
        # Inputs of mean 0 and variance 1 have others after the drop: scale and offset bring these back.
        scale = ((1 - self.rate) * (1 + self.rate * _SELU_LOWEST**2)) ** -0.5
        offset = -scale * _SELU_LOWEST * self.rate
        return scale * jnp.where(kept, inputs, _SELU_LOWEST) + offset
