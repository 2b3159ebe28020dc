"""kerax: the Keras way of working on nothing but JAX.

Submodules and classes are loaded on first use, so that `import kerax` costs little more than `import jax`.
"""

import importlib

from kerax import lazy as _lazy
from kerax.core.loading import loaders as _loaders

# At once: the module `kerax.version`, once imported, would stand in the way of the function of that name.
from kerax.version import __version__ as __version__
from kerax.version import version as version

__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)


def load_families(family: str | None = None):
    """Loads every module whose classes and functions files may name, or those of one family, so that they are found."""
    # The two applications have layers of their own, and language models are made of classes of their own.
    own = ("applications.convnext", "applications.inception_resnet_v2", "language.models")
    for name in ("layers", "models", "losses", "metrics", "optimizers", *own) if family is None else (family,):
        importlib.import_module(f"kerax.{name}")


# `core` may not import what lies above it: it asks for names that a file holds through this list.
_loaders.append(load_families)
