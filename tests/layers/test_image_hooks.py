"""Keras's methods of layers on images, called and replaced as users of Keras do."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import layers

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 6, 5, 3)).astype("float32")
BOXES = np.array([[[1, 1, 4, 3]], [[0, 2, 3, 4]]], "float32")


def sample():
    return {
        "images": jnp.asarray(IMAGES),
        "bounding_boxes": {"boxes": jnp.asarray(BOXES), "labels": jnp.asarray([[0], [1]])},
        "labels": jnp.eye(2),
        "segmentation_masks": jnp.asarray((IMAGES[..., :1] > 99).astype("uint8")),
    }


def brighter(package):
    class Brighter(package.layers.RandomBrightness):
        def get_random_transformation(self, data, training=True, seed=None):
            return {"delta": 5.0} if training else None

        def transform_images(self, images, transformation, training=True):
            images = package.ops.cast(images, self.compute_dtype)
            return images + transformation["delta"] if training else images

        def transform_labels(self, labels, transformation, training=True):
            return labels * 2

    return Brighter(0.2)


def moved_boxes(package):
    class Moved(package.layers.CenterCrop):
        def transform_bounding_boxes(self, bounding_boxes, transformation, training=True):
            boxes = super().transform_bounding_boxes(bounding_boxes, transformation, training)
            return {**boxes, "boxes": boxes["boxes"] + 1}

    return Moved(4, 3, bounding_box_format="xyxy")


def on_the_object(package):
    layer = package.layers.RandomRotation(0.1)
    layer.transform_images = lambda images, transformation, training=True: images * 2
    return layer


@pytest.mark.medium
@pytest.mark.parametrize(
    "make, parts",
    [
        (brighter, ["images", "labels"]),
        (moved_boxes, ["images", "bounding_boxes", "labels"]),
        (on_the_object, ["images"]),
    ],
)
def test_replaced_methods_do_what_they_do_in_keras(make, parts):
    ours, theirs = make(kerax), make(keras)
    given = {name: sample()[name] for name in parts}
    found, expected = ours(given), theirs(dict(given))
    jax.tree.map(np.testing.assert_allclose, found, expected)
    np.testing.assert_allclose(ours(IMAGES[0]), theirs(IMAGES[0]))
    np.testing.assert_allclose(ours(IMAGES, training=False), theirs(IMAGES, training=False))


@pytest.mark.medium
def test_parts_get_the_same_transformation():
    layer = layers.RandomFlip("horizontal", seed=1, bounding_box_format="xyxy")
    given = sample()
    transformation = layer.get_random_transformation(given, seed=4)
    again = layer.get_random_transformation(given, seed=4)
    images = layer.transform_images(given["images"], transformation)
    np.testing.assert_array_equal(images, layer.transform_images(given["images"], again))
    mirrored = np.array([not np.array_equal(new, old) for new, old in zip(images, IMAGES, strict=True)])
    masks = layer.transform_segmentation_masks(given["segmentation_masks"], transformation)
    boxes = layer.transform_bounding_boxes(given["bounding_boxes"], transformation)["boxes"]
    for place, is_mirrored in enumerate(mirrored):
        step = -1 if is_mirrored else 1
        np.testing.assert_array_equal(masks[place], given["segmentation_masks"][place][:, ::step])
        left, top, right, bottom = BOXES[place, 0]
        expected = (5 - right, top, 5 - left, bottom) if is_mirrored else BOXES[place, 0]
        np.testing.assert_allclose(boxes[place, 0], expected)
    np.testing.assert_array_equal(layer.transform_images(given["images"], transformation, training=False), IMAGES)


@pytest.mark.slow
def test_labels_are_mixed_like_their_images():
    layer = layers.MixUp(seed=3)
    given = {"images": jnp.asarray(IMAGES), "labels": jnp.eye(2)}
    transformation = layer.get_random_transformation(given)
    images = layer.transform_images(given["images"], transformation)
    labels = layer.transform_labels(given["labels"], transformation)
    np.testing.assert_allclose(images, np.einsum("ij,jhwc->ihwc", labels, IMAGES), rtol=1e-4)


def test_a_replaced_method_works_in_a_model():
    model = kerax.Sequential([kerax.Input((6, 5, 3)), on_the_object(kerax)])
    np.testing.assert_allclose(model(IMAGES, training=True), IMAGES * 2)


DRAWING = {
    "RandomFlip": ("horizontal",),
    "RandomRotation": (0.2,),
    "RandomTranslation": (0.3, 0.3),
    "RandomZoom": (0.3, 0.2),
    "RandomShear": (0.3, 0.3),
    "RandomPerspective": (1.0, 0.6),
    "RandomBrightness": (0.4,),
    "RandomContrast": (0.4,),
    "RandomSaturation": ((0.2, 0.5),),  # Keras does not bound what becomes stronger
    "RandomHue": (0.5,),
    "RandomColorDegeneration": (0.6,),
    "RandomPosterization": ((2, 6),),
    "RandomSharpness": (0.9,),
    "RandomInvert": (1.0,),
    "RandomErasing": (1.0,),
    "Solarization": (0.3, 0.5),
    "MixUp": (0.9,),
    "CutMix": (0.9,),
}


@pytest.mark.slow
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name", DRAWING)
def test_transformations_are_those_of_keras(name, data_format):
    options = {} if name in ("RandomBrightness", "RandomContrast", "Solarization") else {"data_format": data_format}
    if not options and data_format == "channels_first":
        pytest.skip("Keras's layer takes no `data_format`")
    if name == "RandomSharpness" and data_format == "channels_first":
        pytest.skip("Keras exchanges height and width there, kerax does not have to: the window is symmetric")
    images = IMAGES if data_format == "channels_last" else np.moveaxis(IMAGES, -1, 1)
    ours, theirs = (getattr(package.layers, name)(*DRAWING[name], seed=3, **options) for package in (kerax, keras))
    transformations = [theirs.get_random_transformation(images), ours.get_random_transformation(images)]
    if name == "RandomRotation":
        transformations.pop()  # Keras wants the matrix too
    for transformation in transformations:
        found = ours.transform_images(images, transformation)
        expected = theirs.transform_images(jnp.asarray(images), transformation)
        np.testing.assert_allclose(found, expected, atol=2e-2)
        if name in ("MixUp", "CutMix"):
            labels = ours.transform_labels(np.eye(2), transformation)
            np.testing.assert_allclose(labels, theirs.transform_labels(jnp.eye(2), transformation), atol=1e-5)


@pytest.mark.medium
@pytest.mark.parametrize(
    "name, drawn",
    [
        ("RandomTranslation", {"translations": np.array([[1.0, 2.0]])}),
        ("RandomZoom", {"height_zoom": np.array([[0.5]]), "width_zoom": np.array([[1.5]])}),
        ("RandomFlip", {"flips": np.array([[[[True]]]])}),
        ("RandomRotation", {"angle": np.array([90.0]), "image_height": 6, "image_width": 5, "batch_size": 2}),
    ],
)
def test_boxes_move_by_a_transformation_made_by_hand(name, drawn):
    options = {
        "bounding_box_format": "xyxy",
        **({"height_factor": 0.5, "width_factor": 0.5} if "o" in name[8:] else {}),
    }
    if name == "RandomRotation":
        options = {"bounding_box_format": "xyxy", "factor": 0.5}
    ours, theirs = (getattr(package.layers, name)(**options) for package in (kerax, keras))
    # Of one row: for all images.
    drawn = drawn | {"input_shape": (2, 6, 5, 3)}
    boxes = {"boxes": BOXES, "labels": np.array([[0], [1]])}
    found = ours.transform_bounding_boxes(boxes, drawn)
    wide = {
        key: np.repeat(value, 2, 0) if np.ndim(value) and key != "input_shape" else value
        for key, value in drawn.items()
    }
    expected = theirs.transform_bounding_boxes(jax.tree.map(jnp.asarray, boxes), wide)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-4)
    single = ours.transform_bounding_boxes({"boxes": BOXES[1], "labels": np.array([1])}, drawn)
    np.testing.assert_allclose(single["boxes"], found["boxes"][1], atol=1e-5)
    assert single["labels"].shape == (1,)


def test_values_for_all_images_and_seeds_of_all_kinds():
    blur = layers.RandomGaussianBlur(data_format="channels_first")
    drawn = {"blur_factor": [0.5, 0.5], "should_apply_blur": [True, False]}
    images = np.moveaxis(IMAGES, -1, 1)
    found = blur.transform_images(images, drawn)
    expected = keras.layers.RandomGaussianBlur(data_format="channels_first").transform_images(
        jnp.asarray(images), jax.tree.map(jnp.asarray, drawn, is_leaf=lambda leaf: isinstance(leaf, list))
    )
    np.testing.assert_allclose(found, expected, atol=1e-2)
    elastic = layers.RandomElasticTransform()
    for seed in (42, kerax.random.SeedGenerator(42), np.array([[0, 1], [2, 3]], "uint32")):
        drawn = {"apply_transform": np.array([True]), "distortion_factor": np.float32(0.9), "seed": seed}
        assert np.abs(elastic.transform_images(IMAGES, drawn) - IMAGES).max() > 1


def test_nothing_drawn_changes_nothing():
    layer = layers.RandomRotation(0.3)
    drawn = layer.get_random_transformation(IMAGES, training=False)
    assert drawn == {"input_shape": IMAGES.shape}
    for transformation in (drawn, None):
        np.testing.assert_array_equal(layer.transform_images(IMAGES, transformation), IMAGES)


def test_a_transformation_of_another_layer_is_refused():
    with pytest.raises(ValueError, match="must have what .*'angle'.*'delta'.*`transform_images` of its own"):
        layers.RandomRotation(0.1).transform_images(IMAGES, {"delta": 5.0})


def test_what_a_layer_does_not_change_may_have_any_size():
    given = {**sample(), "bounding_boxes": {"boxes": jnp.ones((1, 4)), "labels": jnp.zeros(1)}, "names": np.zeros(7)}
    found = layers.RandomBrightness(0.1, bounding_box_format="xyxy")(given)
    assert found["bounding_boxes"]["boxes"].shape == (1, 4) and found["names"].shape == (7,)
    # As in Keras, whose layer leaves the masks alone: no need of what it would draw.
    with_masks = {name: sample()[name] for name in ("images", "segmentation_masks")}
    np.testing.assert_array_equal(brighter(kerax)(with_masks)["segmentation_masks"], with_masks["segmentation_masks"])


def test_randaugment_of_no_operations():
    np.testing.assert_array_equal(layers.RandAugment(num_ops=0)(IMAGES), IMAGES)
