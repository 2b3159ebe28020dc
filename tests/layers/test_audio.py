"""Spectrograms against Keras over a grid of arguments."""

import keras
import numpy as np
import pytest

from kerax import layers

SIGNALS = np.random.default_rng(0).normal(size=(2, 600)).astype("float32") * np.array([[1.0], [0.01]], "float32")
STEREO = np.stack([SIGNALS, SIGNALS[::-1] * 0.5], -1)
SMALL = {"fft_length": 64, "sequence_stride": 16, "num_mel_bins": 8, "sampling_rate": 800}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        SMALL | {"sequence_length": 40, "power_to_db": False},
        SMALL | {"window": None, "mag_exp": 1.0, "power_to_db": False},
        SMALL | {"window": "hamming", "top_db": 20.0},
        SMALL | {"max_freq": 300.0, "min_freq": 0.0, "ref_power": 2.0, "min_power": 1e-3},
    ],
)
def test_mel_spectrograms_are_those_of_keras(options):
    for signals in (SIGNALS, SIGNALS[0]):
        expected = keras.layers.MelSpectrogram(**options)(signals)
        np.testing.assert_allclose(layers.MelSpectrogram(**options)(signals), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "options",
    [
        *({"mode": mode} for mode in ("log", "magnitude", "psd", "real", "imag", "angle", "stft")),
        {"fft_length": 64, "padding": "same"},
        {"periodic": True, "scaling": "spectrum", "window": "hamming"},
        {"scaling": None, "frame_step": 8},
        {"window": None},
        {"window": "blackman", "periodic": True},
        {"window": "tukey"},
        {"expand_dims": True, "mode": "stft"},
    ],
)
def test_short_time_transforms_are_those_of_keras(options, data_format):
    signals = STEREO if data_format == "channels_last" else STEREO.transpose(0, 2, 1)
    options = {"frame_length": 20, "data_format": data_format} | options
    ours, theirs = layers.STFTSpectrogram(**options), keras.layers.STFTSpectrogram(**options)
    found, expected = np.asarray(ours(signals)), np.asarray(theirs(signals))
    assert found.shape == expected.shape
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=3e-6)
    if options.get("mode") == "angle":
        found, expected = np.exp(1j * found), np.exp(1j * expected)  # 2 pi is no difference
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.MelSpectrogram(64, sequence_length=100), "`sequence_length` must be at most `fft_length`=64"),
        (lambda: layers.MelSpectrogram(window="foo"), "no `window` 'foo'"),
        (lambda: layers.MelSpectrogram(64, window=np.ones(3)), "`window` must have 64 weights"),
        (lambda: layers.STFTSpectrogram("foo"), "`mode` must be one of"),
        (lambda: layers.STFTSpectrogram(scaling="foo"), "`scaling` must be one of"),
        (lambda: layers.STFTSpectrogram(frame_length=8, frame_step=9), "`frame_step` must be at most"),
        (lambda: layers.STFTSpectrogram(frame_length=8, fft_length=4), "`fft_length` at least"),
        (lambda: layers.STFTSpectrogram()(SIGNALS), "3"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
