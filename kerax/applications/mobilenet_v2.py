"""MobileNet V2."""

import functools
from typing import Any

from kerax import layers
from kerax.applications import building
from kerax.applications.building import Net, Options, divisible
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor
from kerax.applications.mobilenet import pick_size, sides

preprocess_input = preprocessor("tf", __name__)

# Filters, blocks and stride of the first block of each stage; the first stage does not expand.
_STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
_SIZES = (96, 128, 160, 192, 224)
_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
_top = functools.partial(building.average_and_classify, pool_name=None)
_net = functools.partial(Net, conv={"use_bias": False, "padding": "same"}, norm={"epsilon": 0.001, "momentum": 0.999})


def check_agreement(tensor, shape, who: str):
    """Raises `ValueError` if the tensor to build on and the shape are both given and differ in width."""
    if tensor is not None and shape is not None and sides(tensor.shape[1:])[1] != sides(shape)[1]:
        raise ValueError(f"{who}: `input_tensor` has shape {tensor.shape}, which differs from input_shape={shape}.")


def _block(net: Net, x, filters: int, stride: int, expansion: int, prefix: str):
    """Expansion, depthwise convolution and linear projection, around a shortcut where shapes agree."""
    shortcut = x
    if expansion > 1:
        x = net.norm(net.conv(x, expansion * net.channels(x), 1, f"{prefix}expand"), f"{prefix}expand_BN")
        x = net(layers.ReLU(6.0, name=f"{prefix}expand_relu"), x)
    x, padding = net.pad_for_stride(x, 3, stride, f"{prefix}pad")
    x = net.norm(net.depthwise(x, 3, f"{prefix}depthwise", strides=stride, padding=padding), f"{prefix}depthwise_BN")
    x = net(layers.ReLU(6.0, name=f"{prefix}depthwise_relu"), x)
    # Linear: an activation in the few channels of the projection would lose what the paper wants to keep.
    x = net.norm(net.conv(x, filters, 1, f"{prefix}project"), f"{prefix}project_BN")
    if stride == 1 and net.channels(shortcut) == filters:
        x = net.add([shortcut, x], f"{prefix}add")
    return x


def _body(net: Net, x, options: Options):
    alpha = options.extra
    x = net.norm(net.conv(x, divisible(32 * alpha), 3, "Conv1", strides=2), "bn_Conv1")
    x = net(layers.ReLU(6.0, name="Conv1_relu"), x)
    count = 0
    for filters, depth, stride in _STAGES:
        for block in range(depth):
            # The first block has no number in Keras's names either; the second is number 1.
            prefix, expansion = (f"block_{count}_", 6) if count else ("expanded_conv_", 1)
            x = _block(net, x, divisible(int(filters * alpha)), 1 if block else stride, expansion, prefix)
            count += 1
    # Narrower models keep 1,280 features for the classifier, only wider ones have more.
    x = net.norm(net.conv(x, divisible(1280 * max(alpha, 1.0)), 1, "Conv_1", padding="valid"), "Conv_1_bn")
    return net(layers.ReLU(6.0, name="out_relu"), x)


def MobileNetV2(
    input_shape=None,
    alpha=1.0,
    include_top=True,
    weights: str | None = "imagenet",
    input_tensor=None,
    pooling=None,
    classes=1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
):
    options = Options(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name or "", alpha
    )
    if weights == "imagenet" and alpha not in _WIDTHS:
        raise ValueError(f"MobileNetV2: the 'imagenet' weights need alpha in {_WIDTHS}. Got alpha={alpha}.")
    check_agreement(input_tensor, input_shape, "MobileNetV2")
    # Here the tensor's own size chooses the weights; V1 looks at `input_shape` only. Both as in Keras.
    shape = input_shape if input_shape or input_tensor is None else input_tensor.shape[1:]
    size, rows = pick_size(shape, _SIZES, options)
    options.name = name or f"mobilenetv2_{alpha:0.2f}_{rows}"
    key = ("mobilenet_v2", f"{float(alpha)}_{size}")
    return building.assemble(_body, options, default_size=size, key=key, net=_net, top=_top)


building.publish(
    MobileNetV2,
    __name__,
    "MobileNetV2",
    paper="Sandler et al. 2018, https://arxiv.org/abs/1801.04381",
    more=f'alpha: Factor of the number of filters; one of {_WIDTHS} with the `"imagenet"` weights.',
)
