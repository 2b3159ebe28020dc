"""Images side by side in one figure, by matplotlib."""

import math

import numpy as np

from kerax.visualization.drawing import batch_of_images, draw_bounding_boxes, draw_segmentation_masks


def _pyplot(who: str):
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError(f"{who} needs matplotlib: pip install 'kerax[notebook]'") from None
    return plt


def _as_pixels(images: np.ndarray, value_range) -> np.ndarray:
    """Images whose black and white are 0 and 255, float32."""
    low, high = value_range
    return np.clip((images.astype(np.float32) - low) / (high - low) * 255, 0, 255)


def plot_image_gallery(
    images,
    y_true=None,
    y_pred=None,
    label_map=None,
    rows=None,
    cols=None,
    value_range=(0, 255),
    scale: float = 2,
    path=None,
    show=None,
    transparent: bool = True,
    dpi: int = 60,
    legend_handles=None,
    data_format: str | None = None,
):
    """Shows images side by side.

    Args:
        images: `(batch, height, width, channels)` of 1, 3 or 4 channels.
        y_true, y_pred: Labels for the titles; need `label_map`.
        label_map: `{label: name}`.
        rows, cols: Of the figure. Default: about as many rows as columns, with room for all images.
        value_range: What black and white are in `images`.
        scale: Inches per image.
        path: File to write. Default: the figure is shown.
        show: Whether to show it. Default: if there is no `path`.
        transparent: Whether the file's background is.
        dpi: Dots per inch of the file.
        legend_handles: For a legend at the bottom.
        data_format: Of `images`. Default: `config.image_data_format()`.

    Returns: the figure, if it is neither shown nor written, else `None`.

    Raises:
        ValueError: for `path` with `show`, labels without `label_map`, or images of another form.
    """
    plt = _pyplot("plot_image_gallery")
    if path is not None and show:
        raise ValueError("plot_image_gallery: pass either `path` or `show=True`. Got both.")
    if label_map is None and (y_true is not None or y_pred is not None):
        raise ValueError("plot_image_gallery: `y_true` and `y_pred` need `label_map`.")
    images = batch_of_images("plot_image_gallery", images, data_format)
    rows = rows or math.ceil(math.sqrt(len(images)) if cols is None else len(images) / cols)
    cols = cols or math.ceil(len(images) / rows)
    shown = _as_pixels(images, value_range).astype(np.uint8)
    # Not `new_figure`: whether this one is shown, written or returned is said by arguments, as in Keras.
    figure, axes = plt.subplots(
        rows, cols, figsize=(cols * scale, rows * scale), frameon=False, layout="tight", squeeze=False
    )
    for index, axis in enumerate(axes.ravel()):
        axis.axis("off")  # also of places that stay empty
        if index >= len(shown):
            continue
        image = shown[index]
        axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        parts = [
            f"{what}: {(label_map or {}).get(np.asarray(labels)[index].item(), 'Unknown')}"
            for what, labels in (("Label", y_true), ("Pred", y_pred))
            if labels is not None and index < len(labels)
        ]
        if parts:
            axis.set_title("  ".join(parts), fontsize=8)
    if legend_handles is not None:
        figure.legend(handles=legend_handles, loc="lower center")
    if path is not None:
        figure.savefig(path, pad_inches=0, bbox_inches="tight", transparent=transparent, dpi=dpi)
    elif show is None or show:
        plt.show()
    else:
        return figure
    plt.close(figure)  # matplotlib holds every figure that is not closed
    return None


def plot_bounding_box_gallery(
    images,
    bounding_box_format,
    y_true=None,
    y_pred=None,
    value_range=(0, 255),
    true_color=(0, 188, 212),
    pred_color=(255, 235, 59),
    line_thickness: int = 2,
    font_scale: float = 1.0,
    text_thickness=None,
    class_mapping=None,
    ground_truth_mapping=None,
    prediction_mapping=None,
    legend: bool = False,
    legend_handles=None,
    rows=None,
    cols=None,
    data_format: str | None = None,
    **kwargs,
):
    """Shows images with the boxes that are there and those that a model found.

    Args:
        images: As in `draw_bounding_boxes`.
        y_true, y_pred: Boxes, as there.
        value_range: What black and white are in `images`.
        true_color, pred_color: Red, green, blue from 0 to 255.
        class_mapping: `{label: name}`; for one kind of boxes alone `ground_truth_mapping`, `prediction_mapping`.
        legend: Whether the colours are explained at the bottom.
        legend_handles: A legend of one's own.
        All others as in `draw_bounding_boxes` and `plot_image_gallery`.

    Raises:
        ValueError: for `legend` with `legend_handles`, or images of another form.
    """
    _pyplot("plot_bounding_box_gallery")  # for the error's name, and before the work
    if legend and legend_handles:
        raise ValueError("plot_bounding_box_gallery: pass either `legend` or `legend_handles`. Got both.")
    # Bytes before boxes are drawn, whose colours are such numbers.
    drawn = batch_of_images("plot_bounding_box_gallery", images, data_format)
    drawn = _as_pixels(drawn, value_range).astype(np.uint8)
    for boxes, color, mapping in (
        (y_true, true_color, ground_truth_mapping or class_mapping),
        (y_pred, pred_color, prediction_mapping or class_mapping),
    ):
        if boxes is not None:
            options = (mapping, color, line_thickness, text_thickness, font_scale, "channels_last")
            drawn = draw_bounding_boxes(drawn, boxes, bounding_box_format, *options)
    if legend:
        from matplotlib.patches import Patch

        named = (("Ground Truth", true_color), ("Prediction", pred_color))
        legend_handles = [Patch(color=tuple(part / 255 for part in color), label=name) for name, color in named]
    options = {"legend_handles": legend_handles, "rows": rows, "cols": cols, "data_format": "channels_last"}
    return plot_image_gallery(drawn, **options, **kwargs)


def plot_segmentation_mask_gallery(
    images,
    num_classes,
    value_range=(0, 255),
    y_true=None,
    y_pred=None,
    color_mapping=None,
    blend: bool = True,
    alpha: float = 0.8,
    ignore_index: int | None = -1,
    data_format: str | None = None,
    **kwargs,
):
    """Shows in each row an image, then with the mask that is there, then with the one that a model found.

    Args:
        images: `(batch, height, width, channels)`.
        num_classes: Number of classes.
        value_range: What black and white are in `images`.
        y_true, y_pred: Masks, as in `draw_segmentation_masks`.
        All others as in `draw_segmentation_masks` and `plot_image_gallery`.
    """
    plain = batch_of_images("plot_segmentation_mask_gallery", images, data_format)
    columns = [_as_pixels(plain, value_range)]
    for masks in (y_true, y_pred):
        if masks is not None:
            masks = batch_of_images("plot_segmentation_mask_gallery", masks, data_format).astype(np.int32)
            options = (num_classes, color_mapping, alpha, blend, ignore_index, "channels_last")
            columns.append(draw_segmentation_masks(columns[0], masks, *options))
    # (batch, columns, height, width, channels): image after image, each with its masks beside it.
    tiles = np.stack(columns, axis=1).reshape(-1, *plain.shape[1:])
    return plot_image_gallery(tiles, rows=len(plain), cols=len(columns), data_format="channels_last", **kwargs)
