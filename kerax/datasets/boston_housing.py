"""Prices of houses in 506 parts of Boston, 1978."""

import numpy as np

from kerax.datasets import sources


def load_data(path="boston_housing.npz", test_split: float = 0.2, seed=113):
    """House prices with 13 features each. Downloaded once, 57 kB.

    One feature counts residents by race, with an assumption about prices built in; use `california_housing` where it
    does not have to be this one.

    Args:
        path: Name of the file in the cache, or the path of one.
        test_split: Fraction of the rows for testing.
        seed: Of the order.

    Returns: `(x_train, y_train), (x_test, y_test)`, float64: features `(..., 13)`; prices in thousands of dollars.

    Source: Harrison and Rubinfeld 1978, http://lib.stat.cmu.edu/datasets/boston
    """
    digest = "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5"
    path = sources.fetch(path, sources.GOOGLE + "boston_housing.npz", digest, "boston_housing")
    with np.load(path, allow_pickle=False) as archive:
        return sources.split(test_split, seed, archive["x"], archive["y"])
