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


def test_a_transformation_of_another_layer_is_refused():
    with pytest.raises(ValueError, match="`transformation` must be what .*`transform_segmentation_masks` of its own"):
        brighter(kerax)({name: sample()[name] for name in ("images", "segmentation_masks")})


def test_randaugment_of_no_operations():
    np.testing.assert_array_equal(layers.RandAugment(num_ops=0)(IMAGES), IMAGES)
