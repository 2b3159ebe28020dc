"""`Compressible`: a layer whose weights can be stored in few bits and have a low-rank update; and `quantize`."""

import operator
import warnings
from collections.abc import Callable
from typing import Any

from kerax import constraints, dtype_policies, initializers, regularizers
from kerax.core.configurable import is_own
from kerax.core.layer import Layer
from kerax.core.registry import serialize_keras_object
from kerax.core.tracking import descendants
from kerax.core.variable import Variable
from kerax.quantizers import calibration, lora
from kerax.quantizers.configs import QuantizationConfig, default_config, resolve
from kerax.quantizers.representations import BEHIND_MAIN, Table, Weight, as_policy_says

_CALIBRATED = ("gptq", "awq")


class Stored:
    """The attribute of a weight that may be quantized or have an update: what the layer multiplies by, as in Keras.

    That is the variable itself, or if it holds only a part of the weight, an array of floats. The variable is found
    under the same name with an underscore in front.
    """

    def __set_name__(self, owner, name: str):
        self.name = name.lstrip("_")
        self.is_raw = name != self.name

    def __get__(self, layer, _=None) -> Any:
        if layer is None:
            return self
        weight = layer.representations.get(self.name)
        if self.is_raw or weight is None or weight.is_its_variable:
            try:
                return vars(layer)[self.name]
            except KeyError:
                raise AttributeError(f"{layer}: no `{self.name}` before it is built.") from None
        return weight.value

    def __set__(self, layer, value) -> None:
        vars(layer)[self.name] = value

    def __delete__(self, layer) -> None:
        del vars(layer)[self.name]


class Compressible(Layer):
    """A layer that computes with `representations` of its weights: they alone know how the weights are stored.

    A subclass names them with `represent` in its constructor, makes their variables in `build`, and last calls
    `finish_build`.

    Args:
        lora_rank, lora_alpha, quantization_config: As in `kerax.layers.Dense`.
    """

    _untracked = Layer._untracked | {"representations"}  # they hold no variables, but read the layer's
    modes: tuple[str, ...] = ("int8", "int4", "nf4")  # what `quantize` takes
    bias: Variable | None = None
    unmentioned: tuple[str, ...] = ("lora_rank", "lora_alpha")  # in Keras's configs, if `None`

    def __init__(self, lora_rank=None, lora_alpha=None, quantization_config=None, **kwargs):
        super().__init__(**kwargs)
        lora.check_rank(self, "lora_rank", lora_rank)
        self.lora_rank, self.lora_alpha = lora_rank, lora_rank if lora_alpha is None else lora_alpha
        self.lora_enabled = False
        if not isinstance(quantization_config, QuantizationConfig | None):
            expected = "`quantization_config` must be one of `kerax.quantizers`"
            raise TypeError(f"{self}: {expected}. Got {quantization_config!r}.")
        self.quantization_config = quantization_config
        self.representations: dict[str, Weight] = {}

    def _set_dtype_policy(self, policy):
        policy = dtype_policies.get(policy)
        # `built` is not there yet when the base class's constructor sets the policy.
        if getattr(self, "built", False) and policy.quantization_mode and self.quantization_mode is None:
            # One that says no size of blocks leaves it to the mode's default, as in Keras.
            config = default_config(policy) if hasattr(policy, "block_size") else None
            quantize(self, policy.quantization_mode, False, config, policy)
        super()._set_dtype_policy(policy)

    # A quantized policy quantizes a layer that is built.
    dtype_policy = property(operator.attrgetter("_dtype_policy"), _set_dtype_policy)

    def set_kernel_options(self, initializer: Any, regularizer: Any, constraint: Any) -> None:
        """Sets what the constructor's arguments of these names say about the kernel."""
        self.kernel_initializer = initializers.get(initializer)
        self.kernel_regularizer = regularizers.get(regularizer)
        self.kernel_constraint = constraints.get(constraint)

    def set_bias_options(self, initializer: Any, regularizer: Any, constraint: Any) -> None:
        """Sets what the constructor's arguments of these names say about the bias."""
        self.bias_initializer = initializers.get(initializer)
        self.bias_regularizer = regularizers.get(regularizer)
        self.bias_constraint = constraints.get(constraint)

    def represent(self, name: str, equation: str, layout: str = "kernel") -> None:
        """Says how a weight that may be quantized is read, as `kerax.quantizers.representations.Weight` takes it."""
        self.representations[name] = (Weight if layout == "kernel" else Table)(self, name, equation, layout)

    def add_kernel(self, shape: Any, initializer: Callable | None = None) -> None:
        """The weight `kernel`, with the layer's options for it, stored as its dtype policy says."""
        initializer = initializer or self.kernel_initializer
        self.add_stored("kernel", shape, initializer, self.kernel_regularizer, self.kernel_constraint)

    def add_stored(self, name: str, shape: Any, initializer: Any, regularizer: Any, constraint: Any) -> None:
        """Makes the variables of a weight that `represent` named, stored as the layer's dtype policy says."""
        weight = self.representations[name]
        weight.options = {"regularizer": regularizer, "constraint": constraint}
        # A dtype such as "int8_from_float32" makes a layer whose integers are to come from a file.
        if self.quantization_mode is not None:
            weight = self.representations[name] = as_policy_says(weight, shape)
        weight.create(shape, initializer)

    @property
    def inputs_quantizer(self) -> Any:
        """What rounds the inputs of a layer whose weights are integers."""
        weight: Any = next(iter(self.representations.values()))
        if not hasattr(weight, "quantizer"):
            raise AttributeError(f"{self}: only a layer with quantized weights has `inputs_quantizer`.")
        return weight.quantizer

    def finish_build(self, bias_shape: Any = None) -> None:
        """Makes the weight `bias`, if it has a shape, and the low-rank update that `lora_rank` asks for."""
        if bias_shape is not None:
            options: dict[str, Any] = {"regularizer": self.bias_regularizer, "constraint": self.bias_constraint}
            self.bias = self.add_weight(bias_shape, self.bias_initializer, name="bias", **options)
            self.bias.place_in_files = BEHIND_MAIN  # Keras's order: kernel, bias, then scales, whichever was made first
        if self.lora_rank is not None:
            # Last: it freezes the kernel, and its own weights come behind the others in Keras's order.
            self.enable_lora(self.lora_rank, self.lora_alpha)

    def enable_lora(
        self, rank: Any, lora_alpha: Any = None, a_initializer: Any = "he_uniform", b_initializer: Any = "zeros"
    ) -> None:
        """Freezes the main weight and trains `lora_alpha / rank * a @ b` beside it, as `lora_rank` does from the start.

        The weight may be quantized, but for `"float8"`, `"gptq"` and `"awq"`.
        """
        lora.enable(self, rank, lora_alpha, a_initializer, b_initializer)

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """Replaces the weights by integers, or prepares the layer for training with 8-bit floats.

        With `"int8"` a dense layer also rounds its inputs to integers before the product; a convolution, which Keras
        does not quantize, stores integers and computes with floats. Integers are not trained; gradients still reach
        the inputs, and a low-rank update, which stays as it is.

        Args:
            mode: `"int8"`, `"int4"`, `"nf4"`, or for dense layers `"float8"`. Default: that of `config`. `"gptq"` and
                `"awq"` look at data that pass the whole model: after them the layer computes with its floats until
                `model.quantize` has calibrated it, or `is_gptq_calibrated`, `is_awq_calibrated` is set.
            type_check: Whether to refuse subclasses; those with a `call` of their own always are.
            config: Config of `kerax.quantizers`. Default: the mode's.

        Raises:
            ValueError: if the mode is unknown or not for this layer, or the layer is not built or quantized already.
        """
        quantize(self, mode, type_check, config)

    def get_config(self) -> dict:
        """The constructor's arguments; those of `unmentioned` only if they are set."""
        config = super().get_config()
        # Not if a user's constructor takes none; kerax's own that do not name it hand it on.
        if "quantization_config" in config or is_own(type(self)):
            config["quantization_config"] = serialize_keras_object(self.quantization_config)
        config |= {"lora_rank": self.lora_rank, "lora_alpha": self.lora_alpha if self.lora_rank else None}
        return {name: value for name, value in config.items() if value is not None or name not in self.unmentioned}


def quantize(
    layer: Compressible, mode: Any = None, type_check: bool = True, config: Any = None, policy: Any = None
) -> None:
    """`quantize` of a layer; `policy` is the layer's dtype policy from then on. Default: as the config says."""
    config = resolve(layer, mode, config)
    mode, cls = config.mode, type(layer)
    if type_check and not cls.__module__.startswith("kerax."):
        raise NotImplementedError(f"{layer}: a subclass is quantized only with type_check=False. Got {cls.__name__}.")
    # Such a `call` would multiply by `kernel.value`, which is then integers.
    if not cls.call.__module__.startswith("kerax."):
        raise ValueError(f"{layer}: {cls.__name__} has a `call` of its own, which cannot read quantized weights.")
    if not layer.built:
        raise ValueError(f"{layer}: `quantize` needs a built layer. Call it on data or `build` it first.")
    if layer.quantization_mode is not None:
        raise ValueError(f"{layer}: quantized already, with mode {layer.quantization_mode!r}.")
    if mode not in layer.modes:
        raise ValueError(f"{layer}: `mode` must be one of {layer.modes} for this layer. Got mode={mode!r}.")
    if mode in _CALIBRATED:
        calibration.prepare(layer, config)
        return
    if mode == "float8" and layer.lora_enabled:
        raise ValueError(f"{layer}: mode 'float8' does not go with LoRA. Make a layer with the merged weights.")
    # Past the property, which would quantize again.
    layer._dtype_policy = policy or dtype_policies.get(
        f"{config.dtype_policy_string()}_from_{layer.kerax_own_policy.name}"
    )
    layer.quantization_config = config
    for name, weight in layer.representations.items():
        layer.representations[name] = weight.quantized(config)


def quantize_all(
    root: Layer, mode: Any = None, config: Any = None, filters: Any = None, type_check: bool = True
) -> None:
    """`quantize` for every layer below `root` that has it and that `filters` picks.

    Raises:
        ValueError: if there is none.
    """
    config = resolve(root, mode, config)
    if not (filters is None or callable(filters) or isinstance(filters, (str, list, tuple))):
        raise ValueError(f"{root}: `filters` must be a regular expression, some, or a function. Got {filters!r}.")
    if config.mode in _CALIBRATED:
        picked = calibration.calibrate(root, config, filters)
    else:
        found = [layer for layer in descendants(root) if isinstance(layer, Compressible)]
        found = [layer for layer in found if calibration.is_picked(layer, filters)]
        picked = [layer for layer in found if config.mode in layer.modes]
        if type_check:
            picked = [layer for layer in picked if type(layer).__module__.startswith("kerax.")]
        if len(picked) < len(found):
            left = [layer.name for layer in found if layer not in picked]
            # A model is quantized as far as it goes: one embedding shall not keep all dense layers from it.
            warnings.warn(f"{root}: mode {config.mode!r} is not for {left}, left as they are.", stacklevel=3)
        for layer in picked:
            quantize(layer, None, type_check, config)
    if not picked:
        raise ValueError(
            f"{root}: there is nothing to quantize, or `filters` leaves no layer. Got filters={filters!r}."
        )
