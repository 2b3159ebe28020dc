"""Loads the modules whose classes and functions are asked for by name. Which these are, the floors above say here."""

from collections.abc import Callable

loaders: list[Callable[[str | None], object]] = []
"""Functions of a family's name, or `None` for all families, that import the modules which fill it."""


def load(family: str | None = None) -> None:
    """Has the modules of a family, or of all, imported."""
    for loader in loaders:
        loader(family)
