"""Convolutions."""

import functools
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from kerax import activations, config
from kerax.core.input_spec import InputSpec
from kerax.core.variable import Variable
from kerax.layers.dense import settle
from kerax.layers.options import Sizes, check_choice, check_positive, sizes, with_defaults
from kerax.ops import conv_gradients
from kerax.quantizers.compressible import Compressible

_PATCHES_LIMIT = 20_000_000  # bytes
_FEW_CHANNELS, _MANY_CHANNELS = 8, 16


def _patches_are_faster(inputs, kernel, is_padded: bool) -> bool:
    """Whether a stride-1 convolution is computed on CPU as a matrix product of patches (im2col) and kernel.

    XLA's CPU convolution is slow where there are few channels or three spatial axes; patches lose once they outgrow
    the caches, and with many channels where the inputs must be padded first. Forward and both gradients, CPU ms, XLA's
    against patches, without / with padding ("same"), 3x3 windows on a loaded machine:
    (128,28,28,1)*32: 33/25, 36/30. (128,32,32,3)*32: 89/49, 72/57. (32,28,28,16)*32: 13/13, 9.4/15.5.
    (128,13,13,32)*64: 37/38, 37/36. (64,8,8,128)*128: 41/32, 43/69. 3x3x3, (4,12,12,12,8)*16: 16/2.3, 24/5.4.
    """
    if config.target_platform() != "cpu":
        return False
    window = kernel.shape[:-2]
    if is_padded and len(window) < 3 and kernel.shape[-2] >= _FEW_CHANNELS:
        return False
    patches = [size - k + 1 for size, k in zip(inputs.shape[1:-1], window, strict=True)]
    known = [size for size in (inputs.shape[0], *patches) if isinstance(size, int)]
    num_bytes = math.prod(known) * math.prod(kernel.shape[:-1]) * inputs.dtype.itemsize
    return len(known) == len(patches) + 1 and (num_bytes <= _PATCHES_LIMIT or math.prod(window) == 1)


@functools.partial(jax.jit, inline=True)  # one program where called eagerly, not one for each slice and product
def _convolve_patches(inputs, kernel):
    """A stride-1 convolution without padding of `(batch, *spatial, channels)` by matrix products.

    With few channels all windows become rows of one product. With many, the windows of one kernel row do, and the
    products of the kernel's rows are added up: patches take less memory then. The inputs are computed before they are
    cut up; XLA would otherwise compute the pooling before them anew for each slice. A whole CNN step on one core takes
    47 ms with one product, 39 with inputs computed before, 36 with a product per kernel row as well; with 1 or 3
    channels one product is faster (forward and gradients 5.0 against 7.7 ms, 14.3 against 15.9).
    """
    if len(kernel.shape) > 3 and kernel.shape[-2] >= _MANY_CHANNELS and math.prod(kernel.shape[:-2]) > 1:
        size = inputs.shape[1] - kernel.shape[0] + 1
        patches = _patches(settle(inputs), (1, *kernel.shape[1:-2]))
        return sum(_multiply(patches[:, row : row + size], kernel[row]) for row in range(kernel.shape[0]))
    return _multiply(_patches(inputs, kernel.shape[:-2]), kernel)


def _patches(inputs, window):
    """The inputs under each position of the window, side by side: `(batch, *positions, window size * channels)`."""
    sizes = [size - k + 1 for size, k in zip(inputs.shape[1:-1], window, strict=True)]
    shifted = []
    for offsets in itertools.product(*map(range, window)):
        index = tuple(slice(start, start + size) for start, size in zip(offsets, sizes, strict=True))
        shifted.append(inputs[(slice(None), *index)])
    return jnp.concatenate(shifted, axis=-1) if len(shifted) > 1 else shifted[0]


def _multiply(patches, kernel):
    """Each patch times the kernel, as one plain matrix product."""
    filters = kernel.shape[-1]
    return (patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, filters)).reshape(*patches.shape[:-1], filters)


def same_padding(window: int, dilation: int = 1) -> tuple[int, int]:
    """Zeros before and after an axis that keep its size at stride 1; the odd one goes after."""
    total = dilation * (window - 1)
    return total // 2, total - total // 2


def convolve(inputs, kernel, strides, pads, dilation_rate, groups: int = 1, channels_last: bool = True):
    """The convolution of inputs `(batch, *spatial, channels)` with a kernel `(*window, channels / groups, filters)`.

    `pads` are the zeros before and after each spatial axis, or `"SAME"`. Without `channels_last` the inputs' channels
    come before the spatial axes, and the outputs' too.
    """
    on_cpu = config.target_platform() == "cpu" and groups == 1
    if on_cpu and not channels_last:
        outputs = convolve(jnp.moveaxis(inputs, 1, -1), kernel, strides, pads, dilation_rate)
        return jnp.moveaxis(outputs, -1, 1)
    if on_cpu and pads != "SAME" and max(strides) == max(dilation_rate) == 1:
        is_padded = any(map(any, pads))
        padded = jnp.pad(inputs, [(0, 0), *pads, (0, 0)]) if is_padded else inputs
        if _patches_are_faster(padded, kernel, is_padded):
            return _convolve_patches(padded, kernel)
    return conv_gradients.convolve(inputs, kernel, strides, pads, dilation_rate, groups, channels_last)


class BaseConv(Compressible):
    """What all convolutions share: how the window moves over the input, and what follows the sum over it.

    `quantize`, which Keras does not offer for them, stores kernels as integers with a scale for each output channel,
    and computes with the floats that these stand for. Only kerax reads files of such layers.

    A subclass of a rank gets its family's constructor with that rank's defaults.
    """

    rank: int
    use_bias: bool
    activation: Callable
    bias: Variable | None
    paddings: tuple[str, ...] = ("valid", "same")
    strides_and_dilation = False  # whether both may be above 1
    unmentioned = (*Compressible.unmentioned, "quantization_config")

    def __init_subclass__(cls, rank: int | None = None, **kwargs):
        super().__init_subclass__(**kwargs)
        if rank is not None:
            cls.rank = rank
            ones = (1,) * rank if rank > 1 else 1
            if "__init__" not in vars(cls):
                cls.__init__ = with_defaults(cls.__init__, strides=ones, dilation_rate=ones)

    def set_window(self, kernel_size, strides, padding: str, data_format: str | None, dilation_rate):
        """Sets the attributes that say how the window moves. Raises `ValueError` if one is out of its range."""
        self.kernel_size = sizes(self, "kernel_size", kernel_size, self.rank)
        self.strides = sizes(self, "strides", strides, self.rank)
        self.dilation_rate = sizes(self, "dilation_rate", dilation_rate, self.rank)
        self.padding = padding.lower()
        check_choice(self, "padding", self.padding, self.paddings)
        self.data_format = config.standardize_data_format(data_format)
        if not self.strides_and_dilation and max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{self}: `strides` and `dilation_rate` cannot both be above 1. "
                f"Got strides={self.strides}, dilation_rate={self.dilation_rate}."
            )
        self._channel_axis = -1 if self.data_format == "channels_last" else 1
        self._window = "uvw"[: self.rank]  # letters of the window's axes in the kernel's equation
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _check_input(self, input_shape) -> int:
        """The number of input channels. Raises `ValueError` if a window without padding is larger than the input."""
        self._check_size(input_shape)
        channels = input_shape[self._channel_axis]
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self._channel_axis: channels})
        return channels

    def _check_size(self, input_shape):
        spatial = input_shape[1:-1] if self._channel_axis == -1 else input_shape[2:]
        for size, k, dilation in zip(spatial, self.kernel_size, self.dilation_rate, strict=True):
            if self.padding == "valid" and size is not None and dilation * (k - 1) + 1 > size:
                raise ValueError(
                    f"{self}: the kernel is larger than the input. Got kernel_size={self.kernel_size}, "
                    f"dilation_rate={self.dilation_rate}, input shape {input_shape}. "
                    "Use a smaller kernel or padding='same'."
                )

    def _pads(self) -> tuple[tuple[int, int], ...] | str:
        """Zeros before and after each spatial axis, or `"SAME"` where they depend on the input's sizes."""
        windows = zip(self.kernel_size, self.dilation_rate, strict=True)
        if self.padding == "same":
            return "SAME" if max(self.strides) > 1 else tuple(same_padding(*window) for window in windows)
        if self.padding == "causal":
            return tuple((dilation * (k - 1), 0) for k, dilation in windows)
        return ((0, 0),) * self.rank

    def _finish(self, outputs):
        if self.bias is not None:
            shape = (-1,) if self._channel_axis == -1 else (-1,) + (1,) * self.rank
            outputs = outputs + self.bias.value.reshape(shape)
        return self.activation(outputs)


class _Conv(BaseConv):
    """What convolutions of any rank share. See `Conv2D`."""

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        groups: int = 1,
        activation=None,
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        **kwargs,
    ):
        super().__init__(lora_rank, lora_alpha, activity_regularizer=activity_regularizer, **kwargs)
        self.set_window(kernel_size, strides, padding, data_format, dilation_rate)
        check_positive(self, filters=filters, groups=groups)
        if filters % groups:
            raise ValueError(f"{self}: `filters` must be a multiple of `groups`. Got {filters=}, {groups=}.")
        self.filters = filters
        self.groups = groups
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.set_kernel_options(kernel_initializer, kernel_regularizer, kernel_constraint)
        self.set_bias_options(bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape):
        channels = self._check_input(input_shape)
        if channels is not None and channels % self.groups:
            raise ValueError(
                f"{self}: the number of input channels must be a multiple of `groups`={self.groups}. "
                f"Got {channels} channels, input shape {input_shape}."
            )
        inputs = None if channels is None else channels // self.groups
        self.add_kernel((*self.kernel_size, inputs, self.filters), f"...{self._window}i,{self._window}io->...o")
        self.bias = self.add_bias((self.filters,)) if self.use_bias else None
        self.finish_build()

    def call(self, inputs):
        channels_last = self._channel_axis == -1
        kernel = self.representations["kernel"].value
        return self._finish(
            convolve(inputs, kernel, self.strides, self._pads(), self.dilation_rate, self.groups, channels_last)
        )


class Conv1D(_Conv, rank=1):
    """Convolution of sequences: `activation(sum over the window of inputs @ kernel + bias)`.

    Args:
        filters: Number of output channels.
        kernel_size: Width of the window.
        strides: Steps between windows.
        padding: `"valid"` (none), `"same"` (as many outputs as inputs at stride 1), or `"causal"` (zeros in front
            only, so that no output sees a later input).
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: Steps between the inputs of a window.
        groups: Number of groups of channels that are convolved apart.
        activation: Name or function applied to the result. `None` applies nothing.
        use_bias: Whether to add `bias`.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            Options of the weights.
        activity_regularizer: Penalty on the outputs.
        lora_rank, lora_alpha: As in `Dense`.

    Weights: `kernel (width, channels / groups, filters)`, `bias (filters,)`.
    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new steps, filters)`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """

    paddings = ("valid", "same", "causal")


class Conv2D(_Conv, rank=2):
    """Convolution of images: `activation(sum over the window of inputs @ kernel + bias)`.

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the window.
        strides: Rows and columns between windows.
        padding: `"valid"` (none) or `"same"` (as many outputs as inputs at stride 1).
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: Rows and columns between the inputs of a window.
        groups: Number of groups of channels that are convolved apart.
        activation: Name or function applied to the result. `None` applies nothing.
        use_bias: Whether to add `bias`.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            Options of the weights.
        activity_regularizer: Penalty on the outputs.
        lora_rank, lora_alpha: As in `Dense`.

    Weights: `kernel (height, width, channels / groups, filters)`, `bias (filters,)`.
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new height, new width, filters)`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """


class Conv3D(_Conv, rank=3):
    """Convolution of volumes: `activation(sum over the window of inputs @ kernel + bias)`.

    Args: as in `Conv2D`, with three sizes for `kernel_size`, `strides` and `dilation_rate`.
    Weights: `kernel (depth, height, width, channels / groups, filters)`, `bias (filters,)`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes and `filters`.

    Raises:
        ValueError: if an argument is out of its range, or the kernel is larger than an input without padding.
    """
