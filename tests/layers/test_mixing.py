"""Mixtures, random sequences of layers, `Pipeline` and `MaxNumBoundingBoxes`."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from kerax import layers

COUNT = 64
NUMBERS = np.broadcast_to(np.arange(COUNT, dtype="float32").reshape(-1, 1, 1, 1), (COUNT, 12, 16, 3))
LABELS = np.eye(COUNT, dtype="float32")
MASKS = np.ascontiguousarray(NUMBERS[..., :1])
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 16, 18, 3)).astype("float32")
DATA = {"images": NUMBERS, "labels": LABELS, "segmentation_masks": MASKS}


@pytest.mark.medium
def test_mixtures_of_images_labels_masks_and_boxes():
    boxes = {"boxes": NUMBERS[:, :2, :4, 0], "labels": np.arange(2 * COUNT).reshape(COUNT, 2)}
    mixed = jax.tree.map(np.asarray, layers.MixUp(0.5, seed=1)(DATA | {"bounding_boxes": boxes}))
    labels = mixed["labels"]
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    assert ((labels > 0).sum(1) <= 2).all() and len({*labels.max(1).round(4)}) > COUNT / 2
    expected = np.broadcast_to((labels @ np.arange(COUNT)).reshape(-1, 1, 1, 1), NUMBERS.shape)
    np.testing.assert_allclose(mixed["images"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mixed["segmentation_masks"], expected[..., :1], rtol=1e-4, atol=1e-4)
    partner = np.where(np.diag(labels) < 1, (labels * (1 - np.eye(COUNT))).argmax(1), np.arange(COUNT))
    both = mixed["bounding_boxes"]["labels"]
    np.testing.assert_array_equal(both[:, :2], boxes["labels"])
    certain = (labels * (1 - np.eye(COUNT))).max(1) > 0
    np.testing.assert_array_equal(both[certain, 2:], boxes["labels"][partner[certain]])


@pytest.mark.medium
def test_shares_of_mixtures_are_spread_as_in_keras():
    shares = []
    for module in (layers, keras.layers):
        layer = module.MixUp(0.5, seed=2)
        data = {"images": jnp.asarray(NUMBERS[:, :1, :1]), "labels": jnp.asarray(LABELS)}
        mixed = [np.diag(layer(data, training=True)["labels"]) for _ in range(8)]
        shares.append([np.mean(mixed), np.std(mixed)])
    np.testing.assert_allclose(shares[0], shares[1], atol=0.07)


@pytest.mark.medium
def test_cut_rectangles_come_from_one_other_image_and_labels_follow_the_area():
    cut = jax.tree.map(np.asarray, layers.CutMix(seed=1)(DATA))
    np.testing.assert_array_equal(cut["segmentation_masks"][..., 0], cut["images"][..., 0])
    for number, (image, label) in enumerate(zip(cut["images"][..., 0], cut["labels"])):
        inside = image != number
        rows, columns = inside.any(1), inside.any(0)
        np.testing.assert_array_equal(inside, rows[:, None] & columns)
        assert len(np.unique(image[inside])) <= 1
        if inside.any():
            np.testing.assert_allclose(label[int(image[inside][0])], inside.mean(), rtol=1e-5)
        np.testing.assert_allclose(label.sum(), 1, rtol=1e-5)


def test_boxes_are_cut_off_or_filled_up_as_in_keras():
    boxes = {"boxes": jnp.arange(24.0).reshape(2, 3, 4), "labels": jnp.arange(6).reshape(2, 3)}
    for number in (2, 5):
        data = {"images": jnp.asarray(IMAGES[:2]), "bounding_boxes": boxes}
        ours = layers.MaxNumBoundingBoxes(number, bounding_box_format="xyxy")(data)["bounding_boxes"]
        theirs = keras.layers.MaxNumBoundingBoxes(number, bounding_box_format="xyxy")(
            {"images": data["images"], "bounding_boxes": dict(boxes)}
        )["bounding_boxes"]
        for name in ("boxes", "labels"):
            np.testing.assert_array_equal(ours[name], theirs[name])
    filled = layers.MaxNumBoundingBoxes(4, fill_value=-7)(data)["bounding_boxes"]
    assert (np.asarray(filled["boxes"])[:, 3] == -7).all()


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda **k: layers.RandAugment(**k), lambda **k: layers.AugMix(**k)])
def test_random_sequences_differ_between_images_and_repeat_with_the_seed(make):
    same = np.stack([IMAGES[0]] * 6)
    changed = np.asarray(make(seed=3)(same))
    assert changed.shape == same.shape and np.isfinite(changed).all()
    assert changed.min() >= -1e-3 and changed.max() <= 255.001
    assert len({image.tobytes() for image in changed}) > 3
    np.testing.assert_array_equal(changed, make(seed=3)(same))
    np.testing.assert_array_equal(make()(same, training=False), same)


@pytest.mark.slow
def test_operations_of_rand_augment_are_those_of_keras():
    theirs = keras.layers.RandAugment(factor=0.4)
    theirs.build((2, 8, 8, 3))
    ours = {type(layer).__name__: layer.get_config() for layer in layers.RandAugment(factor=0.4).operations}
    own = {type(layer).__name__: layer for layer in vars(theirs).values() if hasattr(layer, "transform_images")}
    assert own.keys() == ours.keys()
    for name, layer in own.items():
        for argument, value in layer.get_config().items():
            if "factor" in argument or argument == "value_range":
                np.testing.assert_allclose(ours[name][argument], value, err_msg=f"{name} {argument}")


@pytest.mark.slow
def test_rand_augment_moves_boxes():
    boxes = {"boxes": np.full((8, 1, 4), [4.0, 4, 12, 12]), "labels": np.ones((8, 1), int)}
    layer = layers.RandAugment(bounding_box_format="xyxy", seed=1)
    moved = np.asarray(layer({"images": np.stack([IMAGES[0]] * 8), "bounding_boxes": boxes})["bounding_boxes"]["boxes"])
    assert len({box.tobytes() for box in moved}) > 1
    assert moved.min() >= 0 and moved.max() <= 18


@pytest.mark.medium
def test_pipelines_apply_layers_in_order_and_pass_training_on():
    pipeline = layers.Pipeline([layers.RandomInvert((1.0, 1.0)), layers.Resizing(5, 6), layers.AutoContrast()])
    expected = layers.AutoContrast()(layers.Resizing(5, 6)(255 - IMAGES))
    np.testing.assert_allclose(pipeline(IMAGES), expected, rtol=1e-4, atol=1e-3)
    expected = layers.AutoContrast()(layers.Resizing(5, 6)(IMAGES))
    np.testing.assert_allclose(pipeline(IMAGES, training=False), expected, rtol=1e-4, atol=1e-3)
    again = layers.Pipeline.from_config(pipeline.get_config())
    np.testing.assert_allclose(again(IMAGES, training=False), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.MixUp(0.0), "`alpha` must be above 0"),
        (lambda: layers.CutMix(2.0), r"`factor` must be within \[0, 1\]"),
        (lambda: layers.CutMix(bounding_box_format="xyxy")({"images": IMAGES, "bounding_boxes": {}}), None),
        (lambda: layers.RandAugment(num_ops=-1), "`num_ops` must be an integer of at least 0"),
        (lambda: layers.Pipeline.from_config({"name": "pipeline"}), "`layers` must be a list of layers"),
        (lambda: layers.AugMix(interpolation="cubic"), "`interpolation` must be one of"),
        (lambda: layers.AugMix(alpha=-1), "`alpha` must be above 0"),
        (lambda: layers.MaxNumBoundingBoxes(0), "`max_number` must be an integer of at least 1"),
        (lambda: layers.Pipeline([1]), "`layers` must be a list of layers"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message or "cannot transform 'bounding_boxes'"):
        call()


def test_pipelines_hand_the_mask_on():
    seen = []

    class Masked(layers.Layer):
        def call(self, inputs, mask=None):
            seen.append(mask is not None)
            return inputs

    layers.Pipeline([Masked(), layers.Identity(), Masked()])(np.zeros((1, 2)), mask=np.array([[True, False]]))
    assert seen[0]


def test_one_step_of_a_jitter_alone_is_its_layer():
    images = np.random.default_rng(0).uniform(0, 255, (3, 4, 5, 3))
    for name, layer in (("hue", layers.RandomHue), ("contrast", layers.RandomContrast)):
        jitter = layers.RandomColorJitter(**{f"{name}_factor": (0.5, 0.5)}, seed=4)
        np.testing.assert_allclose(jitter(images), layer((0.5, 0.5), seed=4)(images), rtol=1e-5)
