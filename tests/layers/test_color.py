"""Colour layers: against Keras where a range of one number makes them certain, ranges and chances elsewhere."""

import jax
import keras
import numpy as np
import pytest

from kerax import layers

pytestmark = (
    pytest.mark.optimized
)  # a whole turn of hue is a jump, on which side of it one ends is a matter of rounding

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.uniform(0, 255, (2, 8, 11, 3)).astype("float32")
INTEGERS = (IMAGES * 0.8).astype("uint8")


@pytest.mark.slow
@pytest.mark.parametrize("value_range", [(0, 255), (0, 1)])
@pytest.mark.parametrize(
    "make",
    [
        lambda L, r: L.RandomBrightness((0.1, 0.1), r),
        lambda L, r: L.RandomBrightness((-0.3, -0.3), r),
        lambda L, r: L.RandomContrast((0.0, 0.0), r),
        lambda L, r: L.RandomSaturation((0.3, 0.3), r),
        lambda L, r: L.RandomHue((1.0, 1.0), r),
        lambda L, r: L.RandomColorDegeneration((0.3, 0.3), r),
        lambda L, r: L.RandomColorDegeneration((-0.3, -0.3), r),
        lambda L, r: L.RandomGrayscale(1.0),
        lambda L, r: L.RandomInvert((1.0, 1.0), r),
        lambda L, r: L.RandomPosterization((3, 3), r),
        lambda L, r: L.RandomSharpness((0.2, 0.2), r),
        lambda L, r: L.RandomSharpness((0.9, 0.9), r),
        lambda L, r: L.Solarization(0.0, 0.0, r),
        lambda L, r: L.RandomColorJitter(r, (0.1, 0.1), (0.0, 0.0), (0.3, 0.3), (1.0, 1.0)),
        lambda L, r: L.AutoContrast(r),
    ],
)
def test_values_are_those_of_keras(make, value_range):
    images = IMAGES / 255 * value_range[1]
    ours, theirs = make(layers, value_range)(images), make(keras.layers, value_range)(images, training=True)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * value_range[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda L: L.RandomBrightness((0.1, 0.1)),
        lambda L: L.RandomHue((1.0, 1.0)),
        lambda L: L.RandomGrayscale(1.0),
        lambda L: L.RandomInvert((1.0, 1.0)),
        lambda L: L.RandomPosterization((3, 3)),
        lambda L: L.RandomSharpness((0.2, 0.2)),
        lambda L: L.AutoContrast(),
        lambda L: L.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(2, 3)),
    ],
)
def test_integer_images_are_treated_as_in_keras(make):
    ours, theirs = make(layers)(INTEGERS), make(keras.layers)(INTEGERS, training=True)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-3)


def test_brightness_does_not_wrap_around():
    np.testing.assert_array_equal(layers.RandomBrightness((0.5, 0.5))(np.full((1, 2, 2, 3), 250, "uint8")), 255)


@pytest.mark.slow
@pytest.mark.parametrize("value_range", [(0, 255), (0, 1)])
@pytest.mark.parametrize("bins", [256, 16])
def test_equalization_is_that_of_keras_for_single_images(bins, value_range):
    images = IMAGES / 255 * value_range[1]
    ours = layers.Equalization(value_range, bins)(images)
    for one, image in zip(ours, images):
        theirs = keras.layers.Equalization(value_range, bins)(image[None], training=True)[0]
        np.testing.assert_allclose(one, theirs, rtol=1e-5, atol=1e-3)
    constant = np.full((1, 2, 2, 1), 9.0)
    np.testing.assert_array_equal(layers.Equalization()(constant), constant)


@pytest.mark.slow
@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 4), (8, 8)])
@pytest.mark.parametrize("limit", [1.0, 4.0, 100.0])
def test_adaptive_equalization_is_that_of_keras(limit, grid):
    options = {"clip_limit": limit, "tile_grid_size": grid}
    ours = layers.ContrastLimitedAdaptiveHistogramEqualization(**options)(np.round(IMAGES))
    theirs = keras.layers.ContrastLimitedAdaptiveHistogramEqualization(**options)(np.round(IMAGES))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def drawn(layer, count=2000):
    draws = jax.vmap(lambda key: layer.draw(key, (20, 30, 3)))(jax.random.split(jax.random.key(0), count))
    draws = jax.tree.leaves(draws)  # in the order of their names
    return np.asarray(draws[0]) if len(draws) == 1 else draws


@pytest.mark.parametrize(
    ("layer", "low", "high"),
    [
        (layers.RandomBrightness(0.2), -51.0, 51.0),
        (layers.RandomContrast(0.3), 1.0, 1.3),
        (layers.RandomContrast((0.5, 0.3)), 0.5, 1.3),
        (layers.RandomSaturation((0.0, 0.01)), 0.0, 0.01),
        (layers.RandomHue(0.5), -0.25, 0.25),
        (layers.RandomSharpness((0.2, 0.6)), 0.2, 0.6),
        (layers.RandomColorDegeneration(0.3), -0.3, 0.3),
    ],
)
def test_numbers_are_spread_over_their_ranges(layer, low, high):
    draws = drawn(layer)
    spread = (high - low) / 12**0.5
    np.testing.assert_allclose([draws.min(), draws.max()], [low, high], atol=0.02 * (high - low))
    np.testing.assert_allclose([draws.mean(), draws.std()], [(low + high) / 2, spread], atol=0.05 * (high - low))


def test_contrast_multiplies_the_distance_from_the_mean():
    image = IMAGES[:1] * 0.2 + 100
    mean = image.mean((1, 2), keepdims=True)
    changed = np.asarray(layers.RandomContrast((0.4, 0.4), seed=1)(image))
    ratio = np.sum((changed - mean) * (image - mean)) / np.sum((image - mean) ** 2)
    assert 0.6 < ratio < 1.4
    np.testing.assert_allclose(changed, mean + ratio * (image - mean), atol=1e-3)


@pytest.mark.medium
def test_bits_and_chances():
    assert set(drawn(layers.RandomPosterization(4)).tolist()) == {7, 6, 5}
    assert abs(drawn(layers.RandomInvert(0.4)).mean() - 0.2) < 0.03
    assert abs(drawn(layers.RandomInvert((0.4, 0.4))).mean() - 0.4) < 0.04
    assert abs(drawn(layers.RandomGrayscale(0.3)).mean() - 0.3) < 0.04
    assert abs(drawn(layers.RandomGaussianBlur(1.0))[1].mean() - 0.5) < 0.04


def test_full_saturation_stays_within_the_colours():
    vivid = np.asarray(layers.RandomSaturation((1.0, 1.0))(IMAGES))
    assert vivid.min() >= 0 and vivid.max() <= 255
    np.testing.assert_allclose(vivid.min(-1), 0, atol=1e-2)


@pytest.mark.medium
def test_blur_is_that_of_keras_with_channels_first():
    first = IMAGES.transpose(0, 3, 1, 2)
    options = {"factor": (1.0, 1.0), "sigma": (0.7, 0.7), "data_format": "channels_first"}
    theirs = keras.layers.RandomGaussianBlur(**options)(first, training=True)
    np.testing.assert_allclose(layers.RandomGaussianBlur(**options)(first), theirs, rtol=1e-5, atol=1e-3)


@pytest.mark.medium
def test_solarization_adds_and_inverts():
    ramp = np.linspace(0, 255, 52, dtype="float32").reshape(1, 52, 1, 1)
    solarized = layers.Solarization((0.1, 0.1), (0.5, 0.5))(ramp)
    raised = np.minimum(ramp + 25.5, 255)
    np.testing.assert_allclose(solarized, np.where(raised < 127.5, raised, 255 - raised), atol=1e-3)


@pytest.mark.slow
def test_erased_rectangles_have_the_sizes_of_keras():
    images = np.full((300, 20, 30, 3), 7.0, "float32")
    means = []
    for module in (layers, keras.layers):
        erased = np.asarray(module.RandomErasing((1.0, 1.0), fill_value=0.0, seed=1)(images, training=True))
        inside = erased[..., 0] == 0
        means.append([inside.any(2).sum(1).mean(), inside.any(1).sum(1).mean()])
    np.testing.assert_allclose(means[0], means[1], atol=0.6)
    assert inside.mean((1, 2)).std() > 0.05
    half = np.asarray(layers.RandomErasing(0.5, fill_value=0.0, seed=1)(images))
    assert abs((half == 0).any((1, 2, 3)).mean() - 0.25) < 0.08
    noise = np.asarray(layers.RandomErasing((1.0, 1.0), value_range=(0, 1), seed=1)(images / 255))
    noise = noise[np.abs(noise - 7 / 255) > 1e-6]
    np.testing.assert_allclose([noise.min(), noise.max(), noise.mean()], [0, 1, 0.3156], atol=0.02)


def test_nothing_changes_when_not_training():
    for layer in (layers.RandomHue(0.5), layers.RandomErasing(), layers.Solarization(0.1), layers.RandomColorJitter()):
        np.testing.assert_array_equal(layer(IMAGES, training=False), IMAGES)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.RandomBrightness(2.0), r"`factor` must be within \[-1, 1\]"),
        (lambda: layers.RandomBrightness(0.1, (0,)), "`value_range` must be"),
        (lambda: layers.RandomContrast(-0.1), r"`factor` must be within \[0, 1\]"),
        (lambda: layers.RandomPosterization(9), r"`factor` must be within \[1, 8\]"),
        (lambda: layers.RandomGrayscale(2.0), r"`factor` must be within \[0, 1\]"),
        (lambda: layers.RandomGaussianBlur(kernel_size=2), "`kernel_size` must be odd"),
        (lambda: layers.RandomErasing(scale=2.0), "`scale` must be within"),
        (lambda: layers.Solarization(2.0), "must be within"),
        (lambda: layers.Equalization(bins=0), "`bins` must be an integer"),
        (lambda: layers.ContrastLimitedAdaptiveHistogramEqualization(clip_limit=0), "`clip_limit` must be above 0"),
        (lambda: layers.RandomHue(0.1)(IMAGES[..., :2]), "images must have 3 channels. Got 2"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
