"""What `keras.src.utils.file_utils` has beyond the public API: small steps with files, here and at other places."""

import os
import shutil
from typing import Any

from kerax.places import file_system, is_elsewhere
from kerax.utils import files

is_remote_path = is_elsewhere


def path_to_string(path) -> Any:
    """The text of a path, anything else as it is."""
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def resolve_path(path) -> str:
    """The absolute path without links."""
    return os.path.realpath(os.path.abspath(path))


def resolve_sub_path(base_dir, path) -> str | None:
    """The absolute path of one that is relative to a folder, `None` where it leads out of that."""
    base, found = resolve_path(base_dir), resolve_path(os.path.join(base_dir, path))
    return found if found == base or found.startswith(os.path.join(base, "")) else None


def join(path, *paths) -> str:
    """The path of something in a folder."""
    return os.path.join(path_to_string(path), *map(path_to_string, paths))


def File(path, mode: str = "r") -> Any:
    """The file, opened."""
    system, place = file_system(path_to_string(path))
    return system.open(place, mode)


def exists(path) -> bool:
    """Whether something is there."""
    system, place = file_system(path_to_string(path))
    return system.exists(place)


def isdir(path) -> bool:
    """Whether a folder is there."""
    system, place = file_system(path_to_string(path))
    return system.isdir(place)


def listdir(path) -> list[str]:
    """The names of what is in a folder."""
    system, place = file_system(path_to_string(path))
    return [os.path.basename(found.rstrip("/")) for found in system.ls(place, detail=False)]


def makedirs(path) -> None:
    """Makes a folder and those around it."""
    system, place = file_system(path_to_string(path))
    system.makedirs(place, exist_ok=True)


def remove(path) -> None:
    """Removes a file."""
    system, place = file_system(path_to_string(path))
    system.rm_file(place)


def rmtree(path) -> None:
    """Removes a folder with all that is in it."""
    system, place = file_system(path_to_string(path))
    system.rm(place, recursive=True)


def copy(src, dst) -> None:
    """Copies a file."""
    with File(src, "rb") as source, File(dst, "wb") as target:
        shutil.copyfileobj(source, target)


def hash_file(fpath, algorithm: str = "sha256", chunk_size: int = 65535) -> str:
    """The checksum of a file in hexadecimal digits."""
    return files.hash_file(fpath, algorithm)


def validate_file(fpath, file_hash, algorithm: str = "auto", chunk_size: int = 65535) -> bool:
    """Whether a file has that checksum, SHA-256 or MD5 by its length where the algorithm is not said."""
    by_length = "sha256" if len(file_hash) == 64 else "md5"
    return hash_file(fpath, by_length if algorithm == "auto" else algorithm) == file_hash
