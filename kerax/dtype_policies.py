"""Dtype policies: which dtype a layer computes in, which its weights are stored in, and how they are quantized."""

import re
from collections.abc import MutableMapping
from typing import Any

import jax
import jax.numpy as jnp

from kerax.errors import suggest

QUANTIZATION_MODES = ("int8", "float8", "int4", "gptq", "awq", "nf4")
FLOATS = ("float64", "float32", "float16", "bfloat16")
_MIXED = {"mixed_float16": ("float16", "float32"), "mixed_bfloat16": ("bfloat16", "float32")}
_global_policy: "DTypePolicy | None" = None
default_float = "float32"


def _dtypes_of(name: str) -> tuple[str, str]:
    """Compute and variable dtype of a plain policy."""
    if name in _MIXED:
        return _MIXED[name]
    try:
        dtype = jnp.dtype(name).name
        return dtype, dtype
    except TypeError:
        raise ValueError(
            f"Unknown dtype policy {name!r}. Expected a dtype, one of {sorted(_MIXED)}, or a quantized form of these "
            f"such as 'int8_from_float32'.{suggest(name, (*FLOATS, *_MIXED))}"
        ) from None


class DTypePolicy:
    """A compute dtype and a variable dtype under one name.

    Args:
        name: A float dtype (`"float32"`, `"bfloat16"`, `"float16"`, `"float64"`) used for both, or
            `"mixed_bfloat16"` / `"mixed_float16"`: float32 weights, half-precision computation.
            `None` takes the global policy's name.

    Raises:
        ValueError: if the name is unknown.
        TypeError: if it is no string.
    """

    quantization_mode: str | None = None

    def __init__(self, name: str | None = None):
        self._name = dtype_policy().name if name is None else name
        if not isinstance(self._name, str):
            raise TypeError(f"{type(self).__name__}: a policy's name must be a string. Got {name!r}.")
        self._compute_dtype, self._variable_dtype = _dtypes_of(self._name)

    @property
    def name(self) -> str:
        """The policy's name."""
        return self._name

    @property
    def compute_dtype(self) -> str:
        """The dtype that inputs and weights are cast to for the computation."""
        return self._compute_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype that weights are stored in."""
        return self._variable_dtype

    def convert_input(self, x, autocast, dtype) -> Any:
        """`x` as an array, in `dtype` if it is floating point and `autocast` is set. Text is returned unchanged, a
        symbolic tensor gives one."""
        if isinstance(x, (str, bytes)) or x is None:
            return x
        # A symbolic tensor stays one, whose `astype` is recorded.
        if not hasattr(x, "_keras_history") and not isinstance(x, jax.Array):
            x = jnp.asarray(getattr(x, "value", x))
        return x.astype(dtype) if autocast and jnp.issubdtype(x.dtype, jnp.floating) else x

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> "DTypePolicy":
        """The policy that `get_config` described."""
        return cls(**config)

    def __eq__(self, other):
        return _kind(self) is _kind(other) and other.name == self.name and other.get_config() == self.get_config()

    def __hash__(self):
        return hash(self.name)

    def __repr__(self):
        return f'<{_kind(self).__name__} "{self.name}">'


class FloatDTypePolicy(DTypePolicy):
    """Another name of `DTypePolicy`, as in Keras."""


def _kind(policy) -> type:
    # Two names of one class in Keras; here the second is a subclass, which must be equal to the first all the same.
    return DTypePolicy if type(policy) is FloatDTypePolicy else type(policy)


class QuantizedDTypePolicy(DTypePolicy):
    """The policy of a layer with quantized weights: `"int8_from_float32"` for example.

    Args:
        mode: `"int8"`, `"int4"`, `"nf4"` or `"float8"`; in subclasses with numbers behind it, as in `"int4/128"`.
        source_name: The plain policy's name. Default: the global policy's.

    Raises:
        ValueError: for another mode, or int8 with computations in float16, whose range is too small for it.
    """

    # Subclasses say the form; without one the mode is a plain word.
    _form: str | None = None  # what a mode with numbers must look like

    def __init__(self, mode: str, source_name: str | None = None):
        source_name = dtype_policy().name if source_name is None else source_name
        self.quantization_mode, *numbers = self._parse(mode)
        if self._form is None and self.quantization_mode not in QUANTIZATION_MODES:
            raise ValueError(f"{type(self).__name__}: `mode` must be one of {QUANTIZATION_MODES}. Got mode={mode!r}.")
        super().__init__(source_name)
        if self.quantization_mode == "int8" and self.compute_dtype == "float16":
            raise ValueError(f"Quantization mode 'int8' needs a wider compute dtype than float16. Got {source_name!r}.")
        # The plain policy gave the dtypes; the name is that of the whole.
        self._mode, self._source_name, self._numbers = mode, source_name, tuple(numbers)
        self._name = f"{mode}_from_{source_name}"

    def _parse(self, mode: str) -> list:
        """The mode and its numbers."""
        if self._form is None:
            return [mode]
        first, *numbers = str(mode).split("/")
        expected = self._form.split("/")
        if first != expected[0] or len(numbers) + 1 != len(expected):
            raise ValueError(f"{type(self).__name__}: `mode` must have the form {self._form!r}. Got mode={mode!r}.")
        # -1 is an integer too, so that `isdigit` would not do.
        try:
            return [first, *map(int, numbers)]
        except ValueError:
            raise ValueError(
                f"{type(self).__name__}: `mode` must have the form {self._form!r}, with integers. Got mode={mode!r}."
            ) from None

    def _check_group(self, size: int):
        self.mode = self.quantization_mode  # Keras's word for it, on policies with numbers only
        if size < -1 or size == 0:
            raise ValueError(
                f"{type(self).__name__}: `mode` must have the form {self._form!r}, with a size of at least 1, or -1 "
                f"for all. Got mode={self._mode!r}."
            )

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"mode": self._mode, "source_name": self._source_name}


class QuantizedFloat8DTypePolicy(QuantizedDTypePolicy):
    """The policy of a layer that rounds inputs, kernel and gradients to 8-bit floats in training.

    Args:
        mode: `"float8"`.
        source_name: The plain policy's name. Default: the global policy's.
        amax_history_length: Number of steps whose largest magnitudes make the scales.
    """

    default_amax_history_length = 1024

    def __init__(self, mode, source_name=None, amax_history_length=1024):
        super().__init__(mode, source_name)
        if not isinstance(amax_history_length, int):
            raise TypeError(f"`amax_history_length` must be an integer. Got {amax_history_length!r}.")
        self.amax_history_length = amax_history_length

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return super().get_config() | {"amax_history_length": self.amax_history_length}


class _BlockDTypePolicy(QuantizedDTypePolicy):
    """What policies of weights with a scale for each block of rows share."""

    def __init__(self, mode, source_name=None):
        super().__init__(mode, source_name)
        (self.block_size,) = self._numbers
        self._check_group(self.block_size)


class Int4DTypePolicy(_BlockDTypePolicy):
    """The policy of 4-bit integers with a scale for each block of rows.

    Args:
        mode: `"int4/<block_size>"`; -1: all rows share a scale.
        source_name: The plain policy's name. Default: the global policy's.
    """

    _form = "int4/<block_size>"


class NF4DTypePolicy(_BlockDTypePolicy):
    """The policy of the 16 numbers of NormalFloat with a scale for each block of rows. kerax's own.

    Args:
        mode: `"nf4/<block_size>"`; -1: all rows share a scale.
        source_name: The plain policy's name. Default: the global policy's.
    """

    _form = "nf4/<block_size>"


class GPTQDTypePolicy(QuantizedDTypePolicy):
    """The policy of integers found by GPTQ.

    Args:
        mode: `"gptq/<weight_bits>/<group_size>"`: 2, 3, 4 or 8 bits; rows that share a scale, or -1 for all.
        source_name: The plain policy's name. Default: the global policy's.
    """

    _form, _bits = "gptq/<weight_bits>/<group_size>", (2, 3, 4, 8)

    def __init__(self, mode, source_name=None):
        super().__init__(mode, source_name)
        self.weight_bits, self.group_size = self._numbers
        if self.weight_bits not in self._bits:
            raise ValueError(
                f"{type(self).__name__}: `weight_bits` must be one of {self._bits}. Got {self.weight_bits} in {mode!r}."
            )
        self._check_group(self.group_size)


class AWQDTypePolicy(GPTQDTypePolicy):
    """The policy of integers found by AWQ.

    Args:
        mode: `"awq/4/<group_size>"`; -1: all rows share a scale.
        source_name: The plain policy's name. Default: the global policy's.
    """

    _form, _bits = "awq/<weight_bits>/<group_size>", (4,)


class DTypePolicyMap(DTypePolicy, MutableMapping):
    """Policies by the paths of layers, as a layer with layers inside takes them for its `dtype`.

    `policies[path]` is that of the path itself, else of the only key that matches it as a regular expression, else the
    default.

    Args:
        default_policy: Policy, or name of one. Default: the global policy. The config of a map without one says how
            layers are quantized, and leaves the dtypes to the global policy of those who read it.
        policy_map: Dict of policies by path or regular expression.
    """

    __hash__ = object.__hash__  # mappings are compared by content and have no hash of their own

    def __init__(self, default_policy=None, policy_map=None):
        if isinstance(default_policy, DTypePolicyMap):
            raise ValueError("`default_policy` must not be a `DTypePolicyMap` itself.")
        if policy_map is not None and not isinstance(policy_map, dict):
            raise TypeError(f"`policy_map` must be a dict. Got {policy_map!r}.")
        self._default_argument = default_policy
        self.default_policy = default = get(default_policy)
        self._name, self.quantization_mode = f"map_{default.name}", default.quantization_mode
        self._compute_dtype, self._variable_dtype = default.compute_dtype, default.variable_dtype
        self._policies = {key: get(policy) for key, policy in (policy_map or {}).items()}

    def __getitem__(self, key):
        if key in self._policies:
            return self._policies[key]
        # A path that several patterns match has no right answer: the first would depend on the order of the dict.
        found = [pattern for pattern in self._policies if re.fullmatch(pattern, key)]
        if len(found) > 1:
            raise ValueError(f"The path {key!r} matches several keys of the DTypePolicyMap: {found}. Keep one of them.")
        return self._policies[found[0]] if found else self.default_policy

    def __setitem__(self, key, policy):
        if key in self._policies:
            raise ValueError(f"The DTypePolicyMap has {key!r} already, as {self._policies[key]}. Delete it first.")
        self._policies[key] = get(policy)

    def __delitem__(self, key):
        del self._policies[key]

    def __contains__(self, key):
        return key in self._policies

    def __iter__(self):
        return iter(self._policies)

    def __len__(self):
        return len(self._policies)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        default = self._default_argument
        policies = {key: serialize(policy) for key, policy in self._policies.items()}
        for policy in policies.values() if default is None else ():
            policy["config"] |= {name: None for name in ("name", "source_name") if name in policy["config"]}
        default = serialize(default) if isinstance(default, DTypePolicy) else default
        return {"default_policy": default, "policy_map": policies}

    def __eq__(self, other):
        return isinstance(other, DTypePolicyMap) and other.get_config() == self.get_config()

    def __repr__(self):
        mapping = [(key, policy.name) for key, policy in self._policies.items()]
        return f"<DTypePolicyMap default_policy={self.default_policy.name}, mapping={mapping}>"


_CLASSES = {
    cls.__name__: cls
    for cls in (
        DTypePolicy,
        FloatDTypePolicy,
        QuantizedDTypePolicy,
        QuantizedFloat8DTypePolicy,
        Int4DTypePolicy,
        NF4DTypePolicy,
        GPTQDTypePolicy,
        AWQDTypePolicy,
        DTypePolicyMap,
    )
}


def dtype_policy() -> DTypePolicy:
    """The policy of layers that are not given one. Default: `floatx()` for both dtypes."""
    # Made anew, so that `set_floatx` counts until a policy is set.
    return _global_policy if _global_policy is not None else DTypePolicy(default_float)


def set_dtype_policy(policy) -> None:
    """Makes `policy` (a name or a `DTypePolicy`) the policy of layers created from now on.

    Raises:
        ValueError: for anything else.
    """
    global _global_policy
    if policy is None:
        raise ValueError("set_dtype_policy: expected a policy or its name. Got None; `floatx()` is the first policy's.")
    _global_policy = get(policy)


def forget_dtype_policy() -> None:
    """Makes `floatx()` the policy again, as before `set_dtype_policy`."""
    global _global_policy
    _global_policy = None


def serialize(dtype_policy: DTypePolicy) -> dict:
    """A policy as JSON-able data, in Keras's form."""
    name = _kind(dtype_policy).__name__
    # Where Keras looks for it: files go both ways.
    module = "keras" if name == "DTypePolicy" else "keras.dtype_policies"
    return {"module": module, "class_name": name, "config": dtype_policy.get_config(), "registered_name": None}


def deserialize(config: dict, custom_objects: dict | None = None) -> DTypePolicy:
    """The policy that `serialize` described. Raises `ValueError` for an unknown class."""
    classes = _CLASSES | (custom_objects or {})
    name = config.get("class_name", "DTypePolicy")
    if name not in classes:
        raise ValueError(f"Unknown dtype policy class {name!r}.{suggest(name, classes)} Known: {sorted(classes)}.")
    return classes[name].from_config(config.get("config", config))


def is_policy(class_name: str) -> bool:
    """Whether a class of this module is called so."""
    return class_name in _CLASSES


def get(identifier) -> DTypePolicy:
    """The policy for a name, a dtype, a config dict, a `DTypePolicy`, or `None` (the global one).

    Names of quantized policies are `"<mode>_from_<plain policy>"`: `"int8_from_float32"`, `"int4/128_from_bfloat16"`,
    `"nf4/64_from_bfloat16"`, `"gptq/4/128_from_float32"`, `"awq/4/128_from_float32"`, `"float8_from_mixed_bfloat16"`.
    """
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if not isinstance(identifier, str):
        try:
            return DTypePolicy(jnp.dtype(identifier).name)
        except TypeError:
            raise ValueError(f"Expected a dtype, a dtype policy, its name or its config. Got {identifier!r}.") from None
    # Plain names are looked up by `DTypePolicy`, which also knows what to suggest.
    if not identifier.startswith(QUANTIZATION_MODES):
        return DTypePolicy(identifier)
    mode, separator, source = identifier.partition("_from_")
    if not separator:
        raise ValueError(
            f"A quantized dtype policy is called '<mode>_from_<policy>', as in '{mode}_from_float32'. "
            f"Got {identifier!r}."
        )
    # `"int4"` alone has no numbers behind it, as `"int4/128"` has: it is a mode like `"int8"`; so is `"nf4"`.
    kinds = {"gptq": GPTQDTypePolicy, "awq": AWQDTypePolicy, "float8": QuantizedFloat8DTypePolicy}
    kinds |= {"int4": Int4DTypePolicy, "nf4": NF4DTypePolicy} if "/" in mode else {}
    cls = kinds.get(mode.split("/")[0], QuantizedDTypePolicy)
    return cls(mode, source)
