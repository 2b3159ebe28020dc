"""Prices of houses in 20,640 districts of California, 1990."""

import numpy as np

from kerax.datasets import sources
from kerax.errors import check_choice


def load_data(version="large", path="california_housing.npz", test_split: float = 0.2, seed=113):
    """Median house prices with 8 features each. Downloaded once, 0.7 MB.

    Args:
        version: `"large"`: all districts; `"small"`: the first 600.
        path: Name of the file in the cache, or the path of one.
        test_split: Fraction of the rows for testing.
        seed: Of the order.

    Returns: `(x_train, y_train), (x_test, y_test)`: features `(..., 8)`; prices in dollars.

    Source: Pace and Barry 1997, https://doi.org/10.1016/S0167-7152(96)00140-X

    Raises:
        ValueError: for another `version`.
    """
    check_choice("california_housing", "version", version, ("small", "large"))
    digest = "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f"
    path = sources.fetch(path, sources.GOOGLE + "california_housing.npz", digest, "california_housing")
    with np.load(path, allow_pickle=False) as archive:
        # Cut before the split, as Keras does: the small version has other rows for testing.
        x, y = (archive[name][: 600 if version == "small" else None] for name in ("x", "y"))
    return sources.split(test_split, seed, x, y)
