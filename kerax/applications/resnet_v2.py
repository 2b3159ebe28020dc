"""ResNet V2, whose blocks are in `resnet`."""

from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor
from kerax.applications.resnet import resnet_v2

preprocess_input = preprocessor("tf", __name__)

ResNet50V2, ResNet101V2, ResNet152V2 = resnet_v2(50), resnet_v2(101), resnet_v2(152)
