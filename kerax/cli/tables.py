"""Tables in files: CSV, Parquet and JSON lines as columns by name."""

import csv
import importlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kerax.core.text import is_number

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


def _read_csv(path: str, separator: str) -> dict[str, np.ndarray]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = [(number, cells) for number, cells in enumerate(csv.reader(file, delimiter=separator), 1) if cells]
    if len(lines) < 2:
        raise ValueError(f"{path}: expected a line of names, and rows below it.")
    (_, names), *rows = lines
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: the first line names a column twice: {', '.join(names)}.")
    for number, cells in rows:
        if len(cells) != len(names):
            raise ValueError(f"{path}: line {number} has {len(cells)} columns, the names above it {len(names)}.")
    columns = zip(*(cells for _, cells in rows), strict=True)
    return {name: _of_text(cells) for name, cells in zip(names, columns, strict=True)}


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
            raise ValueError(f"column {name!r} holds text: say in `data.features` what it is, as string_categorical.")
        if column.dtype.kind == "f" and (count := int(np.isnan(column).sum())):
            raise ValueError(
                f"column {name!r} has {count} missing values of {len(column)}: name the columns in `data.features`, "
                "with `impute: median`."
            )
    return np.stack([column.astype(np.float32) for column in columns.values()], axis=-1)
