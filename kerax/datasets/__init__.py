"""Small well-known data sets: `kerax.datasets.digits.load_data()` comes with the package, the others are downloaded
once, checked, and kept in `~/.kerax/datasets`, unless they lie in the folder that `$KERAX_DATASETS_DIR` names."""

import importlib

from kerax.errors import suggest

__all__ = [
    "abalone",
    "boston_housing",
    "california_housing",
    "census_income",
    "cifar10",
    "cifar100",
    "daily_temperatures",
    "digits",
    "fashion_mnist",
    "imdb",
    "mnist",
    "mnist_10k",
    "reuters",
    "shakespeare",
    "shakespeare_plays",
]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}.{suggest(name, __all__)} It has: {', '.join(__all__)}."
    )


def __dir__():
    return __all__
