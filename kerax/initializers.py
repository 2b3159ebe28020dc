"""Initializers: the first values of weights, drawn from a key."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax import config, random
from kerax.core.configurable import Configurable
from kerax.core.registry import Family, deserialize_keras_object, serialize_keras_object
from kerax.core.seed_generator import SeedGenerator, next_key

INITIALIZERS = Family("initializers", "initializer")
_SCALINGS = ("density", "spectrum", None)
_ALIASES = {
    "Zeros": ("zero",),
    "Ones": ("one",),
    "Identity": ("IdentityInitializer",),
    "Orthogonal": ("OrthogonalInitializer",),
    "RandomNormal": ("normal",),
    "STFT": ("STFTInitializer",),
    "RandomUniform": ("uniform",),
}


class Initializer(Configurable):
    """Makes an array from a shape and a key; a subclass writes `__call__(self, shape, dtype=None, key=None)`."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__ and not cls.__name__.startswith("_"):  # users' own are found by registration
            INITIALIZERS.add(cls, *_ALIASES.get(cls.__name__, ()))

    def __call__(self, shape, dtype=None, key=None) -> None:
        raise NotImplementedError(
            f"{type(self).__name__} must implement `__call__(self, shape, dtype=None, key=None)`."
        )

    def clone(self) -> "Initializer":
        """A new initializer of the same config."""
        return self.from_config(self.get_config())

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def _dtype(dtype):
    return jnp.dtype(dtype or config.floatx())


def _key(seed, key) -> jax.Array:
    """An own integer seed wins; a `SeedGenerator` is mixed into a given key, so that drawing stays pure."""
    if key is None or isinstance(seed, (int, np.integer)):  # called by hand, or the same values for every weight
        return next_key(seed)
    return key if seed is None else jax.random.fold_in(key, seed.seed)


def _check_seed(owner, seed):
    if seed is not None and not isinstance(seed, (int, np.integer, SeedGenerator)):
        raise ValueError(f"{type(owner).__name__}: `seed` must be an integer, a SeedGenerator or None. Got {seed!r}.")
    return seed


class _Filled(Initializer):
    """All the same number."""

    number: int

    def on_host(self, shape, dtype) -> np.ndarray:
        """The value without a device program, which a model's first step would wait for."""
        return np.full(shape, self.number, dtype)

    def __call__(self, shape, dtype=None, key=None) -> Any:
        return jnp.full(shape, self.number, _dtype(dtype))


class Zeros(_Filled):
    """All 0."""

    number = 0


class Ones(_Filled):
    """All 1."""

    number = 1


class Constant(Initializer):
    """All `value`: a number, or an array that broadcasts to the shape."""

    def __init__(self, value: Any = 0.0):
        self.value = value

    def __call__(self, shape, dtype=None, key=None) -> Any:
        return jnp.broadcast_to(jnp.asarray(self.value, _dtype(dtype)), shape)


class Identity(Initializer):
    """`gain` on the diagonal of a matrix, 0 elsewhere."""

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def __call__(self, shape, dtype=None, key=None) -> Any:
        if len(shape) != 2:
            raise ValueError(f"Identity: expected a shape of 2 axes. Got {tuple(shape)}.")
        return self.gain * jnp.eye(*shape, dtype=_dtype(dtype))


class _Normal(Initializer):
    """What normal distributions share: their arguments."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed=None):
        self.mean, self.stddev, self.seed = mean, stddev, _check_seed(self, seed)


class RandomNormal(_Normal):
    """Normally distributed values.

    Args:
        mean: Mean.
        stddev: Standard deviation.
        seed: An integer gives the same values on every call; `None` draws from the weight's key.
    """

    def __call__(self, shape, dtype=None, key=None) -> Any:
        return random.normal(shape, self.mean, self.stddev, dtype, _key(self.seed, key))


class TruncatedNormal(_Normal):
    """Normally distributed values, redrawn beyond 2 standard deviations. Arguments as `RandomNormal`."""

    def __call__(self, shape, dtype=None, key=None) -> Any:
        return random.truncated_normal(shape, self.mean, self.stddev, dtype, _key(self.seed, key))


class RandomUniform(Initializer):
    """Values spread evenly over `[minval, maxval)`. `seed` as in `RandomNormal`."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed=None):
        self.minval, self.maxval, self.seed = minval, maxval, _check_seed(self, seed)

    def __call__(self, shape, dtype=None, key=None) -> Any:
        return random.uniform(shape, self.minval, self.maxval, dtype, _key(self.seed, key))

    def uniform_range(self, shape) -> tuple[float, float] | None:
        """Between which numbers values are drawn evenly from the weight's key."""
        return (self.minval, self.maxval) if self.seed is None else None


class VarianceScaling(Initializer):
    """Values of variance `scale / n`, where `n` counts the connections of a unit.

    Args:
        scale: Factor, above 0.
        mode: `n`: `"fan_in"` (inputs of a unit), `"fan_out"` (outputs), `"fan_avg"` (their mean).
        distribution: `"truncated_normal"`, `"untruncated_normal"` or `"uniform"`.
        seed: As in `RandomNormal`.
        input_axes: Axes whose sizes multiply to the inputs of a unit. Default: found as for dense and conv kernels.
        output_axes: Likewise for the outputs; given together with `input_axes`.

    Raises:
        ValueError: if an argument is none of the above.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution="truncated_normal",
        seed=None,
        input_axes=None,
        output_axes=None,
    ):
        # Keras's old name for the first of the three.
        distribution = {"normal": "truncated_normal"}.get(distribution.lower(), distribution.lower())
        if scale <= 0:
            raise ValueError(f"{type(self).__name__}: `scale` must be above 0. Got {scale}.")
        for name, value, known in (
            ("mode", mode, ("fan_in", "fan_out", "fan_avg")),
            ("distribution", distribution, ("truncated_normal", "untruncated_normal", "uniform")),
        ):
            if value not in known:
                raise ValueError(f"{type(self).__name__}: `{name}` must be one of {known}. Got {value!r}.")
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes, self.seed = input_axes, output_axes, _check_seed(self, seed)

    def __call__(self, shape, dtype=None, key=None) -> Any:
        variance, key = self._variance(shape), _key(self.seed, key)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return random.uniform(shape, -limit, limit, dtype, key)
        if self.distribution == "untruncated_normal":
            return random.normal(shape, 0.0, math.sqrt(variance), dtype, key)
        # A normal cut at 2 standard deviations keeps this fraction of its standard deviation.
        return random.truncated_normal(shape, 0.0, math.sqrt(variance) / 0.87962566103423978, dtype, key)

    def _variance(self, shape) -> float:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        return self.scale / max(1.0, fans[self.mode])  # a weight with an axis of 0 has no connection at all

    def uniform_range(self, shape) -> tuple[float, float] | None:
        """Between which numbers values are drawn evenly from the weight's key, if they are."""
        if self.distribution != "uniform" or self.seed is not None:
            return None
        limit = math.sqrt(3 * self._variance(shape))
        return -limit, limit


def compute_fans(shape, input_axes=None, output_axes=None) -> tuple[int, int]:
    """Numbers of inputs and outputs of one unit of a kernel `(*window, inputs, outputs)`."""
    shape = tuple(shape)
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if len(shape) < 2:  # a bias or a scalar: each number is its own input and output
        return math.prod(shape), math.prod(shape)
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


class _NamedScaling(VarianceScaling):
    """What scalings with a name of their own share: the arguments that the name leaves open."""

    named: tuple[float, str, str]  # scale, mode and distribution

    def __init__(self, seed=None, input_axes=None, output_axes=None):
        super().__init__(*self.named, seed, input_axes, output_axes)


class GlorotUniform(_NamedScaling):
    """`VarianceScaling(1, "fan_avg", "uniform")`. Source: https://proceedings.mlr.press/v9/glorot10a.html"""

    named = (1.0, "fan_avg", "uniform")


class GlorotNormal(_NamedScaling):
    """`VarianceScaling(1, "fan_avg", "truncated_normal")`. Source: https://proceedings.mlr.press/v9/glorot10a.html"""

    named = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_NamedScaling):
    """`VarianceScaling(2, "fan_in", "uniform")`. Source: https://arxiv.org/abs/1502.01852"""

    named = (2.0, "fan_in", "uniform")


class HeNormal(_NamedScaling):
    """`VarianceScaling(2, "fan_in", "truncated_normal")`. Source: https://arxiv.org/abs/1502.01852"""

    named = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_NamedScaling):
    """`VarianceScaling(1, "fan_in", "uniform")`. Source: LeCun et al. 1998, Efficient BackProp"""

    named = (1.0, "fan_in", "uniform")


class LecunNormal(_NamedScaling):
    """`VarianceScaling(1, "fan_in", "truncated_normal")`. Source: https://arxiv.org/abs/1706.02515"""

    named = (1.0, "fan_in", "truncated_normal")


class Orthogonal(Initializer):
    """A random matrix with orthonormal rows or columns, times `gain`; more axes are flattened but for the last.

    `seed` as in `RandomNormal`. Source: https://arxiv.org/abs/1312.6120
    """

    def __init__(self, gain: float = 1.0, seed=None):
        self.gain, self.seed = gain, _check_seed(self, seed)

    def __call__(self, shape, dtype=None, key=None) -> Any:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: expected a shape of at least 2 axes. Got {tuple(shape)}.")
        dtype = _dtype(dtype)
        exact = dtype if dtype.itemsize >= 4 else jnp.dtype("float32")  # no QR in half precision
        rows, columns = math.prod(shape[:-1]), shape[-1]
        # QR wants a tall matrix for orthonormal columns; a wide one is the transpose of one.
        square = random.normal((max(rows, columns), min(rows, columns)), dtype=exact, seed=_key(self.seed, key))
        q, r = jnp.linalg.qr(square)
        q = q * jnp.sign(jnp.diagonal(r))  # makes the distribution uniform
        return (self.gain * jnp.reshape(q.T if rows < columns else q, shape)).astype(dtype)


class STFT(Initializer):
    """The real or imaginary part of a windowed Fourier transform, as the kernel of a convolution over time.

        cos(2 pi t f) window(t) / scale    or    -sin(2 pi t f) window(t) / scale

    Args:
        side: `"real"` or `"imag"`.
        window: A name that `scipy.signal.get_window` knows, an array of one number per frame, or `None`.
        scaling: `"density"` divides by the window's root of summed squares, `"spectrum"` by its sum, `None` by 1.
        periodic: Whether a window made by name is symmetric; Keras hands it to scipy as `fftbins`.

    Raises:
        ValueError: for another side, scaling or window.
    """

    def __init__(self, side="real", window: Any = "hann", scaling: str | None = "density", periodic=False):
        for name, value, allowed in (("side", side, ("real", "imag")), ("scaling", scaling, _SCALINGS)):
            if value not in allowed:
                raise ValueError(f"STFT: `{name}` must be one of {allowed}. Got {value!r}.")
        self.side, self.window, self.scaling, self.periodic = side, window, scaling, periodic
        if isinstance(window, str):
            self._window_of(1)  # refuses an unknown name here, not when the weight is made

    def _window_of(self, length: int):
        if not isinstance(self.window, str):
            return self.window
        from scipy.signal import get_window  # comes with jax; slow to import

        return get_window(self.window, length, self.periodic)

    def __call__(self, shape, dtype=None, key=None) -> Any:
        dtype = _dtype(dtype)
        length, _, frequencies = shape
        times, bins = jnp.arange(length, dtype=dtype), jnp.arange(frequencies, dtype=dtype)
        angles = -2 * math.pi * times[:, None, None] * (bins / (2 * (frequencies - 1)))
        kernel = jnp.cos(angles) if self.side == "real" else jnp.sin(angles)
        if self.window is not None:
            window = jnp.asarray(self._window_of(length), dtype)
            if window.shape != (length,):
                raise ValueError(f"STFT: `window` must have shape ({length},). Got {window.shape}.")
            sums = {"density": jnp.sqrt(jnp.sum(window**2)), "spectrum": jnp.sum(jnp.abs(window))}
            scale = sums[self.scaling] if self.scaling is not None else 1
            kernel = kernel * window[:, None, None] / scale
        return jnp.broadcast_to(kernel, shape).astype(dtype)


# Keras's other names.
stft = STFTInitializer = STFT
constant = Constant
glorot_normal = GlorotNormal
glorot_uniform = GlorotUniform
he_normal = HeNormal
he_uniform = HeUniform
identity = Identity
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
ones = Ones
orthogonal = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
zeros = Zeros
IdentityInitializer = Identity
OrthogonalInitializer = Orthogonal


def get(identifier: Any) -> Any:
    """The initializer for a name, a config, a class or a function; `None` stays `None`.

    Functions `(shape, dtype)` and JAX's `(key, shape, dtype)` are returned as they are; a number or an array becomes
    a `Constant`.
    """
    if isinstance(identifier, (int, float, np.ndarray, jax.Array)) and not isinstance(identifier, bool):
        return Constant(identifier)
    return INITIALIZERS.get(identifier)


def serialize(initializer) -> dict:
    """A JSON-able description."""
    return serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """The initializer that `serialize` described."""
    return INITIALIZERS.get(deserialize_keras_object(config, custom_objects))
