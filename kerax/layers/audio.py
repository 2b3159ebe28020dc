"""Spectrograms of audio signals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kerax import config
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.layers.options import check, check_choice, check_positive


def _window(layer: Layer, window, length: int, periodic: bool) -> np.ndarray:
    """The weights of a frame's samples: one of scipy's windows by name, the given ones, or ones for `None`."""
    if window is None:
        return np.ones(length)
    if isinstance(window, str):
        from scipy.signal import get_window  # comes with jax; slow to import

        try:
            return np.asarray(get_window(window, length, fftbins=periodic), np.float64)
        except ValueError as error:
            raise ValueError(f"{layer}: scipy has no `window` {window!r} that needs no parameter: {error}") from None
    weights = np.asarray(window, np.float64)
    check(layer, weights.shape == (length,), f"`window` must have {length} weights", shape=weights.shape)
    return weights


class MelSpectrogram(Layer):
    """Strengths of the bands of the mel scale over time, of signals reflected at their ends.

    Args:
        fft_length: Length of the Fourier transform in samples.
        sequence_stride: Samples from one frame to the next.
        sequence_length: Length of a frame, at most `fft_length`. Default: `fft_length`.
        window: `"hann"`, `"hamming"` or another name of `scipy.signal.get_window`, weights, or `None`.
        sampling_rate: Samples per second.
        num_mel_bins: Number of bands.
        min_freq, max_freq: Where the bands begin and end in hertz. Default of the latter: half the sampling rate.
        power_to_db: Whether to give decibels, `10 log10(power / ref_power)`.
        top_db: How far below the largest value of the batch decibels may be.
        mag_exp: Power of the magnitudes that is summed.
        min_power: Smallest power. ref_power: The power of 0 decibels.

    Input shape: `(batch, samples)` or `(samples,)`. Output shape: `(batch, num_mel_bins, 1 + samples // stride)`.
    """

    def __init__(
        self,
        fft_length=2048,
        sequence_stride=512,
        sequence_length=None,
        window: Any = "hann",
        sampling_rate=16000,
        num_mel_bins=128,
        min_freq=20.0,
        max_freq=None,
        power_to_db=True,
        top_db=80.0,
        mag_exp=2.0,
        min_power=1e-10,
        ref_power=1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive(self, fft_length=fft_length, sequence_stride=sequence_stride, num_mel_bins=num_mel_bins)
        self.fft_length, self.sequence_stride = fft_length, sequence_stride
        self.sequence_length = sequence_length or fft_length
        fits = self.sequence_length <= fft_length
        check(
            self, fits, f"`sequence_length` must be at most `fft_length`={fft_length}", sequence_length=sequence_length
        )
        self.power_to_db, self.top_db, self.mag_exp = power_to_db, top_db, mag_exp
        self.min_power, self.ref_power = min_power, ref_power
        weights = _window(self, window, self.sequence_length, periodic=True)
        # A shorter frame lies in the middle of zeros.
        before = (fft_length - self.sequence_length) // 2
        self._weights_of_frame = np.pad(weights, (before, fft_length - self.sequence_length - before))
        self.max_freq = int(sampling_rate / 2) if max_freq is None else max_freq
        self._bands = mel_bands(num_mel_bins, fft_length // 2 + 1, sampling_rate, min_freq, self.max_freq)

    def call(self, inputs: Any) -> Any:
        dtype = self.compute_dtype
        half = self.fft_length // 2
        signal = inputs.astype("float32")
        signal = jnp.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(half, half)], mode="reflect")
        count = 1 + (signal.shape[-1] - self.fft_length) // self.sequence_stride
        positions = jnp.arange(count)[:, None] * self.sequence_stride + jnp.arange(self.fft_length)
        frames = signal[..., positions] * jnp.asarray(self._weights_of_frame, "float32")  # (..., time, fft_length)
        # In float32 whatever the compute dtype: there are no transforms of half precision.
        power = jnp.abs(jnp.fft.rfft(frames)) ** self.mag_exp
        mel = jnp.swapaxes(jnp.matmul(power, jnp.asarray(self._bands, "float32"), precision="highest"), -1, -2)
        if self.power_to_db:
            mel = 10 * jnp.log10(jnp.maximum(mel, self.min_power) / max(self.min_power, self.ref_power))
            mel = jnp.maximum(mel, jnp.max(mel) - self.top_db)
        return mel.astype(dtype)


def mel_bands(num_mel_bins: int, num_bins: int, sampling_rate: Any, min_freq: Any, max_freq: Any) -> np.ndarray:
    """Triangles of height 1 on the mel scale, `(num_bins, num_mel_bins)`; the first bin, frequency 0, has none."""
    to_mel = lambda hertz: 2595 * np.log10(1 + np.asarray(hertz) / 700)
    bins = to_mel(np.linspace(0, sampling_rate / 2, num_bins))[:, None]
    edges = np.linspace(to_mel(min_freq), to_mel(max_freq), num_mel_bins + 2)
    lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - lower) / (center - lower), (upper - bins) / (upper - center))
    triangles[0] = 0
    return np.maximum(triangles, 0)


class STFTSpectrogram(Layer):
    """Short-time Fourier transform of signals by convolutions, whose kernels can be trained.

    Args:
        mode: `"log"` (of the magnitude), `"magnitude"`, `"psd"` (power, of both signs of the frequency), `"real"`,
            `"imag"`, `"angle"` or `"stft"` (real and imaginary parts).
        frame_length: Samples of a frame.
        frame_step: Samples from one frame to the next, at most `frame_length`. Default: half of `frame_length`.
        fft_length: Length of the transform. Default: the power of two from `frame_length` up.
        window: `"hann"`, `"hamming"` or another name of `scipy.signal.get_window`, weights, or `None`.
        periodic: Whether a window by name is one period of the cosine.
        scaling: `"density"` (by the window's squares), `"spectrum"` (by its sum) or `None`; with a window only.
        padding: `"valid"` or `"same"`.
        expand_dims: Whether frequencies get an axis of their own.
        data_format: `"channels_last"` or `"channels_first"`.

    Weights: `real_kernel`, `imag_kernel` `(frame_length, 1, fft_length // 2 + 1)`, those that `mode` needs.
    Input shape: `(batch, samples, channels)`. Output shape: `(batch, time, channels * bins)`, or with `expand_dims`
    `(batch, time, bins, channels)`.
    """

    modes = ("log", "magnitude", "psd", "real", "imag", "angle", "stft")

    def __init__(
        self,
        mode="log",
        frame_length=256,
        frame_step=None,
        fft_length=None,
        window: Any = "hann",
        periodic=False,
        scaling: str | None = "density",
        padding="valid",
        expand_dims=False,
        data_format=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice(self, "mode", mode, self.modes)
        check_choice(self, "scaling", scaling, ("density", "spectrum", None))
        check_choice(self, "padding", padding, ("valid", "same"))
        check_positive(self, frame_length=frame_length)
        self.mode, self.padding, self.expand_dims = mode, padding, expand_dims
        self.frame_step = max(1, frame_length // 2) if frame_step is None else frame_step
        self.bins_length = 1 << (frame_length - 1).bit_length() if fft_length is None else fft_length
        check_positive(self, frame_step=self.frame_step, fft_length=self.bins_length)
        fits = self.frame_step <= frame_length <= self.bins_length
        expected = f"`frame_step` must be at most, `fft_length` at least `frame_length`={frame_length}"
        check(self, fits, expected, frame_step=self.frame_step, fft_length=self.bins_length)
        self.frame_length = frame_length
        self.window_weights = _window(self, window, frame_length, periodic)
        self.scaling = scaling if window is not None else None
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=3)

    def build(self, input_shape: Any) -> None:
        weights = self.window_weights
        scale = {"density": np.sqrt(np.sum(weights**2)), "spectrum": np.abs(np.sum(weights)), None: 1.0}[self.scaling]
        bins = np.arange(self.bins_length // 2 + 1)
        angles = 2 * np.pi * np.outer(np.arange(self.frame_length), bins) / self.bins_length
        self.kernels = []
        for name, wave in (("real", np.cos(angles)), ("imag", -np.sin(angles))):
            if self.mode not in ({"real", "imag"} - {name}):  # not where only the other part is asked for
                kernel = (weights[:, None] * wave / scale)[:, None].astype("float32")
                make = lambda shape, dtype=None, kernel=kernel: jnp.asarray(kernel, dtype)
                self.kernels.append(self.add_weight(kernel.shape, make, name=f"{name}_kernel"))

    def call(self, inputs: Any) -> Any:
        is_first = self.data_format == "channels_first"
        signal = inputs.astype(self.compute_dtype)
        signal = signal if is_first else jnp.swapaxes(signal, 1, 2)
        batch, channels, samples = signal.shape
        # Each channel is a signal of its own: (batch * channels, 1, samples).
        signals, window = signal.reshape(-1, 1, samples), ((self.frame_step,), self.padding.upper())
        numbers = ("NCH", "HIO", "NHC")
        kernels = (kernel.value for kernel in self.kernels)
        parts = (lax.conv_general_dilated(signals, kernel, *window, dimension_numbers=numbers) for kernel in kernels)
        found = self._combine(*parts)
        found = found.reshape(batch, channels, *found.shape[1:])  # (batch, channel, time, bin)
        if self.expand_dims:
            return found if is_first else jnp.moveaxis(found, 1, -1)
        if is_first:
            return jnp.swapaxes(found, 2, 3).reshape(batch, -1, found.shape[2])
        return jnp.moveaxis(found, 1, 2).reshape(batch, found.shape[2], -1)

    def _combine(self, real: jax.Array, imag: Any = None):
        if self.mode in ("real", "imag"):
            return real
        if self.mode == "stft":
            return jnp.concatenate([real, imag], axis=-1)
        if self.mode == "angle":
            return jnp.arctan2(imag, real)
        power = real**2 + imag**2
        if self.mode == "psd":  # of both signs of the frequency, which the first and the last bin have only once
            twice = np.full(power.shape[-1], 2.0)
            twice[[0, -1]] = 1
            return power * jnp.asarray(twice, power.dtype)
        # Not of 0, where the root's gradient and the logarithm are infinite.
        magnitude = jnp.sqrt(jnp.maximum(power, config.epsilon()))
        return magnitude if self.mode == "magnitude" else jnp.log(magnitude)
