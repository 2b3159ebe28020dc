"""`Quantizer` objects, and the configs that tell `quantize` how to quantize."""

from typing import Any

from kerax.core.configurable import Configurable, captured_arguments
from kerax.core.registry import Family, deserialize_keras_object, serialize_keras_object
from kerax.dtype_policies import QUANTIZATION_MODES, DTypePolicy
from kerax.errors import ConfigError, suggest
from kerax.quantizers.functions import abs_max_quantize

QUANTIZERS = Family("quantizers", "quantizer")


class _Listed(Configurable):
    """What quantizers and configs share: kerax's own are found by name."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("kerax.") and not cls.__name__.startswith("_"):
            QUANTIZERS.add(cls)


class Quantizer(_Listed):
    """Base class: a function from floats to quantized numbers and a scale.

    Args:
        output_dtype: Of the quantized numbers.
    """

    def __init__(self, output_dtype: Any = "int8"):
        self.output_dtype = output_dtype

    def __call__(self, x: Any) -> Any:
        """The numbers as they are; a subclass quantizes them."""
        return x


class AbsMaxQuantizer(Quantizer):
    """`abs_max_quantize` with its options.

    Args:
        axis: Axis or axes that share a scale. `None`: the call says.
        value_range: Smallest and largest integer.
        epsilon: Added to the largest magnitude.
        output_dtype: Of the integers.

    Raises:
        ValueError: if integers of 8 bits do not hold `value_range`.
    """

    def __init__(self, axis=None, value_range=(-127, 127), epsilon=1e-7, output_dtype: Any = "int8"):
        super().__init__(output_dtype)
        self.axis = (axis,) if isinstance(axis, int) else None if axis is None else tuple(axis)
        self.value_range, self.epsilon = tuple(value_range), epsilon
        _check_range("AbsMaxQuantizer", self)

    def __call__(self, x: Any, axis: Any = None, to_numpy: bool = False) -> Any:
        """The integers and their scale."""
        axis = self.axis if axis is None else axis
        if axis is None:
            raise ValueError("AbsMaxQuantizer: `axis` must be given, to the constructor or to the call. Got axis=None.")
        axis = tuple(axis) if isinstance(axis, list) else axis
        return abs_max_quantize(x, axis, self.value_range, self.output_dtype, self.epsilon, to_numpy)

    def get_config(self) -> dict:
        """The constructor's arguments; `axis` only if it is set."""
        config = {"value_range": self.value_range, "epsilon": self.epsilon, "output_dtype": self.output_dtype}
        return config | ({} if self.axis is None else {"axis": self.axis})


def _check_range(who: str, quantizer):
    first, last = getattr(quantizer, "value_range", (0, 0))
    if getattr(quantizer, "output_dtype", None) == "int8" and not -128 <= first <= last <= 127:
        raise ValueError(
            f"{who}: `value_range` of 8-bit integers must lie within (-128, 127). "
            f"Got value_range={quantizer.value_range}."
        )


def _no_mode(config) -> str:
    raise NotImplementedError(f"{type(config).__name__} has no `mode`: use the config of a mode, or set it.")


class QuantizationConfig(_Listed):
    """Base class: how `layer.quantize` and `model.quantize` quantize.

    Args:
        weight_quantizer: `Quantizer` of the weights. `None`: the layer's own.
        activation_quantizer: `Quantizer` of the inputs. `None`: they stay floats.
    """

    mode: Any = property(_no_mode)  # what `quantize` calls this way of quantizing

    def __init__(self, weight_quantizer=None, activation_quantizer=None):
        self.weight_quantizer, self.activation_quantizer = get(weight_quantizer), get(activation_quantizer)
        for quantizer in (self.weight_quantizer, self.activation_quantizer):
            _check_range(type(self).__name__, quantizer)

    def dtype_policy_string(self) -> str:
        """The first part of the name of a quantized layer's dtype policy."""
        return self.mode

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "weight_quantizer": serialize(self.weight_quantizer),
            "activation_quantizer": serialize(self.activation_quantizer),
        }

    @staticmethod
    def weight_quantizer_or_default(config: Any, default: Any) -> Any:
        """`config.weight_quantizer` if there is one, else `default`."""
        found = None if config is None else config.weight_quantizer
        return default if found is None else found

    @staticmethod
    def activation_quantizer_or_default(config: Any, default: Any) -> Any:
        """`config.activation_quantizer`, `None` included; without a config `default`."""
        return default if config is None else config.activation_quantizer

    def _check_weight_quantizer(self, **expected):
        for name, value in expected.items():
            # A user's own quantizer may not have the attribute: it is trusted.
            found = getattr(self.weight_quantizer, name, value)
            if found != value:
                raise ValueError(
                    f"{type(self).__name__}: `weight_quantizer` must have {name}={value!r}. Got {name}={found!r}."
                )


class Int8QuantizationConfig(QuantizationConfig):
    """Integers of 8 bits for the weights, and for the inputs by the largest magnitude of each vector.

    Args:
        weight_quantizer: Default: an `AbsMaxQuantizer` over the input's axes.
        activation_quantizer: `"default"`: an `AbsMaxQuantizer`. `None`: inputs stay floats.
    """

    mode = "int8"

    def __init__(self, weight_quantizer=None, activation_quantizer: Any = "default"):
        is_default = isinstance(activation_quantizer, str) and activation_quantizer == "default"
        # `None` says that inputs stay floats, so the default needs a word of its own.
        super().__init__(weight_quantizer, AbsMaxQuantizer() if is_default else activation_quantizer)
        self._check_weight_quantizer(output_dtype="int8")


class Int4QuantizationConfig(QuantizationConfig):
    """Integers of 4 bits for the weights, two in a byte.

    Args:
        weight_quantizer: Without blocks, the quantizer. Default: an `AbsMaxQuantizer` over the input's axes.
        activation_quantizer: Without blocks, the quantizer of the inputs. `"default"` or `None`: they stay floats.
        block_size: Rows that share a scale and a zero point; `None` or -1: all, without a zero point.
    """

    mode = "int4"

    def __init__(self, weight_quantizer=None, activation_quantizer: Any = "default", block_size: int | None = 128):
        is_default = isinstance(activation_quantizer, str) and activation_quantizer == "default"
        super().__init__(weight_quantizer, None if is_default else activation_quantizer)
        if block_size is not None and (not isinstance(block_size, int) or block_size < -1 or block_size == 0):
            raise ValueError(
                f"Int4QuantizationConfig: `block_size` must be positive, -1 or `None`. Got {block_size!r}."
            )
        self.block_size = block_size
        # Blocks have zero points, which quantizers do not make.
        if block_size not in (None, -1) and (self.weight_quantizer or self.activation_quantizer):
            raise ValueError(
                f"Int4QuantizationConfig: quantizers of one's own need block_size=None. Got block_size={block_size}."
            )
        # Held as 8-bit integers until two are packed in a byte.
        self._check_weight_quantizer(value_range=(-8, 7), output_dtype="int8")

    def dtype_policy_string(self) -> str:
        """`"int4/<block_size>"`."""
        return f"int4/{-1 if self.block_size is None else self.block_size}"

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return super().get_config() | {"block_size": self.block_size}

    @classmethod
    def from_config(cls, config: dict) -> Any:
        """The config that `get_config` described; files from before there were blocks have no `block_size`."""
        return super().from_config({"block_size": None} | config)


class NF4QuantizationConfig(QuantizationConfig):
    """The 16 numbers of NormalFloat for the weights, two in a byte; kerax's own.

    Block by block weights are divided by a scale near the largest magnitude, and each becomes the nearest of 16 numbers
    between which a normal distribution has the same probability: closer than integers to weights that have one.

    Args:
        block_size: Rows that share a scale, stored in the layer's variable dtype; -1: all.

    Source: Dettmers et al. 2023, https://arxiv.org/abs/2305.14314; its second quantization, of the scales, is not done.
    """

    mode = "nf4"

    def __init__(self, block_size: int = 64):
        super().__init__()
        if isinstance(block_size, bool) or not isinstance(block_size, int) or block_size < -1 or block_size == 0:
            raise ValueError(f"NF4QuantizationConfig: `block_size` must be positive, or -1. Got {block_size!r}.")
        self.block_size = block_size

    def dtype_policy_string(self) -> str:
        """`"nf4/<block_size>"`."""
        return f"nf4/{self.block_size}"

    def get_config(self) -> dict:
        """The constructor's argument."""
        return {"block_size": self.block_size}


class Float8QuantizationConfig(QuantizationConfig):
    """Training with inputs, kernels and gradients rounded to 8-bit floats."""

    mode = "float8"

    def __init__(self):
        super().__init__()

    def get_config(self) -> dict:
        """There are no arguments."""
        return {}


class _CalibratedConfig(QuantizationConfig):
    """What the configs of GPTQ and AWQ share: the data they look at."""

    def __init__(
        self,
        dataset,
        tokenizer,
        weight_bits: int,
        num_samples: int,
        sequence_length: int,
        group_size: int,
        quantization_layer_structure: dict | None,
    ):
        super().__init__()
        self._check_positive(num_samples=num_samples, sequence_length=sequence_length)
        if group_size < -1 or group_size == 0:
            raise ValueError(
                f"{type(self).__name__}: `group_size` must be positive, or -1 for all rows. Got {group_size=}."
            )
        self.dataset, self.tokenizer, self.weight_bits = dataset, tokenizer, weight_bits
        self.num_samples, self.sequence_length, self.group_size = num_samples, sequence_length, group_size
        self.quantization_layer_structure = quantization_layer_structure

    def _check_positive(self, **arguments):
        for name, value in arguments.items():
            if not value > 0:
                raise ValueError(f"{type(self).__name__}: `{name}` must be above 0. Got {value!r}.")

    def dtype_policy_string(self) -> str:
        """`"<mode>/<weight_bits>/<group_size>"`."""
        return f"{self.mode}/{self.weight_bits}/{self.group_size}"

    def get_config(self) -> dict:
        """The constructor's arguments without data, tokenizer and layers, which calibration alone needs."""
        # Data do not belong into a file, and a tokenizer may not be serializable at all.
        once = ("dataset", "tokenizer", "quantization_layer_structure")
        return {name: None if name in once else value for name, value in captured_arguments(self).items()}


class GPTQConfig(_CalibratedConfig):
    """Integers that keep a layer's outputs on given data: each column makes up for the errors of those before it.

    Args:
        dataset: Texts, or arrays of token numbers: any iterable.
        tokenizer: Object whose `tokenize(text)` gives token numbers; for arrays any object but `None`.
        weight_bits: 2, 3, 4 or 8.
        num_samples: Number of windows of the data that are looked at.
        per_channel: Whether each output has a scale of its own, or all share one.
        sequence_length: Tokens of a window.
        hessian_damping: Fraction of the mean of the Hessian's diagonal that is added to it, from 0 to 1.
        group_size: Rows that share a scale and a zero point; -1: all.
        symmetric: Whether ranges are symmetric around 0.
        activation_order: Whether columns are quantized by how much the data use them, the most used first.
        quantization_layer_structure: `{"pre_block_layers": [...], "sequential_blocks": [...]}`: layers that the tokens
            pass first, and blocks after them whose dense layers are quantized, one block after the other. Default:
            what `model.get_quantization_layer_structure("gptq")` returns.

    Source: Frantar et al. 2022, https://arxiv.org/abs/2210.17323, as Keras reads it: with the inverse of the Hessian
    itself, not its Cholesky factor.
    """

    mode = "gptq"

    def __init__(
        self,
        dataset,
        tokenizer,
        *,
        weight_bits: int = 4,
        num_samples: int = 128,
        per_channel: bool = True,
        sequence_length: int = 512,
        hessian_damping: float = 0.01,
        group_size: int = 128,
        symmetric: bool = False,
        activation_order: bool = False,
        quantization_layer_structure: dict | None = None,
    ):
        super().__init__(
            dataset, tokenizer, weight_bits, num_samples, sequence_length, group_size, quantization_layer_structure
        )
        if weight_bits not in (2, 3, 4, 8):
            raise ValueError(f"GPTQConfig: `weight_bits` must be 2, 3, 4 or 8. Got weight_bits={weight_bits}.")
        if not 0 <= hessian_damping <= 1:
            raise ValueError(f"GPTQConfig: `hessian_damping` must be between 0 and 1. Got {hessian_damping}.")
        self.per_channel, self.hessian_damping = per_channel, hessian_damping
        self.symmetric, self.activation_order = symmetric, activation_order


class AWQConfig(_CalibratedConfig):
    """Integers of 4 bits, of weights multiplied by factors that spare the inputs of large magnitude from rounding.

    Args:
        dataset, tokenizer, num_samples, sequence_length, group_size, quantization_layer_structure: As in `GPTQConfig`.
        weight_bits: Must be 4.
        num_grid_points: Number of exponents, besides 0, among which the factors are chosen.

    Source: Lin et al. 2023, https://arxiv.org/abs/2306.00978
    """

    mode = "awq"

    def __init__(
        self,
        dataset,
        tokenizer,
        *,
        weight_bits: int = 4,
        num_samples: int = 128,
        sequence_length: int = 512,
        group_size: int = 128,
        num_grid_points: int = 20,
        quantization_layer_structure: dict | None = None,
    ):
        super().__init__(
            dataset, tokenizer, weight_bits, num_samples, sequence_length, group_size, quantization_layer_structure
        )
        if weight_bits != 4:
            raise ValueError(f"AWQConfig: `weight_bits` must be 4. Got weight_bits={weight_bits}.")
        self._check_positive(num_grid_points=num_grid_points)
        self.num_grid_points = num_grid_points


_DEFAULTS = {
    "int8": Int8QuantizationConfig,
    "int4": Int4QuantizationConfig,
    "nf4": NF4QuantizationConfig,
    "float8": Float8QuantizationConfig,
}


def resolve(who: Any, mode: str | None, config: Any) -> QuantizationConfig:
    """The config for the arguments of `quantize`.

    Raises:
        ValueError: if the mode is unknown, contradicts the config, or needs a config and has none.
        TypeError: if `config` is no `QuantizationConfig`.
    """
    if isinstance(config, str):  # a mode in the config's place
        mode, config = config, None
    if mode is not None and mode not in QUANTIZATION_MODES:
        raise ValueError(
            f"{who}: `mode` must be one of {QUANTIZATION_MODES}. Got mode={mode!r}.{suggest(mode, QUANTIZATION_MODES)}"
        )
    if config is None:
        if mode is None:
            raise ValueError(f"{who}: `quantize` needs `mode` or `config`. Modes: {QUANTIZATION_MODES}.")
        if mode not in _DEFAULTS:
            needed = {"gptq": "GPTQConfig", "awq": "AWQConfig"}[mode]
            raise ValueError(
                f"{who}: mode {mode!r} needs `config`, a `kerax.quantizers.{needed}` with calibration data."
            )
        config = _DEFAULTS[mode]()
    if not isinstance(config, QuantizationConfig):
        raise ConfigError(f"{who}: `config` must be a `kerax.quantizers.QuantizationConfig`. Got {config!r}.")
    if mode is not None and config.mode != mode:
        raise ValueError(f"{who}: `config` must be for mode {mode!r}. Got one for {config.mode!r}.")
    return config


def default_config(policy: DTypePolicy) -> QuantizationConfig | None:
    """What a dtype policy says about quantization."""
    if policy.quantization_mode == "int4":  # whose policies say how large blocks are
        return Int4QuantizationConfig(block_size=getattr(policy, "block_size", None))
    if policy.quantization_mode == "nf4":
        return NF4QuantizationConfig(getattr(policy, "block_size", 64))
    found = _DEFAULTS.get(policy.quantization_mode or "")
    return None if found is None else found()


def serialize(initializer: Any) -> Any:
    """A quantizer or config as JSON-able data."""
    return serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """The quantizer or config that `serialize` described."""
    return deserialize_keras_object(config, custom_objects)


def get(identifier: Any, **kwargs) -> Any:
    """The quantizer for a name (with its arguments), a config, a quantizer, or `None`."""
    if isinstance(identifier, str) and kwargs:
        return QUANTIZERS.find(identifier)(**kwargs)
    return None if identifier is None else QUANTIZERS.get(identifier)
