"""Handwritten digits: 70,000 images of 28x28 pixels."""

import numpy as np

from kerax.datasets import sources

IDX_FILES = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def load_data(path="mnist.npz"):
    """The MNIST digits: 60,000 for training, 10,000 for testing.

    Taken from `mnist.npz` or the four IDX files in `$KERAX_DATASETS_DIR` (or its folder `mnist`), else downloaded once.

    Args:
        path: Name of the file in the cache, or the path of one.

    Returns: `(x_train, y_train), (x_test, y_test)`, uint8: images `(..., 28, 28)` from 0 to 255, labels from 0 to 9.

    Source: LeCun, Cortes, Burges 1998, http://yann.lecun.com/exdb/mnist/ (CC BY-SA 3.0)
    """
    # The four files of the original, where somebody has put them, are as good as Keras's archive.
    files = [sources.find(f"mnist/{name}", name) for name in IDX_FILES]
    if all(files):
        x_train, y_train, x_test, y_test = map(sources.read_idx, files)
        return (x_train, y_train), (x_test, y_test)
    digest = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
    with np.load(sources.fetch(path, sources.GOOGLE + "mnist.npz", digest, "mnist"), allow_pickle=False) as archive:
        return (archive["x_train"], archive["y_train"]), (archive["x_test"], archive["y_test"])


def load_test_data():
    """The 10,000 test digits alone, 1.6 MB: `(x_test, y_test)` as in `load_data`. Not in Keras."""
    origin = "https://storage.googleapis.com/cvdf-datasets/mnist/"
    digests = ("9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c")
    images, labels = (
        sources.read_idx(sources.fetch(name, origin + name, digest, "mnist"))
        for name, digest in zip(IDX_FILES[2:], digests, strict=True)
    )
    return images, labels
