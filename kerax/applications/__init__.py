"""Image classifiers, with weights trained on ImageNet: `kerax.applications.ResNet50(weights="imagenet")`.

A model, and the module of its family with `preprocess_input` and `decode_predictions`, is loaded on first use.
"""

import importlib
from typing import TYPE_CHECKING

_MODELS = {
    "convnext": ("ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge"),
    "densenet": ("DenseNet121", "DenseNet169", "DenseNet201"),
    "efficientnet": tuple(f"EfficientNetB{index}" for index in range(8)),
    "efficientnet_v2": tuple(f"EfficientNetV2{variant}" for variant in ("B0", "B1", "B2", "B3", "L", "M", "S")),
    "inception_resnet_v2": ("InceptionResNetV2",),
    "inception_v3": ("InceptionV3",),
    "mobilenet": ("MobileNet",),
    "mobilenet_v2": ("MobileNetV2",),
    "mobilenet_v3": ("MobileNetV3Large", "MobileNetV3Small"),
    "nasnet": ("NASNetLarge", "NASNetMobile"),
    "resnet": ("ResNet50", "ResNet101", "ResNet152"),
    "resnet_v2": ("ResNet50V2", "ResNet101V2", "ResNet152V2"),
    "vgg16": ("VGG16",),
    "vgg19": ("VGG19",),
    "xception": ("Xception",),
}
_MODULES = ("imagenet_utils", "resnet50", *_MODELS)
_HOMES = {name: module for module, names in _MODELS.items() for name in names}

__all__ = [*_MODULES, *_HOMES]


if TYPE_CHECKING:
    from kerax.applications import convnext as convnext
    from kerax.applications import densenet as densenet
    from kerax.applications import efficientnet as efficientnet
    from kerax.applications import efficientnet_v2 as efficientnet_v2
    from kerax.applications import imagenet_utils as imagenet_utils
    from kerax.applications import inception_resnet_v2 as inception_resnet_v2
    from kerax.applications import inception_v3 as inception_v3
    from kerax.applications import mobilenet as mobilenet
    from kerax.applications import mobilenet_v2 as mobilenet_v2
    from kerax.applications import mobilenet_v3 as mobilenet_v3
    from kerax.applications import nasnet as nasnet
    from kerax.applications import resnet as resnet
    from kerax.applications import resnet50 as resnet50
    from kerax.applications import resnet_v2 as resnet_v2
    from kerax.applications import vgg16 as vgg16
    from kerax.applications import vgg19 as vgg19
    from kerax.applications import xception as xception
    from kerax.applications.convnext import ConvNeXtBase as ConvNeXtBase
    from kerax.applications.convnext import ConvNeXtLarge as ConvNeXtLarge
    from kerax.applications.convnext import ConvNeXtSmall as ConvNeXtSmall
    from kerax.applications.convnext import ConvNeXtTiny as ConvNeXtTiny
    from kerax.applications.convnext import ConvNeXtXLarge as ConvNeXtXLarge
    from kerax.applications.densenet import DenseNet121 as DenseNet121
    from kerax.applications.densenet import DenseNet169 as DenseNet169
    from kerax.applications.densenet import DenseNet201 as DenseNet201
    from kerax.applications.efficientnet import EfficientNetB0 as EfficientNetB0
    from kerax.applications.efficientnet import EfficientNetB1 as EfficientNetB1
    from kerax.applications.efficientnet import EfficientNetB2 as EfficientNetB2
    from kerax.applications.efficientnet import EfficientNetB3 as EfficientNetB3
    from kerax.applications.efficientnet import EfficientNetB4 as EfficientNetB4
    from kerax.applications.efficientnet import EfficientNetB5 as EfficientNetB5
    from kerax.applications.efficientnet import EfficientNetB6 as EfficientNetB6
    from kerax.applications.efficientnet import EfficientNetB7 as EfficientNetB7
    from kerax.applications.efficientnet_v2 import EfficientNetV2B0 as EfficientNetV2B0
    from kerax.applications.efficientnet_v2 import EfficientNetV2B1 as EfficientNetV2B1
    from kerax.applications.efficientnet_v2 import EfficientNetV2B2 as EfficientNetV2B2
    from kerax.applications.efficientnet_v2 import EfficientNetV2B3 as EfficientNetV2B3
    from kerax.applications.efficientnet_v2 import EfficientNetV2L as EfficientNetV2L
    from kerax.applications.efficientnet_v2 import EfficientNetV2M as EfficientNetV2M
    from kerax.applications.efficientnet_v2 import EfficientNetV2S as EfficientNetV2S
    from kerax.applications.inception_resnet_v2 import InceptionResNetV2 as InceptionResNetV2
    from kerax.applications.inception_v3 import InceptionV3 as InceptionV3
    from kerax.applications.mobilenet import MobileNet as MobileNet
    from kerax.applications.mobilenet_v2 import MobileNetV2 as MobileNetV2
    from kerax.applications.mobilenet_v3 import MobileNetV3Large as MobileNetV3Large
    from kerax.applications.mobilenet_v3 import MobileNetV3Small as MobileNetV3Small
    from kerax.applications.nasnet import NASNetLarge as NASNetLarge
    from kerax.applications.nasnet import NASNetMobile as NASNetMobile
    from kerax.applications.resnet import ResNet50 as ResNet50
    from kerax.applications.resnet import ResNet101 as ResNet101
    from kerax.applications.resnet import ResNet152 as ResNet152
    from kerax.applications.resnet_v2 import ResNet50V2 as ResNet50V2
    from kerax.applications.resnet_v2 import ResNet101V2 as ResNet101V2
    from kerax.applications.resnet_v2 import ResNet152V2 as ResNet152V2
    from kerax.applications.vgg16 import VGG16 as VGG16
    from kerax.applications.vgg19 import VGG19 as VGG19
    from kerax.applications.xception import Xception as Xception
else:

    def __getattr__(name):
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name in _HOMES:
            return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        from kerax.errors import suggest  # imports jax, which listing the names need not

        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{suggest(name, __all__)}")


def __dir__():
    return __all__
