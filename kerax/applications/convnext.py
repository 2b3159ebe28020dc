"""ConvNeXt: Tiny, Small, Base, Large and XLarge."""

import functools
from typing import Any

from kerax import initializers, layers
from kerax.applications import building
from kerax.applications.building import Net, Options
from kerax.applications.imagenet_utils import decode_predictions as decode_predictions
from kerax.applications.imagenet_utils import preprocessor
from kerax.core.layer import Layer
from kerax.models import Sequential

preprocess_input = preprocessor(None, __name__)

# Blocks of the third stage (the others have 3), and filters of the first, which double from stage to stage.
_VARIANTS = {"Tiny": (9, 96), "Small": (27, 96), "Base": (27, 128), "Large": (27, 192), "XLarge": (27, 256)}
_MEANS, _DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LayerScale(Layer):
    """The inputs times a weight for each channel.

    Args:
        init_values: Where the weights start.
        projection_dim: Number of channels.

    Weights: `gamma (projection_dim,)`.

    Source: Touvron et al. 2021, https://arxiv.org/abs/2103.17239
    """

    keras_module = "keras.src.applications.convnext"

    def __init__(self, init_values, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.init_values, self.projection_dim = init_values, projection_dim

    def build(self, input_shape):
        start = initializers.Constant(self.init_values)
        self.gamma = self.add_weight(name="gamma", shape=(self.projection_dim,), initializer=start)

    def call(self, inputs):
        return inputs * self.gamma.value


def _norm(name=None):
    return layers.LayerNormalization(epsilon=1e-6, name=name)


def _block(net: Net, x, filters: int, name: str):
    shortcut = x
    # As many groups as channels: Keras's weights have the form of `Conv2D`, not that of `DepthwiseConv2D`.
    x = net.conv(x, filters, 7, f"{name}_depthwise_conv", padding="same", groups=filters)
    x = net(_norm(f"{name}_layernorm"), x)
    x = net.act(net.dense(x, 4 * filters, f"{name}_pointwise_conv_1"), "gelu", f"{name}_gelu")
    x = net.dense(x, filters, f"{name}_pointwise_conv_2")
    x = net(LayerScale(1e-6, filters, name=f"{name}_layer_scale"), x)
    return shortcut + net.act(x, "linear", f"{name}_identity")


def _body(variant: str, net: Net, x, options: Options):
    blocks, width = _VARIANTS[variant]
    name = options.name
    # The means are those of red, green and blue: images of other channels go in as they are.
    if options.extra and net.channels(x) == 3:
        mean, variance = [255 * mean for mean in _MEANS], [(255 * deviation) ** 2 for deviation in _DEVIATIONS]
        x = net(layers.Normalization(mean=mean, variance=variance, name=f"{name}_prestem_normalization"), x)
    for stage in range(4):
        filters = width * 2**stage
        # In a `Sequential` each, as Keras's layers are, so that files of weights find them by the same paths.
        if stage == 0:
            conv = layers.Conv2D(filters, 4, 4, name=f"{name}_stem_conv")
            x = net(Sequential([conv, _norm(f"{name}_stem_layernorm")], name=f"{name}_stem"), x)
        else:
            conv = layers.Conv2D(filters, 2, 2, name=f"{name}_downsampling_conv_{stage - 1}")
            steps = [_norm(f"{name}_downsampling_layernorm_{stage - 1}"), conv]
            x = net(Sequential(steps, name=f"{name}_downsampling_block_{stage - 1}"), x)
        for block in range(blocks if stage == 2 else 3):
            x = _block(net, x, filters, f"{name}_stage_{stage}_block_{block}")
    return x


def _top(net: Net, x, options: Options):
    name = f"{options.name}_head"
    x = net(_norm(f"{name}_layernorm"), net.pool(x, "avg", f"{name}_gap"))
    return net.dense(x, options.classes, f"{name}_dense", activation=options.classifier_activation)


def _convnext(variant: str):
    default_name = f"convnext_{variant.lower()}"

    def make(
        include_top=True,
        include_preprocessing=True,
        weights: str | None = "imagenet",
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=1000,
        classifier_activation: Any = "softmax",
        name: str = default_name,
    ):
        options = Options(
            include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
        )
        options.extra = include_preprocessing
        # Without the classifier Keras normalises the features; with it, the classifier begins with a normalisation.
        end = lambda net, x: net(_norm(), x)
        body, key = functools.partial(_body, variant), ("convnext", variant.lower())
        return building.assemble(body, options, default_size=224, key=key, top=_top, end=end, channels_last=True)

    return building.publish(
        make,
        __name__,
        f"ConvNeXt{variant}",
        paper="Liu et al. 2022, https://arxiv.org/abs/2201.03545",
        preprocessing="with `include_preprocessing` as they are, else of mean 0 and variance 1 by channel",
        more="include_preprocessing: Whether the model scales the pixels itself.",
    )


ConvNeXtTiny, ConvNeXtSmall, ConvNeXtBase = map(_convnext, ("Tiny", "Small", "Base"))
ConvNeXtLarge, ConvNeXtXLarge = _convnext("Large"), _convnext("XLarge")
