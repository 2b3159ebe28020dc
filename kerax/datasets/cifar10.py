"""Photographs of 10 kinds of things: 60,000 images of 32x32 pixels."""

import os

import numpy as np

from kerax.datasets import cifar


def load_data():
    """CIFAR-10: 50,000 images for training, 10,000 for testing. Downloaded once, 170 MB.

    Labels: 0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 truck.

    Returns: `(x_train, y_train), (x_test, y_test)`, uint8: images `(..., 32, 32, 3)` from 0 to 255 (channels first if
        `config.image_data_format()` says so), labels `(..., 1)`.

    Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html
    """
    digest = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    folder = cifar.folder("cifar-10-batches-py", digest)
    # Five of 10,000 images each.
    batches = [cifar.read(os.path.join(folder, f"data_batch_{number}"), "labels") for number in range(1, 6)]
    x_train, y_train = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return (x_train, y_train), cifar.read(os.path.join(folder, "test_batch"), "labels")
