"""What a path may be: a place on this computer, or where it is said so the address of another one, as `gs://` or
`s3://`.

Other places are reached by fsspec, which comes with orbax, and the package for that place, an extra of kerax's. A file
is put there when it is whole, in one request that happens or does not: who reads meanwhile finds the one before.
"""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # two letters at least: `C:/` is a drive
EXTRAS = {
    "gs": "gcs",
    "gcs": "gcs",
    "s3": "s3",
    "s3a": "s3",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "memory": None,
}
"""The extra that brings the package for a scheme."""


def local_path(path: Any, who: str) -> str:
    """A path of this computer as text; of `file://` what comes after it.

    Raises:
        ValueError: if it has another scheme, as `gs://` or `s3://`, which the file system would take for a folder's
            name.
        TypeError: if it is no path.
    """
    text = _as_text(path, who)
    found = _SCHEME.match(text)
    if found:
        raise ValueError(
            f"{who}: kerax reads and writes files of this computer only here, not {found[0]!r}. Got {text!r}. Mount "
            "the bucket as a folder, or copy the file with the tools of its place."
        )
    return text


def path_of(path: Any, who: str) -> str:
    """A path of this computer as text, or the address of another place that the installed packages reach.

    Raises:
        ValueError: if nothing is known about its scheme.
        ImportError: naming the extra, if the package for it is missing.
        TypeError: if it is no path.
    """
    text = _as_text(path, who)
    found = _SCHEME.match(text)
    if not found:
        return text
    scheme = found[1].lower()
    if scheme not in EXTRAS:
        known = ", ".join(f"'{name}://'" for name in EXTRAS if name != "memory")
        raise ValueError(
            f"{who}: kerax reads and writes files of this computer only, and at {known}, not {found[0]!r}. Got "
            f"{text!r}."
        )
    import fsspec

    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise ImportError(f"{who}: {text!r} needs another package: pip install 'kerax[{EXTRAS[scheme]}]'.") from error
    return text


def _as_text(path: Any, who: str) -> str:
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{who}: expected a path. Got {path!r}.") from None
    return text[len("file://") :] if text.startswith("file:///") else text


def is_elsewhere(path: str) -> bool:
    """Whether a path that `path_of` returned is an address of another place."""
    return isinstance(path, str) and bool(_SCHEME.match(path))


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it."""
    import fsspec

    files, path = fsspec.core.url_to_fs(address)
    files.invalidate_cache()  # others may have written there since
    return files, path.rstrip("/")


def folder(path: Any, who: str) -> Any:
    """A path of this computer as a `pathlib.Path`, or that of another place as an object with the same methods."""
    text = path_of(path, who)
    if not is_elsewhere(text):
        return pathlib.Path(text)
    try:
        from upath import UPath
    except ImportError as error:
        raise ImportError(
            f"{who}: {text!r} needs another package: pip install 'kerax[{EXTRAS[text.partition(':')[0].lower()]}]'."
        ) from error
    return UPath(text)


def exists(path: str) -> bool:
    """Whether something is at a path that `path_of` returned."""
    if not is_elsewhere(path):
        return os.path.exists(path)
    files, place = file_system(path)
    return files.exists(place)


def remove_folder(path: str) -> None:
    """Removes a folder at a path that `path_of` returned, with all that is in it, if it is there."""
    if not is_elsewhere(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    files, place = file_system(path)
    with _naming(path), contextlib.suppress(FileNotFoundError):
        files.rm(place, recursive=True)


@contextlib.contextmanager
def to_read(path: Any) -> Iterator[Any]:
    """A path of this computer for what is at a path that `path_of` returned: itself, or a copy for the block.

    Raises:
        FileNotFoundError: if there is nothing.
    """
    if not is_elsewhere(path):
        yield path
        return
    files, place = file_system(path)
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(place))
        with _naming(path):
            files.get(place, copy, recursive=files.isdir(place))
        yield copy


@contextlib.contextmanager
def to_write(path: Any) -> Iterator[Any]:
    """A path of this computer that is written to for one that `path_of` returned: itself, or a new file that is put
    there if the block ends well.

    Raises:
        OSError: naming the address, if it cannot be put there.
    """
    if not is_elsewhere(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(path))
        yield copy
        put(copy, path)


def put(copy: str, address: str) -> None:
    """Puts a file of this computer at an address, or a folder's files; a file that was there is replaced at once."""
    files, place = file_system(address)
    with _naming(address):
        if not os.path.isdir(copy):
            files.put_file(copy, place)
            return
        names = files_in(copy)
        files.put([os.path.join(copy, name) for name in names], [f"{place}/{name}" for name in names])


def files_in(folder: str) -> list[str]:
    """The paths of all files in a folder of this computer, relative to it, with `/`."""
    return [
        os.path.relpath(os.path.join(where, name), folder).replace(os.sep, "/")
        for where, _, inside in os.walk(folder)
        for name in inside
    ]


class Mirror:
    """A new folder of this computer whose files are put at an address again and again, those that have changed.

    Args:
        address: As `path_of` returned it.

    Attributes:
        folder: The path of the folder.
    """

    def __init__(self, address: str):
        self.address, self.folder = address, tempfile.mkdtemp()
        self._known: dict[str, tuple[int, int]] = {}  # size and time of what was put there

    def put(self) -> None:
        """Puts what is new. Raises `OSError` naming the address, if that cannot be done."""
        for name in files_in(self.folder):
            path = os.path.join(self.folder, name)
            found = os.stat(path)
            state = found.st_size, found.st_mtime_ns
            if self._known.get(name) != state:
                put(path, f"{self.address}/{name}")
                self._known[name] = state

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def _naming(address: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(2, "there is no such file", address) from error
    except Exception as error:  # each package has its own
        raise OSError(getattr(error, "errno", None) or 5, f"{type(error).__name__}: {error}", address) from error


def replace(source: Any, target: Any) -> None:
    """Moves a file or a folder in the place of what is there, which is gone then. Both must be on one file system."""
    import uuid

    if not os.path.isdir(target) or os.path.islink(target):
        os.replace(source, target)
        return
    # A folder cannot be replaced in one step: the old one steps aside first, and goes last.
    aside = f"{os.fspath(target).rstrip('/')}.{uuid.uuid4().hex}.old"
    os.rename(target, aside)
    os.rename(source, target)
    shutil.rmtree(aside)


def check_writable(folder: str, who: str) -> None:
    """Makes a folder and tries to write into it, here or elsewhere.

    Raises:
        OSError: naming the folder, if that is not possible.
    """
    import uuid

    if is_elsewhere(folder):
        files, place = file_system(folder)
        probe = f"{place}/{uuid.uuid4().hex}.partial"
        with _naming(folder):
            files.pipe_file(probe, b"kerax")
            files.rm_file(probe)
        return
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"{who}: cannot write into the folder ({error.strerror})", folder) from None
