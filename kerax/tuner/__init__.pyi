# What `kerax.tuner` hands out on first use: the one list of it, see `kerax/lazy.py`.

from .hypermodel import HyperModel as HyperModel
from .hypermodel import Objective as Objective
from .hyperparameters import HyperParameters as HyperParameters
from .trials import Trial as Trial
from .tuner import Tuner as Tuner
from .tuners import BayesianOptimization as BayesianOptimization
from .tuners import GridSearch as GridSearch
from .tuners import Hyperband as Hyperband
from .tuners import RandomSearch as RandomSearch
