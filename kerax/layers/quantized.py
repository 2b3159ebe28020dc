"""Dense layers and embeddings whose weights are stored as 8-bit or 4-bit integers.

`quantize` replaces the weight of a built layer; `dense_outputs` and `embedding_outputs` are what its `call` does then.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp

from kerax.core.layer import Layer
from kerax.core.tracking import descendants
from kerax.quantizers import (
    AbsMaxQuantizer,
    Int4QuantizationConfig,
    Int8QuantizationConfig,
    abs_max_quantize_grouped_with_zero_point,
    pack_int4,
    unpack_int4,
)

_DEFAULTS = {"int8": Int8QuantizationConfig, "int4": Int4QuantizationConfig}


def quantize(self: Layer, mode=None, type_check=True, config=None):
    """Replaces the kernel, or the embeddings, by integers; what they stood for is forgotten.

    With `"int8"` a dense layer also rounds its inputs to integers before the product. The new weights are not trained;
    gradients still reach the inputs.

    Args:
        mode: `"int8"` or `"int4"`. Default: that of `config`.
        type_check: Whether to refuse subclasses; those with a `call` of their own always are.
        config: `kerax.quantizers.Int8QuantizationConfig` or `Int4QuantizationConfig`. Default: the mode's.

    Raises:
        ValueError: if the mode is unknown, or the layer is not built, quantized already, or has LoRA weights.
    """
    mode = config.mode if mode is None and config is not None else mode
    if mode not in _DEFAULTS:
        raise ValueError(f"{self}: `mode` must be one of {tuple(_DEFAULTS)}. Got mode={mode!r}.")
    config = _DEFAULTS[mode]() if config is None else config
    if config.mode != mode:
        raise ValueError(f"{self}: `config` must be for mode {mode!r}. Got one for {config.mode!r}.")
    owner = next(cls for cls in type(self).__mro__ if "quantize" in vars(cls))
    if type_check and type(self) is not owner:
        raise ValueError(f"{self}: a subclass is quantized only with type_check=False. Got {type(self).__name__}.")
    if type(self).call is not owner.call:
        raise ValueError(f"{self}: {type(self).__name__} has a `call` of its own, which cannot read quantized weights.")
    if not self.built:
        raise ValueError(f"{self}: `quantize` needs a built layer. Call it on data or `build` it first.")
    if self.quantization_mode is not None:
        raise ValueError(f"{self}: quantized already, with mode {self.quantization_mode!r}.")
    if self.lora_enabled:
        raise ValueError(f"{self}: a layer with LoRA cannot be quantized. Make one with the merged weights.")
    name = "embeddings" if hasattr(self, "embeddings") else "kernel"
    weight = getattr(self, name).value
    if name == "embeddings":
        parts = _split_rows(weight, mode, config)
    else:
        parts = _split_kernel(weight, mode, config, equation_of(self))
    if getattr(config, "activation_quantizer", None) is None:
        self.inputs_quantizer = None
    else:
        self.inputs_quantizer = config.activation_quantizer
    self.quantized_shape, self.quantization_mode, self.quantization_config = weight.shape, mode, config
    self._weights.pop(name)
    for part, value in parts.items():
        own = part if part == "g_idx" else name + part
        variable = self.add_weight(
            name=own, shape=value.shape, initializer="zeros", dtype=value.dtype.name, trainable=False
        )
        variable.assign(value)
        setattr(self, own, variable)


def quantize_all(root: Layer, mode=None, config=None, filters=None, type_check=True):
    """`quantize` for every layer below `root` that has it and that `filters` picks.

    Raises:
        ValueError: if there is none.
    """
    picked = [
        layer
        for layer in descendants(root)
        if hasattr(layer, "quantization_mode") and (not type_check or "quantize" in vars(type(layer)))
    ]
    if callable(filters):
        picked = [layer for layer in picked if filters(layer)]
    elif filters is not None:
        patterns = [filters] if isinstance(filters, str) else filters
        picked = [layer for layer in picked if any(re.search(pattern, layer.name) for pattern in patterns)]
    if not picked:
        raise ValueError(
            f"{root}: there is nothing to quantize, or `filters` leaves no layer. Got filters={filters!r}."
        )
    for layer in picked:
        quantize(layer, mode, type_check, config)


def equation_of(layer: Layer) -> str:
    """The einsum of a dense layer."""
    return getattr(layer, "equation", "...a,ab->...b")


def _contracted(equation: str, operand: int) -> tuple[int, ...]:
    """The axes of the inputs (0) or the kernel (1) that the outputs do not have."""
    operands, outputs = equation.split("->")
    letters = operands.split(",")[operand]
    offset = -len(letters.removeprefix("...")) if letters.startswith("...") else 0
    letters = letters.replace("...", "")
    return tuple(i + offset for i, letter in enumerate(letters) if letter not in outputs)


def _split_kernel(kernel, mode: str, config, equation: str) -> dict:
    axes = _contracted(equation, 1)
    if mode == "int8":
        integers, scale = (config.weight_quantizer or AbsMaxQuantizer())(kernel, axis=axes, to_numpy=True)
        num_letters = len(equation.split(",")[0].replace("...", ""))
        # With size-1 axes in place of the contracted ones, the einsum only moves the scale to the outputs' axes.
        return {"": integers, "_scale": jnp.einsum(equation, jnp.ones((1,) * num_letters, scale.dtype), scale)}
    num_rows = math.prod(kernel.shape[axis] for axis in axes)
    return _split_matrix(kernel.reshape(num_rows, -1), config)


def _split_rows(table, mode: str, config) -> dict:
    if mode == "int8":
        integers, scale = (config.weight_quantizer or AbsMaxQuantizer())(table, axis=-1, to_numpy=True)
        return {"": integers, "_scale": scale[:, 0]}
    found = _split_matrix(table.T, config, is_table=True)
    return {part: value if part in ("", "g_idx") else value.T for part, value in found.items()}


def _split_matrix(matrix, config, is_table=False) -> dict:
    """4-bit integers of `(rows, columns)`, each column (of a block of rows) with a scale of its own."""
    zero_point = None
    if config.block_size is None:
        quantizer = config.weight_quantizer or AbsMaxQuantizer(value_range=(-8, 7))
        integers, scale = quantizer(matrix, axis=0, to_numpy=True)
        scale = scale[0]
    else:
        integers, scale, zero_point = abs_max_quantize_grouped_with_zero_point(matrix, config.block_size, to_numpy=True)
    found = {"": pack_int4(integers.T if is_table else integers, axis=-1)[0], "_scale": scale}
    if zero_point is not None:
        blocks = (jnp.arange(matrix.shape[0]) // config.block_size).astype("float32")
        found |= {"_zero": zero_point, "g_idx": blocks}
    return found


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _int8_product(equation, quantizer, inputs, kernel, scale):
    """The einsum of integers, scaled back; its gradient is that of the einsum with the kernel as floats."""
    integers, inputs_scale = quantizer(inputs, axis=_contracted(equation, 0))
    inputs_scale = jnp.einsum(equation, inputs_scale, jnp.ones((1,) * kernel.ndim, inputs_scale.dtype))
    product = jnp.einsum(equation, integers, kernel, preferred_element_type="int32")
    return product.astype(inputs.dtype) / (inputs_scale * scale)


def _int8_forward(equation, quantizer, inputs, kernel, scale):
    return _int8_product(equation, quantizer, inputs, kernel, scale), (inputs, kernel, scale)


def _int8_backward(equation, quantizer, saved, upstream):
    inputs, kernel, scale = saved
    _, pull_back = jax.vjp(lambda x: jnp.einsum(equation, x, kernel.astype(x.dtype)), inputs)
    return *pull_back(upstream / scale), None, None


_int8_product.defvjp(_int8_forward, _int8_backward)


def dense_outputs(layer: Layer, inputs):
    """The outputs of a quantized `Dense` or `EinsumDense`."""
    equation, kernel, scale = equation_of(layer), layer.kernel.value, layer.kernel_scale.value
    if layer.quantization_mode == "int4":
        integers = unpack_int4(kernel, math.prod(layer.quantized_shape) // kernel.shape[0], axis=-1)
        if layer.quantization_config.block_size is None:
            floats = integers / scale
        else:
            blocks = layer.g_idx.value.astype("int32")
            floats = (integers - layer.kernel_zero.value[blocks]) * scale[blocks]
        floats = floats.reshape(layer.quantized_shape).astype(layer.compute_dtype)
        outputs = jnp.einsum(equation, inputs, floats)
    elif layer.inputs_quantizer is None:
        outputs = jnp.einsum(equation, inputs, kernel.astype(layer.compute_dtype)) / scale
    else:
        outputs = _int8_product(equation, layer.inputs_quantizer, inputs, kernel, scale)
    if layer.bias is not None:
        outputs = outputs + layer.bias.value
    return layer.activation(outputs)


def embedding_outputs(layer: Layer, index):
    """The rows of a quantized `Embedding`."""
    rows = jnp.take(layer.embeddings.value, index, axis=0)
    scale = jnp.take(layer.embeddings_scale.value, index, axis=0)
    if layer.quantization_mode == "int4":
        rows = unpack_int4(rows, layer.quantized_shape[1], axis=-1)
        if layer.quantization_config.block_size is not None:
            blocks = layer.g_idx.value.astype("int32")
            zero_point = jnp.take(layer.embeddings_zero.value, index, axis=0)
            return ((rows - zero_point[..., blocks]) * scale[..., blocks]).astype(layer.compute_dtype)
    return (rows / scale[..., None]).astype(layer.compute_dtype)
