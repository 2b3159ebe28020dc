"""Affine maps: `Dense` and `EinsumDense`."""

import string
from typing import Any

from kerax import activations
from kerax.core.input_spec import InputSpec
from kerax.dtype_policies import QUANTIZATION_MODES
from kerax.layers.options import check_positive
from kerax.quantizers.compressible import Compressible, Stored


class Dense(Compressible):
    """Affine map of the last axis: `activation(inputs @ kernel + bias)`.

    Args:
        units: Size of the last output axis, at least 1.
        activation: Name or function applied to the result. `None` applies nothing.
        use_bias: Whether to add `bias`.
        kernel_initializer, bias_initializer: Names or functions `(shape, dtype) -> array`.
        kernel_regularizer, bias_regularizer: Penalties on the weights.
        activity_regularizer: Penalty on the outputs.
        kernel_constraint, bias_constraint: Projections applied after each update.
        lora_rank: Rank of a trained update of the then frozen kernel. `None`: the kernel itself is trained.
        lora_alpha: The update is scaled by `lora_alpha / lora_rank`. Default: `lora_rank`. (Keras ignores it here.)
        quantization_config: How the kernel is quantized, as `quantize` sets it: with a quantized `dtype` only.

    Weights: `kernel (features, units)`, `bias (units,)`; with LoRA `lora_kernel_a (features, rank)`,
        `lora_kernel_b (rank, units)`.
    Input shape: `(batch, ..., features)`, floating point.
    Output shape: `(batch, ..., units)`, in the layer's compute dtype.

    Raises:
        ValueError: if `units` is below 1, or the input has fewer than 2 axes.
    """

    modes = QUANTIZATION_MODES
    unmentioned = (*Compressible.unmentioned, "activity_regularizer")
    kernel = Stored()
    _kernel = Stored()

    def __init__(
        self,
        units: int,
        activation=None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config=None,
        **kwargs,
    ):
        kwargs |= {"activity_regularizer": activity_regularizer}
        super().__init__(lora_rank, lora_alpha, quantization_config, **kwargs)
        check_positive(self, units=units)
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.set_kernel_options(kernel_initializer, kernel_regularizer, kernel_constraint)
        self.set_bias_options(bias_initializer, bias_regularizer, bias_constraint)
        self.represent("kernel", "...a,ab->...b")
        self.input_spec = InputSpec(min_ndim=2)
        self.supports_masking = True  # only the last axis changes: a step stays the same step

    def build(self, input_shape: Any) -> None:
        self.add_kernel((input_shape[-1], self.units))
        self.finish_build((self.units,) if self.use_bias else None)
        # Other numbers of features are refused by name from now on, not by the product's shapes.
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_shape[-1]})

    def call(self, inputs: Any) -> Any:
        outputs = self.representations["kernel"].project(inputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)


class EinsumDense(Compressible):
    """Affine map written as an einsum: `activation(einsum(equation, inputs, kernel) + bias)`.

    Args:
        equation: Of the form `"abc,cd->abd"`; `...` may stand for the leading or trailing axes of input and output.
        output_shape: Sizes of the output's axes that are named in the equation, without the batch axis;
            `None` where the input's size is kept.
        activation: Name or function applied to the result. `None` applies nothing.
        bias_axes: Letters of the output axes that `bias` has. `None` adds no bias.
        kernel_initializer, bias_initializer: Names or functions `(shape, dtype) -> array`.
        kernel_regularizer, bias_regularizer: Penalties on the weights.
        kernel_constraint, bias_constraint: Projections applied after each update.
        lora_rank, lora_alpha: As in `Dense`.
        quantization_config: As in `Dense`.
        gptq_unpacked_column_size: Without effect; configs of Keras have it.

    Weights: `kernel` of the equation's second shape; `bias`, sizes of `bias_axes`, 1 for axes between and after them;
        with LoRA `lora_kernel_a`, the kernel's shape but for a last size of `rank`, and `lora_kernel_b (rank, size)`.
    Input shape: as the equation says. Output shape: likewise, in the layer's compute dtype.

    Raises:
        ValueError: if the equation has another form, or the sizes do not fit it.
    """

    modes = QUANTIZATION_MODES
    kernel = Stored()
    _kernel = Stored()

    def __init__(
        self,
        equation: str,
        output_shape,
        activation=None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        gptq_unpacked_column_size=None,
        quantization_config=None,
        **kwargs,
    ):
        super().__init__(lora_rank, lora_alpha, quantization_config, **kwargs)
        self.equation = equation.replace(" ", "")
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.bias_axes = bias_axes
        self.represent("kernel", self.equation)
        self.activation = activations.get(activation)
        self.set_kernel_options(kernel_initializer, kernel_regularizer, kernel_constraint)
        self.set_bias_options(bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Any) -> None:
        kernel, outputs, sizes = self._read_equation(input_shape)
        initializer: Any = self.kernel_initializer
        if getattr(initializer, "input_axes", 0) is None:  # a variance scaling that must be told the fans
            axes = {"input_axes": [i for i, name in enumerate(kernel) if name not in outputs]}
            axes["output_axes"] = [i for i, name in enumerate(kernel) if name in outputs]
            initializer = type(initializer).from_config(initializer.get_config() | axes)
        self.add_kernel([sizes[name] for name in kernel], initializer)
        bias_shape = None
        if self.bias_axes is not None:
            # From the first of its axes on, so that it broadcasts from the outputs' last axis.
            first = min(outputs.index(name) for name in self.bias_axes)
            bias_shape = [sizes[name] if name in self.bias_axes else 1 for name in outputs[first:]]
        self.finish_build(bias_shape)
        self.input_spec = InputSpec(ndim=len(input_shape))

    def _read_equation(self, input_shape) -> tuple[str, str, dict]:
        """The axes of kernel and outputs, one letter each, and the sizes by letter."""

        def fail(reason):
            raise ValueError(
                f"{self}: {reason}. Got equation={self.equation!r}, output_shape={self.partial_output_shape}, "
                f"bias_axes={self.bias_axes!r}, input shape {input_shape}."
            )

        # Errors come in an order in which each check may rely on those before it.
        parts = self.equation.replace("->", ",").split(",")
        plain = [part.replace("...", "") for part in parts]
        if len(parts) != 3 or self.equation.count("->") != 1 or not all(part.isalpha() for part in plain if part):
            fail("`equation` must have the form 'ab,bc->ac'")
        if ("..." in parts[0]) != ("..." in parts[2]) or "..." in parts[1] or not plain[1]:
            fail("`...` must stand in the input and the output of `equation`, or in neither")
        num_elided = len(input_shape) - len(plain[0])
        if num_elided < 0 or (num_elided and "..." not in parts[0]):
            fail(f"`equation` asks for an input with {len(plain[0])} axes")
        # `...` becomes as many letters as the input has axes for it, so that every axis has a name.
        unused = [letter for letter in string.ascii_letters if letter not in self.equation]
        inputs, kernel, outputs = (part.replace("...", "".join(unused[:num_elided])) for part in parts)
        sizes = dict(zip(inputs, input_shape, strict=True))
        # Without `...` in front the output's first letter is the batch, which `output_shape` leaves out.
        named = plain[2] if parts[2].startswith("...") else plain[2][1:]
        # Keras wants an `output_shape` also where the batch is all that comes out.
        if named and len(named) != len(self.partial_output_shape):
            fail(f"`output_shape` must have {len(named)} entries, for the axes {named!r}")
        for name, size in zip(named, self.partial_output_shape, strict=False):
            if size is not None and sizes.setdefault(name, size) not in (size, None):
                fail(f"axis {name!r} has size {sizes[name]} in the input and {size} in `output_shape`")
        for name in kernel:
            if name not in sizes:
                fail(f"the kernel's axis {name!r} has no size: it is in neither the input nor the output")
        for name in outputs:
            if name not in inputs + kernel:
                fail(f"the output's axis {name!r} is in neither the input nor the kernel")
        for name in self.bias_axes or "":
            if name not in outputs:
                fail(f"the bias axis {name!r} is not in the output")
        return kernel, outputs, sizes

    def call(self, inputs: Any) -> Any:
        outputs = self.representations["kernel"].project(inputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = {"activity_regularizer": None} | super().get_config() | {"output_shape": self.partial_output_shape}
        del config["gptq_unpacked_column_size"]
        # What Keras needs to know of a kernel whose integers are packed two in a byte.
        if self.quantization_mode in ("gptq", "awq"):
            config["gptq_unpacked_column_size"] = self.representations["kernel"].num_columns
        return config
