"""kerax: the Keras way of working on nothing but JAX.

Submodules and classes are loaded on first use, so that `import kerax` costs little more than `import jax`.
"""

import importlib
from typing import TYPE_CHECKING

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


if TYPE_CHECKING:  # what `__getattr__` hands out, for editors and type checkers
    from kerax import activations as activations
    from kerax import applications as applications
    from kerax import backend as backend
    from kerax import callbacks as callbacks
    from kerax import checkpoint as checkpoint
    from kerax import config as config
    from kerax import constraints as constraints
    from kerax import datasets as datasets
    from kerax import distillation as distillation
    from kerax import distribution as distribution
    from kerax import dtype_policies as dtype_policies
    from kerax import initializers as initializers
    from kerax import layers as layers
    from kerax import losses as losses
    from kerax import metrics as metrics
    from kerax import mixed_precision as mixed_precision
    from kerax import models as models
    from kerax import ops as ops
    from kerax import optimizers as optimizers
    from kerax import preprocessing as preprocessing
    from kerax import quantizers as quantizers
    from kerax import random as random
    from kerax import regularizers as regularizers
    from kerax import saving as saving
    from kerax import tree as tree
    from kerax import tuner as tuner
    from kerax import utils as utils
    from kerax import visualization as visualization
    from kerax import wrappers as wrappers
    from kerax.core.operation import Function as Function
    from kerax.core.operation import Operation as Operation
    from kerax.core.remat import RematScope as RematScope
    from kerax.core.remat import remat as remat
    from kerax.core.stateless import StatelessScope as StatelessScope
    from kerax.core.stateless import SymbolicScope as SymbolicScope
    from kerax.core.stateless import device as device
    from kerax.core.stateless import name_scope as name_scope
    from kerax.core.symbolic import KerasTensor as KerasTensor
    from kerax.core.variable import Variable as Variable
    from kerax.dtype_policies import DTypePolicy as DTypePolicy
    from kerax.dtype_policies import FloatDTypePolicy as FloatDTypePolicy
    from kerax.initializers import Initializer as Initializer
    from kerax.layers import Input as Input
    from kerax.layers import InputSpec as InputSpec
    from kerax.layers import Layer as Layer
    from kerax.losses import Loss as Loss
    from kerax.metrics import Metric as Metric
    from kerax.models import Model as Model
    from kerax.models import Sequential as Sequential
    from kerax.optimizers import Optimizer as Optimizer
    from kerax.quantizers import Quantizer as Quantizer
    from kerax.regularizers import Regularizer as Regularizer
    from kerax.train.state import TrainState as TrainState
else:

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
