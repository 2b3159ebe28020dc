"""Members of an HDF5 file that lie in the file itself: no links, no external storage, no more bytes than there are."""

import contextlib
import io
import os
import uuid
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from kerax.core import placement
from kerax.core.host_arrays import checksum
from kerax.errors import MissingFileError

_DEPTH = 64
SIGNATURE = b"\x89HDF\r\n\x1a\n"  # what every HDF5 file begins with


def open_file(path, who: str):
    """The file, a path or an open binary one, open for reading.

    Raises:
        MissingFileError: if there is none.
        ValueError: if it is not a readable HDF5 file.
    """
    import h5py

    require_file(path, who)
    try:
        if not is_open_file(path):
            # Without locks: a file is replaced as a whole, so that nobody is read while he writes.
            with contextlib.suppress(OSError):
                return h5py.File(path, "r", locking=False)
        return h5py.File(path, "r")  # as this process itself may hold it already
    except OSError as error:
        raise ValueError(f"{who}: {path!r} is not a readable HDF5 file: {error}") from None


def is_open_file(path) -> bool:
    """Whether a path is an open file or a buffer instead."""
    return hasattr(path, "read") or hasattr(path, "write")


def require_file(path, who: str):
    """Raises `MissingFileError` if there is no file at a path."""
    if not is_open_file(path) and not os.path.isfile(path):
        raise MissingFileError(f"{who}: there is no file {path!r}.")


@contextlib.contextmanager
def explaining(path: str, who: str) -> Iterator[None]:
    """Turns what h5py raises on a damaged file into a `ValueError` that names it."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, TypeError, UnicodeDecodeError, MemoryError) as error:
        raise ValueError(f"{who}: {path!r} cannot be read; it is damaged: {error}") from None


@contextlib.contextmanager
def replacing(path) -> Iterator[IO[bytes]]:
    """A new binary file which takes the place of `path` if the block ends well and is removed otherwise.

    Where `path` is an open file it is written to as it is.

    Raises:
        OSError: naming `path`, if it cannot be written.
    """
    if is_open_file(path):
        yield path
        return
    # A name of its own: several processes may save to one path; who is done last replaces the others'.
    partial = f"{path}.{uuid.uuid4().hex}.partial"
    try:
        with open(partial, "xb") as file:
            yield file
        # On one file system a rename is all or nothing: who reads meanwhile finds the old file or the new one.
        os.replace(partial, path)
    except OSError as error:
        if error.filename not in (None, partial):  # another file's
            raise
        message = f"cannot be written, and is as it was before: {error.strerror or error}"
        raise OSError(error.errno, message, path) from error
    finally:
        with contextlib.suppress(OSError):
            os.remove(partial)


@contextlib.contextmanager
def hdf5(file: IO[bytes]) -> Iterator[Any]:
    """A new HDF5 file, whose bytes are written to `file` if the block ends well.

    It is made in memory: where a disk is full the HDF5 library ends the process.
    """
    import h5py

    with io.BytesIO() as memory:
        with h5py.File(memory, "w") as members:
            yield members
        file.write(memory.getbuffer())


@contextlib.contextmanager
def writing(path) -> Iterator[Any]:
    """A new HDF5 file which takes the place of `path` if the block ends well."""
    with replacing(path) as file, hdf5(file) as members:
        yield members


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
    """A dataset that is read by `[()]`, bfloat16 where its attribute `dtype` says so, with the `label` it was given."""

    def __init__(self, dataset):
        self._dataset, self.shape, self.dtype = dataset, dataset.shape, dtype_of(dataset)

    @property
    def label(self) -> str | None:
        """What `write_group` was told to call it."""
        return text_attribute(self._dataset, "name")

    def __getitem__(self, _) -> np.ndarray:
        return read_dataset(self._dataset)


def text_attribute(item, name: str) -> str | None:
    """An attribute of a group or dataset, if it is text."""
    value = item.attrs.get(name)
    return value if isinstance(value, str) else None


def members_of(file, path: str) -> dict[str, Member] | None:
    """The datasets of a group by name, or `None` if there is no such group."""
    group: Any = find_group(file, path)
    if group is None:
        return None
    found = {name: find_dataset(group, name) for name in group}
    lost = next((name for name, dataset in found.items() if dataset is None), None)
    if lost is not None:
        raise ValueError(f"{file.filename!r} is damaged: {path}/{lost} is listed, but not there.")
    return {name: Member(dataset) for name, dataset in found.items()}


def groups_below(file, path: str) -> dict[str, str | None]:
    """The groups directly below one, each with what its group `vars` says whose weights it holds."""
    parent: Any = find_group(file, path) if path else file
    found: dict[str, str | None] = {}
    for name in parent or ():
        if _is_own_group(parent, name):
            inside = find_group(parent, f"{name}/vars")
            if inside is not None:
                found[name] = text_attribute(inside, "name")
    return found


def _is_own_group(parent, name: str) -> bool:
    """Whether a member is a group in the file itself. Raises `ValueError` for a link, which is not followed."""
    import h5py

    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{parent.file.filename!r} holds a link at {parent.name}/{name}, which kerax does not follow.")
    return parent.get(name, getclass=True) is h5py.Group


def walk_groups(file, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """(path, group) of every group, at most 64 deep. Raises `ValueError` for a link, which could form a circle."""
    group = file if not path else file[path]
    yield path, group
    # A file may be made to exhaust the stack.
    if depth >= _DEPTH:
        raise ValueError(f"{file.filename!r} has groups more than {_DEPTH} deep.")
    for name in group:
        if _is_own_group(group, name):
            yield from walk_groups(file, f"{path}/{name}" if path else name, depth + 1)


def dtype_of(dataset) -> np.dtype:
    """Its dtype, bfloat16 where its attribute `dtype` says so."""
    if dataset.attrs.get("dtype") == "bfloat16" and dataset.dtype.itemsize == 2:
        import ml_dtypes  # comes with jax

        return np.dtype(ml_dtypes.bfloat16)
    return dataset.dtype


def read_dataset(dataset) -> np.ndarray:
    """Its values, of the dtype `dtype_of`.

    Raises:
        ValueError: if kerax wrote other bytes.
    """
    if dataset.size and not dataset.dtype.hasobject:
        # Where XLA's CPU backend reads it in place: a weight is the memory that was read into.
        values = placement.aligned_view(np.empty(dataset.nbytes + 64, np.uint8), dataset.shape, dataset.dtype)
        dataset.read_direct(values)
    else:
        values = np.array(dataset)
    written = dataset.attrs.get(_CHECKSUM)
    if written is not None and written != checksum(values):
        raise ValueError(
            f"{dataset.file.filename!r} is damaged: {dataset.name} has other bytes than were written. If it was "
            f"changed on purpose, remove its attribute {_CHECKSUM!r}."
        )
    return values.view(dtype_of(dataset))


_CHECKSUM = "kerax_crc32"


def write_group(file, group: str, name: str, values: dict[str, np.ndarray], labels: dict[str, str] | None = None):
    """Adds arrays by name to a group, whose attribute `name` says whose they are, and theirs what each of them is."""
    members = file.require_group(group)
    members.attrs["name"] = name
    for key, value in values.items():
        write_array(members, key, value)
        if labels:
            members[key].attrs["name"] = labels[key]


def write_array(group, name: str, value: np.ndarray):
    """Adds an array to a group; bfloat16, which HDF5 does not know, as Keras does: its bytes and this attribute."""
    dataset = group.create_dataset(name, data=value)
    dataset.attrs[_CHECKSUM] = checksum(value)  # others do not look at it
    if value.dtype.name == "bfloat16":
        dataset.attrs["dtype"] = "bfloat16"
