"""Boxes around things in images: formats, clipping, and what a warp does to them."""

from typing import Any

import jax.numpy as jnp

FORMATS = ("xyxy", "yxyx", "xywh", "center_xywh", "center_yxhw")
FORMATS += tuple(f"rel_{name}" for name in ("xyxy", "yxyx", "xywh", "center_xywh"))


def check_format(owner: Any, name: str, value: Any) -> None:
    """Raises `ValueError` unless `value` is a box format."""
    if not isinstance(value, str) or value.lower() not in FORMATS:
        raise ValueError(f"{owner}: `{name}` must be one of {FORMATS}. Got {name}={value!r}.")


def convert_format(
    boxes: Any, source: str, target: str, height: Any = None, width: Any = None, dtype: Any = "float32"
) -> Any:
    """Boxes from one format to another.

    Args:
        boxes: `(..., 4)`, or a dictionary with such `"boxes"`.
        source, target: `"xyxy"` (left, top, right, bottom), `"yxyx"`, `"xywh"` (left, top, width, height),
            `"center_xywh"`, `"center_yxhw"`; with `"rel_"` before it as fractions of the image's size.
        height, width: Size of the image in pixels, needed for the `"rel_"` formats.

    Raises:
        ValueError: for an unknown format, boxes of another shape, or a missing size.
    """
    if isinstance(boxes, dict):
        return {**boxes, "boxes": convert_format(boxes["boxes"], source, target, height, width, dtype)}
    check_format("convert_format", "source", source)
    check_format("convert_format", "target", target)
    boxes = jnp.asarray(boxes, dtype)
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"convert_format: `boxes` must have shape (..., 4). Got {boxes.shape}.")
    source, target = source.lower(), target.lower()
    is_relative = source.startswith("rel_"), target.startswith("rel_")
    if any(is_relative) and (height is None or width is None):
        raise ValueError(f"convert_format: {source!r} to {target!r} needs the image's `height` and `width`.")
    # Everything goes by way of corners in pixels: no pair of formats needs a conversion of its own.
    scale = jnp.asarray([width, height, width, height], boxes.dtype) if any(is_relative) else 1
    boxes = _to_corners(boxes, source.removeprefix("rel_"), scale if is_relative[0] else 1)
    return _from_corners(boxes / scale if is_relative[1] else boxes, target.removeprefix("rel_"))


def _to_corners(boxes, source: str, scale):
    if source in ("yxyx", "center_yxhw"):
        boxes = boxes[..., jnp.array([1, 0, 3, 2])]  # y and x change places, height and width too
    boxes = boxes * scale
    first, second = boxes[..., :2], boxes[..., 2:]
    if source.startswith("center"):
        first = first - second / 2
    return boxes if source in ("xyxy", "yxyx") else jnp.concatenate([first, first + second], axis=-1)


def _from_corners(boxes, target: str):
    first, second = boxes[..., :2], boxes[..., 2:]
    if target.startswith("center"):
        boxes = jnp.concatenate([(first + second) / 2, second - first], axis=-1)
    elif target == "xywh":
        boxes = jnp.concatenate([first, second - first], axis=-1)
    return boxes[..., jnp.array([1, 0, 3, 2])] if target in ("yxyx", "center_yxhw") else boxes


def clip_to_image_size(
    bounding_boxes: dict, height: Any = None, width: Any = None, bounding_box_format: Any = "xyxy"
) -> dict:
    """Boxes cut at the edges of the image; those with nothing left get the label -1.

    Args:
        bounding_boxes: `{"boxes": (..., boxes, 4), "labels": (..., boxes)}`.
        height, width: Size of the image in pixels, needed unless the format is a `"rel_"` one.
    """
    if bounding_box_format.lower().startswith("rel_"):
        height = width = 1  # fractions of any size are cut alike
    size = {"height": height, "width": width}
    corners = convert_format(bounding_boxes["boxes"], bounding_box_format, "xyxy", **size)
    corners = jnp.clip(corners, 0, jnp.asarray([width, height, width, height], corners.dtype))
    sides = corners[..., 2:] - corners[..., :2]
    labels = jnp.asarray(bounding_boxes["labels"])
    # Their number stays, for the shape does: what is gone is marked.
    labels = jnp.where(jnp.all(sides > 0, axis=-1), labels, jnp.asarray(-1, labels.dtype))
    return {"boxes": convert_format(corners, "xyxy", bounding_box_format, **size), "labels": labels}


def warp_boxes(boxes: Any, transform: Any) -> Any:
    """Boxes `(boxes, 4)` around the corners of `boxes` after a warp; `transform` takes outputs to inputs."""
    # Pixels are looked up by the map, corners move against it.
    forward = jnp.linalg.inv(jnp.append(transform, 1).reshape(3, 3))
    x, y = boxes[:, jnp.array([0, 2, 0, 2])], boxes[:, jnp.array([1, 1, 3, 3])]
    # Four corners of each box, (3, boxes, corners); `k` is 1 unless the map is a perspective.
    u, v, k = jnp.einsum("ij,jnc->inc", forward, jnp.stack([x, y, jnp.ones_like(x)]), precision="highest")
    u, v = u / k, v / k
    return jnp.stack([u.min(-1), v.min(-1), u.max(-1), v.max(-1)], axis=-1)
