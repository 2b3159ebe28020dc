"""Members of an HDF5 file that lie in the file itself: no links, no external storage."""

import os

import numpy as np


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


def find_group(parent, path: str):
    """The group at a path below `parent`, reached by hard links only, or `None`.

    Raises:
        ValueError: if a part of the path is a link or no group.
    """
    import h5py

    group, filename = parent, parent.file.filename
    for part in path.split("/"):
        if part not in group:
            return None
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
        ValueError: if it is a link, no dataset of numbers, or keeps its data in another file.
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
    if dataset.dtype.kind not in "biufcV":
        raise ValueError(f"{path!r}: {dataset.name} should hold numbers. It holds {dataset.dtype}.")
    return dataset


def read_dataset(dataset) -> np.ndarray:
    """Its values, bfloat16 where its attribute `dtype` says so."""
    if dataset.attrs.get("dtype") == "bfloat16":
        import ml_dtypes  # comes with jax

        return np.array(dataset).view(ml_dtypes.bfloat16)
    return np.array(dataset)
