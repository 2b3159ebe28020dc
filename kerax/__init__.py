"""kerax: the Keras way of working on nothing but JAX.

Submodules and classes are loaded on first use, so that `import kerax` costs little more than `import jax`.
"""

import importlib

from kerax.core.loading import loaders as _loaders
from kerax.version import __version__ as __version__
from kerax.version import version as version

_MODULES = (
    "activations",
    "applications",
    "backend",
    "callbacks",
    "checkpoint",
    "config",
    "constraints",
    "datasets",
    "distillation",
    "distribution",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "ops",
    "optimizers",
    "preprocessing",
    "quantizers",
    "random",
    "regularizers",
    "saving",
    "tree",
    "tuner",
    "utils",
    "visualization",
    "wrappers",
)
_NAMES = {
    "DTypePolicy": "dtype_policies",
    "FloatDTypePolicy": "dtype_policies",
    "Function": "core.operation",
    "Initializer": "initializers",
    "Input": "layers",
    "InputSpec": "layers",
    "KerasTensor": "core.symbolic",
    "Layer": "layers",
    "Loss": "losses",
    "Metric": "metrics",
    "Model": "models",
    "Operation": "core.operation",
    "Optimizer": "optimizers",
    "Quantizer": "quantizers",
    "Regularizer": "regularizers",
    "RematScope": "core.remat",
    "Sequential": "models",
    "StatelessScope": "core.stateless",
    "SymbolicScope": "core.stateless",
    "TrainState": "train.state",
    "Variable": "core.variable",
    "device": "core.stateless",
    "name_scope": "core.stateless",
    "remat": "core.remat",
}


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"kerax.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(f"kerax.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    from kerax.errors import suggest  # imports jax, which a bare `import kerax` should not have to wait for

    raise AttributeError(f"module 'kerax' has no attribute {name!r}.{suggest(name, [*_MODULES, *_NAMES])}")


def load_families(family: str | None = None):
    """Loads every module whose classes and functions files may name, or those of one family, so that they are found."""
    own_layers = ("applications.convnext", "applications.inception_resnet_v2")
    for name in ("layers", "models", "losses", "metrics", "optimizers", *own_layers) if family is None else (family,):
        importlib.import_module(f"kerax.{name}")


_loaders.append(load_families)


def __dir__():
    return sorted({*globals(), *_MODULES, *_NAMES})
