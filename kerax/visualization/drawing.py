"""Boxes and masks drawn into images, on the host."""

import numpy as np

from kerax import config
from kerax.layers.bounding_boxes import convert_format
from kerax.utils.images import pillow


def batch_of_images(who: str, images, data_format: str | None = None) -> np.ndarray:
    """Images as NumPy, channels last. Raises `ValueError` unless they are a batch."""
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"{who}: `images` must be a batch with 4 axes. Got shape {images.shape}.")
    is_last = config.standardize_data_format(data_format) == "channels_last"
    return images if is_last else images.transpose(0, 2, 3, 1)


def draw_bounding_boxes(
    images,
    bounding_boxes,
    bounding_box_format,
    class_mapping=None,
    color=(128, 128, 128),
    line_thickness: int = 2,
    text_thickness: int | None = 1,
    font_scale: float = 1.0,
    data_format: str | None = None,
):
    """Images with boxes drawn into them, and the names of their classes above (below, where there is no room).

    Args:
        images: `(batch, height, width, channels)` of 1 or 3 channels; floats up to 1, or numbers up to 255.
        bounding_boxes: `{"boxes": (batch, boxes, 4), "labels": (batch, boxes)}`, and `"confidences"` if there are any;
            boxes with the label -1 are left out.
        bounding_box_format: As in `kerax.utils.bounding_boxes.convert_format`.
        class_mapping: `{label: name}`; labels that are not in it get no text. Text needs Pillow.
        color: Red, green, blue from 0 to 255.
        line_thickness: Pixels.
        text_thickness: Strokes get wider by a pixel on both sides with every 2 from 3 on.
        font_scale: Size of the text, 1 being about 22 pixels.
        data_format: Of `images`. Default: `config.image_data_format()`.

    Returns: uint8 `(batch, height, width, channels)`.

    Raises:
        ValueError: for images or boxes of another form.
        TypeError: if `bounding_boxes` is not a dict.
    """
    images = batch_of_images("draw_bounding_boxes", images, data_format)
    if not isinstance(bounding_boxes, dict):
        raise TypeError(f"draw_bounding_boxes: `bounding_boxes` must be a dict. Got {type(bounding_boxes).__name__}.")
    if not {"boxes", "labels"} <= bounding_boxes.keys():
        raise ValueError(f"draw_bounding_boxes: expected 'boxes' and 'labels'. Got {sorted(bounding_boxes)}.")
    boxes = convert_format(bounding_boxes["boxes"], bounding_box_format, "xyxy", *images.shape[1:3])
    boxes, labels = np.asarray(boxes).astype(np.int64), np.asarray(bounding_boxes["labels"]).astype(np.int64)
    confidences = bounding_boxes.get("confidences")
    # Floats may be from 0 to 1 or from 0 to 255: only the largest of them tells.
    if images.dtype.kind == "f" and images.size:
        images = np.clip(images, 0, 1) * 255 if images.max() <= 1 else np.clip(images, 0, 255)
    drawn = images.astype(np.uint8)  # a copy, also of bytes: what was given is not drawn into
    ink = np.asarray(color[: drawn.shape[-1]], np.uint8)
    for index, image in enumerate(drawn):
        for position, (box, label) in enumerate(zip(boxes[index], labels[index], strict=True)):
            if label == -1:  # fills up the batch
                continue
            _draw_frame(image, box, ink, line_thickness)
            text = (class_mapping or {}).get(int(label))
            if text is not None:
                if confidences is not None:
                    text = f"{text} | {float(np.asarray(confidences)[index][position]):.2f}"
                _draw_text(image, box[:2], str(text), color, font_scale, text_thickness or line_thickness)
    return drawn


def _draw_frame(image: np.ndarray, box, color, thickness: int):
    """A frame whose lines lie around the box's edges; parts outside the image are left out."""
    left, top, right, bottom = box
    before, after = thickness // 2, thickness - thickness // 2

    def span(low, high, size):
        return slice(min(max(low, 0), size), min(max(high, 0), size))

    rows = span(top - before, bottom + after, image.shape[0])
    columns = span(left - before, right + after, image.shape[1])
    # By slices of the array: no library is needed for straight lines.
    for y in (top, bottom):
        image[span(y - before, y + after, image.shape[0]), columns] = color
    for x in (left, right):
        image[rows, span(x - before, x + after, image.shape[1])] = color


def _draw_text(image: np.ndarray, corner, text: str, color, scale: float, thickness: int):
    image_module = pillow("draw_bounding_boxes with `class_mapping`")
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(size=22 * scale)
    channels = image.shape[-1]
    canvas = image_module.fromarray(image[..., 0] if channels == 1 else image)
    draw = ImageDraw.Draw(canvas)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    x, y = int(corner[0]), int(corner[1]) - 4 - bottom
    if y + top < 0:  # the text would begin above the image
        x, y = x + 3 + thickness, int(corner[1]) + 3 + thickness - top
    x = max(0, min(x, canvas.width - (right - left)))
    ink = tuple(int(value) for value in color[:channels])
    draw.text((x, y), text, fill=ink[0] if channels == 1 else ink, font=font, stroke_width=max(thickness - 1, 0) // 2)
    # Pillow works on a copy.
    image[...] = np.asarray(canvas).reshape(image.shape)


def palette(num_classes: int) -> list[list[int]]:
    """Colours that differ from class to class; the first is black."""
    # Keras's palette, so that pictures can be compared.
    steps = np.array([2**25 - 1, 2**15 - 1, 2**21 - 1])
    return [(index * steps % 255).tolist() for index in range(num_classes)]


def draw_segmentation_masks(
    images,
    segmentation_masks,
    num_classes=None,
    color_mapping=None,
    alpha: float = 0.8,
    blend: bool = True,
    ignore_index: int | None = -1,
    data_format: str | None = None,
):
    """Images with the classes of their pixels as colours.

    Args:
        images: `(batch, height, width, channels)`, from 0 to 255.
        segmentation_masks: Integers `(batch, height, width, 1)`.
        num_classes: Classes from this on get no colour. Default: the largest class plus 1; Keras leaves that class out.
        color_mapping: `{class: (red, green, blue)}`. Default: a palette.
        alpha: Share of the colour, from 0 to 1.
        blend: Whether the image shines through.
        ignore_index: The class of pixels that stay as they are, if `blend`.
        data_format: Of images and masks. Default: `config.image_data_format()`.

    Returns: `(batch, height, width, channels)`, uint8, or float32 without `blend`.

    Raises:
        TypeError: if the masks are not integers.
        ValueError: for images of another form, or a class without colour in `color_mapping`.
    """
    images = batch_of_images("draw_segmentation_masks", images, data_format).astype(np.float32)
    masks = batch_of_images("draw_segmentation_masks", segmentation_masks, data_format)[..., 0]
    if masks.dtype.kind not in "iu":
        raise TypeError(f"draw_segmentation_masks: `segmentation_masks` must be integers. Got {masks.dtype}.")
    count = int(masks.max(initial=-1)) + 1 if num_classes is None else num_classes
    missing = [index for index in range(count) if color_mapping is not None and index not in color_mapping]
    if missing:
        raise ValueError(f"draw_segmentation_masks: `color_mapping` has no colour for the classes {missing}.")
    colors = palette(count) if color_mapping is None else [color_mapping[index] for index in range(count)]
    colors = np.asarray(colors, np.float32).reshape(-1, 3)
    has_color = (masks >= 0) & (masks < count)
    # Where there is no colour any index will do: those pixels are not taken.
    drawn = np.where(has_color[..., None], colors[np.where(has_color, masks, 0)] if count else 0, images)
    if not blend:
        return drawn
    blended = images * np.float32(1 - alpha) + drawn * np.float32(alpha)
    return np.where((masks != ignore_index)[..., None], blended, images).astype(np.uint8)
