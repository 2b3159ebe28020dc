"""Which models are served under which names and versions, and where they are read from."""

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerax import checkpoint, saving
from kerax.cli.preprocessing import find_preprocessing, preceded
from kerax.cli.run_folder import CONFIG
from kerax.cli.testing import find_checkpoint
from kerax.core.layer import Layer
from kerax.errors import suggest
from kerax.places import local_path
from kerax.saving import hub
from kerax.serve.labels import gives_classes, read_labels
from kerax.serve.language import LanguageModel, is_language_model, open_language_model
from kerax.serve.lengths import Lengths
from kerax.serve.models import KeraxModel, OnnxModel, Runnable
from kerax.serve.tensors import RequestError

logger = logging.getLogger("kerax.serve")
LABELS = "labels.txt"
Sources = dict[str, dict[str | None, Any]]
"""By name and version what to serve, a path or a model; the version is `None` where the path says."""

Files = dict[str, tuple[int, int]]
"""By path when a file was changed, in nanoseconds, and its size."""


class Entry:
    """A version of a model.

    Args:
        name, version: What requests call it.
        model: What computes it.
        labels: Names of its classes, if they are known.
        scale: Factor on the pixels of pictures, 0 to 255.
        lengths: How rows of any length are filled up.
        has_classes: Whether its first output is likely to hold scores of classes.

    Attributes:
        is_ready: Whether all its programs are compiled.
        num_programs: How many there are; the server counts those that were compiled later.
        error: Why it will never be ready, if so.
    """

    def __init__(
        self,
        name: str,
        version: str,
        model: Runnable,
        labels: list[str] | None,
        scale: float,
        lengths: Lengths,
        has_classes: bool,
    ):
        self.name, self.version, self.model, self.labels, self.scale = name, version, model, labels, scale
        self.lengths, self.has_classes = lengths, has_classes
        self.platform, self.inputs, self.outputs = model.platform, model.inputs, model.outputs
        # For the batcher, whose queue knows who a row is for by this object.
        self.sizes, self.run = model.sizes, model.run
        self.is_ready, self.num_programs = False, 0
        self.error: str | None = None

    @property
    def mixes_rows(self) -> bool:
        """Whether a row's outputs depend on the other rows of its batch."""
        return self.model.mixes_rows

    def prepare(self):
        """Compiles what requests will need. Raises whatever the model does; that is kept as `error`."""
        try:
            self.model.prepare(self.lengths.known)
            self.lengths.check(self.model.run, self.sizes[len(self.sizes) // 2])
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
            raise
        self.is_ready, self.num_programs = True, self.model.num_programs

    def close(self):
        """Has the model answer what it was asked; requests may not find it any more."""
        self.model.close()


class Repository:
    """The models of a server.

    Args:
        sources: What is served.
        max_batch: Rows that are computed at once at most.
        labels: Names of classes for the models that have none beside them: a list, the path of a file, or one of
            these for each name.
        scale: Factor on the pixels of uploaded pictures, for all or by name. Default: 1/255 for a run whose config
            scales its inputs, else 1: most models have a `Rescaling` of their own.
        lengths, pad_value: As for `Server`, for all or by name.
        as_language: Options of language models: `dtype`, `quantization`, and those of their `engine`.

    Raises:
        ValueError: for what cannot be read or served.
    """

    def __init__(
        self,
        sources: Sources,
        max_batch: int,
        labels: Any = None,
        scale: Any = None,
        lengths: Any = None,
        pad_value: Any = None,
        as_language: dict[str, Any] | None = None,
    ):
        self._as_language = as_language or {}
        self._sources, self._max_batch, self._loading = sources, max_batch, threading.Lock()
        self._options = {"labels": labels, "scale": scale, "lengths": lengths, "pad_value": pad_value}
        for what, given in self._options.items():
            for name in given if isinstance(given, dict) else ():
                if name not in sources:
                    raise ValueError(f"{what}: there is no model {name!r}.{suggest(name, sources)}")
        self._read_files: dict[str, Files] = {}
        self._entries = {name: self._read(name) for name in sources}

    @property
    def names(self) -> list[str]:
        """The models' names, in the order they were given."""
        return list(self._entries)

    def entries(self) -> list[Entry]:
        """All versions of all models."""
        return [entry for versions in self._entries.values() for entry in versions.values()]

    def versions(self, name: str) -> dict[str, Entry]:
        """The versions of a model, the oldest first. Raises `RequestError` (404)."""
        if name not in self._entries:
            known = f"There is {', '.join(self._entries)}."
            raise RequestError(404, f"there is no model {name!r}. {known}{suggest(name, self._entries)}")
        return self._entries[name]

    def find(self, name: str, version: str | None = None) -> Entry:
        """A version of a model, by default the latest. Raises `RequestError` (404)."""
        versions = self.versions(name)
        if version is None:
            return versions[next(reversed(versions))]
        if version not in versions:
            raise RequestError(404, f"model {name!r} has no version {version!r}. There is {', '.join(versions)}.")
        return versions[version]

    def prepare(self):
        """Makes everything ready. What cannot be is told in the log, and stays not ready."""
        for entry in self.entries():
            try:
                entry.prepare()
            except Exception:
                logger.exception("model %r, version %s, cannot be served", entry.name, entry.version)

    def load(self, name: str):
        """Reads a model anew, with the versions that are there now, and serves it once it is ready.

        Until then, and if anything goes wrong, the old one answers.

        Raises:
            RequestError: for an unknown name (404), or what cannot be read or served (400).
        """
        self.versions(name)
        with self._loading:
            try:
                versions = self._read(name)
                for entry in versions.values():
                    entry.prepare()
            except Exception as error:
                raise RequestError(400, f"{name!r} was not loaded anew: {error}") from error
            before, self._entries[name] = self._entries[name], versions  # a request sees the old ones or the new ones
        for entry in before.values():  # which may take as long as an answer
            threading.Thread(target=entry.close, name="kerax serve closing", daemon=True).start()

    def close(self):
        """Has all models answer what they were asked."""
        for entry in self.entries():
            entry.close()

    def new_files(self, name: str) -> Files:
        """The files of a model's versions; `{}` if they are those that were read last, or cannot be found."""
        try:
            found = self._files(name)
        except (OSError, ValueError):  # as of a folder whose file is being replaced
            return {}
        return {} if found == self._read_files[name] else found

    def _files(self, name: str) -> Files:
        places = [
            place
            for version, source in self._sources[name].items()
            for place in _versions_at(source, version).values()
            if not _is_model(place) and not hub.is_address(place)
        ]
        files: list[Path] = []
        for place in places:
            path = Path(_model_in(place))
            files += [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        known = [(file, file.stat()) for file in files]
        return {str(file): (stat.st_mtime_ns, stat.st_size) for file, stat in known}

    def _read(self, name: str) -> dict[str, Entry]:
        self._read_files[name] = self._files(name)  # before they are read: what changes meanwhile is read again
        found: dict[str, Entry] = {}
        for version, source in self._sources[name].items():
            for number, place in _versions_at(source, version).items():
                found[number] = self._open(name, number, place)
        return dict(sorted(found.items(), key=lambda item: (len(item[0]), item[0])))

    def _open(self, name: str, version: str, place: Any) -> Entry:
        labels, scale, lengths, pad_value = (
            given.get(name) if isinstance(given, dict) else given for given in self._options.values()
        )
        names = read_labels(labels) if isinstance(labels, str) else labels
        read, metadata = None, {}
        if isinstance(place, LanguageModel):
            model: Runnable = place
        elif isinstance(place, Layer):
            read, model = place, KeraxModel(place, self._max_batch)
        elif is_language_model(place):
            model = open_language_model(place, **self._as_language)
        else:
            path = _model_in(place)
            if path.endswith(".onnx"):
                model = OnnxModel(path, self._max_batch)
            else:
                if Path(path).is_dir():
                    metadata = checkpoint.restore_metadata(path)
                read = _load(path)
                model = KeraxModel(preceded(read, find_preprocessing(path)), self._max_batch)
            beside = Path(place) / LABELS
            if names is None:
                names = read_labels(str(beside)) if beside.is_file() else metadata.get("class_names")
            if scale is None and "scale" in ((metadata.get("config") or {}).get("data") or {}):
                scale = 1 / 255
        try:
            filled = Lengths(lengths, pad_value, model.inputs, model.outputs)
        except ValueError as error:
            raise ValueError(f"serve: {name!r}: {error}") from None
        loss = getattr(getattr(read, "kerax_compilation", None), "arguments", {}).get("loss")
        has_classes = names is not None or gives_classes(read, loss, model.outputs)
        return Entry(name, version, model, names, 1 if scale is None else scale, filled, has_classes)


def _load(path: str) -> Any:
    try:
        return saving.load_model(path)
    except (TypeError, ValueError):  # with a loss or metric that is not known here, and not needed
        return saving.load_model(path, compile=False)


def parse_sources(models: Any) -> Sources:
    """What is served, from what users write.

    Args:
        models: Paths, as `"digits.keras"`, `"digits=runs/digits"` or `"digits:2=new.keras"`; or a mapping from names
            to paths or models, or to mappings from versions to these.

    Raises:
        ValueError: if two models have one name and version, or a name cannot be part of an address.
        TypeError: for anything else than paths and models.
    """
    if isinstance(models, Mapping):
        pairs = [
            (str(name), None if version is None else str(version), source)
            for name, given in models.items()
            for version, source in (given.items() if isinstance(given, Mapping) else [(None, given)])
        ]
    elif isinstance(models, Layer):
        pairs = [(models.name, None, models)]
    elif isinstance(models, LanguageModel):
        pairs = [("model", None, models)]
    else:
        words = [models] if isinstance(models, (str, Path)) else models
        if not isinstance(words, Sequence):
            raise TypeError(f"serve: expected paths or models by name. Got {models!r}.")
        pairs = [_parse_word(str(word)) for word in words]
    sources: Sources = {}
    for name, version, source in pairs:
        if not name or not all(character.isalnum() or character in "._-" for character in name):
            raise ValueError(
                f"serve: a model's name has letters, digits, '.', '_' and '-'. Got {name!r}. Give NAME=PATH."
            )
        if version is not None and not version.isdecimal():
            raise ValueError(f"serve: a version is a whole number. Got {version!r} for {name!r}.")
        if not _is_model(source) and not hub.is_address(source):
            source = local_path(source, "serve")
        if version in sources.setdefault(name, {}):
            raise ValueError(f"serve: {name!r} is given twice. Give NAME=PATH or NAME:VERSION=PATH.")
        sources[name][version] = source
    if not sources:
        raise ValueError("serve: expected one model or more.")
    return sources


def _is_model(source: Any) -> bool:
    return isinstance(source, (Layer, LanguageModel))


def _parse_word(word: str) -> tuple[str, str | None, str]:
    name, is_named, path = word.partition("=")
    if not is_named:
        path = word
        stem = Path(word).name if Path(word).is_dir() or hub.is_address(word) else Path(word).stem
        return stem or Path(word).resolve().name, None, path
    name, has_version, version = name.partition(":")
    return name, version if has_version else None, path


def _versions_at(source: Any, version: str | None) -> dict[str, Any]:
    """The versions at a path: its subfolders with whole numbers as names, or the one model that it is."""
    if version is None and not _is_model(source) and Path(source).is_dir():
        folders = {path.name: str(path) for path in Path(source).iterdir() if path.is_dir() and path.name.isdecimal()}
        # The steps of a checkpoint are numbers too.
        if folders and not any((Path(path) / "_CHECKPOINT_METADATA").exists() for path in folders.values()):
            return folders
    return {version or "1": source}


def _model_in(path: str) -> str:
    """The file or checkpoint to read: the path itself, the checkpoint of a run, or the one model in a folder."""
    folder = Path(path)
    if is_language_model(path):
        return path
    if not folder.exists():
        raise ValueError(f"serve: there is no {path!r}. Expected a model, a checkpoint, or the folder of a run.")
    if not folder.is_dir():
        if not path.endswith((".keras", ".onnx", ".h5", ".hdf5")):
            raise ValueError(f"serve: {path!r} is no model. Expected a file that ends in .keras or .onnx, or a folder.")
        return path
    if (folder / "saved_model.pb").is_file():
        raise ValueError(f"serve: {path!r} is a SavedModel, which TensorFlow Serving serves. Give the .keras file.")
    found = [str(file) for file in sorted(folder.iterdir()) if file.suffix in (".keras", ".onnx")]
    if len(found) == 1 and not (folder / CONFIG).is_file():
        return found[0]
    return find_checkpoint(path)
