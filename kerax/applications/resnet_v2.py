"""ResNet V2, whose blocks are in `resnet`."""

from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor
from kerax.applications.resnet import resnet

preprocess_input = preprocessor("tf", __name__)

ResNet50V2, ResNet101V2, ResNet152V2 = resnet(50, "V2"), resnet(101, "V2"), resnet(152, "V2")
