"""Files from the network: downloaded once, checked, and unpacked without leaving their folder."""

import hashlib
import lzma
import os
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zipfile
import zlib
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path

from kerax import config
from kerax.places import is_elsewhere, path_of, to_read

_CHUNK = 2**20
_TIMEOUT = 60  # seconds without a byte


def home() -> str:
    """The folder of downloaded files: `$KERAX_HOME`, or `~/.kerax`."""
    return os.path.expanduser(os.environ.get("KERAX_HOME") or os.path.join("~", ".kerax"))


def is_url(path) -> bool:
    """Whether `path` is an address that `get_file` can fetch: `http`, `https` or `file`."""
    return isinstance(path, str) and path.lower().startswith(("http://", "https://", "file://"))


def get_file(
    fname=None,
    origin=None,
    untar: bool = False,
    md5_hash=None,
    file_hash=None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: str | Iterable[str] | None = "auto",
    cache_dir=None,
    force_download: bool = False,
) -> str:
    """The path of a file from the network, downloaded unless it is in the cache already.

    A file appears in the cache complete and checked, or not at all; so does the folder of an archive. Unlike Keras, an
    archive that holds an unsafe member is refused as a whole (Keras leaves the member out), one that is unpacked
    already is not unpacked again, and where the cache cannot be written to, nothing is put into `/tmp` instead.

    Args:
        fname: Name in the cache. Default: the last part of `origin`.
        origin: `http`, `https` or `file` URL, or one of `gs`, `s3` and the like.
        untar: Older form of `extract=True, archive_format="tar"`.
        md5_hash: Older form of `file_hash`.
        file_hash: MD5 or SHA-256 in hexadecimal digits. A cached file with another one is downloaded again.
        cache_subdir: Folder in the cache, or an absolute path.
        hash_algorithm: `"md5"`, `"sha256"`, or `"auto"`: by the length of `file_hash`.
        extract: Whether to unpack an archive.
        archive_format: `"tar"` (also compressed), `"zip"`, a list of them, or `"auto"` for both.
        cache_dir: Default: `$KERAX_HOME`, or `~/.kerax`.
        force_download: Whether to download a file that is there.

    Returns: the path of the file, or of the folder with the archive's contents.

    Raises:
        ConnectionError: if the file cannot be fetched, with the place where to put it by hand.
        ValueError: if the checksum or the length is wrong, the archive is unsafe or damaged, or an argument is wrong.
    """
    if origin is None or not (is_url(origin) or is_elsewhere(path_of(origin, "get_file"))):
        raise ValueError(f"get_file: `origin` must be a bucket's, http, https or file URL. Got {origin!r}.")
    if md5_hash is not None and file_hash is None:
        file_hash, hash_algorithm = md5_hash, "md5"
    algorithm = _algorithm(hash_algorithm, file_hash)
    given, fname = fname, os.fspath(fname) if fname else urllib.parse.unquote(urllib.parse.urlsplit(origin).path)
    fname = fname if given else fname.rsplit("/", 1)[-1]
    if not fname or fname in (".", "..") or re.search(r"[/\\\0]", fname):
        raise ValueError(f"get_file: `fname` must be a file name without folders. Got {fname!r} for {origin!r}.")
    folder = os.path.join(home() if cache_dir is None else os.path.expanduser(os.fspath(cache_dir)), cache_subdir)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"get_file: cannot make the folder {folder!r} ({error.strerror}). Set KERAX_HOME or `cache_dir`."
        ) from None
    unpacks = extract or untar
    target = os.path.join(folder, fname)
    unpacked = os.path.join(folder, f"{fname.split('.')[0]}_extracted" if given and "." in fname else fname)
    # A file and a folder cannot share a name: one of the two gets an ending, which of them is Keras's choice.
    if unpacks and not (given and "." in fname):
        target += "_archive"
    fresh = force_download or not os.path.isfile(target)
    if not fresh and algorithm and file_hash and hash_file(target, algorithm) != file_hash.lower():
        print(f"{target} has another {algorithm} checksum than {file_hash}; downloading it again.", file=sys.stderr)
        fresh = True
    if fresh and is_url(origin):
        _download(origin, target, algorithm, file_hash)
    elif fresh:
        with to_read(origin) as copy:
            _download(Path(copy).as_uri(), target, algorithm, file_hash)
    if not unpacks:
        return target
    if fresh or not os.path.isdir(unpacked):
        extract_archive(target, unpacked, "tar" if untar else archive_format)
    return unpacked


def hash_file(path, algorithm: str = "sha256") -> str:
    """The checksum of a file in hexadecimal digits; `algorithm` is `"md5"` or `"sha256"`."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: _hasher(algorithm)).hexdigest()


def _hasher(algorithm: str):
    # Where the system forbids MD5 for security, it stays allowed to find damage.
    return hashlib.new(algorithm, usedforsecurity=algorithm != "md5")


def _algorithm(name: str, file_hash: str | None) -> str | None:
    """`"md5"` or `"sha256"`, or `None` where there is nothing to check."""
    if name not in ("auto", "md5", "sha256"):
        raise ValueError(f"get_file: `hash_algorithm` must be 'auto', 'md5' or 'sha256'. Got {name!r}.")
    if file_hash is None:
        return None
    found = {32: "md5", 64: "sha256"}.get(len(file_hash))
    if found is None or name not in ("auto", found):
        raise ValueError(
            f"get_file: `file_hash` must have 32 digits for MD5, 64 for SHA-256. Got {file_hash!r} for {name!r}."
        )
    return found


def _download(origin: str, target: str, algorithm: str | None, file_hash: str | None):
    """Fetches a file, and puts it in its place when it is complete and has the right checksum."""
    name = os.path.basename(target)
    digest = _hasher(algorithm or "sha256")
    partial = None
    try:
        with urllib.request.urlopen(origin, timeout=_TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
            progress = _Progress(origin, name, total)
            # A name of its own: two processes may download the same file; who is done last replaces the other's.
            partial = f"{target}.{uuid.uuid4().hex}.partial"
            with open(partial, "xb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    progress(file.tell())
                done = file.tell()
        progress.close()
        # A connection that breaks ends the stream as if it were whole.
        if total is not None and done != total:
            raise ValueError(f"get_file: {origin} ended after {done:,} of {total:,} bytes. Try again.")
        if algorithm and file_hash and digest.hexdigest() != file_hash.lower():
            raise ValueError(
                f"get_file: {origin} has the {algorithm} checksum {digest.hexdigest()}, expected {file_hash}. "
                "It was not kept: it is damaged, or not the file you mean."
            )
        os.replace(partial, target)
    except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
        # `URLError` wraps what the system said, `HTTPError` has a number and words.
        reason = f"{error.code} {error.reason}" if isinstance(error, urllib.error.HTTPError) else error
        raise ConnectionError(
            f"get_file: cannot fetch {origin} ({getattr(reason, 'reason', reason)}). Without a network, download it "
            f"elsewhere and put it at {target}."
        ) from None
    finally:
        if partial is not None and os.path.exists(partial):
            os.remove(partial)


class _Progress:
    """A line on the terminal, renewed at most ten times a second; nothing but its first words elsewhere."""

    def __init__(self, origin: str, name: str, total: int | None):
        self.name, self.total, self.shown = name, total, 0.0
        self.is_live = config.is_interactive_logging_enabled() and sys.stderr.isatty()
        print(f"Downloading {origin}", file=sys.stderr)

    def __call__(self, done: int, last: bool = False):
        if self.is_live and (last or time.monotonic() - self.shown > 0.1):
            self.shown, self.done = time.monotonic(), done
            of = f" of {self.total / 1e6:.1f}" if self.total else ""
            print(f"\r{self.name}: {done / 1e6:.1f}{of} MB", end="", file=sys.stderr, flush=True)

    def close(self):
        if self.is_live:
            print(file=sys.stderr)


# Archives.

# What the standard library raises where an archive is damaged, or encrypted, or the disk is full.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


def extract_archive(path, folder, archive_format: str | Iterable[str] | None = "auto"):
    """Unpacks a tar (also compressed) or zip file to a folder, which appears when it is complete.

    Nothing is written outside the folder, and nothing at all if a member is absolute, has `..` in its name, lies
    behind a link, is a link that leaves the folder or passes through another one, or is no file, folder or link.

    Raises:
        ValueError: if it is not such a file, is damaged or unsafe, or does not fit the disk.
    """
    formats = ["tar", "zip"] if archive_format == "auto" else archive_format
    formats = [formats] if isinstance(formats, str) else list(formats or [])
    if not set(formats) <= {"tar", "zip"}:
        raise ValueError(f"Archives: `archive_format` must be 'auto', 'tar' or 'zip'. Got {archive_format!r}.")
    path, folder = os.fspath(path), os.path.abspath(folder)
    kind = next((kind for kind in formats if (tarfile.is_tarfile if kind == "tar" else zipfile.is_zipfile)(path)), None)
    if kind is None:
        raise ValueError(f"{path!r} is not an archive of the kind {' or '.join(formats) or None}.")
    partial = f"{folder}.{uuid.uuid4().hex}.partial"
    os.mkdir(partial)
    try:
        if kind == "tar":
            with tarfile.open(path) as archive:
                members = archive.getmembers()
                _check_members(path, folder, [_describe_tar(member) for member in members])
                if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on
                    archive.extractall(partial, members, filter="data")  # a second pair of eyes
                else:
                    archive.extractall(partial, members)
        else:
            with zipfile.ZipFile(path) as archive:
                described: list = [(info.filename, "file", None, info.file_size) for info in archive.infolist()]
                _check_members(path, folder, described)
                archive.extractall(partial)  # it writes links as files
        # A folder that is there cannot be replaced; for a moment there is none, never half of one.
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except _DAMAGE as error:
        raise ValueError(f"{path!r} cannot be unpacked: {error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _describe_tar(member: tarfile.TarInfo) -> tuple[str, str, str | None, int]:
    """A member's name, kind, link target and size."""
    kind = "link" if member.issym() else "hard link" if member.islnk() else "file"
    kind = kind if member.isfile() or member.isdir() or member.issym() or member.islnk() else "device"
    return member.name, kind, member.linkname or None, member.size


def _parts(name: str) -> list[str]:
    """The parts of a path, in one case as some file systems see it. Leading `/`, drives and `..` stay."""
    name = name.replace("\\", "/").casefold()
    return (["/"] if name.startswith("/") else []) + [part for part in name.split("/") if part not in ("", ".")]


def _check_members(path: str, folder: str, members: list[tuple[str, str, str | None, int]]):
    """Raises `ValueError` if unpacking these members would reach outside the folder, or they are too large."""
    links = {tuple(_parts(name)) for name, kind, _, _ in members if kind == "link"}

    def leaves(parts: list[str], base: list[str]) -> bool:
        # `..` at the start climbs out of the folders of the link itself; anywhere else it is refused below.
        climbs = 0
        while climbs < len(parts) and parts[climbs] == "..":
            climbs += 1
        if climbs > len(base):
            return True
        full = base[: len(base) - climbs] + parts[climbs:]
        # An absolute path, a NUL byte or a drive such as `c:` would not be joined to the folder.
        if any(part in ("..", "/") or "\0" in part for part in full) or re.match("[a-z]:", "/".join(full)):
            return True
        # What lies behind a link is written where the link leads, whatever its own name says.
        return any(tuple(full[:end]) in links for end in range(1, len(full)))

    for name, kind, target, _ in members:
        parts = _parts(name)
        wrong = None
        if kind == "device":
            wrong = "which is neither a file, a folder nor a link"
        elif leaves(parts, []):
            wrong = "which lies outside its folder or behind a link"
        elif kind == "link" and leaves(_parts(target or "/"), parts[:-1]):
            wrong = f"a link to {target!r}, which may lead outside its folder"
        elif kind == "hard link" and (leaves(_parts(target or "/"), []) or tuple(_parts(target or "/")) in links):
            wrong = f"a hard link to {target!r}, which may lead outside its folder"
        if wrong:
            raise ValueError(f"{path!r} holds {name!r}, {wrong}. Nothing was unpacked.")
    # Compared before the first byte is written: a small archive can hold a very large file.
    size, free = sum(member[3] for member in members), shutil.disk_usage(os.path.dirname(folder)).free
    if size > free:
        raise ValueError(f"{path!r} holds {size:,} bytes, and {free:,} are free at {os.path.dirname(folder)!r}.")
