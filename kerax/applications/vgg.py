"""VGG with 16 and 19 layers; the public names are in `vgg16` and `vgg19`."""

import functools

from kerax import layers
from kerax.applications.building import Net, Options, standard

_FILTERS = (64, 128, 256, 512, 512)
_DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_net = functools.partial(Net, conv={"activation": "relu", "padding": "same"})


def _body(depths: tuple, net: Net, x, _options):
    for block, (filters, depth) in enumerate(zip(_FILTERS, depths, strict=True), 1):
        for layer in range(1, depth + 1):
            x = net.conv(x, filters, 3, f"block{block}_conv{layer}")
        x = net.max_pool(x, 2, 2, name=f"block{block}_pool")
    return x


def _top(net: Net, x, options: Options):
    # Flattened, not averaged: `fc1` has most of the weights, and they are for 224 by 224 pixels only.
    x = net(layers.Flatten(name="flatten"), x)
    for name in ("fc1", "fc2"):
        x = net.dense(x, 4096, name, activation="relu")
    return net.dense(x, options.classes, "predictions", activation=options.classifier_activation)


def vgg(depth: int):
    """The public function of a VGG network."""
    key = f"vgg{depth}"
    return standard(
        key.upper(),
        functools.partial(_body, _DEPTHS[depth]),
        paper="Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556",
        default_size=224,
        key=(key, key),
        net=_net,
        top=_top,
    )
