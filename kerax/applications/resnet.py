"""ResNet and ResNet V2: 50, 101 and 152 layers."""

import functools

from kerax.applications.building import Net, standard
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor

preprocess_input = preprocessor("caffe", __name__)

_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_net = functools.partial(Net, norm={"epsilon": 1.001e-5})


def _stem(net: Net, x, normalise: bool):
    # The weights expect 3 zeros on all sides; "same" would put 2 before and 3 behind sides of even length.
    x = net.pad(x, 3, "conv1_pad")
    x = net.conv(x, 64, 7, "conv1_conv", strides=2)
    if normalise:
        x = net.act(net.norm(x, "conv1_bn"), "relu", "conv1_relu")
    x = net.pad(x, 1, "pool1_pad")
    return net.max_pool(x, 3, 2, name="pool1_pool")


def _block(net: Net, x, filters: int, stride: int, project: bool, name: str):
    """1x1, 3x3 and 1x1 convolutions around a shortcut, which is projected where the shape changes."""
    shortcut = x
    # The stride is in the first convolution, as in the paper; later ResNets have it in the 3x3 one.
    if project:
        shortcut = net.norm(net.conv(x, 4 * filters, 1, f"{name}_0_conv", strides=stride), f"{name}_0_bn")
    x = net.norm(net.conv(x, filters, 1, f"{name}_1_conv", strides=stride), f"{name}_1_bn")
    x = net.act(x, "relu", f"{name}_1_relu")
    x = net.norm(net.conv(x, filters, 3, f"{name}_2_conv", padding="same"), f"{name}_2_bn")
    x = net.act(x, "relu", f"{name}_2_relu")
    x = net.norm(net.conv(x, 4 * filters, 1, f"{name}_3_conv"), f"{name}_3_bn")
    return net.act(net.add([shortcut, x], f"{name}_add"), "relu", f"{name}_out")


def _block_v2(net: Net, x, filters: int, stride: int, project: bool, name: str):
    """The same with normalisation and activation before each convolution."""
    # The shortcut leaves behind the activation where it is projected, and before it where it is the input itself.
    active = net.act(net.norm(x, f"{name}_preact_bn"), "relu", f"{name}_preact_relu")
    if project:
        shortcut = net.conv(active, 4 * filters, 1, f"{name}_0_conv", strides=stride)
    else:
        shortcut = net.max_pool(x, 1, stride) if stride > 1 else x
    x = net.norm(net.conv(active, filters, 1, f"{name}_1_conv", use_bias=False), f"{name}_1_bn")
    x = net.pad(net.act(x, "relu", f"{name}_1_relu"), 1, f"{name}_2_pad")
    x = net.norm(net.conv(x, filters, 3, f"{name}_2_conv", strides=stride, use_bias=False), f"{name}_2_bn")
    x = net.act(x, "relu", f"{name}_2_relu")
    return net.add([shortcut, net.conv(x, 4 * filters, 1, f"{name}_3_conv")], f"{name}_out")


def _body(depths: tuple, net: Net, x, _options):
    x = _stem(net, x, normalise=True)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            # The first block of a stage halves the image; what enters the first stage is pooled already.
            stride = 2 if stage and not block else 1
            x = _block(net, x, 64 * 2**stage, stride, not block, f"conv{stage + 2}_block{block + 1}")
    return x


def _body_v2(depths: tuple, net: Net, x, _options):
    # Without normalisation and activation: each block begins with its own.
    x = _stem(net, x, normalise=False)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            # Here the last block of a stage halves, as in Keras; in the last stage none does.
            stride = 2 if stage < 3 and block == depth - 1 else 1
            x = _block_v2(net, x, 64 * 2**stage, stride, not block, f"conv{stage + 2}_block{block + 1}")
    return net.act(net.norm(x, "post_bn"), "relu", "post_relu")


_VERSIONS = {
    "": (_body, "He et al. 2015, https://arxiv.org/abs/1512.03385"),
    "V2": (_body_v2, "He et al. 2016, https://arxiv.org/abs/1603.05027"),
}


def resnet(layers: int, version: str = ""):
    """The public function of a ResNet, or with the version `"V2"` of a ResNet V2."""
    body, paper = _VERSIONS[version]
    return standard(
        f"ResNet{layers}{version}",
        functools.partial(body, _DEPTHS[layers]),
        paper=paper,
        default_size=224,
        net=_net,
        pool_names=True,
        key=("resnet", f"resnet{layers}{version.lower()}"),
    )


ResNet50, ResNet101, ResNet152 = resnet(50), resnet(101), resnet(152)
