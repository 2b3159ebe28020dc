"""The modules that `import keras...` finds: kerax's own for public names, small ones of their own for `keras.src`."""

import functools
import importlib
import importlib.abc
import os
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import kerax
from kerax.as_keras import explaining
from kerax.saving.archive import KERAS_VERSION

# Where the public names are that Keras's modules of one area, or below one path, use or define, after the area's own
# module.
_ELSEWHERE = {
    "backend": ("ops", "config", "random", "saving", "tree"),
    "engine": ("models", "layers"),
    "trainers": ("models", "utils"),
    "models": ("layers",),
    "backend.image": ("ops.image",),
    "backend.linalg": ("ops.linalg",),
    "layers.preprocessing.image_preprocessing.bounding_boxes": ("utils.bounding_boxes",),
}
_EVERYWHERE = ("", "utils", "backend", "config", "saving", "layers", "models", "ops")


def settings_file() -> Path:
    """Where Keras keeps a user's settings."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"


def install() -> None:
    """Puts the finders into place and imports `keras`."""
    sys.meta_path.insert(0, Aliases())
    sys.meta_path.append(explaining.Explainer())  # the last: asked for what nobody has
    importlib.import_module("keras")
    importlib.import_module("kerax.as_keras.private.attributes").lend()


def is_installed() -> bool:
    """Whether `keras` is kerax in this process."""
    return any(isinstance(finder, Aliases) for finder in sys.meta_path)


@functools.cache
def keras_modules() -> dict[str, frozenset[str]]:
    """The modules of `keras.src`: by the dotted path of a package below it, what is in there."""
    lines = (Path(__file__).parent / "modules.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split(": ") for line in lines)
    return {path.strip("."): frozenset(names.split()) for path, names in pairs}


class Aliases(importlib.abc.Loader):
    """Finds `keras`, `keras.src` and `tensorflow.keras`, with what is below them."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        """The spec of a module that stands for one of Keras's, or `None`."""
        parts = name.split(".")
        if parts[:2] == ["tensorflow", "keras"]:
            parts = parts[1:]
        if parts[0] != "keras":
            return None
        parts = parts[1:]
        # Where TensorFlow looks for the modules of `tf.keras`, and where Keras 3 has copies of its public ones.
        if parts[:2] == ["_tf_keras", "keras"] or parts[:1] == ["api"]:
            parts = parts[1 + (parts[0] == "_tf_keras") :]
        module = self._module(parts)
        if module is None:
            return None
        spec = ModuleSpec(name, self, is_package=hasattr(module, "__path__"))
        spec.loader_state = module, getattr(module, "__spec__", None)
        return spec

    def _module(self, parts: list[str]) -> types.ModuleType | None:
        if not parts or parts == ["_tf_keras"]:
            return sys.modules.get("keras") or Keras()
        if parts[0] == "src":
            path = ".".join(parts[1:])
            return Source(path) if is_module_of_keras(path) else None
        return public_module(".".join(parts))

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """The module itself, which may have another name."""
        return spec.loader_state[0]

    def exec_module(self, module: types.ModuleType) -> None:
        """Gives a module of kerax its own spec back, in whose place Python has put that of the alias."""
        spec = module.__spec__
        own = spec.loader_state[1] if spec is not None else None
        if own is not None:
            module.__spec__ = own


def is_module_of_keras(path: str) -> bool:
    """Whether Keras has a module `keras.src.<path>`."""
    package, _, name = path.rpartition(".")
    return not path or name in keras_modules().get(package, ())


def public_module(path: str) -> types.ModuleType | None:
    """The module of kerax that has a public path of Keras's, or `None`."""
    found: Any = kerax
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            return None
    return found if isinstance(found, types.ModuleType) else None


class Keras(types.ModuleType):
    """`keras`: kerax under Keras's version."""

    def __init__(self):
        super().__init__("keras", kerax.__doc__)
        self.__path__ = []
        self.__version__ = KERAS_VERSION
        self.__all__ = [name for name in dir(kerax) if not name.startswith("_") and name != "as_keras"]
        self.version = lambda: KERAS_VERSION

    def __getattr__(self, name: str) -> Any:
        if name == "src":
            return importlib.import_module("keras.src")
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            value = getattr(kerax, name)
        except AttributeError as error:
            raise AttributeError(explaining.missing(f"keras.{name}") or str(error)) from None
        setattr(self, name, value)
        return value

    def __dir__(self):
        return sorted({*super().__dir__(), *dir(kerax)})


class Source(types.ModuleType):
    """A module below `keras.src`: kerax's public names, and those of Keras's private ones that `private` has."""

    def __init__(self, path: str):
        super().__init__(f"keras.src.{path}" if path else "keras.src")
        self.__path__ = []
        if path == "version":
            self.__version__ = KERAS_VERSION
        self._path = path

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return [name for name in dir(self) if not name.startswith("_")]
        if name.startswith("__"):
            raise AttributeError(name)
        path = f"{self._path}.{name}".lstrip(".")
        value = find(path)
        if value is _NOTHING:
            raise AttributeError(explaining.missing(f"keras.src.{path}"))
        setattr(self, name, value)
        return value

    def __dir__(self):
        return sorted({name for home in _homes(self._path) for name in _names(home)})


_NOTHING = object()


def _names(home: types.ModuleType) -> list[str]:
    return [name for name in getattr(home, "__all__", dir(home)) if not name.startswith("_")]


def _homes(path: str) -> list[types.ModuleType]:
    """What the modules of an area have: the private names of the area, and the public module of the longest path."""
    area = path.split(".")[0]
    homes = [_private(area)]
    parts = path.split(".") if path else []
    for count in range(len(parts), 0, -1):
        public = public_module(".".join(parts[:count]))
        if public is not None:
            homes.append(public)
            break
    for count in range(len(parts), 0, -1):
        homes += [public_module(name) for name in _ELSEWHERE.get(".".join(parts[:count]), ())]
    return [home for home in homes if home is not None]


def _private(area: str) -> types.ModuleType | None:
    if not area or not (Path(__file__).parent / "private" / f"{area}.py").exists():
        return None
    return importlib.import_module(f"kerax.as_keras.private.{area}")


def find(path: str) -> Any:
    """The object that `keras.src.<path>` is in Keras: a module, a private name that kerax lends, or a public one."""
    module, _, name = path.rpartition(".")
    if is_module_of_keras(path) and not (module and hasattr(_private(path.split(".")[0]), name)):
        return importlib.import_module(f"keras.src.{path}")
    everywhere = [getattr(kerax, home) if home else kerax for home in _EVERYWHERE]
    for home in [*_homes(module), *everywhere]:
        value = getattr(home, name, _NOTHING)
        if value is not _NOTHING and not (home is kerax and isinstance(value, types.ModuleType)):
            return value
    return _NOTHING
