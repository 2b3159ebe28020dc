"""Tables in files: CSV, Parquet and JSON lines as columns by name."""

import csv
import importlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerax.core.text import TEXT, is_number

MISSING = frozenset(("", "NA", "N/A", "n/a", "<NA>", "NaN", "nan", "NULL", "null", "None"))
"""What stands for a missing value in a CSV file."""


def read_table(path: str, separator: str = ",") -> dict[str, np.ndarray]:
    """The columns of a file by name, `(rows,)`: whole numbers as int64, others as float32 with NaN where they are
    missing, else text, empty where it is missing; whole numbers of which some are missing as float32.

    Args:
        path: Ends in `.csv`, `.tsv`, `.parquet` (which needs pyarrow), or `.jsonl`.
        separator: Between the cells of a CSV file.

    Raises:
        OSError: if it cannot be read.
        ValueError: for a file of another kind, or whose rows do not fit together.
        ImportError: without pyarrow for Parquet.
    """
    ending = path.rpartition(".")[2].lower()
    if ending in ("csv", "tsv"):
        return _read_csv(path, "\t" if ending == "tsv" else separator)
    if ending in ("jsonl", "ndjson"):
        return _read_json_lines(path)
    if ending == "parquet":
        return _read_parquet(path)
    raise ValueError(f"{path}: expected a table that ends in .csv, .tsv, .parquet or .jsonl.")


class Cells(NamedTuple):
    """The cells of a CSV file as text.

    Attributes:
        names: Of the columns; empty where the file names none.
        rows: All of one length.
        lines: For each row its number in the file, from 1.
    """

    names: list[str]
    rows: list[list[str]]
    lines: list[int]

    def numbers(self, indices: Iterable[int]) -> np.ndarray:
        """Columns as float64 `(rows, columns)`. Raises `ValueError` with the line and column of what is no number."""
        indices = list(indices)
        for line, cells in zip(self.lines, self.rows):
            bad = next((index for index in indices if not is_number(cells[index])), None)
            if bad is not None:
                raise ValueError(f"line {line}, column {bad + 1}: expected a number. Got {cells[bad]!r}.")
        return np.array([[float(cells[index]) for index in indices] for cells in self.rows])

    def column(self, name: str, dtype: str) -> np.ndarray:
        """A column by its name as text, or as numbers of a dtype, of which missing floats are NaN.

        Raises:
            ValueError: with the line and column of what is none, or for two columns of that name.
        """
        index = self._place(name)
        cells = ["" if cells[index].strip() in MISSING else cells[index] for cells in self.rows]
        if dtype == TEXT:
            return np.array(cells)
        if np.dtype(dtype).kind == "f":
            filled = [[*row[:index], cell or "nan", *row[index + 1 :]] for row, cell in zip(self.rows, cells)]
            return self._replace(rows=filled).numbers([index]).astype(dtype)
        numbers = self.numbers([index])
        converted = numbers.astype(dtype)
        if np.dtype(dtype).kind in "iu" and (bad := np.flatnonzero(converted != numbers)).size:
            found = self.rows[bad[0]][index]
            raise ValueError(f"line {self.lines[bad[0]]}, column {index + 1}: expected a whole number. Got {found!r}.")
        return converted

    def _place(self, name: str) -> int:
        # Only here: where columns are taken in their order, names may repeat.
        if self.names.count(name) > 1:
            raise ValueError(f"the first line names the column {name!r} twice: {', '.join(self.names)}.")
        return self.names.index(name)

    def inferred(self, name: str) -> np.ndarray:
        """A column by its name, of the kind that its cells have. Raises `ValueError` for two of that name."""
        index = self._place(name)
        return _of_text([cells[index] for cells in self.rows])


def read_cells(path: str, separator: str = ",", has_names: bool | None = None) -> Cells:
    """The cells of a CSV file.

    Args:
        separator: Between cells.
        has_names: Whether the first line names the columns. `None`: if there is no number in it.

    Raises:
        OSError: if it cannot be read.
        ValueError: if there are no rows, or one is longer or shorter than those before.
    """
    # As Excel writes it: with a mark at the beginning.
    with open(path, newline="", encoding="utf-8-sig") as file:
        found = [(line, cells) for line, cells in enumerate(csv.reader(file, delimiter=separator), 1) if cells]
    # A single number in the first line makes it data, and the rest of it an error.
    if has_names is None:
        has_names = bool(found) and not any(map(is_number, found[0][1]))
    names = found.pop(0)[1] if has_names and found else []
    if not found:
        raise ValueError("there are no rows in it.")
    width, where = len(names or found[0][1]), "the names above it" if names else "those before it"
    for line, cells in found:
        if len(cells) != width:
            raise ValueError(f"line {line} has {len(cells)} columns, {where} {width}.")
    return Cells(names, [cells for _, cells in found], [line for line, _ in found])


def _read_csv(path: str, separator: str) -> dict[str, np.ndarray]:
    try:
        cells = read_cells(path, separator, has_names=True)
        return {name: cells.inferred(name) for name in cells.names}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _of_text(cells: Sequence[str]) -> np.ndarray:
    stripped = [cell.strip() for cell in cells]
    there = [cell for cell in stripped if cell not in MISSING]
    if not there or not all(map(is_number, there)):
        return np.array(["" if cell in MISSING else cell for cell in stripped])
    if len(there) == len(stripped) and all(cell.lstrip("+-").isdecimal() for cell in there):
        return np.array(stripped, np.int64)
    return np.array([np.nan if cell in MISSING else float(cell) for cell in stripped], np.float32)


def _read_json_lines(path: str) -> dict[str, np.ndarray]:
    rows: list[dict] = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{path}: line {number} is no JSON: {error}.") from None
            if not isinstance(rows[-1], dict):
                raise ValueError(f"{path}: line {number} is no JSON object but {rows[-1]!r}.")
    names = dict.fromkeys(name for row in rows for name in row)
    if not names:
        raise ValueError(f"{path}: there are no rows in it.")
    return {name: _of_values(path, name, [row.get(name) for row in rows]) for name in names}


def _read_parquet(path: str) -> dict[str, np.ndarray]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ImportError(f"{path}: a Parquet file needs pyarrow: pip install pyarrow") from None
    table = parquet.read_table(path)
    return {name: _of_values(path, name, table[name].to_pylist()) for name in table.column_names}


def _of_values(path: str, name: str, values: list) -> np.ndarray:
    """A column of Python's values, of which `None` is missing."""
    there = [value for value in values if value is not None]
    if there and all(isinstance(value, (bool, int, float)) for value in there):
        if len(there) == len(values) and all(isinstance(value, (bool, int)) for value in there):
            return np.array(values, np.int64)
        return np.array([np.nan if value is None else value for value in values], np.float32)
    if all(isinstance(value, str) for value in there):
        return np.array(["" if value is None else value for value in values])
    raise ValueError(f"{path}: column {name!r} holds {_kinds(there)}; expected numbers or text.")


def _kinds(values: Iterable[Any]) -> str:
    return " and ".join(sorted({type(value).__name__ for value in values}))


def as_matrix(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Columns of numbers as one array `(rows, columns)`, float32.

    Raises:
        ValueError: naming the column that holds text, or whose values are missing.
    """
    for name, column in columns.items():
        if column.dtype.kind not in "biuf":
            row, word = next((row, cell) for row, cell in enumerate(column.tolist(), 1) if not is_number(cell))
            raise ValueError(
                f"column {name!r} holds text, first {word!r} in row {row}: say in `data.features` what it is, as "
                "string_categorical."
            )
        if column.dtype.kind == "f" and (count := int(np.isnan(column).sum())):
            raise ValueError(
                f"column {name!r} has {count} missing values of {len(column)}: name the columns in `data.features`, "
                "with `impute: median`."
            )
    return np.stack([column.astype(np.float32) for column in columns.values()], axis=-1)
