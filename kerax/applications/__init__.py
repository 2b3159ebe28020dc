"""Image classifiers, with weights trained on ImageNet: `kerax.applications.ResNet50(weights="imagenet")`.

A model, and the module of its family with `preprocess_input` and `decode_predictions`, is loaded on first use.
"""

from kerax import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
