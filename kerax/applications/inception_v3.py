"""Inception V3."""

import functools

from kerax.applications.building import Net, standard
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor

preprocess_input = preprocessor("tf", __name__)

# A block is a list of branches, a branch a list of steps. A step is (filters, kernel) for a convolution, with a stride
# where it halves the image, "max" for the pooling that halves it, "mean" for the one that does not, or a list of steps
# done side by side.
_A = lambda pooled: [
    [(64, 1)],
    [(48, 1), (64, 5)],
    [(64, 1), (96, 3), (96, 3)],
    ["mean", (pooled, 1)],
]
_B = [[(384, 3, 2)], [(64, 1), (96, 3), (96, 3, 2)], ["max"]]
_C = lambda inner: [
    [(192, 1)],
    [(inner, 1), (inner, (1, 7)), (192, (7, 1))],
    [(inner, 1), (inner, (7, 1)), (inner, (1, 7)), (inner, (7, 1)), (192, (1, 7))],
    ["mean", (192, 1)],
]
_D = [[(192, 1), (320, 3, 2)], [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)], ["max"]]
_E = [
    [(320, 1)],
    [(384, 1), [(384, (1, 3)), (384, (3, 1))]],
    [(448, 1), (384, 3), [(384, (1, 3)), (384, (3, 1))]],
    ["mean", (192, 1)],
]
_BLOCKS = (_A(32), _A(64), _A(64), _B, _C(128), _C(160), _C(160), _C(192), _D, _E, _E)


def conv(net: Net, x, filters, kernel, stride=1, padding="same"):
    """Convolution, normalisation, ReLU."""
    # Without names: Keras counts these layers, in the order in which branches are written.
    return net.act(net.norm(net.conv(x, filters, kernel, strides=stride, padding=padding)), "relu")


def stem(net: Net, x):
    """From the image to 192 channels at an eighth of its size."""
    x = conv(net, x, 32, 3, 2, "valid")
    x = conv(net, conv(net, x, 32, 3, 1, "valid"), 64, 3)
    x = conv(net, net.max_pool(x, 3, 2), 80, 1, 1, "valid")
    return net.max_pool(conv(net, x, 192, 3, 1, "valid"), 3, 2)


def branch(net: Net, x, steps, split_name=None):
    """The steps of a branch, one after another."""
    for step in steps:
        if step == "max":
            x = net.max_pool(x, 3, 2)
        elif step == "mean":
            x = net.mean_pool(x, 3, 1, "same")
        elif isinstance(step, list):
            x = net.concat([conv(net, x, *side) for side in step], split_name)
        else:
            # What has a stride halves the image without padding, as the pooling beside it does.
            x = conv(net, x, *step, *(("valid",) if len(step) == 3 else ()))
    return x


def _body(net: Net, x, _options):
    x = stem(net, x)
    for index, block in enumerate(_BLOCKS):
        # Of the two splits in each of the last blocks Keras names the first.
        splits = {1: f"mixed9_{index - 9}"} if index >= 9 else {}
        outputs = [branch(net, x, steps, splits.get(position)) for position, steps in enumerate(block)]
        x = net.concat(outputs, f"mixed{index}")
    return x


InceptionV3 = standard(
    "InceptionV3",
    _body,
    paper="Szegedy et al. 2015, https://arxiv.org/abs/1512.00567",
    name="inception_v3",
    default_size=299,
    min_size=75,
    key=("inception_v3", "inception_v3"),
    net=functools.partial(Net, conv={"use_bias": False}, norm={"scale": False}),
)
