"""Data of one's own for configs: `data: {name: csv, path: houses.csv, target: price}` and the like.

Each function is a loader as those of `kerax.datasets` are: `(x_train, y_train), (x_test, y_test)`, with the names of
classes where there are some. Their arguments are what `data` may hold.
"""

import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kerax.cli.tables import read_table
from kerax.core.registry import get_registered_object
from kerax.datasets.sources import split
from kerax.errors import suggest


class Parts(tuple):
    """`(x_train, y_train), (x_test, y_test)`, with the names of the classes that a target's numbers stand for.

    Args:
        parts: The two pairs.
        class_names: In the order of their numbers; `None` where they have no names.
    """

    class_names: list[str] | None

    def __new__(cls, parts: Iterable[tuple[Any, Any]], class_names: Iterable[str] | None = None):
        made = super().__new__(cls, parts)
        made.class_names = None if class_names is None else [str(name) for name in class_names]
        return made


def load_table(
    path: str, target, columns=None, test: str | None = None, test_split: float = 0.2, seed: int = 0, separator=","
) -> Parts:
    """A table in a file: columns of numbers, which make rows, or of all kinds, which `features` makes vectors of.

    Args:
        path: Of the file: `.csv` or `.tsv` with names in the first line, `.parquet`, `.jsonl`.
        target: Name of the column to predict, or a list of names. Text is made the index of its class.
        columns: Names of the columns to predict from. Default: all others.
        test: Path of a table to test on. Default: a part of the first.
        test_split: Fraction of the rows for testing, where there is no table for it.
        seed: Of the order in which rows are parted.
        separator: Between the cells of a CSV file.
    """
    targets = [target] if isinstance(target, str) else list(target)
    tables = [read_table(each, separator) for each in (path, test) if each is not None]
    names = list(tables[0])
    for name in [*targets, *(columns or ())]:
        for file, table in zip((path, test), tables):
            if name not in table:
                raise ValueError(
                    f"{file}: there is no column {name!r}.{suggest(name, table)} Columns: {', '.join(table)}."
                )
    kept = [name for name in columns or names if name not in targets]
    pairs = [({name: table[name] for name in kept}, {name: table[name] for name in targets}) for table in tables]
    names_of = {name: _number_classes(name, [y for _, y in pairs]) for name in targets}
    if test is None:
        rows = np.arange(len(pairs[0][0][kept[0]]))
        pairs = [_rows(pairs[0], part) for part, _ in split(test_split, seed, rows, rows)]
    (x_train, y_train), (x_test, y_test) = pairs
    if isinstance(target, str):
        return Parts([(x_train, y_train[target]), (x_test, y_test[target])], names_of[target])
    return Parts([(x_train, y_train), (x_test, y_test)])


def _no_column(path: Any, name: str, names: Iterable[str]) -> str:
    return f"{path}: there is no column {name!r}.{suggest(name, names)} Columns: {', '.join(names)}."


def _rows(tables: tuple[dict, dict], rows: np.ndarray) -> tuple[dict, dict]:
    x, y = ({name: column[rows] for name, column in table.items()} for table in tables)
    return x, y


def _number_classes(name: str, tables: list[dict]) -> list[str] | None:
    """Replaces a column of text, the target, by the indices of its sorted values, and refuses missing values.

    Returns: the values; `None` for a column of numbers.
    """
    columns = [table[name] for table in tables]
    missing = sum(int((c == "").sum() if c.dtype.kind == "U" else np.isnan(c.astype(float)).sum()) for c in columns)
    if missing:
        raise ValueError(f"the target {name!r} has {missing} missing values. Leave those rows out of the file.")
    if columns[0].dtype.kind != "U":
        return None
    classes = np.unique(np.concatenate([column.astype(str) for column in columns]))
    print(f"classes of {name}: {', '.join(f'{index} {text}' for index, text in enumerate(classes))}")
    for table in tables:
        table[name] = np.searchsorted(classes, table[name].astype(str)).astype(np.int32)
    return classes.tolist()


def load_arrays(
    path: str, x: str = "x", y: str | None = "y", test: str | None = None, test_split: float = 0.2, seed: int = 0
) -> Parts:
    """Arrays in an `.npz` file, or in two `.npy` files.

    Args:
        path: Of the `.npz` file, or of the `.npy` file of inputs.
        x: Name of the inputs in the `.npz` file; with `x_test` and `y_test` or `test` beside them these are tested on.
        y: Name of the targets in it, or path of a `.npy` file with them; null for none.
        test: Path of another `.npz` file to test on.
        test_split: Fraction of the rows for testing, where there is nothing else.
        seed: Of the order in which rows are parted.
    """
    if path.endswith(".npy"):
        inputs = np.load(path, allow_pickle=False)
        targets = None if y in (None, "y") else np.load(y, allow_pickle=False)
        return _parted(path, inputs, targets, test_split, seed)
    with np.load(path, allow_pickle=False) as file:
        if x == "x" and "x" not in file.files and {"x_train", "x_test"} <= set(file.files):
            return Parts((file[f"x_{part}"], _entry(path, file, f"y_{part}")) for part in ("train", "test"))
        inputs, targets = _entry(path, file, x), None if y is None else _entry(path, file, y)
    if test is None:
        return _parted(path, inputs, targets, test_split, seed)
    with np.load(test, allow_pickle=False) as file:
        return Parts([(inputs, targets), (_entry(test, file, x), None if y is None else _entry(test, file, y))])


def _entry(path: str, file: Any, name: str) -> np.ndarray:
    if name not in file.files:
        raise ValueError(f"{path}: there is no array {name!r}. Arrays: {', '.join(file.files)}.")
    return file[name]


def _parted(path: str, x: np.ndarray, y: np.ndarray | None, test_split: float, seed: int) -> Parts:
    if y is not None and len(x) != len(y):
        raise ValueError(f"{path}: there are {len(x)} inputs and {len(y)} targets.")
    train, test = split(test_split, seed, x, x if y is None else y)
    return Parts([train, test] if y is not None else [(train[0], None), (test[0], None)])


def load_images(
    path: str, image_size, color_mode: str = "rgb", test: str | None = None, test_split: float = 0.2, seed: int = 0
) -> Parts:
    """Images in folders, a folder for each class; classes are numbered in the order of the folders' names.

    Args:
        path: Of the folder of folders.
        image_size: Height and width that they are brought to.
        color_mode: `"rgb"`, `"rgba"` or `"grayscale"`.
        test: Path of such a folder to test on. Default: a part of the first.
        test_split: Fraction of the images for testing, where there is no folder for it.
        seed: Of the order in which they are parted.
    """
    from kerax.utils import image_dataset_from_directory

    options = {"image_size": tuple(image_size), "color_mode": color_mode}
    return _folders(image_dataset_from_directory, path, test, test_split, seed, options)


def load_texts(path: str, test: str | None = None, test_split: float = 0.2, seed: int = 0) -> Parts:
    """Text files in folders, a folder for each class, which `text` makes word numbers of.

    Args:
        path: Of the folder of folders.
        test: Path of such a folder to test on. Default: a part of the first.
        test_split: Fraction of the files for testing, where there is no folder for it.
        seed: Of the order in which they are parted.
    """
    from kerax.utils import text_dataset_from_directory

    return _folders(text_dataset_from_directory, path, test, test_split, seed, {})


def load_sounds(
    path: str,
    output_sequence_length: int,
    sampling_rate: int | None = None,
    test: str | None = None,
    test_split: float = 0.2,
    seed: int = 0,
) -> Parts:
    """WAV files in folders, a folder for each class.

    Args:
        path: Of the folder of folders.
        output_sequence_length: Number of samples that each is cut or filled up to.
        sampling_rate: Samples in a second that they are brought to. Default: as they are.
        test: Path of such a folder to test on. Default: a part of the first.
        test_split: Fraction of the files for testing, where there is no folder for it.
        seed: Of the order in which they are parted.
    """
    from kerax.utils import audio_dataset_from_directory

    options = {"output_sequence_length": output_sequence_length, "sampling_rate": sampling_rate}
    return _folders(audio_dataset_from_directory, path, test, test_split, seed, options)


def _folders(read: Callable, path: str, test: str | None, test_split: float, seed: int, options: dict) -> Parts:
    for folder in filter(None, (path, test)):
        if not os.path.isdir(folder):
            raise ValueError(f"{folder}: there is no such folder.")
    sources = [read(folder, shuffle=False, verbose=False, **options) for folder in (path, test) if folder]
    found = [_gathered(source) for source in sources]
    parts = _parted(path, *found[0], test_split, seed) if test is None else found
    return Parts(parts, sources[0].class_names)


def _gathered(batches: Any) -> tuple[np.ndarray, np.ndarray]:
    """The whole of a data set: a config's data lie in memory."""
    x, y = zip(*((np.asarray(x), np.asarray(y)) for x, y in batches), strict=True)
    x = [part.astype(str) if part.dtype.kind == "O" else part for part in x]
    return np.concatenate(x), np.concatenate(y)


def load_hub_dataset(
    path: str, target, columns=None, train: str = "train", test: str | None = "test", test_split: float = 0.2, seed=0
) -> Parts:
    """A data set of Hugging Face's `datasets`, in a folder (`save_to_disk`) or by its name on the hub.

    Args:
        path: Of the folder, or the name.
        target: Name of the column to predict, or a list of names.
        columns: Names of the columns to predict from. Default: all others.
        train: Name of the part to train on.
        test: Name of the part to test on; where there is no such part, a fraction of the other.
        test_split: That fraction.
        seed: Of the order in which rows are parted.
    """
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError:
        raise ValueError("this kind of data needs datasets: pip install datasets") from None
    found: Any = datasets.load_from_disk(path) if os.path.isdir(path) else datasets.load_dataset(path)
    parts = found if isinstance(found, dict) else {train: found}
    if train not in parts:
        raise ValueError(f"{path}: there is no part {train!r}. Parts: {', '.join(parts)}.")
    pairs = [_of_hub(path, parts[name], target, columns) for name in (train, test) if name and name in parts]
    kind = parts[train].features[target] if isinstance(target, str) else None
    class_names = getattr(kind, "names", None)
    if len(pairs) == 2:
        return Parts(pairs, class_names)
    x, y = pairs[0]
    rows = np.arange(len(parts[train]))
    picks = [part for part, _ in split(test_split, seed, rows, rows)]
    return Parts([(_take(x, rows), _take(y, rows)) for rows in picks], class_names)


def _of_hub(path: str, part: Any, target: Any, columns: Any) -> tuple[Any, Any]:
    targets = [target] if isinstance(target, str) else list(target)
    for name in [*targets, *(columns or ())]:
        if name not in part.column_names:
            there = ", ".join(part.column_names)
            raise ValueError(
                f"{path}: there is no column {name!r}.{suggest(name, part.column_names)} Columns: {there}."
            )
    arrays = part.with_format("numpy")[:]
    inputs = {name: arrays[name] for name in columns or part.column_names if name not in targets}
    # Pictures, say, are one array; a table keeps its columns.
    x = next(iter(inputs.values())) if len(inputs) == 1 else inputs
    return x, arrays[target] if isinstance(target, str) else {name: arrays[name] for name in targets}


def _take(found: Any, rows: np.ndarray) -> Any:
    return {name: column[rows] for name, column in found.items()} if isinstance(found, dict) else found[rows]


def load_by_function(function: str, arguments: dict | None = None) -> Parts:
    """What a function of one's own returns, registered in a file given by `--import`: from grain, a database, anywhere.

    Args:
        function: The name that it was registered by, `"package>name"`.
        arguments: What it is called with.
    """
    found = get_registered_object(function) or get_registered_object(f"Custom>{function}")
    if found is None:
        raise ValueError(
            f"there is no registered function {function!r}: decorate it with "
            "`kerax.saving.register_keras_serializable()` in a file given by --import."
        )
    parts = found(**(arguments or {}))
    try:
        (x_train, y_train), (x_test, y_test) = parts
    except (TypeError, ValueError):
        raise ValueError(f"{function} must return (x_train, y_train), (x_test, y_test).") from None
    return Parts([(x_train, y_train), (x_test, y_test)])


LOADERS: dict[str, Callable[..., Parts]] = {
    "csv": load_table,
    "parquet": load_table,
    "jsonl": load_table,
    "npz": load_arrays,
    "npy": load_arrays,
    "image_folder": load_images,
    "text_folder": load_texts,
    "audio_folder": load_sounds,
    "hf_dataset": load_hub_dataset,
    "function": load_by_function,
}
