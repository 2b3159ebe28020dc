"""Boxes and masks in images."""

import keras
import numpy as np
import pytest

from kerax.visualization import draw_bounding_boxes, draw_segmentation_masks

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 12, 16, 3)).astype("uint8")
MASKS = RNG.integers(-1, 3, (2, 12, 16, 1))


@pytest.mark.parametrize("blend", [True, False])
def test_masks_are_those_of_keras(blend):
    colors = {0: (255, 0, 0), 1: (0, 9, 0), 2: (1, 2, 3)}
    for options in ({"num_classes": 3}, {"num_classes": 2, "alpha": 0.3}, {"num_classes": 3, "color_mapping": colors}):
        ours = draw_segmentation_masks(IMAGES, MASKS, blend=blend, **options)
        theirs = np.asarray(keras.visualization.draw_segmentation_masks(IMAGES, MASKS, blend=blend, **options))
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    first = draw_segmentation_masks(
        np.moveaxis(IMAGES, -1, 1), np.moveaxis(MASKS, -1, 1), 3, data_format="channels_first"
    )
    np.testing.assert_array_equal(first, draw_segmentation_masks(IMAGES, MASKS, 3))


def test_all_classes_of_a_mask_get_a_colour():
    drawn = draw_segmentation_masks(IMAGES, MASKS, blend=False)
    assert len(np.unique(drawn[MASKS[..., 0] >= 0], axis=0)) == 3
    np.testing.assert_array_equal(drawn[MASKS[..., 0] == -1], IMAGES[MASKS[..., 0] == -1])


def test_frames_lie_around_the_edges():
    boxes = {"boxes": np.array([[[3, 2, 9, 8], [0, 0, 5, 5]]]), "labels": np.array([[0, -1]])}
    blank = np.zeros((1, 12, 16, 3), "uint8")
    drawn = draw_bounding_boxes(blank, boxes, "xyxy", color=(10, 20, 30))
    expected = np.zeros((12, 16), bool)
    expected[1:9, 2:10] = True
    expected[3:7, 4:8] = False
    np.testing.assert_array_equal(drawn[0, ..., 1] == 20, expected)
    assert not blank.any()
    thin = draw_bounding_boxes(blank, boxes, "xyxy", line_thickness=1)
    assert thin[0, 2, 3:10, 0].all() and thin[0, 8, 3:10, 0].all() and (thin[0, ..., 0] > 0).sum() == 24
    relative = {**boxes, "boxes": boxes["boxes"] / np.array([16, 12, 16, 12])}
    again = draw_bounding_boxes(blank, relative, "rel_xyxy", color=(10, 20, 30))
    np.testing.assert_array_equal(again, drawn)
    outside = draw_bounding_boxes(blank, {"boxes": [[[-9, -9, 40, 40]]], "labels": [[1]]}, "xyxy")
    assert not outside.any()


def test_values_and_layouts_of_images():
    boxes = {"boxes": [[[1, 1, 2, 2]]] * 2, "labels": [[-1]] * 2}
    floats = IMAGES / np.float32(255)
    np.testing.assert_allclose(draw_bounding_boxes(floats, boxes, "xyxy"), IMAGES, atol=1)
    first = draw_bounding_boxes(np.moveaxis(IMAGES, -1, 1), boxes, "xyxy", data_format="channels_first")
    np.testing.assert_array_equal(first, IMAGES)
    assert draw_bounding_boxes(IMAGES[..., :1], boxes, "xyxy").shape == (2, 12, 16, 1)


def test_names_are_written_above_or_inside():
    pytest.importorskip("PIL", reason="Pillow is not installed")
    blank = np.zeros((1, 60, 90, 3), "uint8")

    def text_rows(top, **options):
        boxes = {"boxes": [[[5, top, 80, 58]]], "labels": [[4]], **options}
        plain = draw_bounding_boxes(blank, boxes, "xyxy", color=(255, 255, 255))
        named = draw_bounding_boxes(blank, boxes, "xyxy", {4: "dog"}, (255, 255, 255), font_scale=0.6)
        return (named != plain).any(axis=(0, 2, 3)).nonzero()[0], (named != plain).sum()

    above, ink = text_rows(40)
    assert len(above) and above.max() < 39
    inside, _ = text_rows(3)
    assert inside.min() >= 4
    assert text_rows(40, confidences=[[0.75]])[1] > ink


def test_wrong_arguments_are_named():
    boxes = {"boxes": [[[1, 1, 2, 2]]], "labels": [[0]]}
    for draw in (
        lambda: draw_bounding_boxes(IMAGES[0], boxes, "xyxy"),
        lambda: draw_segmentation_masks(IMAGES[0], MASKS),
    ):
        with pytest.raises(ValueError, match="`images` must be a batch"):
            draw()
    with pytest.raises(TypeError, match="must be a dict"):
        draw_bounding_boxes(IMAGES, [1], "xyxy")
    with pytest.raises(ValueError, match="'boxes' and 'labels'"):
        draw_bounding_boxes(IMAGES, {"boxes": 1}, "xyxy")
    with pytest.raises(ValueError, match="must be one of"):
        draw_bounding_boxes(IMAGES, boxes, "yx")
    with pytest.raises(TypeError, match="must be integers"):
        draw_segmentation_masks(IMAGES, MASKS * 1.0)
    with pytest.raises(ValueError, match=r"no colour for the classes \[1, 2\]"):
        draw_segmentation_masks(IMAGES, MASKS, 3, {0: (1, 1, 1)})
