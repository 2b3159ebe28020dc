"""DenseNet with 121, 169 and 201 layers."""

import functools

from kerax.applications.building import Net, standard
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor

preprocess_input = preprocessor("torch", __name__)

_DEPTHS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
_GROWTH = 32
_net = functools.partial(Net, conv={"use_bias": False}, norm={"epsilon": 1.001e-5})


def _body(depths: tuple, net: Net, x, _options):
    x = net.conv(net.pad(x, 3), 64, 7, "conv1_conv", strides=2)
    x = net.act(net.norm(x, "conv1_bn"), "relu", "conv1_relu")
    x = net.max_pool(net.pad(x, 1), 3, 2, name="pool1")
    for stage, depth in enumerate(depths, 2):
        for block in range(1, depth + 1):
            name = f"conv{stage}_block{block}"
            new = net.act(net.norm(x, f"{name}_0_bn"), "relu", f"{name}_0_relu")
            new = net.norm(net.conv(new, 4 * _GROWTH, 1, f"{name}_1_conv"), f"{name}_1_bn")
            # Every block sees all that came before it: what it adds is joined, not summed.
            new = net.conv(net.act(new, "relu", f"{name}_1_relu"), _GROWTH, 3, f"{name}_2_conv", padding="same")
            x = net.concat([x, new], f"{name}_concat")
        if stage < 5:  # a transition halves height, width and channels; none follows the last stage
            name = f"pool{stage}"
            x = net.act(net.norm(x, f"{name}_bn"), "relu", f"{name}_relu")
            x = net.conv(x, net.channels(x) // 2, 1, f"{name}_conv")
            x = net.mean_pool(x, 2, 2, name=f"{name}_pool")
    return net.act(net.norm(x, "bn"), "relu", "relu")


def _densenet(layers: int):
    return standard(
        f"DenseNet{layers}",
        functools.partial(_body, _DEPTHS[layers]),
        paper="Huang et al. 2016, https://arxiv.org/abs/1608.06993",
        default_size=224,
        key=("densenet", f"densenet{layers}"),
        net=_net,
        pool_names=True,
        channels_last=True,
    )


DenseNet121, DenseNet169, DenseNet201 = _densenet(121), _densenet(169), _densenet(201)
