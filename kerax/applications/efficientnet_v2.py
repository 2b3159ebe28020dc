"""EfficientNet V2: B0 to B3, S, M and L."""

import functools
import math
from typing import Any

from kerax import layers
from kerax.applications import building
from kerax.applications.building import Net, Options
from kerax.applications.efficientnet import CONV_INITIALIZER, DROP_CONNECT, close, convolve, make_top, squeeze
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor

preprocess_input = preprocessor(None, __name__)

# Blocks, filters, expansion, stride of the first block. The first three stages have one convolution in the place of
# expansion and depthwise convolution.
_B = ((1, 16, 1, 1), (2, 32, 4, 2), (2, 48, 4, 2), (3, 96, 4, 2), (5, 112, 6, 1), (8, 192, 6, 2))
_STAGES = {
    "S": ((2, 24, 1, 1), (4, 48, 4, 2), (4, 64, 4, 2), (6, 128, 4, 2), (9, 160, 6, 1), (15, 256, 6, 2)),
    "M": (
        *((3, 24, 1, 1), (5, 48, 4, 2), (5, 80, 4, 2), (7, 160, 4, 2)),
        *((14, 176, 6, 1), (18, 304, 6, 2), (5, 512, 6, 1)),
    ),
    "L": (
        *((4, 32, 1, 1), (7, 64, 4, 2), (7, 96, 4, 2), (10, 192, 4, 2)),
        *((19, 224, 6, 1), (25, 384, 6, 2), (7, 640, 6, 1)),
    ),
}
# Factors of width and depth, size of the images, filters of the stem.
_VARIANTS = {
    "B0": (1.0, 1.0, 224, 32),
    "B1": (1.0, 1.1, 240, 32),
    "B2": (1.1, 1.2, 260, 32),
    "B3": (1.2, 1.4, 300, 32),
    "S": (1.0, 1.0, 384, 24),
    "M": (1.0, 1.0, 480, 24),
    "L": (1.0, 1.0, 480, 32),
}
_net = functools.partial(
    Net,
    conv={"use_bias": False, "padding": "same", "kernel_initializer": CONV_INITIALIZER},
    norm={"momentum": 0.9},
)


def _round(filters: float) -> int:
    """The multiple of 8 nearest to `filters`, at least 8."""
    # Not `divisible`, which never goes more than a tenth below `filters`: the second version has no such bound.
    return max(8, int(filters + 4) // 8 * 8)


def _scale(net: Net, x, variant: str):
    """Pixels as the variant was trained on them."""
    if variant[0] == "B" and net.channels(x) == 3:
        x = net(layers.Rescaling(1 / 255), x)
        variance = [0.229**2, 0.224**2, 0.225**2]
        return net(layers.Normalization(mean=[0.485, 0.456, 0.406], variance=variance, axis=net.axis), x)
    return net(layers.Rescaling(1 / 128, -1), x)


def _fused(net: Net, x, filters, expansion, stride, drop_rate, name: str):
    shortcut = x
    if expansion == 1:
        # Without expansion there is nothing to project: the one convolution bears the projection's name.
        x = convolve(net, x, filters, 3, f"{name}project", strides=stride)
    else:
        x = convolve(net, x, net.channels(x) * expansion, 3, f"{name}expand", strides=stride)
        x = net.norm(net.conv(x, filters, 1, f"{name}project_conv"), f"{name}project_bn")
    return close(net, x, shortcut, stride, drop_rate, name)


def _block(net: Net, x, filters, expansion, stride, drop_rate, name: str):
    shortcut, narrow = x, net.channels(x)
    x = convolve(net, x, narrow * expansion, 1, f"{name}expand")
    layer = layers.DepthwiseConv2D(
        3, stride, "same", use_bias=False, depthwise_initializer=CONV_INITIALIZER, name=f"{name}dwconv2"
    )
    x = net.act(net.norm(net(layer, x), f"{name}bn"), "swish", f"{name}activation")
    # By the width before the expansion, which is that of the block.
    x = squeeze(net, x, max(1, narrow // 4), name)
    x = net.norm(net.conv(x, filters, 1, f"{name}project_conv"), f"{name}project_bn")
    return close(net, x, shortcut, stride, drop_rate, name)


def _body(variant: str, net: Net, x, options: Options):
    width, depth, _, stem = _VARIANTS[variant]
    stages = _STAGES.get(variant, _B)
    if options.extra:
        x = _scale(net, x, variant)
    x = convolve(net, x, _round(stem * width), 3, "stem", strides=2)
    total = sum(blocks for blocks, *_ in stages)  # before the factor of depth, as the weights were trained
    count = 0
    for stage, (blocks, filters, expansion, stride) in enumerate(stages, 1):
        make = _fused if stage <= 3 else _block
        for block in range(math.ceil(depth * blocks)):
            drop_rate, name = DROP_CONNECT * count / total, f"block{stage}{chr(ord('a') + block)}_"
            x = make(net, x, _round(filters * width), expansion, 1 if block else stride, drop_rate, name)
            count += 1
    return convolve(net, x, _round(1280 * width), 1, "top")


def _efficientnet_v2(variant: str):
    size, key = _VARIANTS[variant][2], variant.lower()

    def make(
        include_top=True,
        weights: str | None = "imagenet",
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=1000,
        classifier_activation: Any = "softmax",
        include_preprocessing=True,
        name: str = f"efficientnetv2-{key}",
    ):
        options = Options(
            include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
        )
        options.extra = include_preprocessing
        return building.assemble(
            functools.partial(_body, variant),
            options,
            default_size=size,
            key=("efficientnet_v2", key),
            net=_net,
            top=make_top(0.2),
            pool_names=True,
        )

    scaled = "of mean 0 and variance 1 by channel" if variant[0] == "B" else "scaled to -1 to 1"
    return building.publish(
        make,
        __name__,
        f"EfficientNetV2{variant}",
        paper="Tan and Le 2021, https://arxiv.org/abs/2104.00298",
        preprocessing=f"with `include_preprocessing` as they are, else {scaled}",
        default_size=size,
        more="include_preprocessing: Whether the model scales the pixels itself.",
    )


EfficientNetV2B0, EfficientNetV2B1 = _efficientnet_v2("B0"), _efficientnet_v2("B1")
EfficientNetV2B2, EfficientNetV2B3 = _efficientnet_v2("B2"), _efficientnet_v2("B3")
EfficientNetV2S, EfficientNetV2M, EfficientNetV2L = map(_efficientnet_v2, ("S", "M", "L"))
