"""Xception."""

import functools

from kerax.applications.building import Net, standard
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor

preprocess_input = preprocessor("tf", __name__)

# Filters of the separable convolutions of blocks 2 to 13. The blocks of two halve the image.
_BLOCKS = ((128, 128), (256, 256), (728, 728), *[(728, 728, 728)] * 8, (728, 1024))


def _body(net: Net, x, _options):
    for layer, (filters, stride) in enumerate(((32, 2), (64, 1)), 1):
        name = f"block1_conv{layer}"
        x = net.act(net.norm(net.conv(x, filters, 3, name, strides=stride), f"{name}_bn"), "relu", f"{name}_act")
    for block, widths in enumerate(_BLOCKS, 2):
        shrinks = len(widths) == 2  # the middle blocks have three convolutions and keep their form
        residual = x
        if shrinks:
            residual = net.norm(net.conv(x, widths[-1], 1, strides=2, padding="same"))
        for layer, filters in enumerate(widths, 1):
            name = f"block{block}_sepconv{layer}"
            if (block, layer) != (2, 1):  # block 1 ended with an activation
                x = net.act(x, "relu", f"{name}_act")
            x = net.norm(net.separable(x, filters, 3, name, padding="same"), f"{name}_bn")
        if shrinks:
            x = net.max_pool(x, 3, 2, "same", f"block{block}_pool")
        x = net.add([x, residual])
    for layer, filters in enumerate((1536, 2048), 1):
        name = f"block14_sepconv{layer}"
        x = net.act(net.norm(net.separable(x, filters, 3, name, padding="same"), f"{name}_bn"), "relu", f"{name}_act")
    return x


Xception = standard(
    "Xception",
    _body,
    paper="Chollet 2016, https://arxiv.org/abs/1610.02357",
    default_size=299,
    min_size=71,
    key=("xception", "xception"),
    net=functools.partial(Net, conv={"use_bias": False}),
)
