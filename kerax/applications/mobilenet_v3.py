"""MobileNet V3, small and large."""

import functools
import warnings
from typing import Any

from kerax import layers
from kerax.applications import building
from kerax.applications.building import Net, Options, divisible
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor
from kerax.applications.mobilenet import sides
from kerax.applications.mobilenet_v2 import check_agreement

preprocess_input = preprocessor(None, __name__)

# Expansion, filters, kernel, stride, whether it squeezes and excites, whether its activation is hard swish (else ReLU).
# The minimalistic models have none of the last two and kernels of 3.
_SMALL = (
    (1, 16, 3, 2, True, False),
    (72 / 16, 24, 3, 2, False, False),
    (88 / 24, 24, 3, 1, False, False),
    (4, 40, 5, 2, True, True),
    *[(6, 40, 5, 1, True, True)] * 2,
    *[(3, 48, 5, 1, True, True)] * 2,
    (6, 96, 5, 2, True, True),
    *[(6, 96, 5, 1, True, True)] * 2,
)
_LARGE = (
    (1, 16, 3, 1, False, False),
    (4, 24, 3, 2, False, False),
    (3, 24, 3, 1, False, False),
    (3, 40, 5, 2, True, False),
    *[(3, 40, 5, 1, True, False)] * 2,
    (6, 80, 3, 2, False, True),
    (2.5, 80, 3, 1, False, True),
    *[(2.3, 80, 3, 1, False, True)] * 2,
    *[(6, 112, 3, 1, True, True)] * 2,
    (6, 160, 5, 2, True, True),
    *[(6, 160, 5, 1, True, True)] * 2,
)
_net = functools.partial(Net, conv={"use_bias": False, "padding": "same"}, norm={"epsilon": 0.001, "momentum": 0.999})


def _activate(net: Net, x, is_swish: bool):
    return net.act(x, "hard_swish") if is_swish else net(layers.ReLU(), x)


def _squeeze(net: Net, x, prefix: str):
    """`x` times a factor of 0 to 1 for each channel, computed from the channels' means."""
    prefix += "squeeze_excite_"
    filters = net.channels(x)
    factor = net.pool(x, "avg", f"{prefix}avg_pool", keepdims=True)
    factor = net.conv(factor, divisible(filters / 4), 1, f"{prefix}conv", use_bias=True)
    factor = net(layers.ReLU(name=f"{prefix}relu"), factor)
    factor = net.conv(factor, filters, 1, f"{prefix}conv_1", use_bias=True)
    # A hard sigmoid, spelled as Keras spells it, so that the graph has the same layers.
    factor = net(layers.ReLU(6.0), factor + 3.0) * (1.0 / 6.0)
    return net(layers.Multiply(name=f"{prefix}mul"), [x, factor])


def _block(net: Net, x, expansion, filters, kernel, stride, squeezes, is_swish, prefix: str):
    shortcut = x
    if prefix != "expanded_conv_":  # the first one
        # The table's expansions are quotients such as 72/16: rounded to a multiple of 8 they give the paper's widths.
        x = net.conv(x, divisible(net.channels(x) * expansion), 1, f"{prefix}expand")
        x = _activate(net, net.norm(x, f"{prefix}expand_bn"), is_swish)
    x, padding = net.pad_for_stride(x, kernel, stride, f"{prefix}depthwise_pad")
    x = net.depthwise(x, kernel, f"{prefix}depthwise", strides=stride, padding=padding)
    x = _activate(net, net.norm(x, f"{prefix}depthwise_bn"), is_swish)
    x = _squeeze(net, x, prefix) if squeezes else x
    x = net.norm(net.conv(x, filters, 1, f"{prefix}project"), f"{prefix}project_bn")
    if stride == 1 and net.channels(shortcut) == filters:
        x = net.add([shortcut, x], f"{prefix}add")
    return x


def _body(blocks: tuple, net: Net, x, options: Options):
    alpha, minimalistic, include_preprocessing, _ = options.extra
    if include_preprocessing:
        x = net(layers.Rescaling(1.0 / 127.5, -1.0), x)
    x = _activate(net, net.norm(net.conv(x, 16, 3, "conv", strides=2), "conv_bn"), not minimalistic)
    for index, (expansion, filters, kernel, stride, squeezes, is_swish) in enumerate(blocks):
        prefix = f"expanded_conv_{index}_" if index else "expanded_conv_"
        if minimalistic:
            kernel, squeezes, is_swish = 3, False, False
        x = _block(net, x, expansion, divisible(filters * alpha), kernel, stride, squeezes, is_swish, prefix)
    x = net.norm(net.conv(x, divisible(6 * net.channels(x)), 1, "conv_1"), "conv_1_bn")
    return _activate(net, x, not minimalistic)


def _top(filters: int, net: Net, x, options: Options):
    alpha, minimalistic, _, dropout_rate = options.extra
    # As in V2, narrower models keep the features of the classifier.
    filters = divisible(filters * alpha) if alpha > 1 else filters
    x = net.conv(net.pool(x, "avg", keepdims=True), filters, 1, "conv_2", use_bias=True)
    x = _activate(net, x, not minimalistic)
    if dropout_rate > 0:
        x = net(layers.Dropout(dropout_rate), x)
    x = net(layers.Flatten(), net.conv(x, options.classes, 1, "logits", use_bias=True))
    return net.act(x, options.classifier_activation, "predictions")


def _check(options: Options, alpha, minimalistic):
    """The shape that the model is for; raises or warns about what does not go together."""
    who, shape = options.name, options.input_shape
    if options.weights == "imagenet" and (alpha, bool(minimalistic)) not in ((0.75, False), (1.0, False), (1.0, True)):
        raise ValueError(f"{who}: the 'imagenet' weights need alpha=1, or 0.75 unless minimalistic. Got alpha={alpha}.")
    check_agreement(options.input_tensor, shape, who)
    if options.weights == "imagenet" and (shape is None or sides(shape) != (224, 224)):
        warnings.warn(f"{who}: the 'imagenet' weights are for images of 224 by 224. Got {shape}.", stacklevel=4)


def _mobilenet_v3(size: str, blocks: tuple, top_filters: int):
    public_name = f"MobileNetV3{size.capitalize()}"

    def make(
        input_shape=None,
        alpha=1.0,
        minimalistic=False,
        include_top=True,
        weights: str | None = "imagenet",
        input_tensor=None,
        classes=1000,
        pooling=None,
        dropout_rate=0.2,
        classifier_activation: Any = "softmax",
        include_preprocessing=True,
        name=public_name,
    ):
        extra = (alpha, minimalistic, include_preprocessing, dropout_rate)
        options = Options(
            include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name, extra
        )
        _check(options, alpha, minimalistic)
        return building.assemble(
            functools.partial(_body, blocks),
            options,
            default_size=224,
            key=("mobilenet_v3", f"{size}{'_minimalistic' if minimalistic else ''}_224_{float(alpha)}"),
            net=_net,
            top=functools.partial(_top, top_filters),
            pool_names=True,
            needs_static=False,  # its classifier is made of convolutions
        )

    return building.publish(
        make,
        __name__,
        public_name,
        paper="Howard et al. 2019, https://arxiv.org/abs/1905.02244",
        preprocessing="with `include_preprocessing` as they are, else scaled to -1 to 1",
        default_size=None,
        more="""alpha: Factor of the number of filters.
minimalistic: Whether to do without squeezing, hard swish and kernels of 5.
dropout_rate: Fraction dropped before the classifier.
include_preprocessing: Whether the model scales the pixels itself.""",
    )


MobileNetV3Small = _mobilenet_v3("small", _SMALL, 1024)
MobileNetV3Large = _mobilenet_v3("large", _LARGE, 1280)
