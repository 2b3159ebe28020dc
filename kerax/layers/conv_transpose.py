"""Transposed convolutions: from the shape of a convolution's output to that of its input."""

import itertools
import math

import jax.numpy as jnp
from jax import lax

from kerax import activations, config
from kerax.layers.conv import BaseConv
from kerax.layers.options import Sizes, check_positive, sizes
from kerax.ops.conv_gradients import axis_letters

_WINDOWS_LIMIT = 100_000_000  # bytes


def _windows_are_faster(inputs, kernel) -> bool:
    """Whether a transposed convolution is computed on CPU as a matrix product whose windows are added up (col2im).

    XLA's CPU gradient of a convolution of dilated inputs is slow. Forward / with both gradients, ms, best of 8 on 2
    cores, native against windows, at stride 2 but for the last:
    (32,7,7,128)*5x5x64: 3.8/194, 3.7/31. (32,14,14,64)*3x3x32: 2.0/80, 2.8/16. (32,14,14,64)*2x2x32: 0.6/35, 0.6/3.3.
    (16,32,32,64)*4x4x32: 8.6/369, 4.0/70. (32,28,28,32)*3x3x1, stride 1: 0.9/6.0, 0.3/1.7.
    """
    if config.target_platform() != "cpu" or not all(isinstance(size, int) for size in inputs.shape):
        return False
    return math.prod(inputs.shape[:-1]) * math.prod(kernel.shape[:-1]) * inputs.dtype.itemsize <= _WINDOWS_LIMIT


def _add_windows(inputs, kernel, strides, pads):
    """The kernel times every input, added up in the outputs: as `lax.conv_transpose` of `(batch, *spatial, channels)`.

    Windows are cut into tiles of the strides' size, so that all first tiles lie side by side in the outputs, all second
    ones one tile further, and so on.
    """
    *window, filters, channels = kernel.shape
    rank, batch, spatial = len(window), inputs.shape[0], inputs.shape[1:-1]
    num_tiles = [-(-k // stride) for k, stride in zip(window, strides, strict=True)]
    fill = [(0, tiles * stride - k) for k, tiles, stride in zip(window, num_tiles, strides, strict=True)]
    kernel = jnp.pad(kernel, [*fill, (0, 0), (0, 0)])
    windows = inputs.reshape(-1, channels) @ kernel.reshape(-1, channels).T
    windows = windows.reshape(batch, *spatial, *kernel.shape[:-1])
    total = 0
    for tile in itertools.product(*map(range, num_tiles)):
        index = [slice(i * stride, (i + 1) * stride) for i, stride in zip(tile, strides, strict=True)]
        part = windows[(..., *index, slice(None))]  # (batch, *spatial, *strides, filters)
        shift = [(i, tiles - 1 - i) for i, tiles in zip(tile, num_tiles, strict=True)]
        total = total + jnp.pad(part, [(0, 0), *shift, *[(0, 0)] * (rank + 1)])
    order = [axis + half * rank for axis in range(1, rank + 1) for half in (0, 1)]
    total = jnp.transpose(total, (0, *order, 2 * rank + 1))
    sizes = [(size + tiles - 1) * stride for size, tiles, stride in zip(spatial, num_tiles, strides, strict=True)]
    outputs = total.reshape(batch, *sizes, filters)
    edges = [(0, 0, 0)]  # to add, or if negative to drop: pads of `k - 1` on both sides keep all that windows reach
    for (before, after), size, k, stride, whole in zip(pads, spatial, window, strides, sizes, strict=True):
        reach = (size - 1) * stride + k
        edges.append((before - (k - 1), after - (k - 1) + reach - whole, 0))
    return lax.pad(outputs, jnp.zeros((), outputs.dtype), [*edges, (0, 0, 0)])


class _ConvTranspose(BaseConv):
    """What all transposed convolutions share: where the outputs begin and end, and the kernel's order of axes."""

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        output_padding: Sizes | None = None,
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation=None,
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.set_window(kernel_size, strides, padding, data_format, dilation_rate)
        check_positive(self, filters=filters)
        self.filters = filters
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.set_kernel_options(kernel_initializer, kernel_regularizer, kernel_constraint)
        self.set_bias_options(bias_initializer, bias_regularizer, bias_constraint)
        self.output_padding = None
        if output_padding is not None:
            self.output_padding = sizes(self, "output_padding", output_padding, self.rank, minimum=0)
            if any(pad >= stride for pad, stride in zip(self.output_padding, self.strides, strict=True)):
                raise ValueError(
                    f"{self}: `output_padding` must be below `strides`. "
                    f"Got output_padding={self.output_padding}, strides={self.strides}."
                )

    def build(self, input_shape):
        channels = self._check_input(input_shape)
        self.add_kernel((*self.kernel_size, self.filters, channels), f"...{self._window}i,{self._window}oi->...o")
        self.bias = self.add_bias((self.filters,)) if self.use_bias else None
        self.finish_build()

    def _check_size(self, input_shape):
        """Any input is large enough."""

    def _transposed_pads(self) -> list[tuple[int, int]]:
        """Zeros before and after the inputs, between which `stride - 1` zeros were put.

        An axis of n inputs then gives `(n - 1) * stride + growth` outputs.
        """
        pads = []
        for axis in range(self.rank):
            window, stride = self.dilation_rate[axis] * (self.kernel_size[axis] - 1) + 1, self.strides[axis]
            if self.padding == "same":
                growth = stride if self.output_padding is None else window % 2 + self.output_padding[axis]
                total = growth + window - 2
                before = min(total - total // 2, window - 1)
            else:
                growth = max(window, stride) if self.output_padding is None else window + self.output_padding[axis]
                total, before = growth + window - 2, window - 1
            pads.append((before, total - before))
        return pads

    def call(self, inputs):
        kernel = self.representations["kernel"].value
        pads, channels_last = self._transposed_pads(), self._channel_axis == -1
        if channels_last and max(self.dilation_rate) == 1 and _windows_are_faster(inputs, kernel):
            return self._finish(_add_windows(inputs, kernel, self.strides, pads))
        outputs = lax.conv_transpose(
            inputs,
            kernel,
            self.strides,
            pads,
            rhs_dilation=self.dilation_rate,
            dimension_numbers=axis_letters(self.rank, channels_last),
            transpose_kernel=True,
        )
        return self._finish(outputs)


class Conv1DTranspose(_ConvTranspose, rank=1):
    """Transposed convolution of sequences: every input adds itself times the kernel to a window of the outputs.

    Args: as in `Conv2DTranspose`, with one size for `kernel_size`, `strides`, `output_padding` and `dilation_rate`.
    Weights: `kernel (width, filters, channels)`, `bias (filters,)`.
    Input shape: `(batch, steps, channels)`. Output shape: the same with new sizes and `filters`.

    Raises:
        ValueError: if an argument is out of its range.
    """


class Conv2DTranspose(_ConvTranspose, rank=2):
    """Transposed convolution of images: every input adds itself times the kernel to a window of the outputs.

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the window.
        strides: Rows and columns between windows.
        padding: `"valid"` (all outputs that a window reaches) or `"same"` (size times stride).
        output_padding: Outputs added after the last row and column, below `strides`. Default: what `padding` says.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: Rows and columns between the outputs of a window.
        activation: Name or function applied to the result. `None` applies nothing.
        use_bias: Whether to add `bias`.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            Options of the weights.
        activity_regularizer: Penalty on the outputs.

    Weights: `kernel (height, width, filters, channels)`, `bias (filters,)`.
    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new height, new width, filters)`.
    Source: Dumoulin & Visin 2016, https://arxiv.org/abs/1603.07285

    Raises:
        ValueError: if an argument is out of its range.
    """


class Conv3DTranspose(_ConvTranspose, rank=3):
    """Transposed convolution of volumes: every input adds itself times the kernel to a window of the outputs.

    Args: as in `Conv2DTranspose`, with three sizes for `kernel_size`, `strides`, `output_padding` and `dilation_rate`.
    Weights: `kernel (depth, height, width, filters, channels)`, `bias (filters,)`.
    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes and `filters`.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = (1, 1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: Sizes | None = None,
        dilation_rate: Sizes = (1, 1, 1),
        activation=None,
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            output_padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            **kwargs,
        )
