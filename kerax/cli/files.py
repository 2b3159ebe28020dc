"""Arrays from and to `.npy`, `.npz` and `.csv` files."""

import csv
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from kerax.cli.config import ConfigError, one_line
from kerax.cli.tables import read_cells

_ENDINGS = (".npy", ".npz", ".csv")


def _check_ending(path: str):
    if not path.endswith(_ENDINGS):
        raise ConfigError(f"{path}: expected a file that ends in {', '.join(_ENDINGS)}.")


def read_inputs(path: str, columns: Mapping[str, str] | None = None, without: Collection[str] = ()) -> Any:
    """The array in a file, one row per example; of an `.npz` file with several arrays, and no `x`, all by their names.

    A CSV file holds numbers only, float32 here, below a line of names if it has one; or what its first line names.

    Args:
        path: Of the file.
        columns: By name the dtypes of columns; of a CSV file that names them all these are read, and no others.
        without: Names of columns of a CSV file that are left out, as those to be predicted.

    Raises:
        ConfigError: for a file that cannot be read, with the line and column of what is no number.
    """
    _check_ending(path)
    try:
        if path.endswith(".csv"):
            return _read_csv(path, columns or {}, without)
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


def _read_csv(path: str, columns: Mapping[str, str], without: Collection[str]) -> np.ndarray | dict[str, np.ndarray]:
    cells = read_cells(path)
    if columns and columns.keys() <= set(cells.names):
        return {name: cells.column(name, dtype) for name, dtype in columns.items()}
    indices = [index for index in range(len(cells.rows[0])) if not cells.names or cells.names[index] not in without]
    return cells.numbers(indices).astype(np.float32)


def check_target(path: str):
    """Raises `ConfigError` if predictions cannot be written to a path."""
    _check_ending(path)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ConfigError(f"{path}: there is no folder {folder}.")


def write_array(path: str, predictions: Any, class_names: Sequence[str] | None = None):
    """Writes an array: as it is, as `predictions` in an `.npz` file, or as a CSV file with a column for each number of
    a row. Several outputs, a list or dict, need an `.npz` file.

    With the names of classes an `.npz` file holds them as `class_names`; the columns of a CSV file are called by them,
    and the first, `class`, is the name of the highest number.

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
            if class_names is None:
                np.savez(path, predictions=named)
            else:
                np.savez(path, predictions=named, class_names=np.array(class_names))
        elif path.endswith(".npy"):
            np.save(path, named)
        else:
            _write_csv(path, np.asarray(named), class_names)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or one_line(error)}.") from None


def _write_csv(path: str, array: np.ndarray, class_names: Sequence[str] | None):
    table = array.reshape(len(array), -1)  # images and sequences as long rows
    is_named = class_names is not None and array.ndim == 2 and array.shape[1] == len(class_names)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if class_names is None or not is_named:
            writer.writerow([f"output_{index}" for index in range(table.shape[1])])
            writer.writerows(table.tolist())
            return
        writer.writerow(["class", *class_names])
        writer.writerows([class_names[int(row.argmax())], *row.tolist()] for row in table)
