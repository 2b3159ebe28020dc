"""Export of models to the files of other runtimes."""

from kerax import lazy as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
