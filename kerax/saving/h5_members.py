"""Members of an HDF5 file that lie in the file itself: no links, no external storage, no more bytes than there are."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

_DEPTH = 64


def open_file(path, who: str):
    """The file, open for reading.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not a readable HDF5 file.
    """
    import h5py

    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{who}: there is no file {path!r}.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{who}: {path!r} is not a readable HDF5 file: {error}") from None


@contextlib.contextmanager
def explaining(path: str, who: str) -> Iterator[None]:
    """Turns what h5py raises on a damaged file into a `ValueError` that names it."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, TypeError, UnicodeDecodeError, MemoryError) as error:
        raise ValueError(f"{who}: {path!r} cannot be read; it is damaged: {error}") from None


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """A path beside `path` to write to, which takes its place if the block ends well and is removed otherwise."""
    partial = f"{path}.partial"
    try:
        yield partial
        # On one file system a rename is all or nothing: who reads meanwhile finds the old file or the new one.
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise


def find_group(parent, path: str):
    """The group at a path below `parent`, reached by hard links only, or `None`.

    Raises:
        ValueError: if a part of the path is a link or no group.
    """
    import h5py

    group, filename = parent, parent.file.filename
    # Part by part: h5py would follow a link in the midst of a path without a word.
    for part in path.split("/"):
        if part not in group:
            return None
        # `getlink` looks at the link itself, which may lead into another file.
        link = group.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{filename!r} holds a link at {group.name}/{part}, which kerax does not follow.")
        group = group[part]
        if not isinstance(group, h5py.Group):
            raise ValueError(f"{filename!r}: {group.name} should be a group of weights.")
    return group


def find_dataset(group, name: str):
    """The dataset of a group, stored in the file itself, or `None`.

    Raises:
        ValueError: if it is a link, no dataset of numbers, keeps its data in another file, or claims to be much larger
            than the file.
    """
    import h5py

    if name not in group:
        return None
    path = group.file.filename
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{path!r} holds a link at {group.name}/{name}, which kerax does not follow.")
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{path!r}: {group.name}/{name} should be a weight.")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{path!r}: {dataset.name} keeps its data in another file, which kerax does not read.")
    try:
        dtype = dataset.dtype
    except ValueError as error:  # no float of this kind exists
        raise ValueError(f"{path!r}: {dataset.name} should hold numbers. {error}") from None
    if dtype.kind not in "biufcV":  # V: bfloat16 and float8 as raw bytes
        raise ValueError(f"{path!r}: {dataset.name} should hold numbers. It holds {dtype}.")
    if dataset.shape is None:
        raise ValueError(f"{path!r}: {dataset.name} is empty.")
    # Before a byte is read: a few hundred bytes of file may claim terabytes.
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > max(64 * stored, 2**20):  # compressed weights shrink by a few per cent, zeros by far more
        raise ValueError(
            f"{path!r}: {dataset.name} claims {dataset.nbytes} bytes, of which the file holds {stored}; it is not read."
        )
    return dataset


class Member:
    """A dataset that is read by `[()]`, bfloat16 where its attribute `dtype` says so."""

    def __init__(self, dataset):
        self._dataset, self.shape = dataset, dataset.shape

    def __getitem__(self, _) -> np.ndarray:
        return read_dataset(self._dataset)


def members_of(file, path: str) -> dict[str, Member] | None:
    """The datasets of a group by name, or `None` if there is no such group."""
    group: Any = find_group(file, path)
    return None if group is None else {name: Member(find_dataset(group, name)) for name in group}


def walk_groups(file, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """(path, group) of every group, reached by hard links only, at most 64 deep."""
    import h5py

    group = file if not path else file[path]
    yield path, group
    # A file may be made to exhaust the stack.
    if depth >= _DEPTH:
        raise ValueError(f"{file.filename!r} has groups more than {_DEPTH} deep.")
    for name in group:
        # Links could form a circle.
        if isinstance(group.get(name, getlink=True), h5py.HardLink) and group.get(name, getclass=True) is h5py.Group:
            yield from walk_groups(file, f"{path}/{name}" if path else name, depth + 1)


def read_dataset(dataset) -> np.ndarray:
    """Its values, bfloat16 where its attribute `dtype` says so."""
    if dataset.attrs.get("dtype") == "bfloat16":
        import ml_dtypes  # comes with jax

        return np.array(dataset).view(ml_dtypes.bfloat16)
    return np.array(dataset)


def write_group(file, group: str, name: str, values: dict[str, np.ndarray]):
    """Adds arrays by name to a group, whose attribute `name` says whose they are."""
    members = file.require_group(group)
    members.attrs["name"] = name
    for key, value in values.items():
        write_array(members, key, value)


def write_array(group, name: str, value: np.ndarray):
    """Adds an array to a group; bfloat16, which HDF5 does not know, as Keras does: its bytes and this attribute."""
    dataset = group.create_dataset(name, data=value)
    if value.dtype.name == "bfloat16":
        dataset.attrs["dtype"] = "bfloat16"
