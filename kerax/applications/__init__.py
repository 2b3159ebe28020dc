"""Image classifiers, with weights trained on ImageNet: `kerax.applications.ResNet50(weights="imagenet")`.

A model, and the module of its family with `preprocess_input` and `decode_predictions`, is loaded on first use.
"""

import importlib

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


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    from kerax.errors import suggest  # imports jax, which listing the names need not

    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{suggest(name, __all__)}")


def __dir__():
    return __all__
