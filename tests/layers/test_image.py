"""`ImageLayer`'s conventions, `Resizing`, `CenterCrop`, `RandomCrop` and boxes."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import kerax
from kerax import layers
from kerax.layers import bounding_boxes

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.uniform(0, 255, (2, 8, 11, 3)).astype("float32")
BOXES = np.array([[[1, 1, 4, 5], [0, 2, 8, 8]], [[2, 3, 6, 7], [-1, -1, 3, 3]]], "float32")
LABELS = np.array([[0, 1], [2, 3]])


def sample(images=IMAGES):
    return {
        "images": jnp.asarray(images),
        "labels": jnp.eye(2),
        "bounding_boxes": {"boxes": jnp.asarray(BOXES), "labels": jnp.asarray(LABELS)},
        "segmentation_masks": jnp.asarray(images[..., :1] > 99).astype("uint8"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("images", [IMAGES, IMAGES.astype("uint8"), IMAGES[0]])
@pytest.mark.parametrize(
    "make",
    [
        lambda L: L.Resizing(5, 4),
        lambda L: L.Resizing(5, 4, "lanczos3", crop_to_aspect_ratio=True),
        lambda L: L.Resizing(5, 4, "nearest", pad_to_aspect_ratio=True, fill_value=3.0),
        lambda L: L.Resizing(5, 4, "bicubic", antialias=True),
        lambda L: L.CenterCrop(3, 4),
        lambda L: L.CenterCrop(8, 3),
        lambda L: L.CenterCrop(20, 4),
    ],
)
def test_sizes_are_changed_as_in_keras(make, images):
    ours, theirs = make(layers)(images), make(keras.layers)(images)
    assert (ours.shape, ours.dtype.name) == (theirs.shape, np.dtype(theirs.dtype).name)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-4)


@pytest.mark.medium
def test_channels_first():
    first = IMAGES.transpose(0, 3, 1, 2)
    for make in (
        lambda: layers.Resizing(5, 4, data_format="channels_first"),
        lambda: layers.RandomRotation((0.1, 0.1), data_format="channels_first"),
    ):
        last = type(make()).from_config(make().get_config() | {"data_format": "channels_last"})
        np.testing.assert_allclose(make()(first), last(IMAGES).transpose(0, 3, 1, 2), rtol=1e-5)


@pytest.mark.parametrize("box_format", bounding_boxes.FORMATS)
def test_box_formats_are_those_of_keras(box_format):
    convert = keras.utils.bounding_boxes.convert_format
    size = {"height": 8, "width": 10}
    for source, target in ((box_format, "xyxy"), ("xyxy", box_format)):
        theirs = convert(BOXES.copy(), source, target, **size)
        np.testing.assert_allclose(bounding_boxes.convert_format(BOXES, source, target, **size), theirs, rtol=1e-6)


def test_boxes_are_clipped_and_the_empty_ones_marked():
    given = {"boxes": jnp.array([[-10.0, -20, 150, 160], [50, 40, 70, 80], [130, 0, 140, 9]]), "labels": jnp.arange(3)}
    clipped = bounding_boxes.clip_to_image_size(given, 100, 120)
    scale = np.array([120, 100, 120, 100])
    relative = bounding_boxes.clip_to_image_size(
        {**given, "boxes": given["boxes"] / scale}, bounding_box_format="rel_xyxy"
    )
    np.testing.assert_allclose(relative["boxes"] * scale, clipped["boxes"], rtol=1e-5)
    np.testing.assert_array_equal(clipped["boxes"], [[0, 0, 120, 100], [50, 40, 70, 80], [120, 0, 120, 9]])
    np.testing.assert_array_equal(clipped["labels"], [0, 1, -1])


@pytest.mark.parametrize("size", [(4, 4), (12, 12)])
def test_everything_after_center_crop_is_that_of_keras(size):
    options = {"bounding_box_format": "xyxy"}
    ours = layers.CenterCrop(*size, **options)(sample())
    theirs = keras.layers.CenterCrop(*size, **options)(sample())
    for name in ("images", "labels", "bounding_boxes"):
        for one, other in zip(jax.tree.leaves(ours[name]), jax.tree.leaves(theirs[name]), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)
    assert ours["segmentation_masks"].dtype == "uint8"  # Keras interpolates between classes where it has to resize
    if size == (4, 4):
        np.testing.assert_array_equal(ours["segmentation_masks"], theirs["segmentation_masks"])


@pytest.mark.parametrize("options", [{}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True}])
def test_resized_boxes_stay_around_their_pixels(options):
    image = np.zeros((20, 40, 1), "float32")
    image[6:12, 16:24] = 1
    data = {"images": image, "bounding_boxes": {"boxes": np.array([[16.0, 6, 24, 12]]), "labels": np.array([1])}}
    resized = layers.Resizing(60, 60, "nearest", bounding_box_format="xyxy", **options)(data)
    rows, columns = np.nonzero(np.asarray(resized["images"])[..., 0])
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(resized["bounding_boxes"]["boxes"][0], expected, atol=1e-4)


def test_crops_are_windows_of_their_image_at_other_places():
    image = np.arange(20 * 30, dtype="float32").reshape(20, 30, 1)
    boxes = {"boxes": np.full((64, 1, 4), [4.0, 5, 20, 18]), "labels": np.ones((64, 1), int)}
    data = {"images": np.stack([image] * 64), "segmentation_masks": np.stack([image] * 64), "bounding_boxes": boxes}
    layer = layers.RandomCrop(12, 17, seed=3, bounding_box_format="xyxy")
    crops = jax.tree.map(np.asarray, layer(data))
    tops, lefts = np.divmod(crops["images"][:, 0, 0, 0].astype(int), 30)
    assert (tops.min(), tops.max(), lefts.min(), lefts.max()) == (0, 8, 0, 13)
    for top, left, crop, box in zip(tops, lefts, crops["images"], crops["bounding_boxes"]["boxes"]):
        np.testing.assert_array_equal(crop, image[top : top + 12, left : left + 17])
        moved = np.array([4, 5, 20, 18]) - [left, top, left, top]
        np.testing.assert_array_equal(box[0], np.clip(moved, 0, [17, 12, 17, 12]))
    np.testing.assert_array_equal(crops["segmentation_masks"], crops["images"])


def test_crop_at_inference_and_of_small_images_keeps_proportions():
    expected = keras.ops.image.resize(IMAGES, (4, 3), crop_to_aspect_ratio=True)
    np.testing.assert_allclose(layers.RandomCrop(4, 3)(IMAGES, training=False), expected, rtol=1e-6)
    expected = keras.ops.image.resize(IMAGES, (16, 3), crop_to_aspect_ratio=True)
    np.testing.assert_allclose(layers.RandomCrop(16, 3)(IMAGES, training=True), expected, rtol=1e-5)


@pytest.mark.slow
def test_seeds_keys_and_models():
    first, second = layers.RandomFlip(seed=4), layers.RandomFlip(seed=4)
    np.testing.assert_array_equal(first(IMAGES), second(IMAGES))
    layer = layers.RandomTranslation(0.3, 0.3)
    apply = jax.jit(lambda key, x: layer.apply({"params": {}, "state": {}}, x, key=key)[0])
    one = apply(jax.random.key(1), IMAGES)
    np.testing.assert_array_equal(one, apply(jax.random.key(1), IMAGES))
    assert not np.array_equal(one, apply(jax.random.key(2), IMAGES))
    same = apply(jax.random.key(1), np.stack([IMAGES[0]] * 2))
    assert not np.array_equal(same[0], same[1])
    model = kerax.Sequential([kerax.Input((8, 11, 3)), layers.RandomRotation(0.3), layers.Resizing(4, 5)])
    assert model.output_shape == (None, 4, 5, 3)
    expected = layers.Resizing(4, 5)(IMAGES)
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose(model(IMAGES, training=False), expected, rtol=1e-5)


@pytest.mark.medium
def test_outputs_have_the_compute_dtype():
    integers = IMAGES.astype("uint8")
    for training in (True, False):
        assert layers.RandomFlip()(integers, training=training).dtype == "float32"
        assert layers.RandomFlip(dtype="mixed_bfloat16")(integers, training=training).dtype == "bfloat16"
        assert layers.RandomBrightness(0.1)(integers, training=training).dtype == "uint8"
    np.testing.assert_array_equal(layers.RandomFlip(dtype="uint8")(integers, training=False), integers)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.Resizing(0, 3), "`height` must be an integer of at least 1"),
        (lambda: layers.Resizing(2, 3, "cubic"), "`interpolation` must be one of"),
        (lambda: layers.Resizing(2, 3, fill_mode="wrap"), "`fill_mode` must be one of"),
        (lambda: layers.Resizing(2, 3, crop_to_aspect_ratio=True, pad_to_aspect_ratio=True), "set only one of"),
        (lambda: layers.CenterCrop(2, 3)(np.zeros((4, 4))), r"images must have shape \(batch, height, width"),
        (lambda: layers.CenterCrop(2, 3)({"labels": np.zeros(4)}), "dictionary with such 'images'"),
        (lambda: layers.CenterCrop(2, 3, bounding_box_format="xy"), "`bounding_box_format` must be one of"),
        (lambda: layers.CenterCrop(2, 3)(sample()), "needs `bounding_box_format`"),
        (lambda: bounding_boxes.convert_format(BOXES, "xyxy", "rel_xyxy"), "needs the image's `height` and `width`"),
        (lambda: bounding_boxes.convert_format(BOXES[..., :3], "xyxy", "xywh"), r"shape \(..., 4\)"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_layer_without_randomness_takes_no_seed():
    with pytest.raises(TypeError, match="unknown argument 'seed'"):
        layers.CenterCrop(2, 3, seed=1)
