"""VGG with 19 layers."""

from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor
from kerax.applications.vgg import vgg

preprocess_input = preprocessor("caffe", __name__)

VGG19 = vgg(19)
