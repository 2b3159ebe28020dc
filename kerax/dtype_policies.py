"""Dtype policies: which dtype a layer computes in, and which its weights are stored in."""

import jax.numpy as jnp

from kerax.errors import suggest

_FLOATS = ("float64", "float32", "float16", "bfloat16")
_MIXED = {"mixed_float16": ("float16", "float32"), "mixed_bfloat16": ("bfloat16", "float32")}
_global_policy: "DTypePolicy | None" = None
_default_name = "float32"


class DTypePolicy:
    """A compute dtype and a variable dtype under one name.

    Args:
        name: A float dtype (`"float32"`, `"bfloat16"`, `"float16"`, `"float64"`) used for both, or
            `"mixed_bfloat16"` / `"mixed_float16"`: float32 weights, half-precision computation.
            `None` takes the global policy's name.

    Raises:
        ValueError: if the name is unknown.
    """

    def __init__(self, name: str | None = None):
        name = dtype_policy().name if name is None else name
        if name in _MIXED:
            self._compute_dtype, self._variable_dtype = _MIXED[name]
        else:
            try:
                self._compute_dtype = self._variable_dtype = jnp.dtype(name).name
            except TypeError:
                raise ValueError(
                    f"Unknown dtype policy {name!r}. Expected a dtype or one of {sorted(_MIXED)}."
                    f"{suggest(name, (*_FLOATS, *_MIXED))}"
                ) from None
        self._name = name

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

    @property
    def quantization_mode(self):
        """`None`: a plain policy quantizes nothing."""
        return None

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> "DTypePolicy":
        """The policy that `get_config` described."""
        return cls(**config)

    def __eq__(self, other):
        return isinstance(other, DTypePolicy) and other.name == self.name

    def __hash__(self):
        return hash(self.name)

    def __repr__(self):
        return f'<DTypePolicy "{self.name}">'


FloatDTypePolicy = DTypePolicy


def dtype_policy() -> DTypePolicy:
    """The policy of layers that are not given one. Default: `floatx()` for both dtypes."""
    return _global_policy if _global_policy is not None else DTypePolicy(_default_name)


def set_dtype_policy(policy):
    """Makes `policy` (a name or a `DTypePolicy`) the policy of layers created from now on."""
    global _global_policy
    _global_policy = policy if policy is None else get(policy)


def get(identifier) -> DTypePolicy:
    """The policy for a name, a dtype, a config dict, a `DTypePolicy`, or `None` (the global one)."""
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return DTypePolicy(**identifier.get("config", identifier))
    return DTypePolicy(identifier if isinstance(identifier, str) else jnp.dtype(identifier).name)
