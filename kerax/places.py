"""What a path may be: a place on this computer. An address of another one is refused before anything is computed."""

import os
import re
from typing import Any

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: `C:/` is a drive


def local_path(path: Any, who: str) -> str:
    """A path as text.

    Raises:
        ValueError: if it has a scheme, as `gs://` or `s3://`, which the file system would take for a folder's name.
        TypeError: if it is no path.
    """
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{who}: expected a path. Got {path!r}.") from None
    scheme = _SCHEME.match(text)
    if scheme:
        raise ValueError(
            f"{who}: kerax reads and writes files of this computer only, not {scheme.group()!r}. Got {text!r}. Mount "
            "the bucket as a folder, or copy the file with the tools of its place."
        )
    return text


def replace(source: Any, target: Any) -> None:
    """Moves a file or a folder in the place of what is there, which is gone then. Both must be on one file system."""
    import shutil
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
    """Makes a folder and tries to write into it.

    Raises:
        OSError: naming the folder, if that is not possible.
    """
    import tempfile

    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"{who}: cannot write into the folder ({error.strerror})", folder) from None
