"""Handwritten digits: 1,797 images of 8x8 pixels, bundled with the package."""

from pathlib import Path

import numpy as np

_NUM_TEST = 360


def load_data():
    """The handwritten digits, split once and for all into 1,437 training and 360 test examples.

    Each image counts the inked pixels of a 32x32 bitmap in blocks of 4x4, hence 0 to 16. The split is random with
    equal shares of every digit in both parts (stratified), and its order is stored beside the images.

    Returns: `(x_train, y_train), (x_test, y_test)`, NumPy arrays.
        `x_train (1437, 8, 8)`, `x_test (360, 8, 8)`: uint8, 0 (empty) to 16 (full).
        `y_train (1437,)`, `y_test (360,)`: uint8, the digits 0 to 9.

    Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits" (its test part), UCI Machine
    Learning Repository, https://doi.org/10.24432/C50P49, licensed CC BY 4.0; taken from scikit-learn's `load_digits`.

    >>> (x_train, y_train), (x_test, y_test) = load_data()
    >>> x_train.shape, y_test.shape
    ((1437, 8, 8), (360,))
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as archive:
        order = archive["order"]  # kept in the file, so that no version of NumPy can draw another one
        images, labels = archive["images"][order], archive["labels"][order]
    return (images[:-_NUM_TEST], labels[:-_NUM_TEST]), (images[-_NUM_TEST:], labels[-_NUM_TEST:])
