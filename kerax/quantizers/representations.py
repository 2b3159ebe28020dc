"""How a layer stores a weight, and the products with it: as floats, as integers, or as floats rounded to 8 bits.

A layer holds its weights' representations by name and computes with them alone. `quantize` and `enable_lora` put others
in their place; the variables stay attributes of the layer, under Keras's names.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from kerax.core.locking import unlocked
from kerax.core.variable import Variable
from kerax.ops import cpu, gpu
from kerax.ops.products import contract, product_form
from kerax.quantizers import schemes
from kerax.quantizers.configs import QuantizationConfig, default_config

_MAIN, BEHIND_MAIN, _PART = -3, -2, -1  # places in files: as Keras has them, with the bias in the middle
_SHARED = ("awq_scales", "g_idx")  # parts whose names do not begin with that of the layer's first weight
_PARTS = ("", "_scale", "_zero", *_SHARED)  # in the order of Keras's weights


class Weight:
    """A weight that is stored as floats: what the others are made from.

    It reads the variables that are the layer's attributes now, so that one assigned later (a kernel shared with another
    layer, or made by a subclass's own `build`) is the one that is multiplied by.

    Args:
        layer: The layer it belongs to.
        name: The attribute of the layer that is its variable.
        equation: The einsum of inputs and the weight, as `"...a,ab->...b"`. Numbers that are added up share a scale
            when quantized.
        layout: How its matrix is read where two integers share a byte: `"kernel"`, `"table"` (of rows that are picked),
            or `"reverse"` (what multiplies rows of a table).
    """

    is_its_variable = True  # whether the weight is the value of one variable

    def __init__(self, layer: Any, name: str, equation: str, layout: str = "kernel"):
        self.layer, self.name, self.equation, self.layout = layer, name, equation, layout
        self.attributes = {"": name}  # of the layer, by the ends of their names
        self.options: dict[str, Any] = {}  # regularizer and constraint of the floats

    # What layers compute with.

    @property
    def value(self) -> jax.Array:
        """The weight as floats."""
        return vars(self.layer)[self.name].value

    def project(self, inputs: Any, bias: Variable | None = None) -> Any:
        """The einsum of inputs and the weight, plus a bias."""
        kernel = self.value
        num_axes = self.num_contracted
        if bias is not None and num_axes and not bias.is_sliced and gpu.has_affine(inputs, kernel, num_axes):
            return gpu.affine(inputs, kernel, bias.exact, num_axes)
        if not self.num_contracted:  # axes in another order, or summed in the middle
            outputs = jnp.einsum(self.equation, inputs, kernel)
        elif inputs.ndim == kernel.ndim == 2:  # without three reshapes that do nothing, each a dispatch where eager
            outputs = jnp.matmul(inputs, kernel)
        elif gpu.is_one_row(inputs, num_axes):
            outputs = gpu.product_of_one_row(inputs, kernel, num_axes)
        else:
            rows, matrix, num_axes, shape = product_form(inputs, kernel, self.num_contracted)
            if cpu.favors_few_rows(math.prod(shape[: inputs.ndim - self.num_contracted]), kernel.dtype):
                outputs = cpu.product_of_few_rows(inputs.reshape(rows), kernel.reshape(matrix)).reshape(shape)
                return outputs if bias is None else outputs + bias.value
            outputs = jnp.tensordot(inputs.reshape(rows), kernel.reshape(matrix), num_axes).reshape(shape)
        return outputs if bias is None else outputs + bias.value

    def take(self, index: Any) -> Any:
        """Rows of a table as floats, with only these made floats."""
        return cpu.take_rows(self.value, index)

    # What quantization, low-rank updates and files need.

    @property
    def variables(self) -> dict[str, Variable]:
        """The layer's variables that hold it, by the ends of their names."""
        return {part: vars(self.layer)[attribute] for part, attribute in self.attributes.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape as floats."""
        return vars(self.layer)[self.name].shape

    @functools.cached_property
    def num_contracted(self) -> int:
        """Axes that end the inputs, begin the weight and are added up; 0 for equations that need einsum."""
        return schemes.num_contracted(self.equation)

    @property
    def num_rows(self) -> int:
        """Rows of the weight as a matrix: one for each number that is added up."""
        return math.prod(self.shape[axis] for axis in schemes.contracted(self.equation, 1))

    @property
    def num_columns(self) -> int:
        """Its columns: one for each output."""
        return math.prod(self.shape) // self.num_rows

    def create(self, shape: Any, initializer: Any) -> None:
        """Makes the variables, with no values yet."""
        self.add("", shape=shape, initializer=initializer, **self.options)

    def drop(self) -> None:
        """Takes the variables away from the layer."""
        for part in self.attributes:
            attribute, name = self.names(part)
            self.layer._weights.pop(name, None)  # a shared one may have another name, or none, here
            del vars(self.layer)[attribute]

    def names(self, part: str) -> tuple[str, str]:
        """The attribute of a part, and its variable's name."""
        return self.name + part, self.name + part

    def quantized(self, config: QuantizationConfig) -> "Weight":
        """The representation that takes this one's place."""
        # The shape is asked for before the variables go.
        found = KINDS[config.mode](self, config, self.shape)
        found.take_over(self)
        return found

    def split(self, value: jax.Array) -> dict[str, Any]:
        """What the variables hold for a weight of that value, by the ends of their names."""
        return {"": value.astype(self.variables[""].stored_dtype)}

    def add(self, part: str, **options) -> Variable:
        """Makes the variable of a part, from the arguments of `add_weight`."""
        attribute, name = self.names(part)
        with unlocked(self.layer):
            variable = self.layer.add_weight(name=name, **options)
        variable.place_in_files = _MAIN if attribute == self.name and self.layout != "reverse" else _PART
        self.attributes[part] = attribute
        self.layer.__dict__[attribute] = variable  # an attribute whose name only the mode knows
        return variable


class Table(Weight):
    """A table of rows, or what multiplies them, as floats: its layer picks rows before it casts them."""

    def project(self, inputs: Any, bias: Any = None) -> Any:
        """The products of vectors with all rows, in the vectors' dtype."""
        value, is_table = self.value.astype(inputs.dtype), self.layout == "table"
        if cpu.favors_few_rows(math.prod(inputs.shape[:-1]), value.dtype):
            rows = inputs.reshape(-1, inputs.shape[-1])
            outputs = cpu.product_of_few_rows(rows, value, axis=-1 if is_table else -2)
            outputs = outputs.reshape(*inputs.shape[:-1], -1)
        else:
            outputs = contract(inputs, value.T if is_table else value)
        return outputs if bias is None else outputs + bias.value


class Quantized(Weight):
    """A weight stored as integers, which are not trained. A subclass says how they are made and read.

    Args:
        weight: The representation whose place it takes.
        config: How it is quantized.
        shape: Its shape as floats.
    """

    is_its_variable = False

    def __init__(self, weight: Weight, config: Any, shape):
        super().__init__(weight.layer, weight.name, weight.equation, weight.layout)
        self.attributes, self.options = {}, weight.options
        self.config, self._shape = config, tuple(shape)
        self.quantizer = getattr(config, "activation_quantizer", None)

    @property
    def shape(self) -> Any:
        """Its shape as floats, which may be packed."""
        return self._shape

    @property
    def value(self) -> jax.Array:
        """The weight as floats."""
        return self.join({part: variable.value for part, variable in self.variables.items()})

    def names(self, part: Any) -> Any:
        first = next(iter(self.layer.representations))
        # Keras calls them the same in every layer; a second weight's own must not take the name.
        if part in _SHARED and (first == self.name or self.layout == "reverse"):
            return part, part
        attribute = self.name + ("_" if part in _SHARED else "") + part
        return attribute, attribute

    def join(self, parts: dict) -> jax.Array:
        """The floats that stored parts stand for."""
        raise NotImplementedError(f"{type(self).__name__} must say how it is read.")

    def project(self, inputs: Any, bias: Any = None) -> Any:
        """The einsum of inputs, rounded if the config says so, and the weight, plus a bias."""
        seen: Any = inputs.astype(self.layer.compute_dtype)
        if self.quantizer is not None:  # rounded vector by vector, along the axes that are added up
            seen = schemes.rounded(self.quantizer, schemes.contracted(self.equation, 0), seen)
        outputs = jnp.einsum(self.equation, seen, self.value.astype(seen.dtype))
        return outputs if bias is None else outputs + bias.value

    def take(self, index: Any) -> Any:
        """Rows of a table as floats, with only these made floats."""
        parts = {part: variable.value for part, variable in self.variables.items()}
        picked = {part: jnp.take(value, index, axis=0) for part, value in parts.items() if part not in _SHARED}
        return self.join(parts | picked)

    def take_over(self, weight: Weight) -> None:
        """Stores what another representation holds, and drops that."""
        parts = self.split(weight.value)  # before the variables go, whose names the new ones take
        weight.drop()
        self.add_parts(parts)

    def create(self, shape: Any, initializer: Any) -> None:
        self.add_parts(self.specs())

    def specs(self) -> dict[str, Any]:
        """Shapes and dtypes of the stored parts, and values that are known."""
        # From the same function that splits values, so that files and `quantize` cannot differ.
        return jax.eval_shape(self.split, jax.ShapeDtypeStruct(self.shape, self.layer.variable_dtype))

    def add_parts(self, parts: dict[str, Any]) -> None:
        """Makes the variables of stored parts: values, or shapes and dtypes to be filled from a file."""
        for part in _PARTS:
            if part not in parts:
                continue
            if self.layout == "reverse" and hasattr(self.layer, part):  # the table's rows are in the same blocks
                self.attributes[part] = part
                continue
            value, initializer = parts[part], "ones" if part in ("_scale", "awq_scales") else "zeros"
            options = {"shape": value.shape, "dtype": value.dtype.name, "initializer": initializer}
            variable = self.add(part, trainable=False, **options)
            if not isinstance(value, jax.ShapeDtypeStruct):
                variable.assign(value)


class Int8(Quantized):
    """A weight as 8-bit integers, with a scale for each output."""

    def split(self, value: Any) -> Any:
        return schemes.split_int8(value, self.config, self.equation)

    def join(self, parts: Any) -> Any:
        if self.layout == "table":
            return parts[""] / parts["_scale"][..., None]
        return schemes.join_int8(parts, self.equation)

    def project(self, inputs: Any, bias: Any = None) -> Any:
        """The einsum of integers, scaled back, where the inputs are rounded too; plus a bias."""
        if self.quantizer is None:
            return super().project(inputs, bias)
        inputs, parts = inputs.astype(self.layer.compute_dtype), self.variables
        outputs = schemes.int8_product(self.equation, self.quantizer, inputs, parts[""].value, parts["_scale"].value)
        return outputs if bias is None else outputs + bias.value


class Int4(Quantized):
    """A weight as 4-bit integers, two in a byte, with a scale for each output or for blocks of rows of it."""

    def split(self, value: Any) -> Any:
        if self.layout == "table":  # (rows, columns): a scale for each row, two columns in a byte
            parts = schemes.split_matrix(value.T, self.config, pack_axis=0)
            return {part: array if part == "g_idx" else array.T for part, array in parts.items()}
        if self.layout == "kernel":
            return schemes.split_matrix(value.reshape(self.num_rows, -1), self.config, pack_axis=-1)
        parts = schemes.split_matrix(value, self.config, pack_axis=0)
        if "_zero" in parts:
            parts["_zero"] = parts["_zero"].astype(self.layer.variable_dtype)  # as Keras stores it
        return parts

    def join(self, parts: Any) -> Any:
        if self.layout == "table":
            return schemes.join_int4(parts, self.shape[1], has_scaled_rows=True)
        if self.layout == "reverse":
            return schemes.join_int4(parts, self.shape[0], pack_axis=0)
        size = self.config.block_size
        in_blocks = {} if size in (None, -1) else {"block_size": size}
        return schemes.join_int4(parts, self.num_columns, **in_blocks).reshape(self.shape)

    def specs(self) -> Any:
        found = super().specs()
        # The blocks follow from the shape: their value is known before any file is read.
        return found | ({"g_idx": schemes.blocks(self.num_rows, self.config)} if "g_idx" in found else {})


class NormalFloat(Quantized):
    """A weight as numbers of NF4, two in a byte, with a scale for blocks of rows of each output."""

    def split(self, value: Any) -> Any:
        size = self.config.block_size
        if self.layout == "table":  # (rows, columns): blocks of a row's columns, two columns in a byte
            return {part: array.T for part, array in schemes.split_nf4(value.T, size, 0).items()}
        if self.layout == "kernel":
            return schemes.split_nf4(value.reshape(self.num_rows, -1), size, -1)
        return schemes.split_nf4(value, size, 0)

    def join(self, parts: Any) -> Any:
        size = self.config.block_size
        if self.layout == "table":
            return schemes.join_nf4(parts, self.shape[1], size, -1, rows_axis=-1)
        if self.layout == "reverse":
            return schemes.join_nf4(parts, self.shape[0], size, 0)
        return schemes.join_nf4(parts, self.num_columns, size, -1).reshape(self.shape)


class Groups(Quantized):
    """A weight as the integers that GPTQ or AWQ found, transposed, with a scale and a zero point for groups of rows."""

    def names(self, part: Any) -> Any:
        zero = "zero_point" if hasattr(self.layer, "equation") else f"{self.name}_zero"  # what Keras calls it
        found = {"": (f"quantized_{self.name}", self.name), "_zero": (f"{self.name}_zero", zero)}
        return found[part] if part in found else super().names(part)

    def specs(self) -> Any:
        policy = self.layer.kerax_own_policy
        numbers = policy.weight_bits, policy.group_size, self.layer.variable_dtype, policy.quantization_mode == "awq"
        return schemes.empty_groups(self.num_rows, self.num_columns, *numbers)

    def join(self, parts: Any) -> Any:
        bits = self.layer.kerax_own_policy.weight_bits
        return schemes.join_groups(parts, bits, self.num_columns).reshape(self.shape)


class Uncalibrated(Weight):
    """A weight as floats, beside the integers that it is stored as once `is_<mode>_calibrated` of its layer says so.

    Args:
        floats: The weight.
        groups: The integers, made as if all inputs were alike.
    """

    def __init__(self, floats: Weight, groups: Groups):
        super().__init__(floats.layer, floats.name, floats.equation, floats.layout)
        self.groups, self.options = groups, floats.options
        for variable in self.variables.values():
            variable.place_in_files = None  # files hold integers alone

    @property
    def value(self) -> Any:
        is_calibrated = getattr(self.layer, f"is_{self.groups.config.mode}_calibrated")
        return self.groups.value if is_calibrated else super().value

    def drop(self) -> None:
        super().drop()
        self.groups.drop()


class Float8(Quantized):
    """A weight stored as floats, which like inputs and gradients are rounded to 8 bits in the product."""

    is_its_variable = True
    scales = tuple(f"{of}_{end}" for of in ("inputs", "kernel", "outputs_grad") for end in ("scale", "amax_history"))

    def names(self, part: Any) -> Any:
        return (part, part) if part in self.scales else super().names(part)

    @property
    def value(self) -> Any:
        return self.variables[""].value

    def create(self, shape: Any, initializer: Any) -> None:
        self.add_scales()
        super(Quantized, self).create(shape, initializer)

    def take_over(self, weight: Any) -> None:
        self.attributes |= weight.attributes  # the floats stay: they are trained
        self.add_scales()
        self.layer._ready = False  # the new variables have no arrays yet

    def add_scales(self) -> None:
        """Makes the variables beside the weight: scales, and the largest magnitudes of the last steps."""
        length = getattr(self.layer.kerax_own_policy, "amax_history_length", 1024)
        for part in self.scales:
            shape, initializer = ((), "ones") if part.endswith("scale") else ((length,), "zeros")
            options = {"dtype": "float32", "autocast": False, "overwrite_with_gradient": True}
            self.add(part, shape=shape, initializer=initializer, **options)

    def project(self, inputs: Any, bias: Any = None) -> Any:
        """The einsum of inputs and the weight, plus a bias, which is as precise as in mixed precision, as in Keras."""
        values = [self.variables[part].value for part in self.scales]
        inputs, kernel = schemes.float8_operand(inputs, *values[:2]), schemes.float8_operand(self.value, *values[2:4])
        outputs = schemes.float8_gradient(jnp.einsum(self.equation, inputs, kernel), *values[4:])
        if bias is None:
            return outputs
        added = bias.value
        return outputs + (added.astype("bfloat16").astype(added.dtype) if added.dtype == jnp.float32 else added)


KINDS: dict[str, type[Quantized]] = {
    "int8": Int8,
    "int4": Int4,
    "nf4": NormalFloat,
    "gptq": Groups,
    "awq": Groups,
    "float8": Float8,
}


def as_policy_says(weight: Weight, shape: Any) -> Quantized:
    """The representation in which the dtype policy of the weight's layer has it, without variables yet.

    Raises:
        ValueError: if the layer's weights cannot be stored so.
    """
    layer, mode = weight.layer, weight.layer.quantization_mode
    if mode not in layer.modes:
        raise ValueError(f"{layer}: `dtype` must have no quantization mode or one of {layer.modes}. Got {mode!r}.")
    return KINDS[mode](weight, layer.quantization_config or default_config(layer.kerax_own_policy), shape)
