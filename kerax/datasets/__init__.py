"""Small well-known data sets: `kerax.datasets.digits.load_data()` comes with the package, the others are downloaded
once, checked, and kept in `~/.kerax/datasets`, unless they lie in the folder that `$KERAX_DATASETS_DIR` names."""

from kerax import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
