"""`.keras` archives as Keras 3 reads and writes them: `metadata.json`, `config.json`, weights and assets in a zip file.

Loading is data, never code: classes are found by registered name, members are checked before one is opened, and what
does not fit is one error that names the file.
"""

import contextlib
import datetime
import json
import os
import stat
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from kerax.core.layer import Layer
from kerax.core.registry import deserialize_keras_object, serialize_keras_object, sharing_scope
from kerax.saving import h5_members, structure, weights_h5
from kerax.version import __version__

KERAS_VERSION = "3.15.1"  # whose format this is
METADATA, CONFIG, WEIGHTS, ASSETS = "metadata.json", "config.json", "model.weights.h5", "assets"
MOST_CONFIG = 2**28  # bytes of `config.json`
MOST_EXPANSION = 200  # times that a compressed member may be larger than it is in the file
MOST_MEMBERS = 10_000


def save_model(model, path: str, overwrite: bool = True):
    """Writes a model with its weights, compile arguments, optimizer state and vocabularies to a `.keras` file.

    Raises:
        ValueError: if the model is not built, or the file is there and not to be replaced.
        TypeError: if something in its config is not serializable, named.
    """
    if not overwrite and os.path.exists(path):
        raise ValueError(f"save_model: {path!r} exists. Pass `overwrite=True` to replace it.")
    if not model.built:
        raise ValueError(f"save_model: {model} is not built. Call it on data or `build` it first.")
    # A layer that is there twice must come back as one.
    with sharing_scope():
        config = serialize_keras_object(model)
        if model.compiled:
            config["compile_config"] = compile_config(model)
    now = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    metadata = {"keras_version": KERAS_VERSION, "date_saved": now, "saved_by": f"kerax {__version__}"}
    with h5_members.replacing(path) as partial, tempfile.TemporaryDirectory() as folder:
        # h5py writes files, not members of a zip file.
        weights_h5.save(model, os.path.join(folder, WEIGHTS))
        assets = Path(folder, ASSETS)
        for place, owner in structure.saveables(model):
            if hasattr(owner, "save_assets"):
                (assets / place).mkdir(parents=True, exist_ok=True)
                owner.save_assets(str(assets / place))
        with zipfile.ZipFile(partial, "w") as archive:
            archive.writestr(zipfile.ZipInfo(METADATA), json.dumps(metadata))
            archive.writestr(zipfile.ZipInfo(CONFIG), json.dumps(config))
            archive.write(os.path.join(folder, WEIGHTS), WEIGHTS)
            for file in sorted(assets.rglob("*")):
                archive.write(file, file.relative_to(folder).as_posix())


def compile_config(model) -> dict | None:
    """What a file keeps of `compile`'s arguments; `None`, with a warning, where something has no description."""
    try:
        return model.get_compile_config()
    except TypeError as error:
        warnings.warn(
            f"save_model: the compile arguments of {model} are left out; compile again after loading. {error}",
            stacklevel=4,
        )
        return None


def load_model(path: str, custom_objects: dict | None = None, compile: bool = True, safe_mode: bool = True):
    """The model of a `.keras` file: see `kerax.saving.load_model`."""
    with opening(path, "load_model") as archive:
        config = read_json(archive, CONFIG, path)
        # Compiled by hand below, so that its failure is named and `compile=False` goes round it.
        arguments = config.pop("compile_config", None) if isinstance(config, dict) else None
        with naming(path):
            model = deserialize_keras_object(config, custom_objects, safe_mode)
            if not isinstance(model, Layer):
                raise ValueError(f"the config describes {type(model).__name__}, which is no model")
            if compile and arguments:  # Keras writes {} for a model that is not compiled
                compile_as(model, arguments, custom_objects)
        with tempfile.TemporaryDirectory() as folder:
            with naming(path):
                # Before the weights: a vocabulary may decide their shapes.
                _load_assets(archive, model, folder)
            if not model.built:
                raise ValueError(
                    f"load_model: {path!r}: {model} cannot be built from its config, so its weights have no place. "
                    "Give its class a `build`, or `get_build_config` and `build_from_config`."
                )
            if WEIGHTS not in archive.namelist():
                raise ValueError(f"load_model: {path!r} has no member {WEIGHTS!r}.")
            archive.extract(WEIGHTS, folder)
            where = os.path.join(folder, WEIGHTS)
            with naming(path, where), h5_members.open_file(where, "load_model") as file:
                with h5_members.explaining(path, "load_model"):
                    weights_h5.read(file, model, repr(path), "load_model", strict_optimizer=True)
    return model


def compile_as(model, config: dict, custom_objects: dict | None):
    """Compiles a loaded model as it was, its optimizer ready for its state."""
    try:
        model.compile_from_config(deserialize_keras_object(config, custom_objects))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"the compile arguments cannot be restored; pass `compile=False`. {error}") from error


def _load_assets(archive: zipfile.ZipFile, model, folder: str):
    for place, owner in structure.saveables(model):
        prefix = f"{ASSETS}/{place}/" if place else f"{ASSETS}/"
        # Files of the place itself, not of what lies below it.
        names = [n for n in archive.namelist() if n.startswith(prefix) and "/" not in n[len(prefix) :] and n != prefix]
        if hasattr(owner, "load_assets") and names:
            for name in names:
                archive.extract(name, folder)
            owner.load_assets(os.path.join(folder, prefix))


@contextlib.contextmanager
def naming(path: str, hidden: str = "") -> Iterator[None]:
    """Makes every error of reading a file a `ValueError` that names it."""
    try:
        yield
    except RecursionError:
        raise ValueError(f"load_model: {path!r}: the config is nested too deep.") from None
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, MemoryError) as error:
        message = str(error).replace(hidden, path) if hidden else str(error)
        message = message.removeprefix("load_model: ")
        prefix = "" if repr(path) in message else f"{path!r}: "
        raise ValueError(f"load_model: {prefix}{message or type(error).__name__}") from error


@contextlib.contextmanager
def opening(path: str, who: str) -> Iterator[zipfile.ZipFile]:
    """A zip file whose members have been checked.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no zip file, or a member is a link, encrypted, there twice, leaves its folder or is far
            larger than it is in the file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{who}: there is no file {path!r}.")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), path, who)
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
        raise ValueError(f"{who}: {path!r} is damaged, or no zip file: {error}") from None


def _check_members(members: list[zipfile.ZipInfo], path: str, who: str):
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
    unpacked, there = sum(member.file_size for member in members), os.path.getsize(path)
    if unpacked > 4 * there + 2**24:
        raise ValueError(f"{who}: {path!r} would grow from {there} to {unpacked} bytes; nothing was read.")


def read_json(archive: zipfile.ZipFile, name: str, path: str) -> dict:
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
