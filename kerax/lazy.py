"""Packages whose names are loaded on first use. Their stubs, `__init__.pyi`, are the only lists of these names."""

import ast
import importlib
import sys
from collections.abc import Callable


def attach(package: str, file: str, *needs: str) -> tuple[Callable, Callable, list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package: the names that the stub beside `file` imports.

    Args:
        package: Name of the package.
        file: Path of its `__init__.py`.
        *needs: Of a package that needs others that may be missing: their names, what to call them, kerax's extra.
    """
    with open(f"{file}i", encoding="utf-8") as stub:
        imports = [node for node in ast.parse(stub.read()).body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: node.module for node in imports for alias in node.names}

    def __getattr__(name: str):
        if name not in homes:
            from kerax.errors import suggest  # of no use to a bare `import kerax`

            hint = suggest(name, homes) or f" It has: {', '.join(homes)}."
            text = f"module {package!r} has no attribute {name!r}.{hint}"
            raise AttributeError(text, name=name, obj=sys.modules[package])
        try:
            # `from . import name` is a module itself, which has no home.
            home = importlib.import_module(f"{package}.{homes[name] or name}")
        except ModuleNotFoundError as error:
            if not needs or (error.name or "").partition(".")[0] not in needs[0].split():
                raise
            raise ImportError(f"{name} needs {needs[1]}: pip install 'kerax[{needs[2]}]'") from None
        value = getattr(home, name) if homes[name] else home
        # Kept, so that the next use finds it without this function.
        vars(sys.modules[package])[name] = value
        return value

    return __getattr__, lambda: sorted({*vars(sys.modules[package]), *homes}), list(homes)


def users_object(module: str, name: str) -> object:
    """What has that name in a module of the user's, which is imported; `None` if it has nothing of that name.

    Keras's own names are kerax's here, and nobody's layers are in Python's library: of both, nothing is given.
    """
    if module.partition(".")[0] in {"keras", "kerax", "builtins", *sys.stdlib_module_names}:
        return None
    return getattr(importlib.import_module(module), name, None)
