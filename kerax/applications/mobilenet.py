"""MobileNet V1."""

import functools
import warnings
from typing import Any

from kerax import config, layers
from kerax.applications import building
from kerax.applications.building import Net, Options
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor

preprocess_input = preprocessor("tf", __name__)

_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
_SIZES = (128, 160, 192, 224)
_WIDTHS = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}
_net = functools.partial(Net, conv={"use_bias": False, "padding": "same"})


def sides(shape) -> tuple:
    """Height and width of a shape without the batch axis."""
    return tuple(shape[1:3]) if config.image_data_format() == "channels_first" else tuple(shape[:2])


def pick_size(shape, sizes: tuple, options: Options) -> tuple[Any, Any]:
    """The side of the images that the weights are for, and the height that the model is named after."""
    height, width = sides(shape) if shape else (None, None)
    is_known = height == width and height in sizes
    size = height if is_known else 224
    # With weights the name says the size they are for; without, that of the images, which may be unknown.
    if options.weights == "imagenet":
        if shape and not is_known:
            warnings.warn(f"There are weights for squares of {sizes}. Got {shape}: taking those for 224.", stacklevel=3)
        return size, size
    return size, height if options.input_shape else (size if options.include_top else None)


def _relu6(net: Net, x, name: str):
    return net(layers.ReLU(6.0, name=f"{name}_relu"), net.norm(x, f"{name}_bn"))


def _body(net: Net, x, options: Options):
    alpha, depth_multiplier, _ = options.extra
    x = _relu6(net, net.conv(x, int(32 * alpha), 3, "conv1", strides=2), "conv1")
    for block, (filters, stride) in enumerate(_BLOCKS, 1):
        padding = "same"
        if stride == 2:  # one row and column behind, whatever the size: these weights know no other padding
            x, padding = net.pad(x, ((0, 1), (0, 1)), f"conv_pad_{block}"), "valid"
        name = f"conv_dw_{block}"
        x = net.depthwise(x, 3, name, strides=stride, padding=padding, depth_multiplier=depth_multiplier)
        x = _relu6(net, x, name)
        x = _relu6(net, net.conv(x, int(filters * alpha), 1, f"conv_pw_{block}"), f"conv_pw_{block}")
    return x


def _top(net: Net, x, options: Options):
    x = net(layers.Dropout(options.extra[2], name="dropout"), net.pool(x, "avg", keepdims=True))
    # A convolution in the place of a dense layer: the kernel in the file has four axes.
    x = net.conv(x, options.classes, 1, "conv_preds", use_bias=True)
    x = net(layers.Reshape((options.classes,), name="reshape_2"), x)
    return net.act(x, options.classifier_activation, "predictions")


def MobileNet(
    input_shape=None,
    alpha=1.0,
    depth_multiplier=1,
    dropout=0.001,
    include_top=True,
    weights: str | None = "imagenet",
    input_tensor=None,
    pooling=None,
    classes=1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
):
    extra = (alpha, depth_multiplier, dropout)
    # The name follows from the size, which follows from the options; until then it is empty.
    options = Options(
        include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name or "", extra
    )
    if weights == "imagenet" and (depth_multiplier != 1 or alpha not in _WIDTHS):
        raise ValueError(
            f"MobileNet: the 'imagenet' weights need depth_multiplier=1 and alpha in {list(_WIDTHS)}. "
            f"Got depth_multiplier={depth_multiplier}, alpha={alpha}."
        )
    size, rows = pick_size(input_shape, _SIZES, options)
    options.name = name or f"mobilenet_{alpha:0.2f}_{rows}"
    key = ("mobilenet", f"{_WIDTHS.get(alpha)}_{size}")
    return building.assemble(_body, options, default_size=size, key=key, net=_net, top=_top)


building.publish(
    MobileNet,
    __name__,
    "MobileNet",
    paper="Howard et al. 2017, https://arxiv.org/abs/1704.04861",
    more="""alpha: Factor of the number of filters; 0.25, 0.5, 0.75 or 1 with the `"imagenet"` weights.
depth_multiplier: Of the depthwise convolutions.
dropout: Fraction dropped before the classifier.""",
)
