"""Boxes against Keras."""

import keras
import numpy as np
import pytest

from kerax.utils import bounding_boxes

THEIRS = keras.utils.bounding_boxes
RNG = np.random.default_rng(0)


def boxes(*shape):
    corner = RNG.uniform(0, 30, (*shape, 2))
    return np.concatenate([corner, corner + RNG.uniform(1, 20, (*shape, 2))], -1).astype("float32")


def same(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.medium
@pytest.mark.parametrize("shape", [(5,), (2, 5)])
def test_overlaps(shape):
    first, second = boxes(*shape), boxes(*shape[:-1], 3)
    first[..., 0, :] = -1
    for box_format in ("xyxy", "yxyx", "xywh", "center_xywh"):
        a, b = (bounding_boxes.convert_format(x, "xyxy", box_format) for x in (first, second))
        same(bounding_boxes.compute_iou(a, b, box_format), THEIRS.compute_iou(a, b, box_format))
    masked = dict(use_masking=True, mask_val=-7)
    ours, theirs = (
        bounding_boxes.compute_iou(first, second, "xyxy", **masked),
        THEIRS.compute_iou(first, second, "xyxy"),
    )
    assert (np.asarray(ours)[..., 0, :] == -7).all()
    same(np.asarray(ours)[..., 1:, :], np.asarray(theirs)[..., 1:, :])
    relative = dict(image_shape=(40, 50, 3))
    a, b = (bounding_boxes.convert_format(x, "xyxy", "rel_xyxy", 40, 50) for x in (first, second))
    same(bounding_boxes.compute_iou(a, b, "rel_xyxy", **relative), THEIRS.compute_iou(a, b, "rel_xyxy", **relative))
    one, other = boxes(*shape), boxes(*shape)
    same(bounding_boxes.compute_ciou(one, other, "xyxy"), THEIRS.compute_ciou(one, other, "xyxy"))
    a, b = (bounding_boxes.convert_format(x, "xyxy", "rel_xyxy", 40, 50) for x in (one, other))
    same(bounding_boxes.compute_ciou(a, b, "rel_xyxy", **relative), THEIRS.compute_ciou(one, other, "xyxy"))


@pytest.mark.parametrize("encoding", ["center_yxhw", "center_xywh"])
def test_deltas_there_and_back(encoding):
    anchors, targets = boxes(6), boxes(2, 6)
    for variance in (None, [0.1, 0.1, 0.2, 0.2]):
        arguments = ("xyxy", "xyxy", encoding, variance)
        ours = bounding_boxes.encode_box_to_deltas(anchors, targets, *arguments)
        same(ours, THEIRS.encode_box_to_deltas(anchors, targets, *arguments), 1e-4)
        same(bounding_boxes.decode_deltas_to_boxes(anchors, ours, *arguments), targets, 1e-3)
        levels = bounding_boxes.decode_deltas_to_boxes({"p3": anchors}, {"p3": ours}, *arguments)
        same(levels["p3"], targets, 1e-3)
    with pytest.raises(ValueError, match="`variance` must hold 4"):
        bounding_boxes.encode_box_to_deltas(anchors, targets, "xyxy", "xyxy", variance=[1, 2])
    with pytest.raises(ValueError, match="`encoding_format`"):
        bounding_boxes.encode_box_to_deltas(anchors, targets, "xyxy", "xyxy", "xyxy")


@pytest.mark.medium
def test_cuts_margins_and_warps():
    some = boxes(3, 4)
    same(bounding_boxes.crop(some, 5, 7, 20, 25), THEIRS.crop(some, 5, 7, 20, 25))
    same(bounding_boxes.pad(some, 5, 7), THEIRS.pad(some, 5, 7))
    turn = [np.array(values, "float32") for values in ([10.0, -30.0, 90.0], [0.1, 0, -0.2], [0, 0.3, 0.1])]
    turn += [np.array(values, "float32") for values in ([1.0, 0.5, 2.0], [0.0, 20.0, 5.0], [15.0, 0.0, 3.0])]
    for center in ({}, {"center_x": 0.2, "center_y": 0.7}):
        arguments = (some, *turn, 40, 50)
        ours = bounding_boxes.affine_transform(*arguments, **center)
        same(ours, THEIRS.affine_transform(*arguments, **center), 1e-3)
    for function, arguments in (("crop", (1, 1, 1, 1)), ("pad", (1, 1))):
        with pytest.raises(NotImplementedError, match="`convert_format`"):
            getattr(bounding_boxes, function)(some, *arguments, bounding_box_format="xywh")


def test_wrong_boxes_are_named():
    with pytest.raises(ValueError, match="`boxes2` must have shape"):
        bounding_boxes.compute_iou(boxes(2), boxes(2)[0], "xyxy")
    with pytest.raises(ValueError, match="need `image_shape`"):
        bounding_boxes.compute_iou(boxes(2), boxes(2), "rel_xyxy")
