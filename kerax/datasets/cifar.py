"""What CIFAR-10 and CIFAR-100 share: the archive and its batches."""

import os

import numpy as np

from kerax import config
from kerax.datasets import sources


def folder(name: str, digest: str) -> str:
    """The folder with the batches of `cifar-10` or `cifar-100`, `name` being that of the folder in the archive."""
    found = sources.find(name)
    if found is not None:
        return found
    archive = name.replace("-batches-py", "-python") + ".tar.gz"
    origin = f"https://www.cs.toronto.edu/~kriz/{archive}"
    target = f"{name}-target"  # Keras's name of it in the cache, so that a copy of Keras's cache serves
    return os.path.join(sources.fetch(target, origin, digest, extract=True), name)


def read(path: str, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, 32, 32, 3)`, or with the channels first, and labels `(n, 1)` of a batch, uint8.

    Raises:
        ValueError: if the file is not such a batch.
    """
    batch = sources.read_pickle(path)
    data, labels = batch.get(b"data"), batch.get(label_key.encode())
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3072 or len(labels or ()) != len(data):
        raise ValueError(f"{path!r} is not a batch of CIFAR images with {label_key!r}.")
    # Each row: all red values of an image, then all green, then all blue.
    images = data.astype(np.uint8).reshape(-1, 3, 32, 32)
    if config.image_data_format() == "channels_last":
        images = images.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.asarray(labels, np.uint8)[:, None]
