"""Images as the applications were trained on them, and the names of ImageNet's classes."""

import json
from collections.abc import Callable

import numpy as np

from kerax import config, ops
from kerax.utils.files import get_file

_CLASS_INDEX_URL = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
_CLASS_INDEX_MD5 = "c2c37ea517e94d9795004a39431a14cb"
_MEANS = {"caffe": [103.939, 116.779, 123.68], "torch": [0.485, 0.456, 0.406]}  # caffe's in the order BGR
_DEVIATIONS = [0.229, 0.224, 0.225]
_class_index: dict[str, tuple[str, str]] = {}  # number and name


def preprocess_input(x, data_format=None, mode="caffe"):
    """Pixels of 0 to 255 as a network expects them. Unlike Keras's, this one never writes over `x`.

    Args:
        x: Array or symbolic tensor `(..., height, width, 3)`, or `(..., 3, height, width)` for `"channels_first"`, RGB.
            Integers become `floatx()`.
        data_format: Default: `image_data_format()`.
        mode: `"caffe"`: BGR with ImageNet's mean of each channel subtracted. `"tf"`: -1 to 1. `"torch"`: 0 to 1, then
            ImageNet's mean subtracted and divided by its deviation, for each channel.

    Returns: an array of the shape of `x`, NumPy for NumPy.

    Raises:
        ValueError: for another mode or data format.
    """
    if mode not in ("caffe", "tf", "torch"):
        raise ValueError(f"preprocess_input: `mode` must be 'caffe', 'tf' or 'torch'. Got {mode!r}.")
    channels_first = config.standardize_data_format(data_format) == "channels_first"
    # NumPy stays NumPy: images are prepared on the host, and no program is compiled for each size.
    if not isinstance(x, np.ndarray):
        x = x if hasattr(x, "dtype") else ops.convert_to_tensor(x)
        x = x if "float" in str(x.dtype) else ops.cast(x, config.floatx())
    elif not np.issubdtype(x.dtype, np.floating):
        x = x.astype(config.floatx())
    if mode == "tf":
        return x / 127.5 - 1.0
    # In the dtype of `x`: constants of float64 would make float32 images float64.
    shape = (3, 1, 1) if channels_first else (3,)
    mean, deviation = (np.reshape(np.asarray(v, x.dtype), shape) for v in (_MEANS[mode], _DEVIATIONS))
    if mode == "torch":
        return (x / 255.0 - mean) / deviation
    return (x[..., ::-1, :, :] if channels_first else x[..., ::-1]) - mean


def preprocessor(mode: str | None, module: str) -> Callable:
    """The `preprocess_input(x, data_format=None)` of a family; `mode=None` for one whose models do it themselves."""

    def preprocess(x, data_format=None):
        return x if mode is None else preprocess_input(x, data_format, mode)

    preprocess.__name__ = preprocess.__qualname__ = "preprocess_input"
    preprocess.__module__ = module
    preprocess.__doc__ = (
        "`x` unchanged: the models take pixels of 0 to 255."
        if mode is None
        else f"Pixels of 0 to 255 as the models expect them: `imagenet_utils.preprocess_input` with mode {mode!r}."
    )
    return preprocess


def decode_predictions(preds, top=5) -> list[list[tuple[str, str, float]]]:
    """The likeliest classes of each row, likeliest first, as `(WordNet id, name, score)`.

    The names are downloaded once, about 35 KB, by `kerax.utils.get_file`.

    Args:
        preds: Scores `(rows, 1000)` of a model trained on ImageNet.
        top: Classes per row.

    Raises:
        ValueError: for another shape, or if the file's checksum is wrong.
        ConnectionError: if the names are not in the cache and cannot be downloaded.
    """
    scores = np.asarray(preds)
    if scores.ndim != 2 or scores.shape[1] != 1000:
        raise ValueError(f"decode_predictions: `preds` must have shape (rows, 1000). Got {scores.shape}.")
    if not _class_index:
        path = get_file(
            "imagenet_class_index.json", _CLASS_INDEX_URL, cache_subdir="models", file_hash=_CLASS_INDEX_MD5
        )
        with open(path) as file:
            _class_index.update(json.load(file))
    # All sorted: 1,000 scores are few, and `argpartition` would leave the best unordered.
    best = np.argsort(scores, axis=1)[:, ::-1][:, :top]
    return [[(*_class_index[str(i)], row[i]) for i in indices] for row, indices in zip(scores, best, strict=True)]
