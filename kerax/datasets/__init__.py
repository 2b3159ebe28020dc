"""Small datasets that come with the package: `kerax.datasets.digits.load_data()`."""

import importlib

__all__ = ["digits"]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}. It has: {', '.join(__all__)}.")


def __dir__():
    return __all__
