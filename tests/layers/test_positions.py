"""Positions, against their formulas in NumPy."""

import math
import re

import numpy as np
import pytest

from kerax import layers

X = np.random.default_rng(0).normal(size=(2, 40, 3, 8)).astype("float32")
RATES = 10000.0 ** (-np.arange(4) / 4)


def turned(x, rates, factor=1.0, start=0):
    """Pairs `(i, i + size / 2)` as complex numbers, turned by position times rate."""
    half = len(rates)
    angles = (np.arange(x.shape[1]) + start)[:, None] * rates
    pairs = (x[..., :half] + 1j * x[..., half : 2 * half]) * np.exp(1j * angles)[:, None] * factor
    return np.concatenate([pairs.real, pairs.imag, x[..., 2 * half :]], -1)


@pytest.mark.medium
def test_rotary_is_its_formula():
    np.testing.assert_allclose(layers.RotaryEmbedding()(X), turned(X, RATES), atol=1e-5)
    np.testing.assert_allclose(layers.RotaryEmbedding()(X, start_index=7), turned(X, RATES, start=7), atol=1e-5)
    np.testing.assert_allclose(layers.RotaryEmbedding(scaling_factor=4.0)(X), turned(X, RATES / 4), atol=1e-5)
    positions = np.stack([np.arange(40), np.arange(40) + 5])
    found = layers.RotaryEmbedding()(X, positions=positions)
    np.testing.assert_allclose(found[1], turned(X, RATES, start=5)[1], atol=1e-5)


def test_a_part_of_the_features_is_turned():
    found = layers.RotaryEmbedding(rotary_dim=4)(X)
    np.testing.assert_allclose(found, turned(X, 10000.0 ** (-np.arange(2) / 2)), atol=1e-5)


def test_other_axes():
    found = layers.RotaryEmbedding(sequence_axis=2, feature_axis=1)(X.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), turned(X, RATES), atol=1e-5)


def llama3():
    found = []
    for rate in RATES:
        length = 2 * math.pi / rate
        if length < 16 / 4:
            found.append(rate)
        elif length > 16 / 1:
            found.append(rate / 8)
        else:
            smooth = (16 / length - 1) / (4 - 1)
            found.append((1 - smooth) * rate / 8 + smooth * rate)
    return np.array(found), 1.0


def yarn():
    def pair(turns):
        return 8 * math.log(16 / (turns * 2 * math.pi)) / (2 * math.log(10000))

    low, high = max(math.floor(pair(32)), 0), min(math.ceil(pair(1)), 7)
    keep = 1 - np.clip((np.arange(4) - low) / (high - low), 0, 1)
    return RATES / 4 * (1 - keep) + RATES * keep, 0.1 * math.log(4) + 1


def dynamic():
    base = 10000.0 * (2 * 40 / 16 - 1) ** (8 / 6)
    return base ** (-np.arange(4) / 4), 1.0


KNOWN = {"original_max_position_embeddings": 16}
SCALINGS = {
    "linear": ({"factor": 4.0}, lambda: (RATES / 4, 1.0)),
    "dynamic": ({"factor": 2.0} | KNOWN, dynamic),
    "yarn": ({"factor": 4.0} | KNOWN, yarn),
    "llama3": ({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0} | KNOWN, llama3),
    "longrope": (
        {"short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 3.0, 4.0], "factor": 4.0} | KNOWN,
        lambda: (RATES / [1, 2, 3, 4], math.sqrt(1 + math.log(4) / math.log(16))),
    ),
}


@pytest.mark.parametrize("kind", SCALINGS)
def test_longer_sequences(kind):
    scaling, expected = SCALINGS[kind]
    layer = layers.RotaryEmbedding(scaling={"rope_type": kind, **scaling})
    np.testing.assert_allclose(layer(X), turned(X, *expected()), atol=2e-5)


def test_scaling_that_does_not_fit():
    with pytest.raises(ValueError, match=re.escape("`rope_type` of `scaling` must be one of ('default', 'linear'")):
        layers.RotaryEmbedding(scaling={"rope_type": "cubic"})
    with pytest.raises(ValueError, match=re.escape("needs ['factor']")):
        layers.RotaryEmbedding(scaling={"type": "linear"})
    with pytest.raises(ValueError, match="`rotary_dim` must be even"):
        layers.RotaryEmbedding(rotary_dim=3)


def test_learned_positions():
    layer, x = layers.PositionEmbedding(50), X[:, :, 0]
    table = np.asarray(layer(x)[0])
    np.testing.assert_array_equal(table, np.asarray(layer.position_embeddings.value)[:40])
    np.testing.assert_array_equal(layer(x[:, :3], start_index=2)[1], table[2:5])
    with pytest.raises(ValueError, match="at most 50 positions have a vector"):
        layer(np.zeros((1, 51, 8), "float32"))


def test_sines():
    found = layers.SinePositionEncoding()(X[:, :, 0])
    angles = np.arange(40)[:, None] * RATES
    expected = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(40, 8)
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
