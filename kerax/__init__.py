"""kerax: the Keras way of working on nothing but JAX.

Submodules and classes are loaded on first use, so that `import kerax` costs little more than `import jax`.
"""

import importlib

from kerax.version import __version__ as __version__

_MODULES = (
    "activations",
    "applications",
    "callbacks",
    "checkpoint",
    "config",
    "constraints",
    "datasets",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "quantizers",
    "random",
    "regularizers",
    "saving",
    "tree",
    "utils",
)
_NAMES = {
    "DTypePolicy": "dtype_policies",
    "FloatDTypePolicy": "dtype_policies",
    "Initializer": "initializers",
    "Input": "layers",
    "InputSpec": "layers",
    "KerasTensor": "core.symbolic",
    "Layer": "layers",
    "Loss": "losses",
    "Metric": "metrics",
    "Model": "models",
    "Optimizer": "optimizers",
    "Regularizer": "regularizers",
    "RematScope": "core.remat",
    "Sequential": "models",
    "TrainState": "train.state",
    "Variable": "core.variable",
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


def load_families():
    """Loads every module whose classes and functions files may name, so that they are found."""
    own_layers = ("applications.convnext", "applications.inception_resnet_v2")
    for name in ("layers", "models", "losses", "metrics", "optimizers", *own_layers):
        importlib.import_module(f"kerax.{name}")


def __dir__():
    return sorted({*globals(), *_MODULES, *_NAMES})
