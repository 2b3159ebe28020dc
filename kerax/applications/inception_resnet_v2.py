"""Inception-ResNet V2."""

import functools

from kerax.applications.building import Net, standard
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor
from kerax.applications.inception_v3 import branch, stem
from kerax.core.layer import Layer

preprocess_input = preprocessor("tf", __name__)

# Branches as in `inception_v3`. Of the residual blocks: name, branches, scale, number.
_MIXED_5B = [[(96, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)], ["mean", (64, 1)]]
_MIXED_6A = [[(384, 3, 2)], [(256, 1), (256, 3), (384, 3, 2)], ["max"]]
_MIXED_7A = [[(256, 1), (384, 3, 2)], [(256, 1), (288, 3, 2)], [(256, 1), (288, 3), (320, 3, 2)], ["max"]]
_BLOCK_35 = [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)]]
_BLOCK_17 = [[(192, 1)], [(128, 1), (160, (1, 7)), (192, (7, 1))]]
_BLOCK_8 = [[(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))]]
_STAGES = (
    ("mixed_5b", _MIXED_5B, "block35", _BLOCK_35, 0.17, 10),
    ("mixed_6a", _MIXED_6A, "block17", _BLOCK_17, 0.1, 20),
    ("mixed_7a", _MIXED_7A, "block8", _BLOCK_8, 0.2, 10),
)


class CustomScaleLayer(Layer):
    """`inputs[0] + scale * inputs[1]`."""

    keras_module = "keras.src.applications.inception_resnet_v2"

    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs):
        return inputs[0] + inputs[1] * self.scale


def _residual(net: Net, x, branches, scale: float, name: str, is_last: bool):
    mixed = net.concat([branch(net, x, steps) for steps in branches], f"{name}_mixed")
    change = net.conv(mixed, net.channels(x), 1, f"{name}_conv", padding="same", use_bias=True)
    # Scaled down, for residuals of full size made the training of such wide blocks diverge; the last has no ReLU.
    x = net(CustomScaleLayer(1.0 if is_last else scale), [x, change])
    return x if is_last else net.act(x, "relu", f"{name}_ac")


def _body(net: Net, x, _options):
    x = stem(net, x)
    for name, mixed, kind, residual, scale, number in _STAGES:
        x = net.concat([branch(net, x, steps) for steps in mixed], name)
        for index in range(1, number + 1):
            is_last = kind == "block8" and index == number
            x = _residual(net, x, residual, scale, f"{kind}_{index}", is_last)
    x = net.norm(net.conv(x, 1536, 1, "conv_7b", padding="same"), "conv_7b_bn")
    return net.act(x, "relu", "conv_7b_ac")


InceptionResNetV2 = standard(
    "InceptionResNetV2",
    _body,
    paper="Szegedy et al. 2016, https://arxiv.org/abs/1602.07261",
    name="inception_resnet_v2",
    default_size=299,
    min_size=75,
    key=("inception_resnet_v2", "inception_resnet_v2"),
    net=functools.partial(Net, conv={"use_bias": False}, norm={"scale": False}),
)
