"""Photographs of 100 kinds of things in 20 groups: 60,000 images of 32x32 pixels."""

import os

from kerax.datasets import cifar
from kerax.errors import check_choice


def load_data(label_mode="fine"):
    """CIFAR-100: 50,000 images for training, 10,000 for testing. Downloaded once, 169 MB.

    Args:
        label_mode: `"fine"`: 100 classes; `"coarse"`: 20 groups of them.

    Returns: `(x_train, y_train), (x_test, y_test)`, as in `cifar10.load_data`.

    Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html

    Raises:
        ValueError: for another `label_mode`.
    """
    check_choice("cifar100", "label_mode", label_mode, ("fine", "coarse"))
    digest = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
    folder = cifar.folder("cifar-100-python", digest)
    # Both labels are in the same batches, under two keys.
    train, test = (cifar.read(os.path.join(folder, name), f"{label_mode}_labels") for name in ("train", "test"))
    return train, test
