"""Where the files of data sets come from, and safe readers of their formats: IDX, and NumPy's with pickled objects."""

import gzip
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np

from kerax.utils.files import get_file

GOOGLE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


def find(*names: str) -> str | None:
    """The first of these files or folders that is in the folder `$KERAX_DATASETS_DIR`."""
    root = os.environ.get("KERAX_DATASETS_DIR")
    paths = [] if not root else [os.path.join(os.path.expanduser(root), name) for name in names]
    return next((path for path in paths if os.path.exists(path)), None)


def fetch(name: str, origin: str, file_hash: str, folder: str = "", **options) -> str:
    """The path of a file of a data set: that of `$KERAX_DATASETS_DIR`, else downloaded once, checked, and kept.

    Args:
        name: Of the file; an absolute path of an existing file is returned as it is.
        origin: URL.
        file_hash: MD5 or SHA-256.
        folder: Folder of the data set within `$KERAX_DATASETS_DIR`, beside that folder itself, and of the cache.
        **options: For `kerax.utils.get_file`.

    Raises:
        ConnectionError: if the file is not there and cannot be fetched.
    """
    if os.path.isabs(name) and os.path.exists(name):
        return name
    found = find(os.path.join(folder, name), name)
    if found is not None:
        return found
    return get_file(name, origin, file_hash=file_hash, cache_subdir=os.path.join("datasets", folder), **options)


def read_idx(path) -> np.ndarray:
    """The array of uint8 in an IDX file, gzipped or not. Raises `ValueError` if it is none, or cut off."""
    data = Path(path).read_bytes()
    # By the content, not the ending: browsers unpack files on the way and keep their names.
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    ndim = data[3] if data[:3] == b"\0\0\x08" else 0
    sizes = np.frombuffer(data, ">u4", ndim, 4) if 0 < ndim <= 8 and len(data) >= 4 + 4 * ndim else ()
    if not len(sizes) or len(data) != 4 + 4 * ndim + int(np.prod(sizes, dtype=np.int64)):
        raise ValueError(f"{os.fspath(path)!r} is not a whole IDX file of bytes.")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(sizes).copy()


def _reconstruct(subtype, shape, typecode) -> np.ndarray:
    """An empty array, to be filled by the unpickler: what NumPy's function of this name does for plain arrays."""
    if subtype is not np.ndarray:
        raise pickle.UnpicklingError(f"an array of class {subtype!r} is not allowed")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 pickles bytes for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding!r} is not allowed")
    return text.encode("latin1")


_ALLOWED = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _encode}
# NumPy 2 has renamed the module; old files name it the old way.
_ALLOWED |= {(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")}


class SafeUnpickler(pickle.Unpickler):
    """Reads pickles of lists, dicts, numbers, text and plain NumPy arrays, and refuses everything else.

    A pickle names what is called while it is read; here nothing can be named but the makers of arrays.
    """

    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return _ALLOWED[module, name]

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("references to other objects are not allowed")


def read_pickle(path) -> dict:
    """The content of a pickle of plain data. Raises `ValueError` for one that holds anything else."""
    with open(path, "rb") as file:
        return _unpickle(file, path, encoding="bytes")


def _unpickle(file, path, encoding: str):
    try:
        return SafeUnpickler(file, encoding=encoding).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{os.fspath(path)!r} is not a pickle of plain data: {error}.") from None


def read_npz(path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name, also arrays of Python lists, which NumPy would only read with
    `allow_pickle=True`, that is running whatever the file says. Raises `ValueError` for anything but plain data."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            arrays[name.removesuffix(".npy")] = _read_npy(archive.read(name), path)
    return arrays


def _read_npy(data: bytes, path) -> np.ndarray:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{os.fspath(path)!r} has arrays of an unknown version {version}.")
    shape, _, dtype = readers[version](file)
    if not dtype.hasobject:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    array = _unpickle(file, path, encoding="latin1")
    # The pickle could hold anything plain, whatever the header promised.
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.size != int(np.prod(shape)):
        raise ValueError(f"{os.fspath(path)!r} holds something else than its header says: {shape} of {dtype}.")
    return array.reshape(shape)


def shuffled(seed: int, *arrays: np.ndarray) -> list[np.ndarray]:
    """Arrays of equal length in the order that Keras draws from `seed`."""
    # The older generator, whose draws NumPy has promised to keep: Keras's order depends on it.
    order = np.arange(len(arrays[0]))
    np.random.RandomState(seed).shuffle(order)
    return [array[order] for array in arrays]


def split(test_split: float, seed: int, x: np.ndarray, y: np.ndarray):
    """`(x_train, y_train), (x_test, y_test)`: shuffled, the last `test_split` of the rows for testing.

    Raises:
        ValueError: if `test_split` is not from 0 to below 1.
    """
    if not 0 <= test_split < 1:
        raise ValueError(f"`test_split` must be at least 0 and below 1. Got {test_split}.")
    x, y = shuffled(seed, x, y)
    cut = int(len(x) * (1 - test_split))
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])
