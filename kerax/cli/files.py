"""Arrays from and to `.npy`, `.npz` and `.csv` files."""

import csv
import os
from typing import Any

import numpy as np

from kerax.cli.config import ConfigError, one_line
from kerax.core.text import is_number

_ENDINGS = (".npy", ".npz", ".csv")


def _check_ending(path: str):
    if not path.endswith(_ENDINGS):
        raise ConfigError(f"{path}: expected a file that ends in {', '.join(_ENDINGS)}.")


def read_inputs(path: str) -> Any:
    """The array in a file, one row per example; of an `.npz` file with several arrays, and no `x`, all by their names.

    A CSV file holds numbers only, float32 here, below a line of names if it has one.

    Raises:
        ConfigError: for a file that cannot be read, with the line and column of what is no number.
    """
    _check_ending(path)
    try:
        if path.endswith(".csv"):
            return _read_csv(path)
        loaded = np.load(path, allow_pickle=False)  # a pickle runs what its maker wrote into it
        if path.endswith(".npy"):
            return loaded
        with loaded:
            if "x" in loaded.files or len(loaded.files) == 1:
                return loaded["x" if "x" in loaded.files else loaded.files[0]]
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or one_line(error)}.") from None
    except (ValueError, EOFError) as error:
        raise ConfigError(f"{path}: {one_line(error)}") from None


def _read_csv(path: str) -> np.ndarray:
    rows: list[list[float]] = []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        for line, cells in enumerate(reader, 1):
            # Names: a first line with no number at all. A single number in it makes it data, and the rest an error.
            if not cells or (line == 1 and not any(map(is_number, cells))):
                continue
            if rows and len(cells) != len(rows[0]):
                raise ValueError(f"line {line} has {len(cells)} columns, those before it {len(rows[0])}.")
            bad = next((index for index, cell in enumerate(cells) if not is_number(cell)), None)
            if bad is not None:
                raise ValueError(f"line {line}, column {bad + 1}: expected a number. Got {cells[bad]!r}.")
            rows.append([float(cell) for cell in cells])
    if not rows:
        raise ValueError("there are no rows in it.")
    return np.asarray(rows, np.float32)


def check_target(path: str):
    """Raises `ConfigError` if predictions cannot be written to a path."""
    _check_ending(path)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ConfigError(f"{path}: there is no folder {folder}.")


def write_array(path: str, predictions: Any):
    """Writes an array: as it is, as `predictions` in an `.npz` file, or as a CSV file with a column for each number of
    a row. Several outputs, a list or dict, need an `.npz` file.

    Raises:
        ConfigError: if the file cannot hold them, or not be written.
    """
    check_target(path)
    # Several outputs have several shapes, which only a file of several arrays holds.
    named = predictions
    if isinstance(predictions, (list, tuple)):
        named = {f"output_{index}": value for index, value in enumerate(predictions)}
    if isinstance(named, dict) and not path.endswith(".npz"):
        raise ConfigError(f"{path}: there are several outputs, {', '.join(named)}. Give a file that ends in .npz.")
    try:
        if isinstance(named, dict):
            np.savez(path, **named)
        elif path.endswith(".npz"):
            np.savez(path, predictions=named)
        elif path.endswith(".npy"):
            np.save(path, named)
        else:
            table = np.asarray(named).reshape(len(named), -1)  # images and sequences as long rows
            with open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow([f"output_{index}" for index in range(table.shape[1])])
                writer.writerows(table.tolist())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or one_line(error)}.") from None
