"""`ResNet50` under the name of its own that Keras has for it."""

from kerax.applications.resnet import ResNet50 as ResNet50
from kerax.applications.resnet import decode_predictions as decode_predictions
from kerax.applications.resnet import preprocess_input as preprocess_input
