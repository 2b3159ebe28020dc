"""NASNet-A, mobile and large."""

import functools
from typing import Any

from kerax import layers
from kerax.applications import building
from kerax.applications.building import Net, Options
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor

preprocess_input = preprocessor("tf", __name__)

# Filters before the classifier, cells per stage, filters of the stem, whether a reduction cell is skipped over.
_VARIANTS = {"mobile": (1056, 4, 32, False, 224), "large": (4032, 6, 96, True, 331)}
_top = functools.partial(building.average_and_classify, pool_name=None)
_net = functools.partial(
    Net,
    conv={"use_bias": False, "padding": "same", "kernel_initializer": "he_normal"},
    norm={"momentum": 0.9997, "epsilon": 0.001},
)


def _separable(net: Net, x, filters: int, kernel: int, name: str, stride=1):
    """Twice ReLU, separable convolution and normalisation; the first may halve the image."""
    x = net.act(x, "relu")
    x, padding = net.pad_for_stride(x, kernel, stride, f"separable_conv_1_pad_{name}")
    first, second = f"separable_conv_1_{name}", f"separable_conv_2_{name}"
    x = net(layers.SeparableConv2D(filters, kernel, stride, padding, use_bias=False, name=first), x)
    x = net.act(net.norm(x, f"separable_conv_1_bn_{name}"), "relu")
    x = net(layers.SeparableConv2D(filters, kernel, padding="same", use_bias=False, name=second), x)
    return net.norm(x, f"separable_conv_2_bn_{name}")


def _adjust(net: Net, before, x, filters: int, name: str):
    """The output of the cell before the last, brought to the size and the filters of the next cell."""
    if before is None:  # there is none before the first cell
        return x
    if before.shape[-2] != x.shape[-2]:  # widths, the layout being channels last: `before` is from before a reduction
        before = net.act(before, "relu", f"adjust_relu_1_{name}")
        left = net.mean_pool(before, 1, 2, name=f"adjust_avg_pool_1_{name}")
        left = net.conv(left, filters // 2, 1, f"adjust_conv_1_{name}")
        right = net.pad(before, ((0, 1), (0, 1)))  # the same, one pixel further
        right = net(layers.Cropping2D(((1, 0), (1, 0))), right)
        right = net.mean_pool(right, 1, 2, name=f"adjust_avg_pool_2_{name}")
        right = net.conv(right, filters // 2, 1, f"adjust_conv_2_{name}")
        return net.norm(net.concat([left, right]), f"adjust_bn_{name}")
    if net.channels(before) != filters:
        before = net.conv(net.act(before, "relu"), filters, 1, f"adjust_conv_projection_{name}")
        return net.norm(before, f"adjust_bn_{name}")
    return before


def _enter(net: Net, x, before, filters: int, kind: str, name: str):
    before = _adjust(net, before, x, filters, name)
    h = net.conv(net.act(x, "relu"), filters, 1, f"{kind}_conv_1_{name}")
    return net.norm(h, f"{kind}_bn_1_{name}"), before


def _normal(net: Net, x, before, filters: int, name: str):
    h, p = _enter(net, x, before, filters, "normal", name)
    separable = lambda x, kernel, part: _separable(net, x, filters, kernel, f"normal_{part}_{name}")
    mean = lambda x, part: net.mean_pool(x, 3, 1, "same", f"normal_{part}_{name}")
    add = lambda tensors, index: net.add(tensors, f"normal_add_{index}_{name}")
    x1 = add([separable(h, 5, "left1"), separable(p, 3, "right1")], 1)
    x2 = add([separable(p, 5, "left2"), separable(p, 3, "right2")], 2)
    x3 = add([mean(h, "left3"), p], 3)
    x4 = add([mean(p, "left4"), mean(p, "right4")], 4)
    x5 = add([separable(h, 3, "left5"), h], 5)
    return net.concat([p, x1, x2, x3, x4, x5], f"normal_concat_{name}")


def _reduce(net: Net, x, before, filters: int, name: str):
    h, p = _enter(net, x, before, filters, "reduction", name)
    padded = net.pad(h, net.stride_padding(h, 3), f"reduction_pad_1_{name}")
    separable = lambda x, kernel, part, stride=2: _separable(
        net, x, filters, kernel, f"reduction_{part}_{name}", stride
    )
    add = lambda tensors, part: net.add(tensors, f"reduction_{part}_{name}" if part else None)
    x1 = add([separable(h, 5, "left1"), separable(p, 7, "right1")], "add_1")
    # One padded copy for the three poolings: Keras pads once, and a layer of that name is in its files.
    x2 = net.max_pool(padded, 3, 2, name=f"reduction_left2_{name}")
    x2 = add([x2, separable(p, 7, "right2")], "add_2")
    x3 = net.mean_pool(padded, 3, 2, name=f"reduction_left3_{name}")
    x3 = add([x3, separable(p, 5, "right3")], "add3")
    x4 = add([x2, net.mean_pool(x1, 3, 1, "same", f"reduction_left4_{name}")], None)
    x5 = separable(x1, 3, "left4", 1)
    x5 = add([x5, net.max_pool(padded, 3, 2, name=f"reduction_right5_{name}")], "add4")
    return net.concat([x2, x3, x4, x5], f"reduction_concat_{name}")


def _body(variant: str, net: Net, x, _options):
    top_filters, cells, stem_filters, skips, _ = _VARIANTS[variant]
    # 6 tensors are joined at the end of a cell whose filters doubled twice: 24 times those of the first cells.
    filters = top_filters // 24
    x = net.norm(net.conv(x, stem_filters, 3, "stem_conv1", strides=2, padding="valid"), "stem_bn1")
    before = None
    for name, width in (("stem_1", filters // 4), ("stem_2", filters // 2)):
        x, before = _reduce(net, x, before, width, name), x
    for stage in range(3):
        if stage:
            reduced = _reduce(net, x, before, filters * 2**stage, f"reduce_{stage * cells}")
            x, before = reduced, before if skips else x
        for cell in range(cells):
            x, before = _normal(net, x, before, filters * 2**stage, f"{stage * cells + (stage > 0) + cell}"), x
    return net.act(x, "relu")


def _nasnet(variant: str):
    size = _VARIANTS[variant][-1]

    def make(
        input_shape=None,
        include_top=True,
        weights: str | None = "imagenet",
        input_tensor=None,
        pooling=None,
        classes=1000,
        classifier_activation: Any = "softmax",
        name: str = f"nasnet_{variant}",
    ):
        # Keras's mobile model has a size even without the classifier; the large one is left open.
        if variant == "mobile" and not include_top and input_shape is None:
            input_shape = (224, 224, 3)
        if weights == "imagenet" and input_shape is not None and None in input_shape:
            raise ValueError(f"{name}: the 'imagenet' weights need a known `input_shape`. Got {input_shape}.")
        options = Options(
            include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
        )
        body = functools.partial(_body, variant)
        return building.assemble(
            body, options, default_size=size, key=("nasnet", variant), net=_net, top=_top, channels_last=True
        )

    paper = "Zoph et al. 2017, https://arxiv.org/abs/1707.07012"
    return building.publish(make, __name__, f"NASNet{variant.capitalize()}", paper=paper, default_size=size)


NASNetMobile, NASNetLarge = _nasnet("mobile"), _nasnet("large")
