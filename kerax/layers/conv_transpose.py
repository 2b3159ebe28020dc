"""Transposed convolutions: from the shape of a convolution's output to that of its input."""

from typing import Any

from kerax.layers.conv import BaseConv
from kerax.layers.options import Sizes, check, check_positive, check_steps, sizes
from kerax.ops import convolutions


class _ConvTranspose(BaseConv):
    """What all transposed convolutions share: where the outputs begin and end, and the kernel's order of axes."""

    needs_whole_windows = False  # every input spreads over a window of the outputs, however few inputs there are

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
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        kwargs |= {"activity_regularizer": activity_regularizer}
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, **kwargs)
        check_steps(self, self.strides, self.dilation_rate)
        check_positive(self, filters=filters)
        self.filters, self.output_padding = filters, None
        self.set_kernel_options(kernel_initializer, kernel_regularizer, kernel_constraint)
        self.set_bias_options(bias_initializer, bias_regularizer, bias_constraint)
        self.represent_kernel("oi")
        if output_padding is not None:
            pads = self.output_padding = sizes(self, "output_padding", output_padding, self.rank, minimum=0)
            fits = all(pad < stride for pad, stride in zip(pads, self.strides, strict=True))
            # As many outputs more as a stride are another input's: which size was convolved is then no longer known.
            check(self, fits, "`output_padding` must be below `strides`", output_padding=pads, strides=self.strides)

    def build(self, input_shape: Any) -> None:
        # Filters before channels: the kernel is that of the convolution whose gradient this is.
        self.add_kernel((*self.kernel_size, self.filters, self.read_channels(input_shape)))
        self.finish_build((self.filters,) if self.use_bias else None)

    def call(self, inputs: Any) -> Any:
        kernel, window = self.representations["kernel"].value, (self.strides, self.padding, self.output_padding)
        return self.finish(convolutions.conv_transpose(inputs, kernel, *window, self.data_format, self.dilation_rate))


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
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        # Keras has `data_format` before `output_padding` here, and after it in the other ranks.
        window = kernel_size, strides, padding, output_padding, data_format, dilation_rate
        weights = kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer
        limits = kernel_constraint, bias_constraint
        super().__init__(filters, *window, activation, use_bias, *weights, activity_regularizer, *limits, **kwargs)
