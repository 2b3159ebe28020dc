"""How cold the nights are: the lowest temperature of each day in Melbourne, 1981 to 1990."""

import csv

import numpy as np

from kerax.datasets import sources


def load_series() -> tuple[np.ndarray, np.ndarray]:
    """The whole series: `dates (3650,)`, datetime64, and `temperatures (3650,)`, float32, in degrees Celsius.

    The 29th of February is missing in both leap years. Downloaded once, 68 kB. Not in Keras.

    Source: Australian Bureau of Meteorology.
    """
    name = "daily-min-temperatures.csv"
    origin = f"https://raw.githubusercontent.com/jbrownlee/Datasets/master/{name}"
    digest = "8b9de63ed6789492bf497625e7f9beb96a63d367b4b0a21754006f749fa5e5da"
    with open(sources.fetch(name, origin, digest, "series"), encoding="ascii", newline="") as file:
        dates, temperatures = zip(*list(csv.reader(file))[1:], strict=True)
    return np.array(dates, "datetime64[D]"), np.array(temperatures, np.float32)


def load_data(window=30, horizon=1, test_split: float = 0.2):
    """Windows of the past and the days that follow each, the last years for testing.

    Args:
        window: Number of days to look back on.
        horizon: Number of days to foretell.
        test_split: Fraction of the days for testing, the last ones. The first test window lies in the days before.

    Returns: `(x_train, y_train), (x_test, y_test)`, float32, in degrees Celsius: `x (rows, window, 1)`,
        `y (rows, horizon)`. Saying that tomorrow will be as today is `x[:, -1]`.

    Raises:
        ValueError: if a number is out of range.
    """
    if window < 1 or horizon < 1 or not 0 <= test_split < 1:
        raise ValueError(
            "daily_temperatures: `window` and `horizon` must be at least 1, and `test_split` from 0 to below 1. "
            f"Got {window}, {horizon} and {test_split}."
        )
    _, temperatures = load_series()
    cut = int(len(temperatures) * (1 - test_split))
    # The first days to be foretold for testing are right after those for training; the window before them may overlap.
    parts = temperatures[:cut], temperatures[max(cut - window, 0) :]
    if min(map(len, parts)) < window + horizon:
        raise ValueError(f"daily_temperatures: {window + horizon} days do not fit into {min(map(len, parts))}.")
    # Copied, for windows share their days, and whoever scales one in place would scale its neighbours.
    train, test = (np.lib.stride_tricks.sliding_window_view(part, window + horizon).copy() for part in parts)
    return (train[:, :window, None], train[:, window:]), (test[:, :window, None], test[:, window:])
