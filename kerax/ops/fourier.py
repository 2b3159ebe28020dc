"""Windows, frames and Fourier transforms. Complex numbers are pairs `(real, imaginary)`, as in Keras."""

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core.lift import lift
from kerax.ops.lifting import op

__all__ = ("bartlett blackman extract_sequences fft fft2 hamming hanning ifft2 irfft istft kaiser rfft stft").split()


# The number of weights is a size, which must be known when the program is made.
@op
def bartlett(x):
    """The triangular window of `x` weights."""
    return jnp.bartlett(int(x))


@op
def blackman(x):
    """The Blackman window of `x` weights."""
    return jnp.blackman(int(x))


@op
def hamming(x):
    """The Hamming window of `x` weights."""
    return jnp.hamming(int(x))


@op
def hanning(x):
    """The Hann window of `x` weights."""
    return jnp.hanning(int(x))


@op
def kaiser(x, beta):
    """The Kaiser window of `x` weights and shape `beta`."""
    return jnp.kaiser(int(x), beta)


def _complex(x):
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError(f"Expected `x` to be a pair (real, imaginary). Got {type(x).__name__}.")
    real, imaginary = (jnp.asarray(part) for part in x)
    if real.shape != imaginary.shape:
        raise ValueError(f"Expected real and imaginary parts of one shape. Got {real.shape} and {imaginary.shape}.")
    # There are no complex numbers of half precision.
    dtype = jnp.promote_types(jnp.promote_types(real.dtype, imaginary.dtype), jnp.float32)
    return jax.lax.complex(real.astype(dtype), imaginary.astype(dtype))


def _pair(x):
    return jnp.real(x), jnp.imag(x)


@lift
def fft(x):
    """The Fourier transform of `(real, imaginary)` along the last axis."""
    return _pair(jnp.fft.fft(_complex(x)))


@lift
def fft2(x):
    """The Fourier transform of `(real, imaginary)` along the last two axes."""
    return _pair(jnp.fft.fft2(_complex(x)))


@lift
def ifft2(x):
    """The inverse of `fft2`."""
    return _pair(jnp.fft.ifft2(_complex(x)))


@op
def rfft(x, fft_length=None):
    """The `fft_length // 2 + 1` non-negative frequencies of a real `x`, cut or padded to `fft_length`."""
    return _pair(jnp.fft.rfft(x, fft_length))


@lift
def irfft(x, fft_length=None):
    """The inverse of `rfft`; `fft_length` defaults to twice the number of frequencies less 2."""
    return jnp.fft.irfft(_complex(x), fft_length)


def _frames(x, length: int, stride: int):
    count = (x.shape[-1] - length) // stride + 1
    # One gather, with indices that are known when the program is made: (..., frames, length).
    return x[..., np.arange(count)[:, None] * stride + np.arange(length)]


@op
def extract_sequences(x, sequence_length, sequence_stride):
    """The windows `(..., frames, sequence_length)` that begin every `sequence_stride` steps of the last axis."""
    return _frames(jnp.asarray(x), sequence_length, sequence_stride)


def _check_stride(name: str, stride):
    if not isinstance(stride, int) or stride < 1:
        raise ValueError(f"{name}: `sequence_stride` must be an integer of at least 1. Got {stride!r}.")


def _window(name: str, window, length: int, fft_length: int, dtype):
    """`length` weights in the middle of `fft_length`; a window by name is one period of the cosine."""
    if fft_length < length:
        raise ValueError(f"{name}: `fft_length` must be at least `sequence_length`. Got {fft_length} and {length}.")
    if window is None:
        weights = np.ones(length)
    elif isinstance(window, str):
        if window not in ("hann", "hamming"):
            raise ValueError(f"{name}: `window` must be 'hann', 'hamming', an array or None. Got {window!r}.")
        mean = 0.5 if window == "hann" else 0.54
        # Of a period, without its last point, unlike `hanning` and `hamming`: overlapping windows then add up evenly.
        weights = mean - (1 - mean) * np.cos(2 * np.pi * np.arange(length) / length)
    else:
        weights = jnp.asarray(window)
        if weights.shape != (length,):
            raise ValueError(f"{name}: `window` must have shape ({length},). Got {weights.shape}.")
    before = (fft_length - length) // 2  # in the middle, so that frames are centred where `center` says
    return jnp.pad(jnp.asarray(weights, dtype), (before, fft_length - length - before))


@op
def stft(x, sequence_length, sequence_stride, fft_length, window="hann", center=True):
    """The short-time Fourier transform of the last axis.

    Args:
        x: Real, `(..., steps)`.
        sequence_length: Weights of the window.
        sequence_stride: Steps between two windows.
        fft_length: Length of the transform, at least `sequence_length`.
        window: `"hann"`, `"hamming"`, an array, or `None` for ones.
        center: Whether `x` is reflected at its ends, so that frame `t` is centred at step `t * sequence_stride`.

    Returns: the real and imaginary parts, `(..., frames, fft_length // 2 + 1)`.
    """
    _check_stride("stft", sequence_stride)
    x = jnp.asarray(x)
    x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype("float32")
    weights = _window("stft", window, sequence_length, fft_length, x.dtype)
    if center:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(fft_length // 2, fft_length // 2)], "reflect")
    return _pair(jnp.fft.rfft(_frames(x, fft_length, sequence_stride) * weights))


@lift
def istft(x, sequence_length, sequence_stride, fft_length, length=None, window="hann", center=True):
    """The inverse of `stft`: overlapping frames added, over the sum of the squares of their windows.

    Args: as `stft`; `length` is the number of steps to return.
    """
    _check_stride("istft", sequence_stride)
    spectrum = _complex(x)
    frames = jnp.fft.irfft(spectrum, fft_length)
    weights = _window("istft", window, sequence_length, fft_length, frames.dtype)
    count = frames.shape[-2]
    places = np.arange(count)[:, None] * sequence_stride + np.arange(fft_length)
    total = (count - 1) * sequence_stride + fft_length
    signal = jnp.zeros((*frames.shape[:-2], total), frames.dtype).at[..., places].add(frames * weights)
    # Each step was weighted once on the way there and once here.
    squares = jnp.zeros(total, frames.dtype).at[places].add(jnp.broadcast_to(weights**2, places.shape))
    # At the ends no window may reach: there the signal is 0, and stays so.
    signal = signal / jnp.where(squares > 1e-11, squares, 1)
    start = fft_length // 2 if center else 0
    end = start + length if length is not None else total - start
    signal = signal[..., start:end]
    return jnp.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, end - start - signal.shape[-1])])
