"""Flips and warps: against Keras where a range of one number makes them certain, boxes against their pixels."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from kerax import layers

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.uniform(0, 255, (2, 8, 11, 3)).astype("float32")
BOXES = np.array([[[1, 1, 4, 5], [0, 2, 8, 8]], [[2, 3, 6, 7], [-1, -1, 3, 3]]], "float32")
CERTAIN = {
    "RandomRotation": (0.1234, 0.1234),
    "RandomTranslation": ((0.1, 0.1), (0.23, 0.23)),
    "RandomZoom": ((0.2, 0.2), (-0.3, -0.3)),
}


def make(module, name, **options):
    arguments = CERTAIN[name]
    return getattr(module, name)(*(arguments if isinstance(arguments[0], tuple) else [arguments]), **options)


def labelled(images=IMAGES):
    boxes = {"boxes": jnp.asarray(BOXES), "labels": jnp.array([[0, 1], [2, 3]])}
    masks = jnp.asarray(images[..., :1] > 99).astype("uint8")
    return {"images": jnp.asarray(images), "bounding_boxes": boxes, "segmentation_masks": masks}


@pytest.mark.slow
@pytest.mark.parametrize("fill_mode", ["reflect", "constant", "wrap", "nearest"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("name", list(CERTAIN))
def test_warps_are_those_of_keras(name, interpolation, fill_mode):
    options = {"interpolation": interpolation, "fill_mode": fill_mode, "fill_value": 7.0}
    expected = make(keras.layers, name, **options)(IMAGES, training=True)
    np.testing.assert_allclose(make(layers, name, **options)(IMAGES, training=True), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CERTAIN))
def test_boxes_and_masks_are_those_of_keras(name):
    ours = make(layers, name, bounding_box_format="xyxy")(labelled(), training=True)
    theirs = make(keras.layers, name, bounding_box_format="xyxy")(labelled(), training=True)
    np.testing.assert_allclose(ours["bounding_boxes"]["boxes"], theirs["bounding_boxes"]["boxes"], atol=1e-4)
    np.testing.assert_array_equal(ours["bounding_boxes"]["labels"], theirs["bounding_boxes"]["labels"])
    np.testing.assert_array_equal(ours["segmentation_masks"], theirs["segmentation_masks"])


def test_zoom_keeps_proportions_without_a_width_factor():
    expected = keras.layers.RandomZoom((0.2, 0.2))(IMAGES, training=True)
    np.testing.assert_allclose(layers.RandomZoom((0.2, 0.2))(IMAGES), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.medium
def test_shear_is_that_of_keras_to_one_side_or_the_other():
    images = np.stack([IMAGES[0]] * 8)
    theirs = np.asarray(keras.layers.RandomShear((0.3, 0.3), (0.2, 0.2), seed=1)(images, training=True))
    ours = np.asarray(layers.RandomShear((0.3, 0.3), (0.2, 0.2), seed=1)(images))
    sides = {np.abs(ours - other).max((1, 2, 3)).argmin() for other in theirs}
    assert len(sides) == 2
    for other in theirs:
        assert np.abs(ours - other).max((1, 2, 3)).min() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        layers.RandomFlip(seed=1, bounding_box_format="xyxy"),
        layers.RandomRotation((0.25, 0.25), "constant", bounding_box_format="xyxy"),
        layers.RandomTranslation(0.2, 0.2, "constant", seed=1, bounding_box_format="xyxy"),
        layers.RandomZoom(0.3, 0.3, "constant", seed=1, bounding_box_format="xyxy"),
        layers.RandomShear(0.3, 0.3, fill_mode="constant", seed=1, bounding_box_format="xyxy"),
        layers.RandomPerspective(scale=0.3, seed=1, bounding_box_format="xyxy"),
    ],
)
def test_boxes_stay_around_their_pixels(layer):
    image = np.zeros((60, 60, 1), "float32")
    image[20:35, 22:42] = 1
    boxes = {"boxes": np.full((16, 1, 4), [22.0, 20, 42, 35]), "labels": np.ones((16, 1), int)}
    moved = layer({"images": np.stack([image] * 16), "bounding_boxes": boxes})
    for pixels, box in zip(np.asarray(moved["images"])[..., 0], np.asarray(moved["bounding_boxes"]["boxes"])[:, 0]):
        rows, columns = np.nonzero(pixels > 0.5)
        if rows.size and 0 < rows.min() and rows.max() < 59 and 0 < columns.min() and columns.max() < 59:
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, found, atol=2.0)


@pytest.mark.parametrize("mode", ["horizontal", "vertical", "horizontal_and_vertical"])
def test_flips_are_mirror_images_each_half_of_the_time(mode):
    images = np.stack([IMAGES[0]] * 400)
    flipped = np.asarray(layers.RandomFlip(mode, seed=5)(images))
    wanted = [(0, 0), *([(1, 0)] if "vertical" in mode else []), *([(0, 1)] if "horizontal" in mode else [])]
    wanted += [(1, 1)] if mode == "horizontal_and_vertical" else []
    counts = []
    for rows, columns in wanted:
        mirror = IMAGES[0][:: -1 if rows else 1, :: -1 if columns else 1]
        counts.append((flipped == mirror).all((1, 2, 3)).mean())
    assert sum(counts) == 1
    np.testing.assert_allclose(counts, 1 / len(wanted), atol=0.1)


@pytest.mark.medium
def test_moves_are_spread_over_their_ranges():
    keys = jax.random.split(jax.random.key(0), 2000)
    shape = (20, 30, 1)
    drawn = jax.vmap(lambda key: layers.RandomTranslation((-0.1, 0.3), 0.2).draw(key, shape))(keys)
    right, down = np.asarray(drawn["translations"]).T
    np.testing.assert_allclose([down.min(), down.max()], [-2, 6], atol=0.05)
    np.testing.assert_allclose([right.min(), right.max(), right.mean()], [-6, 6, 0], atol=0.3)
    layer = layers.RandomRotation((0.0, 0.25))
    turns = np.asarray(jax.vmap(lambda key: layer.map_of(layer.draw(key, shape), shape))(keys))
    angles = np.arctan2(turns[:, 3], turns[:, 0])
    np.testing.assert_allclose([angles.min(), angles.max(), angles.mean()], [0, np.pi / 2, np.pi / 4], atol=0.03)


@pytest.mark.slow
def test_perspective_moves_corners_as_keras_does():
    image = np.stack(np.meshgrid(np.arange(1.0, 32), np.arange(1.0, 22), indexing="xy"), -1).astype("float32")
    images = np.stack([image] * 200)
    spreads = []
    for module in (layers, keras.layers):
        layer = module.RandomPerspective((1.0, 1.0), scale=0.4, seed=2)
        moved = np.asarray(layer(images, training=True))[:, 5, 8] - image[5, 8]
        spreads.append([*moved.mean(0), *moved.std(0)])
    np.testing.assert_allclose(spreads[0], spreads[1], atol=0.35)
    chosen = layers.RandomPerspective(0.5, seed=2)(images)
    assert abs(np.any(np.asarray(chosen) != images, axis=(1, 2, 3)).mean() - 0.25) < 0.1


@pytest.mark.slow
def test_elastic_transform_is_random_smooth_and_of_the_strength_of_keras():
    ramp = np.broadcast_to(np.arange(40, dtype="float32")[:, None], (20, 40, 40, 1))
    spreads = []
    for module in (layers, keras.layers):
        moved = np.asarray(module.RandomElasticTransform((1.0, 1.0), (0.8, 0.8), seed=1)(ramp, training=True)) - ramp
        spreads.append(moved[:, 10:30, 10:30].std())
    assert abs(spreads[0] / spreads[1] - 1) < 0.2
    unchanged = layers.RandomElasticTransform((0.0, 0.0))(ramp)
    np.testing.assert_allclose(unchanged, ramp, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.RandomFlip("sideways"), "`mode` must be one of"),
        (lambda: layers.RandomRotation(1.5), r"`factor` must be within \[-1, 1\]. Got factor=1.5"),
        (lambda: layers.RandomRotation((1, 2, 3)), "`factor` must be a number or two numbers"),
        (lambda: layers.RandomRotation(0.1, fill_mode="mirror"), "`fill_mode` must be one of"),
        (lambda: layers.RandomRotation(0.1, interpolation="bicubic"), "`interpolation` must be one of"),
        (lambda: layers.RandomTranslation(0.1, 2.0), "`width_factor` must be within"),
        (lambda: layers.RandomZoom((-1.0, 0.5)), "`height_factor` must be above -1"),
        (lambda: layers.RandomShear(1.2), r"`x_factor` must be within \[-1, 1\]"),
        (lambda: layers.RandomPerspective(scale=2.0), "`scale` must be between 0 and 1"),
        (lambda: layers.RandomElasticTransform(scale=2.0), r"`scale` must be within \[0, 1\]"),
        (lambda: layers.RandomElasticTransform(bounding_box_format="xyxy")(labelled()), "cannot transform"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
