"""EfficientNet B0 to B7."""

import functools
import math

from kerax import initializers, layers
from kerax.applications.building import BUILT_IN, Net, Options, divisible, standard
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor

preprocess_input = preprocessor(None, __name__)

# Factors of width and depth, size of the images, fraction dropped before the classifier.
_VARIANTS = {
    "B0": (1.0, 1.0, 224, 0.2),
    "B1": (1.0, 1.1, 240, 0.2),
    "B2": (1.1, 1.2, 260, 0.3),
    "B3": (1.2, 1.4, 300, 0.3),
    "B4": (1.4, 1.8, 380, 0.4),
    "B5": (1.6, 2.2, 456, 0.4),
    "B6": (1.8, 2.6, 528, 0.5),
    "B7": (2.0, 3.1, 600, 0.5),
}
# Kernel, blocks, filters, expansion, stride of the first block.
_STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
_DEVIATIONS = (0.229, 0.224, 0.225)

CONV_INITIALIZER = initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")
DENSE_INITIALIZER = initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
DROP_CONNECT = 0.2  # fraction of the last block's outputs that are dropped while training; less in those before it


def squeeze(net: Net, x, filters: int, name: str):
    """`x` times a factor of 0 to 1 for each channel, computed from the channels' means through `filters` units."""
    width = net.channels(x)
    # A `Reshape` where `keepdims` would do: it is a layer of Keras's model, and its name stands in files.
    shape = (width, 1, 1) if net.axis == 1 else (1, 1, width)
    factor = net(layers.Reshape(shape, name=f"{name}se_reshape"), net.pool(x, "avg", f"{name}se_squeeze"))
    options = dict(use_bias=True, padding="same")  # against the net's default: no normalisation follows that has one
    factor = net.conv(factor, filters, 1, f"{name}se_reduce", activation="swish", **options)
    factor = net.conv(factor, width, 1, f"{name}se_expand", activation="sigmoid", **options)
    return net(layers.Multiply(name=f"{name}se_excite"), [x, factor])


def close(net: Net, x, shortcut, stride: int, drop_rate: float, name: str):
    """`x` plus the block's input where shapes agree; while training, `x` is left out in a fraction of the rows."""
    if stride != 1 or net.channels(shortcut) != net.channels(x):
        return x
    if drop_rate > 0:
        # One draw for each row: the block as a whole is left out (stochastic depth), not single numbers.
        x = net(layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}drop"), x)
    return net.add([x, shortcut], f"{name}add")


def make_top(dropout: float):
    """The classifier: mean over height and width, dropout, one dense layer."""

    def top(net: Net, x, options: Options):
        x = net(layers.Dropout(dropout, name="top_dropout"), net.pool(x, "avg", "avg_pool"))
        how = dict(activation=options.classifier_activation, kernel_initializer=DENSE_INITIALIZER)
        return net.dense(x, options.classes, "predictions", **how)

    return top


def convolve(net: Net, x, filters: int, kernel: int, name: str, **kwargs):
    """Convolution, normalisation, swish."""
    x = net.norm(net.conv(x, filters, kernel, f"{name}_conv", **kwargs), f"{name}_bn")
    return net.act(x, "swish", f"{name}_activation")


def _block(net: Net, x, kernel, filters, expansion, stride, drop_rate, name: str):
    shortcut, narrow = x, net.channels(x)
    if expansion > 1:
        x = convolve(net, x, narrow * expansion, 1, f"{name}expand", padding="same")
    x, padding = net.pad_for_stride(x, kernel, stride, f"{name}dwconv_pad")
    layer = layers.DepthwiseConv2D(
        kernel, stride, padding, use_bias=False, depthwise_initializer=CONV_INITIALIZER, name=f"{name}dwconv"
    )
    x = net.act(net.norm(net(layer, x), f"{name}bn"), "swish", f"{name}activation")
    x = squeeze(net, x, max(1, narrow // 4), name)
    x = net.norm(net.conv(x, filters, 1, f"{name}project_conv", padding="same"), f"{name}project_bn")
    return close(net, x, shortcut, stride, drop_rate, name)


def _body(width: float, depth: float, net: Net, x, options: Options):
    # Its mean and variance are weights in the file, hence no arguments here.
    x = net(layers.Normalization(axis=net.axis), net(layers.Rescaling(1 / 255), x))
    if options.weights == "imagenet":  # these weights expect pixels divided by the root of the deviation too
        x = net(layers.Rescaling([1 / math.sqrt(deviation) for deviation in _DEVIATIONS]), x)
    x = net.pad(x, net.stride_padding(x, 3), "stem_conv_pad")
    x = convolve(net, x, divisible(32 * width), 3, "stem", strides=2)
    total = sum(math.ceil(depth * blocks) for _, blocks, *_ in _STAGES)
    count = 0
    for stage, (kernel, blocks, filters, expansion, stride) in enumerate(_STAGES, 1):
        for block in range(math.ceil(depth * blocks)):
            # Rises from 0 at the first block, so that what everything is built on is seldom left out.
            drop_rate, name = DROP_CONNECT * count / total, f"block{stage}{chr(ord('a') + block)}_"
            stride = 1 if block else stride
            x = _block(net, x, kernel, divisible(filters * width), expansion, stride, drop_rate, name)
            count += 1
    return convolve(net, x, divisible(1280 * width), 1, "top", padding="same")


def _efficientnet(variant: str):
    width, depth, size, dropout = _VARIANTS[variant]
    return standard(
        f"EfficientNet{variant}",
        functools.partial(_body, width, depth),
        paper="Tan and Le 2019, https://arxiv.org/abs/1905.11946",
        preprocessing=BUILT_IN,
        default_size=size,
        key=("efficientnet", variant.lower()),
        net=functools.partial(Net, conv={"use_bias": False, "kernel_initializer": CONV_INITIALIZER}),
        top=make_top(dropout),
        pool_names=True,
    )


EfficientNetB0, EfficientNetB1, EfficientNetB2, EfficientNetB3 = map(_efficientnet, ("B0", "B1", "B2", "B3"))
EfficientNetB4, EfficientNetB5, EfficientNetB6, EfficientNetB7 = map(_efficientnet, ("B4", "B5", "B6", "B7"))
