"""Boxes around things in images: formats, overlap, offsets to anchors, and what cuts and warps do to them."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from kerax import config
from kerax.layers.bounding_boxes import clip_to_image_size as clip_to_image_size
from kerax.layers.bounding_boxes import convert_format as convert_format


def _corners(boxes, source: str, image_shape, who: str):
    """Boxes as (left, top, right, bottom)."""
    # `convert_format` needs the size too, but knows it by other names than the user of these functions.
    if source.lower().startswith("rel") and image_shape is None:
        raise ValueError(f"{who}: {source!r} boxes need `image_shape` (height, width, channels). Got None.")
    height, width = (None, None) if image_shape is None else image_shape[:2]
    return convert_format(boxes, source, "xyxy", height, width)


def _area(boxes):
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def compute_iou(boxes1, boxes2, bounding_box_format, use_masking: bool = False, mask_val=-1, image_shape=None):
    """The area that two boxes share over the area that they cover, for every pair of boxes.

    Args:
        boxes1: `(boxes, 4)` or `(batch, boxes, 4)`.
        boxes2: Likewise.
        bounding_box_format: As in `convert_format`.
        use_masking: Whether pairs with a box of only negative numbers get `mask_val`.
        mask_val: The value of these.
        image_shape: `(height, width, channels)`, needed for the `"rel_"` formats.

    Returns: `(..., boxes1, boxes2)`.

    Raises:
        ValueError: for other ranks, an unknown format, or a missing `image_shape`.
    """
    for name, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
        if np.ndim(boxes) not in (2, 3):
            raise ValueError(f"compute_iou: `{name}` must have shape ([batch,] boxes, 4). Got {np.shape(boxes)}.")
    first = _corners(boxes1, bounding_box_format, image_shape, "compute_iou")[..., :, None, :]
    second = _corners(boxes2, bounding_box_format, image_shape, "compute_iou")[..., None, :, :]
    sides = jnp.minimum(first[..., 2:], second[..., 2:]) - jnp.maximum(first[..., :2], second[..., :2])
    # Boxes apart have two negative sides, or one: cut off before the product, which would make two of them an area.
    shared = jnp.prod(jnp.maximum(sides, 0), axis=-1)  # (..., boxes1, boxes2)
    overlap = shared / (_area(first) + _area(second) - shared + config.epsilon())
    if use_masking:
        # Boxes that fill up a batch are -1 everywhere.
        is_filler = (jnp.max(first, axis=-1) < 0) | (jnp.max(second, axis=-1) < 0)
        overlap = jnp.where(is_filler, mask_val, overlap)
    return overlap


def compute_ciou(boxes1, boxes2, bounding_box_format, image_shape=None):
    """The complete IoU of boxes paired by position: IoU less a penalty for distance and one for other proportions.

    Args:
        boxes1, boxes2: `(..., 4)`, of one shape.
        bounding_box_format: As in `convert_format`.
        image_shape: `(height, width, channels)`, needed for the `"rel_"` formats, which Keras refuses here.

    Returns: `(...)`.

    Source: Zheng et al. 2021, https://arxiv.org/abs/2005.03572
    """
    epsilon = config.epsilon()
    first = _corners(boxes1, bounding_box_format, image_shape, "compute_ciou")
    second = _corners(boxes2, bounding_box_format, image_shape, "compute_ciou")
    # Only heights get the small number, which the angle divides by; so it is in Keras.
    sides = [boxes[..., 2:] - boxes[..., :2] + jnp.array([0, epsilon]) for boxes in (first, second)]
    shared_sides = jnp.minimum(first[..., 2:], second[..., 2:]) - jnp.maximum(first[..., :2], second[..., :2])
    shared = jnp.prod(jnp.maximum(shared_sides, 0), axis=-1)
    covered = jnp.prod(sides[0], axis=-1) + jnp.prod(sides[1], axis=-1) - shared
    overlap = shared / (covered + 2 * epsilon)
    around = jnp.maximum(first[..., 2:], second[..., 2:]) - jnp.minimum(first[..., :2], second[..., :2])
    centers = (first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]) / 2
    distance = jnp.sum(centers**2, axis=-1) / (jnp.sum(around**2, axis=-1) + epsilon)
    angles = [jnp.arctan(side[..., 0] / side[..., 1]) for side in sides]
    proportions = 4 / math.pi**2 * (angles[1] - angles[0]) ** 2
    return overlap - distance - proportions**2 / (proportions - overlap + 1 + epsilon)


def _require_corners(bounding_box_format: str, who: str):
    if bounding_box_format != "xyxy":
        raise NotImplementedError(
            f"{who}: only 'xyxy' boxes are supported; use `convert_format`. Got {bounding_box_format!r}."
        )


def crop(boxes, top, left, height, width, bounding_box_format: str = "xyxy"):
    """Boxes in the coordinates of a part of their image, cut at its edges; `(top, left)` is the part's corner."""
    _require_corners(bounding_box_format, "crop")
    moved = jnp.asarray(boxes) - jnp.asarray([left, top, left, top])
    return jnp.clip(moved, 0, jnp.asarray([width, height, width, height]))


def pad(boxes, top, left, height=None, width=None, bounding_box_format: str = "xyxy"):
    """Boxes in the coordinates of an image that `top` rows and `left` columns were added to."""
    _require_corners(bounding_box_format, "pad")
    return jnp.asarray(boxes) + jnp.asarray([left, top, left, top])


def affine_transform(
    boxes,
    angle,
    translate_x,
    translate_y,
    scale,
    shear_x,
    shear_y,
    height,
    width,
    center_x=None,
    center_y=None,
    bounding_box_format: str = "xyxy",
):
    """Boxes around the corners of `boxes` after a rotation, shift, scaling and shear of each image.

    Args:
        boxes: `(batch, boxes, 4)`, left, top, right, bottom in pixels.
        angle: Degrees, `(batch,)`, as all that follow may be.
        translate_x, translate_y: Fractions of the image's width and height.
        scale: Factor by which what is seen shrinks, as in Keras.
        shear_x, shear_y: Degrees.
        height, width: Size of the image in pixels.
        center_x, center_y: The point that stays in place, as fractions of the image. Default: the middle.

    Returns: `(batch, boxes, 4)`.
    """
    _require_corners(bounding_box_format, "affine_transform")
    boxes = jnp.asarray(boxes, config.floatx())
    # Negated, for the vertical axis points down.
    angle, shear_x, shear_y = (-jnp.deg2rad(jnp.asarray(value, boxes.dtype)) for value in (angle, shear_x, shear_y))
    # Distances between the centres of the outermost pixels.
    size = jnp.asarray([width - 1, height - 1], boxes.dtype)
    center = size * jnp.asarray([0.5 if at is None else at for at in (center_x, center_y)], boxes.dtype)
    shift = jnp.stack(jnp.broadcast_arrays(-size[0] * translate_x, -size[1] * translate_y, angle)[:2], -1)
    # These four map pixels of the result to those of the image; boxes go the other way, by the inverse, which is up to
    # the determinant the adjugate: the diagonal exchanged, the others negated.
    first = jnp.cos(angle - shear_y) / jnp.cos(shear_y)
    second = first * jnp.tan(shear_x) + jnp.sin(angle)
    third = -jnp.sin(angle - shear_y) / jnp.cos(shear_y)
    fourth = jnp.cos(angle) - third * jnp.tan(shear_x)
    rows = jnp.stack([jnp.stack([fourth, -second], -1), jnp.stack([-third, first], -1)], -2)
    rows = rows * jnp.asarray(scale, boxes.dtype)[..., None, None]  # (batch, 2, 2)
    offset = center - jnp.einsum("bij,bj->bi", rows, center + shift)
    points = boxes[..., jnp.array([[0, 1], [2, 1], [2, 3], [0, 3]])]  # (batch, boxes, corners, 2)
    moved = jnp.einsum("bij,bncj->bnci", rows, points) + offset[:, None, None]
    # A turned box is no box: the smallest upright one around its corners.
    return jnp.concatenate([moved.min(axis=2), moved.max(axis=2)], axis=-1)


def _check_encoding(who: str, name: str, value, variance, image_shape) -> tuple[Any, Any]:
    if value not in ("center_xywh", "center_yxhw"):
        raise ValueError(f"{who}: `{name}` must be 'center_xywh' or 'center_yxhw'. Got {value!r}.")
    if variance is not None and np.shape(variance) != (4,):
        raise ValueError(f"{who}: `variance` must hold 4 numbers. Got shape {np.shape(variance)}.")
    return (None, None) if image_shape is None else (image_shape[0], image_shape[1])


def encode_box_to_deltas(
    anchors, boxes, anchor_format, box_format, encoding_format: str = "center_yxhw", variance=None, image_shape=None
):
    """What a detector predicts for boxes at anchors: shifts in units of the anchor's size, logarithms of size ratios.

    Args:
        anchors: `(boxes, 4)`.
        boxes: `(boxes, 4)` or `(batch, boxes, 4)`.
        anchor_format, box_format: As in `convert_format`.
        encoding_format: `"center_yxhw"` or `"center_xywh"`: the order of the result.
        variance: 4 numbers that the result is divided by.
        image_shape: `(height, width, channels)`, needed for the `"rel_"` formats.

    Raises:
        ValueError: for another `encoding_format`, or a `variance` of another length.
    """
    size = _check_encoding("encode_box_to_deltas", "encoding_format", encoding_format, variance, image_shape)
    anchors = convert_format(anchors, anchor_format, encoding_format, *size)
    boxes = convert_format(boxes, box_format, encoding_format, *size)
    # Boxes that fill up have no size: the logarithm of 0 would make the loss infinite.
    anchor_sides, sides = (jnp.maximum(box[..., 2:], config.epsilon()) for box in (anchors, boxes))
    shifts = (boxes[..., :2] - anchors[..., :2]) / anchor_sides
    deltas = jnp.concatenate([shifts, jnp.log(sides / anchor_sides)], axis=-1)
    return deltas if variance is None else deltas / jnp.asarray(variance, deltas.dtype)


def decode_deltas_to_boxes(
    anchors, boxes_delta, anchor_format, box_format, encoded_format="center_yxhw", variance=None, image_shape=None
):
    """The boxes that `encode_box_to_deltas` described; `anchors` and `boxes_delta` may be dicts of several levels."""
    size = _check_encoding("decode_deltas_to_boxes", "encoded_format", encoded_format, variance, image_shape)
    if isinstance(anchors, dict) and isinstance(boxes_delta, dict):
        options = (anchor_format, box_format, encoded_format, variance, image_shape)
        return {level: decode_deltas_to_boxes(anchors[level], boxes_delta[level], *options) for level in anchors}
    anchors = convert_format(anchors, anchor_format, encoded_format, *size)
    deltas = jnp.asarray(boxes_delta)
    deltas = deltas if variance is None else deltas * jnp.asarray(variance, deltas.dtype)
    centers = deltas[..., :2] * anchors[..., 2:] + anchors[..., :2]
    boxes = jnp.concatenate([centers, jnp.exp(deltas[..., 2:]) * anchors[..., 2:]], axis=-1)
    return convert_format(boxes, encoded_format, box_format, *size)
