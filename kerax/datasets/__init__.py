"""Small well-known data sets: `kerax.datasets.digits.load_data()` comes with the package, the others are downloaded
once, checked, and kept in `~/.kerax/datasets`, unless they lie in the folder that `$KERAX_DATASETS_DIR` names."""

import importlib
from typing import TYPE_CHECKING

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


if TYPE_CHECKING:
    from kerax.datasets import abalone as abalone
    from kerax.datasets import boston_housing as boston_housing
    from kerax.datasets import california_housing as california_housing
    from kerax.datasets import census_income as census_income
    from kerax.datasets import cifar10 as cifar10
    from kerax.datasets import cifar100 as cifar100
    from kerax.datasets import daily_temperatures as daily_temperatures
    from kerax.datasets import digits as digits
    from kerax.datasets import fashion_mnist as fashion_mnist
    from kerax.datasets import imdb as imdb
    from kerax.datasets import mnist as mnist
    from kerax.datasets import mnist_10k as mnist_10k
    from kerax.datasets import reuters as reuters
    from kerax.datasets import shakespeare as shakespeare
    from kerax.datasets import shakespeare_plays as shakespeare_plays
else:

    def __getattr__(name):
        if name in __all__:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}.{suggest(name, __all__)} It has: {', '.join(__all__)}."
        )


def __dir__():
    return __all__
