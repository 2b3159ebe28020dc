"""Keras itself beside an aliased kerax, to compare the two in one process."""

import builtins
import contextlib
import importlib
import importlib.machinery
import sys
import threading
import types
from collections.abc import Iterator

_modules: dict[str, types.ModuleType] = {}  # those of Keras itself, by name
_lock = threading.RLock()


def real() -> types.ModuleType:
    """Keras itself, on its JAX backend: `import keras` as it would be without `as_keras`.

    ```python
    keras = kerax.as_keras.real()
    ```

    Raises:
        ModuleNotFoundError: if Keras is not installed.
    """
    with _as_itself():
        try:
            return importlib.import_module("keras")
        except ModuleNotFoundError as error:
            if error.name != "keras":
                raise
            raise ModuleNotFoundError(
                "kerax.as_keras.real: Keras itself is not installed, only kerax: pip install keras", name="keras"
            ) from None


def _is_of_keras(name: str) -> bool:
    return name == "keras" or name.startswith("keras.")


def _take() -> dict[str, types.ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if _is_of_keras(name)}


@contextlib.contextmanager
def _as_itself() -> Iterator[None]:
    """Within a `with` block the name `keras` means Keras itself."""
    from kerax.as_keras.aliases import Aliases

    with _lock:
        aliases = [finder for finder in sys.meta_path if isinstance(finder, Aliases)]
        if not aliases:  # nobody has taken the name
            yield
            return
        lent = _take()
        sys.modules.update(_modules)
        places = [(sys.meta_path.index(finder), finder) for finder in aliases]
        for finder in aliases:
            sys.meta_path.remove(finder)
        watcher = _Itself()
        sys.meta_path.insert(0, watcher)
        try:
            yield
        finally:
            sys.meta_path.remove(watcher)
            for place, finder in places:
                sys.meta_path.insert(place, finder)
            _modules.update(_take())
            sys.modules.update(lent)


class _Itself:
    """Loads Keras's modules so that what they import later, in their functions, is Keras too."""

    def find_spec(self, name: str, path=None, target=None):
        """The ordinary spec, with a loader that looks after imports."""
        if not _is_of_keras(name):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        # Python takes the builtins of a module's functions, `__import__` among them, from its globals.
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": _import}
        super().exec_module(module)


def _import(name: str, globals=None, locals=None, fromlist=(), level=0):
    if level or _is_of_keras(name):
        with _as_itself():
            return builtins.__import__(name, globals, locals, fromlist, level)
    return builtins.__import__(name, globals, locals, fromlist, level)
