"""What the applications share: their arguments, a net under construction, the classifier on top, the weights."""

import functools
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kerax import activations, config, layers
from kerax.applications import pretrained
from kerax.core.symbolic import KerasTensor
from kerax.models import Functional

Application = TypeVar("Application", bound=Callable[..., Functional])

_DOC = """{name}: an image classifier.

Input: pixels of 0 to 255, {preprocessing}.

Args:
    include_top: Whether the model ends in the classifier.
    weights: `"imagenet"` (downloaded once and checked, see `kerax.utils.get_file`), the path or URL of a file of
        weights (`.weights.h5`, or Keras's older `.h5`), or `None` for random ones.
    input_tensor: Symbolic tensor to build on. Default: an `Input` of `input_shape`.
    input_shape: Height, width and channels, each side at least {min_size}.
        Default: {default}.
    pooling: Without the classifier: `"avg"` or `"max"` over height and width; `None` leaves them.
    classes: Number of classes of the classifier.
    classifier_activation: Name or function; `None` gives logits.
    name: Of the model.{more}

Returns: a `Functional` model with the layer names, and the order and shapes of weights, of Keras's.

Raises:
    ValueError: for arguments that do not go together, or a file of weights that does not fit.
    ConnectionError: if the weights are not in the cache and cannot be downloaded.

Source: {paper}
"""


@dataclass
class Options:
    """The arguments of an application. `extra`: those that only its family has."""

    include_top: bool
    weights: Any
    input_tensor: Any
    input_shape: Any
    pooling: str | None
    classes: int
    classifier_activation: Any
    name: str
    extra: Any = None


class Net:
    """Calls layers, with a family's defaults, and names those that have no name.

    The names are Keras's in a fresh process: the class with a counter, in the order in which layers are made.

    Args:
        conv: Default arguments of convolutions.
        norm: Default arguments of batch normalisations.
    """

    def __init__(self, conv: dict | None = None, norm: dict | None = None):
        self.axis = 1 if config.image_data_format() == "channels_first" else -1
        self._conv, self._norm = conv or {}, norm or {}
        self._counts: Counter[str] = Counter()

    def __call__(self, layer, x):
        """The layer's output for `x`."""
        if layer.auto_named:
            # Counted in the net: by a process-wide counter a second model would have other names than its file.
            count = self._counts[layer.name]
            self._counts[layer.name] += 1
            layer.name = f"{layer.name}_{count}" if count else layer.name
        return layer(x)

    def conv(self, x, filters, size, name=None, **kwargs):
        return self(layers.Conv2D(filters, size, name=name, **self._conv | kwargs), x)

    def depthwise(self, x, size, name=None, **kwargs):
        return self(layers.DepthwiseConv2D(size, name=name, **self._conv | kwargs), x)

    def separable(self, x, filters, size, name=None, **kwargs):
        return self(layers.SeparableConv2D(filters, size, name=name, **self._conv | kwargs), x)

    def norm(self, x, name=None):
        return self(layers.BatchNormalization(axis=self.axis, name=name, **self._norm), x)

    def act(self, x, function, name=None):
        return self(layers.Activation(function, name=name), x)

    def pad(self, x, padding, name=None):
        return self(layers.ZeroPadding2D(padding, name=name), x)

    def add(self, tensors, name=None):
        return self(layers.Add(name=name), tensors)

    def concat(self, tensors, name=None):
        return self(layers.Concatenate(axis=self.axis, name=name), tensors)

    def pool(self, x, kind, name=None, **kwargs):
        """The mean (`"avg"`) or maximum (`"max"`) over height and width."""
        layer = layers.GlobalMaxPooling2D if kind == "max" else layers.GlobalAveragePooling2D
        return self(layer(name=name, **kwargs), x)

    def max_pool(self, x, size, strides, padding="valid", name=None):
        return self(layers.MaxPooling2D(size, strides, padding, name=name), x)

    def mean_pool(self, x, size, strides, padding="valid", name=None):
        return self(layers.AveragePooling2D(size, strides, padding, name=name), x)

    def dense(self, x, units, name, **kwargs):
        return self(layers.Dense(units, name=name, **kwargs), x)

    def channels(self, x) -> int:
        """Number of channels of `x`."""
        return x.shape[self.axis]

    def pad_for_stride(self, x, size: int, stride: int, name: str) -> tuple[Any, str]:
        """`x` and the padding of a convolution on it: with stride 2 a layer of that name has put the zeros around `x`.

        They are the same zeros as those of `"same"`, but the layer is one of Keras's models.
        """
        return (self.pad(x, self.stride_padding(x, size), name), "valid") if stride == 2 else (x, "same")

    def stride_padding(self, x, size: int) -> tuple:
        """Zeros around `x` that let a `"valid"` convolution of stride 2 and odd `size` see what Keras's models do:
        half its size on each side, one less on top and left of sides of even (or unknown) length."""
        sides = x.shape[2:4] if self.axis == 1 else x.shape[1:3]
        return tuple((size // 2 - (1 if side is None else 1 - side % 2), size // 2) for side in sides)


def divisible(filters: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `filters`, at least `divisor`, and at least 0.9 times `filters`."""
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * filters else rounded


def average_and_classify(net: Net, x, options: Options, pool_name: str | None = "avg_pool"):
    """Keras's usual classifier: mean over height and width, one dense layer."""
    x = net.pool(x, "avg", pool_name)
    return net.dense(x, options.classes, "predictions", activation=options.classifier_activation)


def assemble(
    body: Callable,
    options: Options,
    *,
    default_size: int,
    min_size: int = 32,
    key: tuple[str, str],
    net: Callable[[], Net] = Net,
    top: Callable = average_and_classify,
    pool_names: bool = False,
    end: Callable | None = None,
    channels_last: bool = False,
    needs_static: bool | None = None,
) -> Functional:
    """The model of `body`, a function of (net, symbolic input, options), with everything around it.

    Args:
        default_size: Height and width of the images it was trained on.
        min_size: The least height and width.
        key: Of its weights in `pretrained`.
        net: Makes the `Net`.
        top: The classifier, a function of (net, features, options).
        pool_names: Whether the pooling without a classifier is called `avg_pool` and `max_pool`.
        end: What follows where there is no classifier, a function of (net, features).
        channels_last: Whether it is the only layout there is.
        needs_static: Whether height and width must be known. Default: with the classifier.
    """
    name, weights = options.name, options.weights
    if channels_last and config.image_data_format() == "channels_first":
        raise ValueError(f"{name}: needs the image layout 'channels_last'. Call `set_image_data_format` before.")
    if options.pooling not in (None, "avg", "max"):
        raise ValueError(f"{name}: `pooling` must be None, 'avg' or 'max'. Got {options.pooling!r}.")
    pretrained.check(weights, name)
    if options.include_top and weights is not None:
        if weights == "imagenet" and options.classes != 1000:
            raise ValueError(f"{name}: the 'imagenet' weights have 1000 classes. Got classes={options.classes}.")
        if activations.get(options.classifier_activation) not in (None, activations.linear, activations.softmax):
            raise ValueError(
                f"{name}: with weights, `classifier_activation` must be 'softmax' or None. "
                f"Got {options.classifier_activation!r}."
            )
    # As Keras, which wants known sizes wherever there is a classifier, even behind a mean that takes any.
    needs_static = options.include_top if needs_static is None else needs_static
    shape = check_shape(options.input_shape, default_size, min_size, needs_static, weights, name)
    start = options.input_tensor
    if start is None:
        start = layers.Input(shape)
    elif not isinstance(start, KerasTensor):
        raise ValueError(f"{name}: `input_tensor` must be a symbolic tensor, as `Input` makes it. Got {start!r}.")
    builder = net()
    x = body(builder, start, options)
    if options.include_top:
        x = top(builder, x, options)
    else:
        if options.pooling:
            x = builder.pool(x, options.pooling, f"{options.pooling}_pool" if pool_names else None)
        x = x if end is None else end(builder, x)
    # A given tensor may itself be computed: the model then begins at the inputs behind it, as in Keras.
    model = Functional(_sources(start), x, name=name)
    pretrained.load(model, weights, key, options.include_top)
    return model


def check_shape(shape, default_size: int, min_size: int, needs_static: bool, weights, who: str) -> tuple:
    """The shape of the images, checked; without one the default.

    Raises:
        ValueError: if it is not three sizes, too small, open where it must be known, or not what the weights need.
    """
    first = config.image_data_format() == "channels_first"

    def arrange(height, width, channels):
        return (channels, height, width) if first else (height, width, channels)

    if not shape:
        return arrange(default_size, default_size, 3) if needs_static else arrange(None, None, 3)
    shape = tuple(shape)
    if len(shape) != 3:
        raise ValueError(
            f"{who}: `input_shape` must be three sizes, {arrange('height', 'width', 'channels')}. Got {shape}."
        )
    channels, *sides = shape if first else (shape[2], *shape[:2])  # whatever the layout
    if weights == "imagenet":
        expected = arrange(default_size, default_size, 3)
        # The mean over height and width would take other sizes, but Keras refuses them beside its classifier.
        if needs_static and shape != expected:
            raise ValueError(
                f"{who}: with the classifier and 'imagenet' weights `input_shape` must be {expected}. Got {shape}."
            )
        if channels != 3:
            raise ValueError(f"{who}: the 'imagenet' weights need 3 channels. Got input_shape={shape}.")
    elif channels not in (1, 3):
        # Not an error: weights of one's own may be for any number, such as the bands of a satellite.
        warnings.warn(f"{who} usually has 1 or 3 input channels. Got input_shape={shape}.", stacklevel=4)
    if any(side is not None and side < min_size for side in sides):
        raise ValueError(f"{who}: images must be at least {min_size} by {min_size}. Got input_shape={shape}.")
    if needs_static and None in shape:
        raise ValueError(f"{who}: with the classifier `input_shape` must have no None. Got {shape}.")
    return shape


def _sources(tensor: KerasTensor):
    """The `Input`s that a tensor is computed from: one tensor, or a list."""
    # By a stack of its own: the graph of a deep network is deeper than Python's recursion goes.
    found, waiting, seen = [], [tensor], set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if tensor.node.inputs:
            waiting.extend(reversed(tensor.node.inputs))  # so that inputs come in the order of the call
        else:
            found.append(tensor)
    return found[0] if len(found) == 1 else found


BY_FAMILY = "after the `preprocess_input` of this module"
BUILT_IN = "as they are: the model scales them itself"


def publish(
    function: Application,
    module: str,
    name: str,
    *,
    paper: str,
    preprocessing=BY_FAMILY,
    default_size: int | None = 224,
    min_size=32,
    more="",
) -> Application:
    """`function` as the public one called `name` of `module`, with the applications' docstring.

    `more`: lines on other arguments.
    """
    function.__name__ = function.__qualname__ = name
    function.__module__ = module
    default = (
        f"{default_size} by {default_size} with the classifier, any size without it" if default_size else "any size"
    )
    function.__doc__ = _DOC.format(
        name=name,
        preprocessing=preprocessing,
        paper=paper,
        min_size=min_size,
        default=default,
        more="".join(f"\n    {line}" for line in more.splitlines()),
    )
    return function


def standard(public_name: str, body: Callable, *, paper: str, preprocessing=BY_FAMILY, name=None, **how):
    """The public function of an application with the usual arguments; `how` as in `assemble`."""
    default_name = name or public_name.lower()

    def make(
        include_top=True,
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
        return assemble(body, options, **how)

    # The body is the one thing here that was written in the family's module.
    module = (body.func if isinstance(body, functools.partial) else body).__module__
    sizes = dict(default_size=how["default_size"], min_size=how.get("min_size", 32))
    return publish(make, module, public_name, paper=paper, preprocessing=preprocessing, **sizes)
