"""`kerax.ops.image` against Keras, and against a few lines of NumPy where Keras is wrong."""

import inspect

import jax.numpy as jnp
import keras
import numpy as np
import pytest
from scipy import ndimage

from kerax.core.symbolic import KerasTensor
from kerax.ops import image as ops

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(0, 1, (2, 8, 9, 3)).astype("float32")
U = (X * 255).astype("uint8")
FIRST = X.transpose(0, 3, 1, 2)
TRANSFORM = GENERATOR.normal(0, 0.3, (2, 8)).astype("float32") + np.array([1, 0, 0.37, 0, 1, -0.21, 0, 0], "float32")
TRANSFORM[:, 6:] = 0
CORNERS = np.array([[0, 0], [8, 0], [0, 7], [8, 7]], "float32")
MOVED = CORNERS + GENERATOR.uniform(-1, 1, (2, 4, 2)).astype("float32")
COORDINATES = GENERATOR.uniform(-20, 30, (2, 50)).astype("float32")
FIRST_LAST = {"data_format": "channels_first"}

CASES = [
    *[("affine_transform", (X, TRANSFORM, i, m, 3.0), {}) for i in ops.INTERPOLATIONS for m in ops.FILL_MODES],
    ("affine_transform", (U, TRANSFORM), {}),
    ("affine_transform", (FIRST, TRANSFORM), FIRST_LAST),
    *[("map_coordinates", (X[0, ..., 0], COORDINATES, o, m, 2.0), {}) for o in (0, 1) for m in ops.FILL_MODES],
    ("map_coordinates", (U[0, ..., 0], COORDINATES, 1, "reflect"), {}),
    ("perspective_transform", (X, np.stack([CORNERS, CORNERS]), MOVED), {}),
    ("perspective_transform", (X[0], CORNERS, MOVED[0], "nearest", 3.0), {}),
    ("rgb_to_grayscale", (X,), {}),
    ("rgb_to_grayscale", (X[..., :1],), {}),
    ("rgb_to_hsv", (X,), {}),
    ("rgb_to_hsv", (np.array([[[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 1, 0], [0, 0, 1]]], "float32"),), {}),
    ("hsv_to_rgb", (FIRST,), FIRST_LAST),
    *[("resize", (X, (4, 5), method), {"antialias": True}) for method in ops.RESIZE_METHODS],
    ("resize", (U, (4, 5), "bicubic"), {}),
    ("resize", (X[0], (4, 5)), {"crop_to_aspect_ratio": True}),
    ("resize", (X, (5, 4)), {"pad_to_aspect_ratio": True, "fill_value": 0.5}),
    ("resize", (FIRST, (5, 4)), FIRST_LAST),
    ("crop_images", (X, 1, 2, 1, 3), {}),
    ("pad_images", (X, 1), {"target_height": 12, "left_padding": 2, "target_width": 13}),
    ("extract_patches", (X, 3), {"padding": "same"}),
    ("extract_patches", (X[0], (2, 3), 1), {"dilation_rate": 2}),
    ("extract_patches", (FIRST, (2, 3), 1), FIRST_LAST),
    ("extract_patches_3d", (GENERATOR.normal(size=(2, 4, 5, 6, 2)).astype("float32"), 2), {}),
    ("scale_and_translate", (X, (2, 5, 6, 3), np.array([0.5, 0.7]), np.array([0.1, -0.3]), (1, 2), "bilinear"), {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "args", "kwargs"), CASES)
def test_values_are_those_of_keras(name, args, kwargs):
    ours, theirs = getattr(ops, name)(*args, **kwargs), getattr(keras.ops.image, name)(*args, **kwargs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)


def test_arguments_are_those_of_keras():
    for name in set(ops.__all__) - {"reconstruct_patches"}:  # newer than Keras 3.15
        ours, theirs = inspect.signature(getattr(ops, name)), inspect.signature(getattr(keras.ops.image, name))
        assert str(ours) == str(theirs), name


@pytest.mark.medium
def test_gaussian_blur_is_a_correlation_with_zeros_beyond_the_edges():
    window = lambda n, s: (lambda w: w / w.sum())(np.exp(-0.5 * ((np.arange(n) - n // 2) / s) ** 2))
    blurred = ops.gaussian_blur(X, (5, 3), (1.0, 2.0))
    kernel = np.outer(window(5, 1.0), window(3, 2.0))
    for channel in range(3):
        expected = ndimage.correlate(X[0, ..., channel], kernel, mode="constant")
        np.testing.assert_allclose(blurred[0, ..., channel], expected, atol=1e-6)
    theirs = keras.ops.image.gaussian_blur(FIRST, (3, 3), (1.0, 1.0), **FIRST_LAST)
    np.testing.assert_allclose(ops.gaussian_blur(FIRST, **FIRST_LAST), theirs, atol=1e-6)


def test_affine_transform_obeys_the_projective_numbers():
    start, end = CORNERS, MOVED[0]
    transform = ops.homography(jnp.asarray(start), jnp.asarray(end))
    expected = keras.ops.image.perspective_transform(X[0], start, end)
    np.testing.assert_allclose(ops.affine_transform(X[0], transform), expected, atol=1e-5)


@pytest.mark.slow
def test_elastic_transform_moves_as_far_as_keras_does():
    ramp = np.broadcast_to(np.arange(48, dtype="float32")[:, None], (40, 48, 48, 1))
    distances = []
    for module in (ops, keras.ops.image):
        moved = np.asarray(module.elastic_transform(ramp, alpha=10.0, sigma=2.0, seed=3))
        distances.append((moved - ramp)[:, 16:32, 16:32].std())
    assert abs(distances[0] / distances[1] - 1) < 0.12
    again = ops.elastic_transform(ramp, alpha=10.0, sigma=2.0, seed=3)
    np.testing.assert_array_equal(again, ops.elastic_transform(ramp, alpha=10.0, sigma=2.0, seed=3))
    assert not np.array_equal(again[0], again[1])


def test_integer_grayscale_is_rounded():
    expected = np.round(U.astype("float32") @ np.array(ops.LUMA, "float32"))[..., None]
    np.testing.assert_array_equal(ops.rgb_to_grayscale(U), expected.astype("uint8"))


def test_symbolic_images():
    assert ops.resize(KerasTensor((None, 8, 9, 3)), (4, 5)).shape == (None, 4, 5, 3)
    assert ops.rgb_to_grayscale(KerasTensor((None, 8, 9, 3))).shape == (None, 8, 9, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.resize(X[0, 0], (2, 2)), r"resize: `images` must have shape \(height, width, channels\)"),
        (lambda: ops.resize(X, (2, 2, 2)), r"`size` must be \(height, width\)"),
        (lambda: ops.resize(X, (2, 2), "foo"), "`interpolation` must be one of"),
        (lambda: ops.resize(X, (2, 2), crop_to_aspect_ratio=True, pad_to_aspect_ratio=True), "set only one of"),
        (lambda: ops.rgb_to_hsv(U), "floats in .* Divide them by 255"),
        (lambda: ops.rgb_to_grayscale(X[..., :2]), "must have 1 or 3 channels"),
        (lambda: ops.affine_transform(X, np.ones((3, 8))), r"shape \(8,\) or \(batch, 8\)"),
        (lambda: ops.affine_transform(X, np.ones(8), fill_mode="foo"), "`fill_mode` must be one of"),
        (lambda: ops.map_coordinates(X, np.zeros((2, 3)), 1), "one row for each of the 4 axes"),
        (lambda: ops.map_coordinates(X[0, ..., 0], np.zeros((2, 3)), 2), "`order` must be one of"),
        (lambda: ops.crop_images(X, 1, 1), "give exactly two of top_cropping, bottom_cropping, target_height"),
        (lambda: ops.crop_images(X, 5, 1, 5, 1), "do not fit an axis of 8 pixels"),
        (lambda: ops.extract_patches(X[0, 0], 2), "needs 3 or 4 axes"),
        (lambda: ops.perspective_transform(X, CORNERS[:3], CORNERS), r"must have shape \(..., 4, 2\)"),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
