"""`.keras` archives as Keras 3 reads and writes them: `metadata.json`, `config.json`, weights and assets in a zip file.

Loading is data, never code: classes are found by registered name, members are checked before one is opened, and what
does not fit is one error that names the file.
"""

import contextlib
import datetime
import io
import json
import os
import shutil
import stat
import tempfile
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from kerax import places
from kerax.core.layer import Layer
from kerax.core.registry import (
    deserialize_keras_object,
    owned_by,
    safe_mode_scope,
    serialize_keras_object,
    sharing_scope,
)
from kerax.errors import ConfigError
from kerax.saving import h5_members, structure, weights_h5
from kerax.version import __version__

KERAS_VERSION = "3.15.1"  # whose format this is
METADATA, CONFIG, WEIGHTS, ASSETS = "metadata.json", "config.json", "model.weights.h5", "assets"
MOST_CONFIG = 2**28  # bytes of `config.json`
MOST_EXPANSION = 200  # times that a compressed member may be larger than it is in the file
MOST_MEMBERS = 10_000


def save_model(model, path, zipped: bool = True):
    """Writes a model with its weights, compile arguments, optimizer state and vocabularies.

    Args:
        path: Path of a `.keras` file, or an open binary file; that of a folder if it is not to be zipped.

    Raises:
        TypeError: if something in its config is not serializable, named.
        OSError: naming the file, if it cannot be written. What was there is as it was then.
    """
    if not model.built:
        warnings.warn(f"save_model: {model} is not built, so the file holds no weights of it.", stacklevel=4)
    # A layer that is there twice must come back as one.
    with sharing_scope():
        config = serialize_keras_object(model)
        if getattr(model, "compiled", False):
            config["compile_config"] = compile_config(model)
    now = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    metadata = {"keras_version": KERAS_VERSION, "date_saved": now, "saved_by": f"kerax {__version__}"}
    texts = {METADATA: json.dumps(metadata), CONFIG: json.dumps(config)}
    if not zipped:
        _write_folder(model, path, texts)
        return
    with h5_members.replacing(path) as file, tempfile.TemporaryDirectory() as folder:
        _save_assets(model, Path(folder, ASSETS))
        with zipfile.ZipFile(file, "w") as archive:
            for name, text in texts.items():
                archive.writestr(zipfile.ZipInfo(name), text)
            with io.BytesIO() as weights:
                weights_h5.save(model, weights)
                archive.writestr(zipfile.ZipInfo(WEIGHTS), weights.getbuffer())
            for asset in sorted(Path(folder).rglob("*")):
                archive.write(asset, asset.relative_to(folder).as_posix())


def _write_folder(model, path: str, texts: dict[str, str]):
    partial = Path(f"{path}.{uuid.uuid4().hex}.partial")
    try:
        partial.mkdir()
        for name, text in texts.items():
            (partial / name).write_text(text)
        _save_assets(model, partial / ASSETS)
        weights_h5.save(model, str(partial / WEIGHTS))
        places.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _save_assets(model, folder: Path):
    for place, owner in structure.saveables(model):
        if hasattr(owner, "save_assets"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            owner.save_assets(str(folder / place))


def compile_config(model) -> dict | None:
    """What a file keeps of `compile`'s arguments; `None`, with a warning, where something has no description."""
    try:
        # A user's method may return objects as they are.
        return serialize_keras_object(model.get_compile_config())
    except TypeError as error:
        warnings.warn(
            f"save_model: the compile arguments of {model} are left out; compile again after loading. {error}",
            stacklevel=4,
        )
        return None


def load_model(path, custom_objects: dict | None = None, compile: bool = True, safe_mode: bool = True) -> Any:
    """The model of a `.keras` file, folder or open file: see `kerax.saving.load_model`."""
    with opening(path, "load_model") as archive, safe_mode_scope(safe_mode):
        config = read_json(archive, CONFIG, path)
        # Compiled by hand below, so that its failure is named and `compile=False` goes round it.
        arguments = config.pop("compile_config", None) if isinstance(config, dict) else None
        with naming(path):
            model = deserialize_keras_object(config, custom_objects, safe_mode)
            if not isinstance(model, Layer):
                raise ValueError(f"the config describes {type(model).__name__}, which is no model")
            if compile and arguments:  # Keras writes {} for a model that is not compiled
                compile_as(model, arguments, custom_objects)
        with tempfile.TemporaryDirectory() as folder, naming(path):
            # Before the weights: a vocabulary may decide their shapes.
            _load_assets(archive, model, folder)
        try:
            _read_weights(archive, model, path, "load_model")
        except ValueError as error:
            if model.built:
                raise
            raise ValueError(
                f"load_model: {path!r}: {model} cannot be built from its config, so its weights have no place. "
                f"Give its class a `build`, or `get_build_config` and `build_from_config`. {error}"
            ) from error
    return model


def load_weights(model, path, skip_mismatch: bool = False, objects_to_skip: Collection = ()):
    """Reads the weights of a `.keras` file, folder or open file into a model."""
    with opening(path, "load_weights") as archive:
        _read_weights(archive, model, path, "load_weights", skip_mismatch, objects_to_skip)


def _read_weights(archive, model, path, who: str, skip_mismatch: bool = False, objects_to_skip: Collection = ()):
    if WEIGHTS not in archive.namelist():
        raise ValueError(f"{who}: {path!r} has no member {WEIGHTS!r}.")
    with tempfile.TemporaryDirectory() as folder:
        where = archive.extract(WEIGHTS, folder)  # h5py reads files, not members of a zip file
        with naming(path, where, who), h5_members.open_file(where, who) as file, h5_members.explaining(path, who):
            weights_h5.read(file, model, repr(path), who, skip_mismatch, objects_to_skip)


def compile_as(model, config: dict, custom_objects: dict | None):
    """Compiles a loaded model as it was, its optimizer ready for its state."""
    try:
        arguments = {}
        for name, value in config.items():
            with owned_by(name):  # `custom_objects={"loss": function}` stands for a lambda
                arguments[name] = deserialize_keras_object(value, custom_objects)
        model.compile_from_config(arguments)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"the compile arguments cannot be restored; pass `compile=False`. {error}") from error


def _load_assets(archive: Any, model, folder: str):
    for place, owner in structure.saveables(model):
        prefix = f"{ASSETS}/{place}/" if place else f"{ASSETS}/"
        # Files of the place itself, not of what lies below it.
        names = [n for n in archive.namelist() if n.startswith(prefix) and "/" not in n[len(prefix) :] and n != prefix]
        if hasattr(owner, "load_assets") and names:
            for name in names:
                archive.extract(name, folder)
            owner.load_assets(os.path.join(folder, prefix))


@contextlib.contextmanager
def naming(path: str, hidden: str = "", who: str = "load_model") -> Iterator[None]:
    """Makes every error of reading a file a `ValueError` that names it."""
    try:
        yield
    except RecursionError:
        raise ValueError(f"{who}: {path!r}: the config is nested too deep.") from None
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, MemoryError) as error:
        message = str(error).replace(hidden, str(path)) if hidden else str(error)
        message = message.removeprefix(f"{who}: ")
        prefix = "" if repr(path) in message else f"{path!r}: "
        # Both kinds where it was a wrong type: Keras raises a `TypeError` then.
        kind = ConfigError if isinstance(error, TypeError) else ValueError
        raise kind(f"{who}: {prefix}{message or type(error).__name__}") from error


class Folder:
    """A model that was not zipped, with the methods of `zipfile.ZipFile` that reading needs."""

    def __init__(self, path):
        self.path = Path(path)

    def namelist(self) -> list[str]:
        """The files below it. Links are none."""
        found = (file for file in self.path.rglob("*") if file.is_file() and not file.is_symlink())
        return [file.relative_to(self.path).as_posix() for file in found]

    def getinfo(self, name: str) -> zipfile.ZipInfo:
        """Its size. Raises `KeyError` if there is none."""
        if name not in self.namelist():
            raise KeyError(name)
        info = zipfile.ZipInfo(name)
        info.file_size = (self.path / name).stat().st_size
        return info

    def read(self, member: zipfile.ZipInfo) -> bytes:
        """Its bytes."""
        return (self.path / member.filename).read_bytes()

    def extract(self, name: str, folder: str) -> str:
        """Copies it below a folder. Returns its path there."""
        there = Path(folder, name)
        there.parent.mkdir(parents=True, exist_ok=True)
        return str(shutil.copyfile(self.path / name, there))


def is_folder(path) -> bool:
    """Whether a path is that of a model that was not zipped."""
    return not h5_members.is_open_file(path) and os.path.isfile(os.path.join(path, CONFIG))


@contextlib.contextmanager
def opening(path, who: str) -> Iterator[Any]:
    """A zip file, at a path or open, whose members have been checked; or a folder.

    Raises:
        MissingFileError: if there is none.
        ValueError: if it is no zip file, or a member is a link, encrypted, there twice, leaves its folder or is far
            larger than it is in the file.
    """
    if is_folder(path):
        yield Folder(path)
        return
    h5_members.require_file(path, who)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), path, who)
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
        raise ValueError(f"{who}: {path!r} is damaged, or no zip file: {error}") from None


def _check_members(members: list[zipfile.ZipInfo], path, who: str):
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"{who}: {path!r} has {len(members)} members, more than {MOST_MEMBERS}.")
    names = set()
    for member in members:
        name = PurePosixPath(member.filename)
        # The upper half holds Unix's mode, 0 where it was written elsewhere.
        kind = stat.S_IFMT(member.external_attr >> 16)
        reason = None
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename:
            reason = "leaves its folder"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            reason = "is a link or device"
        elif member.flag_bits & 0x1:
            reason = "is encrypted"
        elif member.filename in names:
            reason = "is there twice"
        # A zip bomb: small members are let through whatever they grow to.
        elif member.file_size > max(MOST_EXPANSION * member.compress_size, 2**20):
            reason = f"would grow from {member.compress_size} to {member.file_size} bytes"
        if reason is not None:
            raise ValueError(f"{who}: {path!r}: the member {member.filename!r} {reason}; nothing was read.")
        names.add(member.filename)
    # Weights hardly shrink: a file that grows far is no model.
    unpacked = sum(member.file_size for member in members)
    there = path.seek(0, os.SEEK_END) if h5_members.is_open_file(path) else os.path.getsize(path)
    if unpacked > 4 * there + 2**24:
        raise ValueError(f"{who}: {path!r} would grow from {there} to {unpacked} bytes; nothing was read.")


def read_json(archive: Any, name: str, path) -> dict:
    """A JSON member. Raises `ValueError` if it is not there, too large, or no JSON object."""
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"load_model: {path!r} has no member {name!r}; it is no Keras file.") from None
    if member.file_size > MOST_CONFIG:
        raise ValueError(f"load_model: {path!r}: {name!r} has {member.file_size} bytes, more than {MOST_CONFIG}.")
    try:
        value = json.loads(archive.read(member))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"load_model: {path!r}: {name!r} is no JSON that can be read: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"load_model: {path!r}: {name!r} should hold an object.")
    return value
