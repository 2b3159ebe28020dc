# What `kerax.datasets` hands out on first use: the one list of it, see `kerax/lazy.py`.

from . import abalone as abalone
from . import boston_housing as boston_housing
from . import california_housing as california_housing
from . import census_income as census_income
from . import cifar10 as cifar10
from . import cifar100 as cifar100
from . import daily_temperatures as daily_temperatures
from . import digits as digits
from . import fashion_mnist as fashion_mnist
from . import imdb as imdb
from . import mnist as mnist
from . import mnist_10k as mnist_10k
from . import reuters as reuters
from . import shakespeare as shakespeare
from . import shakespeare_plays as shakespeare_plays

__all__: list[str]
