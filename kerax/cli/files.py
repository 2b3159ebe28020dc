"""Arrays from and to `.npy`, `.npz` and `.csv` files."""

import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerax.cli.config import ConfigError, one_line
from kerax.cli.tables import MISSING
from kerax.core.text import TEXT, is_number

_ENDINGS = (".npy", ".npz", ".csv")


def _check_ending(path: str):
    if not path.endswith(_ENDINGS):
        raise ConfigError(f"{path}: expected a file that ends in {', '.join(_ENDINGS)}.")


def read_inputs(path: str, columns: Mapping[str, str] | None = None) -> Any:
    """The array in a file, one row per example; of an `.npz` file with several arrays, and no `x`, all by their names.

    A CSV file holds numbers only, float32 here, below a line of names if it has one; or what its first line names.

    Args:
        path: Of the file.
        columns: By name the dtypes of columns; of a CSV file that names them all these are read, and no others.

    Raises:
        ConfigError: for a file that cannot be read, with the line and column of what is no number.
    """
    _check_ending(path)
    try:
        if path.endswith(".csv"):
            return _read_csv(path, columns or {})
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


def _read_csv(path: str, columns: Mapping[str, str]) -> np.ndarray | dict[str, np.ndarray]:
    rows: list[list[str]] = []
    lines: list[int] = []
    names: list[str] = []
    with open(path, newline="", encoding="utf-8") as file:
        for line, cells in enumerate(csv.reader(file), 1):
            # Names: a first line with no number at all. A single number in it makes it data, and the rest an error.
            if line == 1 and not any(map(is_number, cells)):
                names = cells
            elif cells:
                rows.append(cells)
                lines.append(line)
                if len(cells) != len(rows[0]):
                    raise ValueError(f"line {line} has {len(cells)} columns, those before it {len(rows[0])}.")
    if not rows:
        raise ValueError("there are no rows in it.")
    if not columns or not columns.keys() <= set(names):
        return _numbers(rows, lines, range(len(rows[0]))).astype(np.float32)
    if len(names) != len(rows[0]):
        raise ValueError(f"line {lines[0]} has {len(rows[0])} columns, the names above it {len(names)}.")
    return {name: _column(rows, lines, names.index(name), dtype) for name, dtype in columns.items()}


def _column(rows: list[list[str]], lines: list[int], index: int, dtype: str) -> np.ndarray:
    if dtype == TEXT:
        return np.array([["" if cells[index] in MISSING else cells[index]] for cells in rows])
    if np.dtype(dtype).kind == "f":  # what is missing is NaN, which `features` may fill
        rows = [["nan" if cell.strip() in MISSING else cell for cell in cells] for cells in rows]
    numbers = _numbers(rows, lines, [index])
    converted = numbers.astype(dtype)
    if np.dtype(dtype).kind in "iu" and (bad := np.flatnonzero(converted != numbers)).size:
        found = rows[bad[0]][index]
        raise ValueError(f"line {lines[bad[0]]}, column {index + 1}: expected a whole number. Got {found!r}.")
    return converted


def _numbers(rows: list[list[str]], lines: list[int], indices: Sequence[int]) -> np.ndarray:
    for line, cells in zip(lines, rows):
        bad = next((index for index in indices if not is_number(cells[index])), None)
        if bad is not None:
            raise ValueError(f"line {line}, column {bad + 1}: expected a number. Got {cells[bad]!r}.")
    return np.array([[float(cells[index]) for index in indices] for cells in rows])


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
