"""Damaged files: flipped bits and cuts give one clear error or the very same weights, and never hang or crash."""

import numpy as np
import pytest

import kerax
from kerax import layers, saving


def make():
    model = kerax.Sequential(
        [kerax.Input((6,)), layers.Dense(8, activation="relu"), layers.BatchNormalization(), layers.Dense(3)]
    )
    model.compile("adam", "mse")
    return model


def write_archive(model, folder):
    model.save(folder / "model.keras")
    return folder / "model.keras"


def write_weights(model, folder):
    model.save_weights(folder / "model.weights.h5")
    return folder / "model.weights.h5"


def write_safetensors(model, folder):
    pytest.importorskip("safetensors")
    model.save_weights(folder / "model.safetensors")
    return folder / "model.safetensors"


def read_archive(path):
    return saving.load_model(path).get_weights()


def read_weights(path):
    model = make()
    model.set_weights([weight * 0 for weight in model.get_weights()])
    model.load_weights(path)
    return model.get_weights()


def attempt(read, path):
    """What was read, or `None` and the error's message."""
    try:
        return read(path), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.slow
@pytest.mark.parametrize(
    "write, read, checked",
    [
        (write_archive, read_archive, True),  # a zip file has checksums
        (write_weights, read_weights, False),  # HDF5 as Keras writes it and safetensors have none
        (write_safetensors, read_weights, False),
    ],
)
def test_random_damage(write, read, checked, tmp_path):
    draw, model = np.random.default_rng(0), make()
    path = write(model, tmp_path)
    content, expected = path.read_bytes(), model.get_weights()
    refused = 0
    for _ in range(150):
        harmed = bytearray(content)
        if draw.random() < 0.25:
            del harmed[draw.integers(len(content)) :]
        for _ in range(draw.integers(1, 4)):
            if harmed:
                harmed[draw.integers(len(harmed))] ^= 1 << draw.integers(8)
        path.write_bytes(harmed)
        found, message = attempt(read, path)
        if found is None:
            assert path.name in message
            refused += 1
            continue
        assert [weight.shape for weight in found] == [weight.shape for weight in expected]
        if checked:
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)
    assert refused > 30
