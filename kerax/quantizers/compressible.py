"""What dense layers and embeddings share: a main weight that can be quantized and have a low-rank update."""

import math
import warnings

import jax
import jax.numpy as jnp

from kerax import dtype_policies
from kerax.core.layer import Layer
from kerax.core.registry import serialize_keras_object
from kerax.core.tracking import descendants
from kerax.quantizers import calibration, lora, schemes
from kerax.quantizers.configs import (
    Float8QuantizationConfig,
    Int4QuantizationConfig,
    Int8QuantizationConfig,
    QuantizationConfig,
    resolve,
)
from kerax.quantizers.functions import pack_int4

_CALIBRATED = ("gptq", "awq")
_FLOAT8 = ("inputs", "kernel", "outputs_grad")
_STORED = (  # the order of files, whatever the mode
    *("kernel", "embeddings", "bias", "quantized_kernel", "embeddings_scale", "inputs_scale", "inputs_amax_history"),
    *("kernel_scale", "kernel_amax_history", "outputs_grad_scale", "outputs_grad_amax_history", "kernel_zero"),
    *("embeddings_zero", "awq_scales", "g_idx", "reverse_embeddings", "reverse_embeddings_scale"),
    "reverse_embeddings_zero",
)


class _Compressible(Layer):
    """A layer with a main weight, the kernel of an einsum, that can be stored in few bits and updated by few numbers.

    A subclass names the weight in `_main`, the einsum in `_equation`, and adds the weight by `_add_main`.
    """

    _main, _equation = "kernel", "...a,ab->...b"
    _modes: tuple[str, ...] = ("int8", "int4")

    def _configure(self, lora_rank, lora_alpha, quantization_config):
        """Sets what the constructor's arguments of these names say."""
        lora.configure(self, lora_rank, lora_alpha)
        if not isinstance(quantization_config, QuantizationConfig | None):
            raise TypeError(
                f"{self}: `quantization_config` must be one of `kerax.quantizers`. Got {quantization_config!r}."
            )
        self.quantization_config = quantization_config
        self.main_shape: tuple[int, ...] | None = None

    @property
    def dtype_policy(self) -> dtype_policies.DTypePolicy:
        """The dtype policy; setting a quantized one quantizes a layer that is built."""
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, policy):
        policy = dtype_policies.get(policy)
        mode = policy.quantization_mode
        if getattr(self, "built", False) and mode is not None and self.quantization_mode is None:
            quantize(self, mode, False, _default_config(policy), policy)
        self._dtype_policy = policy

    @property
    def is_plain(self) -> bool:
        """Whether the float weights say all that the layer does, so that others may read them instead of calling it."""
        return self.quantization_mode is None and "call" not in vars(self)

    @property
    def scheme(self) -> QuantizationConfig | None:
        """The config that the stored form follows: the layer's own, or what its dtype policy says."""
        return self.quantization_config or _default_config(self.own_policy)

    # Weights.

    def _add_main(self, shape, **options):
        """Adds the main weight in `build`, in the form that the dtype policy says."""
        mode, self.main_shape = self.quantization_mode, tuple(shape)
        if mode is not None and mode not in self._modes:
            raise ValueError(f"{self}: `dtype` must have no quantization mode or one of {self._modes}. Got {mode!r}.")
        if mode == "float8":
            self._add_float8()
        if mode in (None, "float8"):
            kinds = ("initializer", "regularizer", "constraint")
            options = {kind: getattr(self, f"{self._main}_{kind}") for kind in kinds} | options
            setattr(self, self._main, self.add_weight(name=self._main, shape=shape, **options))
        elif mode in _CALIBRATED:
            rows, policy = self._rows(), self.own_policy
            numbers = policy.weight_bits, policy.group_size, self.variable_dtype
            self._add_parts(
                by_attribute(schemes.empty_groups(rows, self._columns(), *numbers, mode == "awq"), "kernel")
            )
        else:
            specs = {name: jax.ShapeDtypeStruct(size, self.variable_dtype) for name, size in self._shapes().items()}
            order: list[str] = []

            def split(values):
                found = self._split(values, self.scheme)
                order.extend(found)
                return found

            parts = jax.eval_shape(split, specs)
            parts = {name: parts[name] for name in order}  # JAX sorts the keys
            self._add_parts(parts)
            if "g_idx" in parts:
                blocks = jnp.arange(*parts["g_idx"].shape) // self.scheme.block_size
                self.g_idx.assign(blocks.astype("float32"))

    def _shapes(self) -> dict:
        """The weights that are quantized, and their shapes."""
        return {self._main: self.main_shape}

    def _rows(self) -> int:
        """The main weight as a matrix has so many rows, which are inputs,"""
        return schemes.num_rows(self.main_shape, self._equation)

    def _columns(self) -> int:
        """and so many columns."""
        return math.prod(self.main_shape) // self._rows()

    def _add_parts(self, parts: dict):
        """Adds the stored form of quantized weights, by attribute: values, or shapes to be filled later."""
        for attribute, value in parts.items():
            name = "kernel" if attribute == "quantized_kernel" else attribute
            if attribute == "kernel_zero" and "quantized_kernel" in parts and hasattr(self, "equation"):
                name = "zero_point"  # what Keras calls it
            initializer = "ones" if name.endswith(("_scale", "_scales")) else "zeros"
            options = {"shape": value.shape, "dtype": value.dtype.name, "initializer": initializer, "trainable": False}
            setattr(self, attribute, self.add_weight(name=name, **options))
            if not isinstance(value, jax.ShapeDtypeStruct):
                getattr(self, attribute).assign(value)

    def _add_float8(self):
        length = getattr(self.own_policy, "amax_history_length", 1024)
        options = {"dtype": "float32", "autocast": False, "overwrite_with_gradient": True}
        for name in _FLOAT8:
            for end, shape, initializer in (("scale", (), "ones"), ("amax_history", (length,), "zeros")):
                own = f"{name}_{end}"
                setattr(self, own, self.add_weight(name=own, shape=shape, initializer=initializer, **options))

    def _split(self, values: dict, config) -> dict:
        """The stored form of weights by name: arrays by attribute."""
        return by_attribute(schemes.split_kernel(values[self._main], config, self._equation), self._main)

    def _parts(self, name: str) -> dict:
        """The stored form of a weight: arrays by the ends of their names."""
        attributes = {"": name, "_scale": f"{name}_scale", "_zero": f"{name}_zero", "g_idx": "g_idx"}
        if self.quantization_mode in _CALIBRATED:
            attributes |= {"": "quantized_kernel", "awq_scales": "awq_scales"}
        return {part: getattr(self, own).value for part, own in attributes.items() if hasattr(self, own)}

    def _as_floats(self, name: str):
        """A weight as floats, whatever it is stored as, without a low-rank update."""
        mode = self.quantization_mode
        if mode in (None, "float8"):
            return getattr(self, name).value
        if mode == "int8":
            return schemes.join_int8(self._parts(name), self._equation)
        if mode == "int4":
            return schemes.join_int4(self._parts(name), self._columns()).reshape(self.main_shape)
        bits = self.own_policy.weight_bits
        return schemes.join_groups(self._parts(name), bits, self._columns()).reshape(self.main_shape)

    def _drop(self, *names: str):
        """Forgets weights."""
        for name in names:
            self._weights.pop(name)
            delattr(self, name)

    # Quantization and low-rank updates.

    def enable_lora(self, rank, lora_alpha=None, a_initializer="he_uniform", b_initializer="zeros"):
        """Freezes the main weight and trains `lora_alpha / rank * a @ b` beside it, as `lora_rank` does from the start.

        The weight may be quantized, but for `"float8"`, `"gptq"` and `"awq"`.
        """
        if self.quantization_mode not in (None, "int8", "int4"):
            raise ValueError(f"{self}: LoRA does not go with quantization mode {self.quantization_mode!r}.")
        lora.enable(self, self._main, rank, lora_alpha, a_initializer, b_initializer)

    def quantize(self, mode=None, type_check=True, config=None):
        """Replaces the main weight by integers, or prepares it for training with 8-bit floats.

        With `"int8"` a dense layer also rounds its inputs to integers before the product. Integers are not trained;
        gradients still reach the inputs, and a low-rank update, which stays as it is.

        Args:
            mode: `"int8"`, `"int4"`, or for dense layers `"float8"`. Default: that of `config`. (`"gptq"` and `"awq"`
                look at data that pass the whole model: call `model.quantize`.)
            type_check: Whether to refuse subclasses; those with a `call` of their own always are.
            config: Config of `kerax.quantizers`. Default: the mode's.

        Raises:
            ValueError: if the mode is unknown or not for this layer, or the layer is not built or quantized already.
        """
        quantize(self, mode, type_check, config)

    def _product(self, inputs, name: str = "kernel", equation: str | None = None):
        """The einsum of inputs and a quantized weight, with the low-rank update of the main one."""
        mode, equation = self.quantization_mode, equation or self._equation
        quantizer = getattr(self.scheme, "activation_quantizer", None)
        if mode == "float8":
            return self._float8_product(inputs)
        if mode == "int8" and quantizer is not None:
            parts = self._parts(name)
            outputs = schemes.int8_product(equation, quantizer, inputs, parts[""], parts["_scale"])
        else:
            seen = inputs
            if quantizer is not None:
                seen = schemes.rounded(quantizer, schemes.contracted(equation, 0), inputs)
            outputs = jnp.einsum(equation, seen, self._as_floats(name).astype(self.compute_dtype))
        if self.lora_enabled and name == self._main:
            outputs = (outputs + lora.update_of(self, inputs, equation)).astype(self.compute_dtype)
        return outputs

    def _float8_product(self, inputs):
        scales = [[getattr(self, f"{name}_{end}").value for end in ("scale", "amax_history")] for name in _FLOAT8]
        inputs = schemes.float8_operand(inputs, *scales[0])
        kernel = schemes.float8_operand(self.kernel.value, *scales[1])
        return schemes.float8_gradient(jnp.einsum(self._equation, inputs, kernel), *scales[2])

    # Files.

    def stored_variables(self):
        """The layer's own weights but those of a low-rank update, in Keras's order."""
        known = [variable for variable in (getattr(self, name, None) for name in _STORED) if variable is not None]
        taken = {id(variable) for variable in [*known, *lora.adapters(self)]}
        return known + [variable for variable in super().stored_variables() if id(variable) not in taken]

    def stored_values(self):
        """The values that files hold: with a low-rank update, those of the merged weight."""
        values = super().stored_values()
        if not self.lora_enabled:
            return values
        merged = self._as_floats(self._main) + lora.update(self)
        if self.quantization_mode is None:
            parts = {self._main: merged.astype(getattr(self, self._main).dtype)}
        else:
            parts = self._split({self._main: merged}, self.scheme)
        merged = {id(getattr(self, name)): value for name, value in parts.items()}
        return [merged.get(id(v), value) for v, value in zip(self.stored_variables(), values, strict=True)]

    def also_loaded(self):
        """The low-rank update becomes 0, for files hold the merged weight.

        Keras zeroes both of its weights, whose gradients are then zero for ever; here one is kept.
        """
        return [(adapter, jnp.zeros(adapter.shape)) for adapter in lora.adapters(self)[1:]]

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config() | {"quantization_config": serialize_keras_object(self.quantization_config)}
        return lora.configured(self, config)


class _CompressibleDense(_Compressible):
    """A dense layer: training with 8-bit floats, and what GPTQ and AWQ need."""

    _modes = ("int8", "int4", "float8", "gptq", "awq")

    def calibrated_rows(self) -> int | None:
        """Number of rows of the kernel as a matrix; `None` if the layer is no plain product of its inputs with one."""
        axes = schemes.contracted(self._equation, 1)
        letters = self._equation.split(",")[0]
        is_product = axes == tuple(range(len(axes))) and schemes.contracted(self._equation, 0) == tuple(
            range(-len(axes), 0) if letters.startswith("...") else range(len(letters) - len(axes), len(letters))
        )
        return self._rows() if is_product and self.quantization_mode is None else None

    def store_calibrated(self, config, statistics):
        """Replaces the kernel, with a low-rank update merged into it, by what GPTQ or AWQ make of it.

        Args:
            config: `GPTQConfig` or `AWQConfig`.
            statistics: The Hessian, or the largest magnitudes, of the layer's inputs.
        """
        kernel = lora.merged(self, "kernel").reshape(self._rows(), -1)
        parts = calibration.matrix_for(config, kernel, statistics)
        if config.weight_bits == 4:
            parts[""] = pack_int4(parts[""], axis=0, dtype="uint8")[0]
        for part in {"_scale", "awq_scales"} & parts.keys():
            parts[part] = jnp.asarray(parts[part], self.variable_dtype)
        policy = f"{config.dtype_policy_string()}_from_{self.own_policy.name}"
        self._drop("kernel", *(["lora_kernel_a", "lora_kernel_b"] if self.lora_enabled else []))
        lora.configure(self, None, None)
        self.quantization_config = type(config).from_config(config.get_config())  # without the data
        self._dtype_policy = dtype_policies.get(policy)
        self._add_parts(by_attribute(parts, "kernel"))

    def _bias(self):
        """The bias; with 8-bit floats as precise as it is in mixed precision, as in Keras."""
        bias = self.bias.value
        if self.quantization_mode == "float8" and bias.dtype == jnp.float32:
            return bias.astype("bfloat16").astype(bias.dtype)
        return bias


def by_attribute(parts: dict, name: str) -> dict:
    """Parts of a weight by the attributes that hold them."""
    first = "quantized_kernel" if parts[""].dtype == jnp.uint8 else name
    names = {"": first, "g_idx": "g_idx", "awq_scales": "awq_scales"}
    return {names.get(part, name + part): value for part, value in parts.items()}


def _default_config(policy: dtype_policies.DTypePolicy) -> QuantizationConfig | None:
    """What a dtype policy says about quantization."""
    if policy.quantization_mode == "int4":
        return Int4QuantizationConfig(block_size=getattr(policy, "block_size", None))
    found = {"int8": Int8QuantizationConfig, "float8": Float8QuantizationConfig}.get(policy.quantization_mode)
    return None if found is None else found()


def quantize(layer: _Compressible, mode=None, type_check=True, config=None, policy=None):
    """`quantize` of a layer; `policy` is the layer's dtype policy from then on. Default: as the config says."""
    config = resolve(layer, mode, config)
    mode, cls = config.mode, type(layer)
    if type_check and not cls.__module__.startswith("kerax."):
        raise ValueError(f"{layer}: a subclass is quantized only with type_check=False. Got {cls.__name__}.")
    if not cls.call.__module__.startswith("kerax."):
        raise ValueError(f"{layer}: {cls.__name__} has a `call` of its own, which cannot read quantized weights.")
    if not layer.built:
        raise ValueError(f"{layer}: `quantize` needs a built layer. Call it on data or `build` it first.")
    if layer.quantization_mode is not None:
        raise ValueError(f"{layer}: quantized already, with mode {layer.quantization_mode!r}.")
    if mode not in layer._modes:
        raise ValueError(f"{layer}: `mode` must be one of {layer._modes} for this layer. Got mode={mode!r}.")
    if mode in _CALIBRATED:
        raise ValueError(f"{layer}: mode {mode!r} looks at a layer's inputs. Call `quantize` of the model around it.")
    if mode == "float8" and layer.lora_enabled:
        raise ValueError(f"{layer}: mode 'float8' does not go with LoRA. Make a layer with the merged weights.")
    policy = policy or dtype_policies.get(f"{config.dtype_policy_string()}_from_{layer.own_policy.name}")
    values = {name: getattr(layer, name).value for name in layer._shapes()}
    layer.quantization_config, layer._dtype_policy = config, policy
    if mode == "float8":
        layer._add_float8()
        layer._ready = False  # the new weights have no arrays yet
    else:
        layer._drop(*values)
        layer._add_parts(layer._split(values, config))


def quantize_all(root: Layer, mode=None, config=None, filters=None, type_check=True):
    """`quantize` for every layer below `root` that has it and that `filters` picks.

    Raises:
        ValueError: if there is none.
    """
    config = resolve(root, mode, config)
    if not (filters is None or callable(filters) or isinstance(filters, (str, list, tuple))):
        raise ValueError(f"{root}: `filters` must be a regular expression, some, or a function. Got {filters!r}.")
    if config.mode in _CALIBRATED:
        structure = config.quantization_layer_structure or root.get_quantization_layer_structure(config.mode)
        picked = calibration.calibrate(root, config, structure, filters)
    else:
        found = [layer for layer in descendants(root) if isinstance(layer, _Compressible)]
        found = [layer for layer in found if calibration.is_picked(layer, filters)]
        picked = [layer for layer in found if config.mode in layer._modes]
        if type_check:
            picked = [layer for layer in picked if type(layer).__module__.startswith("kerax.")]
        if len(picked) < len(found):
            left = [layer.name for layer in found if layer not in picked]
            warnings.warn(f"{root}: mode {config.mode!r} is not for {left}, left as they are.", stacklevel=3)
        for layer in picked:
            quantize(layer, None, type_check, config)
    if not picked:
        raise ValueError(
            f"{root}: there is nothing to quantize, or `filters` leaves no layer. Got filters={filters!r}."
        )
