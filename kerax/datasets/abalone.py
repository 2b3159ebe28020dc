"""How old sea snails are: 4,177 abalones with their sizes and weights."""

import csv

import numpy as np

from kerax.datasets import sources

COLUMNS = ("sex", "length", "diameter", "height", "whole", "shucked", "viscera", "shell", "rings")
SEXES = ("F", "I", "M")


def load_data(target="rings", test_split: float = 0.2, seed=113):
    """Abalones, by default with the number of rings as the target, which is the age in years less 1.5. Not in Keras.

    Args:
        target: Name of the column to predict, or a list of names.
        test_split: Fraction of the rows for testing.
        seed: Of the order.

    Returns: `(x_train, y_train), (x_test, y_test)`. `x` holds the columns that are no target, as a dict of arrays
        `(rows,)`, which `pandas.DataFrame(x)` and `kerax.utils.FeatureSpace` take:
        `sex`: text, `"F"`, `"M"` or `"I"` (infant).
        `length`, `diameter`, `height`: float32, in units of 200 mm.
        `whole`, `shucked`, `viscera`, `shell`: float32, weights in units of 200 g.
        `y (rows,)` is the target, `rings` as float32, `sex` as uint8, the index in `SEXES`; a dict of such columns if
        `target` is a list.

    Source: Nash et al. 1995, UCI Machine Learning Repository, https://doi.org/10.24432/C55C7W (CC BY 4.0)

    Raises:
        ValueError: for an unknown target.
    """
    targets = [target] if isinstance(target, str) else list(target)
    for name in targets:
        if name not in COLUMNS:
            raise ValueError(f"abalone: `target` must be among {', '.join(COLUMNS)}. Got {name!r}.")
    origin = "https://archive.ics.uci.edu/ml/machine-learning-databases/abalone/abalone.data"
    digest = "de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f"
    path = sources.find("tabular/abalone.csv") or sources.fetch("abalone.data", origin, digest, "abalone")
    with open(path, encoding="ascii", newline="") as file:
        # An empty line, with which some copies end, is no row.
        columns = dict(zip(COLUMNS, zip(*filter(None, csv.reader(file)), strict=True), strict=True))
    arrays = {name: np.array(column, None if name == "sex" else np.float32) for name, column in columns.items()}
    # As a target it is a class, which losses want as a number; as an input it is text, for a vocabulary to be found.
    if "sex" in targets:
        arrays["sex"] = np.searchsorted(SEXES, arrays["sex"]).astype(np.uint8)
    rows = np.arange(len(arrays["rings"]))  # split by number: the columns are many, and of several kinds
    (train, _), (test, _) = sources.split(test_split, seed, rows, rows)
    return _part(arrays, train, target), _part(arrays, test, target)


def _part(arrays: dict[str, np.ndarray], rows: np.ndarray, target: str | list[str]):
    """`(x, y)` of some rows."""
    columns = {name: array[rows] for name, array in arrays.items()}
    y = columns.pop(target) if isinstance(target, str) else {name: columns.pop(name) for name in target}
    return columns, y
