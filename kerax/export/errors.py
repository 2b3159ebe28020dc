"""What goes wrong while exporting, and what may be missing."""

import importlib
from typing import Any


class ExportError(ValueError):
    """What a model computes cannot be written in a format, or the file does not compute it."""


def package(name: str) -> Any:
    """A module of a package that is not among those that every installation has."""
    return importlib.import_module(name)
