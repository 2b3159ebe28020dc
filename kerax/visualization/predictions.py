"""How a classifier does: its confusion matrix, and examples with what it says about them."""

import math
from typing import Any

import numpy as np

from kerax.callbacks.history import new_figure
from kerax.visualization.drawing import batch_of_images

_MOST_NUMBERED = 25  # classes whose counts are written into the squares
RIGHT, WRONG = "#2e7d32", "#c62828"


def as_labels(who: str, argument: str, values) -> np.ndarray:
    """Class numbers `(rows,)`, of rows of probabilities or one-hot targets the largest entry. Raises `ValueError`."""
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] > 1:
        return values.argmax(axis=1)
    values = values.reshape(len(values)) if values.ndim == 2 else values
    if values.ndim != 1:
        raise ValueError(f"{who}: `{argument}` must be labels (rows,) or (rows, classes). Got shape {values.shape}.")
    # Labels may come as floats, from a table; single probabilities do, too, and are not whole.
    if values.dtype.kind == "f":
        is_whole = bool(np.all(values == np.round(values)))
        return values.astype(np.int64) if is_whole else (values > 0.5).astype(np.int64)  # probabilities of class 1
    return values.astype(np.int64)


def confusion_matrix(y_true, y_pred, num_classes=None) -> np.ndarray:
    """How many examples of each class (row) were taken for each class (column).

    Args:
        y_true, y_pred: Labels `(rows,)`, or one-hot targets and probabilities `(rows, classes)`; single probabilities
            count as class 1 above 0.5.
        num_classes: Default: as many as there are labels or columns.

    Returns: int64 `(classes, classes)`.

    Raises:
        ValueError: for other shapes, different lengths, or labels out of range.
    """
    who = "confusion_matrix"
    columns = max(np.shape(values)[1] if np.ndim(values) == 2 else 0 for values in (y_true, y_pred))
    true, guessed = as_labels(who, "y_true", y_true), as_labels(who, "y_pred", y_pred)
    if len(true) != len(guessed):
        raise ValueError(f"{who}: `y_true` has {len(true)} rows, `y_pred` {len(guessed)}.")
    largest = int(max(true.max(initial=-1), guessed.max(initial=-1))) + 1
    count = max(largest, columns) if num_classes is None else num_classes
    if largest > count or min(true.min(initial=0), guessed.min(initial=0)) < 0:
        raise ValueError(f"{who}: labels must be in [0, {count}).")
    matrix = np.zeros((count, count), np.int64)
    # `matrix[true, guessed] += 1` would count each pair once only.
    np.add.at(matrix, (true, guessed), 1)
    return matrix


def plot_confusion_matrix(y_true, y_pred, class_names=None, normalize: bool = False, cmap: Any = "Blues"):
    """Draws how many examples of each class (row) were taken for each class (column).

    Args:
        y_true, y_pred: As in `confusion_matrix`.
        class_names: A name for each class. Default: its number.
        normalize: Whether to show shares of each row instead of counts.
        cmap: Colours, by matplotlib's name.

    Returns: the figure. Keras has no such function.

    Raises:
        ValueError: for labels of other forms, or too few names.
    """
    matrix = confusion_matrix(y_true, y_pred, None if class_names is None else len(class_names))
    count, total = len(matrix), matrix.sum()
    if not total:
        raise ValueError("plot_confusion_matrix: there are no examples.")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = min(max(4.0, 0.45 * count + 1.6), 14)
    figure, axis = new_figure("plot_confusion_matrix", figsize=(size + 0.6, size))
    # Colours are shares of the row, so that a rare class is seen as well as a frequent one.
    image = axis.imshow(shares, cmap=cmap, vmin=0, vmax=1)
    if count <= _MOST_NUMBERED:
        for row, column in np.argwhere(matrix):
            number = matrix[row, column]
            text = f"{shares[row, column]:.2f}" if normalize else str(number)
            color = "white" if shares[row, column] > 0.5 else "black"
            font = 9 if count <= 12 and len(text) < 5 else 7
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=font)
    names = [str(index) for index in range(count)] if class_names is None else [str(name) for name in class_names]
    # At most 40 ticks, which can still be read.
    every = max(1, -(-count // 40))
    is_long = max(map(len, names)) > 3
    axis.set_xticks(range(0, count, every), names[::every], rotation=90 if is_long else 0)
    axis.set_yticks(range(0, count, every), names[::every])
    axis.set(xlabel="predicted", ylabel="true", title=f"accuracy {np.trace(matrix) / total:.4f} of {total:,}")
    figure.colorbar(image, ax=axis, shrink=0.8, label="share of the row")
    return figure


def plot_prediction_gallery(
    images,
    y_true,
    y_pred,
    class_names=None,
    only_wrong: bool = False,
    max_images: int = 24,
    cols: int = 6,
    value_range=None,
    scale: float = 1.6,
    data_format: str | None = None,
):
    """Draws images with what a classifier says about them: green what is right, red what is wrong and what it is.

    Args:
        images: `(batch, height, width, channels)` of 1 or 3 channels, or `(batch, height, width)`.
        y_true: Labels `(batch,)` or one-hot `(batch, classes)`; `None` if they are not known.
        y_pred: Labels, or probabilities `(batch, classes)`, which are shown too.
        class_names: A name for each class. Default: its number.
        only_wrong: Whether to leave out what is right; then the surest mistakes come first.
        max_images: Most images to draw.
        cols: Images per row.
        value_range: What black and white are. Default: the smallest and largest number.
        scale: Inches per image.
        data_format: Of `images`. Default: `config.image_data_format()`.

    Returns: the figure. Keras has no such function.

    Raises:
        ValueError: for arrays of other forms, `only_wrong` without `y_true`, or if nothing is left to draw.
    """
    who = "plot_prediction_gallery"
    images = np.asarray(images)
    images = images[..., None] if images.ndim == 3 else batch_of_images(who, images, data_format)
    guessed = as_labels(who, "y_pred", y_pred)
    sureness = np.asarray(y_pred).max(axis=1) if np.ndim(y_pred) == 2 and np.shape(y_pred)[1] > 1 else None
    true = None if y_true is None else as_labels(who, "y_true", y_true)
    if only_wrong and true is None:
        raise ValueError(f"{who}: `only_wrong` needs `y_true`.")
    chosen = np.arange(len(images))
    if only_wrong:
        chosen = np.flatnonzero(true != guessed)
        if sureness is not None:
            # Stable, so that mistakes of one sureness keep the order of the rows.
            chosen = chosen[np.argsort(-sureness[chosen], kind="stable")]
    chosen = chosen[:max_images]
    if not len(chosen):
        raise ValueError(f"{who}: there is no image to draw{' that is wrong' if only_wrong else ''}.")
    low, high = (images.min(), images.max()) if value_range is None else value_range
    scaled = np.clip((images.astype(np.float32) - low) / ((high - low) or 1), 0, 1)
    cols = min(cols, len(chosen))
    rows = math.ceil(len(chosen) / cols)
    figure, axes = new_figure(who, rows, cols, squeeze=False, figsize=(cols * scale, rows * (scale + 0.35)))
    name = lambda label: str(label) if class_names is None else str(class_names[label])
    for axis in axes.flat:
        axis.axis("off")
    for axis, index in zip(axes.flat, chosen):
        image = scaled[index]
        axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
        is_wrong = true is not None and true[index] != guessed[index]
        title = name(guessed[index]) + ("" if sureness is None else f" {sureness[index]:.0%}")
        title += f"\n(is {name(true[index])})" if true is not None and is_wrong else ""
        axis.set_title(title, fontsize=9, color="black" if true is None else WRONG if is_wrong else RIGHT)
    return figure
