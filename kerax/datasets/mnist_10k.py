"""Handwritten digits, a small part: MNIST's 10,000 test images alone, split for training and testing."""

from kerax.datasets import mnist, sources


def load_data(test_split: float = 0.2, seed=113):
    """MNIST's 10,000 test digits, by default 8,000 for training and 2,000 for testing. 1.6 MB. Not in Keras.

    Results are not those of MNIST: a sixth of the training images, and other images to test on.

    Args:
        test_split: Fraction of the images for testing.
        seed: Of the order.

    Returns: `(x_train, y_train), (x_test, y_test)`, uint8: images `(..., 28, 28)` from 0 to 255, labels from 0 to 9.

    Source: LeCun, Cortes, Burges 1998, http://yann.lecun.com/exdb/mnist/ (CC BY-SA 3.0)
    """
    return sources.split(test_split, seed, *mnist.load_test_data())
