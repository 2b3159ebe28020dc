"""Keras's own scopes, as pure scopes: `StatelessScope`, `SymbolicScope`, and `name_scope`, `device`."""

import re
from typing import Any

import jax
import jax.numpy as jnp

from kerax.core import scope as scopes
from kerax.core.variable import Variable, unwrap
from kerax.errors import suggest

_MADE_WHEN_NEEDED = object()


class ScopeOfValues(scopes.Scope):
    """A scope whose key, where none was given and one is needed, is made of values: others draw other numbers.

    In Keras the seeds of layers are among the values of a pure call, here they are not. A loop that writes its own step
    calls with other weights or data each time, and so has other draws each time.

    Args:
        pairs: Variables with their values.
        inputs: What else the key is made of.
    """

    def __init__(self, pairs, inputs):
        super().__init__(pairs, key=_MADE_WHEN_NEEDED)
        self._inputs = inputs

    def next_key(self) -> jax.Array:
        """`fold_in(key, n)` for the n-th draw in this scope."""
        if self.key is _MADE_WHEN_NEEDED:
            self.key = jax.random.key(0)
            for leaf in jax.tree.leaves((self._inputs, list(self.values.values())[:8])):
                self.key = jax.random.fold_in(self.key, _bits(leaf))
        return super().next_key()


def _bits(leaf) -> Any:
    """A number that changes with any element of an array."""
    if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.number):
        return 0
    return jnp.sum(jax.lax.bitcast_convert_type(jnp.asarray(leaf, jnp.float32), jnp.uint32), dtype=jnp.uint32)


class StatelessScope(scopes.Scope):
    """A `with` block in which variables have given values, and keep none of what is assigned to them.

    `layer.apply` does the same for one layer without naming variables.

    Args:
        state_mapping: Pairs of variable and value.
        collect_losses: Whether `losses` takes what layers add while the block runs.
        initialize_variables: Kept for Keras's signature; a variable gets its array when it is first read.

    Raises:
        ValueError: if a key is not a variable, or a value has another shape.
    """

    __slots__ = ("collect_losses", "initialize_variables")
    captures = True

    def __init__(self, state_mapping=None, collect_losses=False, initialize_variables=True):
        pairs = []
        for variable, value in state_mapping or ():
            if not isinstance(variable, Variable):
                raise ValueError(f"StatelessScope: the keys of `state_mapping` must be variables. Got {variable!r}.")
            # In the stored dtype: the layers' cast comes with reading.
            value = jnp.asarray(unwrap(value), variable.stored_dtype)
            if value.shape != variable.shape:
                raise ValueError(
                    f"StatelessScope: the value of {variable.path} must have shape {variable.shape}. Got {value.shape}."
                )
            pairs.append((variable, value))
        super().__init__(pairs)
        self.collect_losses, self.initialize_variables = collect_losses, initialize_variables

    @property
    def losses(self) -> list:
        """What layers added in the block, if `collect_losses`."""
        return [loss for _, loss in self.added_losses] if self.collect_losses else []

    def add_loss(self, loss) -> None:
        """Adds a scalar to `losses`."""
        self.added_losses.append((None, loss))

    def add_update(self, update) -> None:
        """Sets the value that a variable has in the block, from a pair of both."""
        variable, value = update
        self.values[id(variable)] = value
        self.written.add(id(variable))

    def get_current_value(self, variable) -> Any:
        """The variable's value in the block, or `None` if it has its own."""
        return self.value_of(variable)


class SymbolicScope(scopes.Scope):
    """A `with` block for inferring shapes: unset variables read as zeros, and assignments have no effect."""

    __slots__ = ()

    def __init__(self):
        super().__init__(key=jax.random.key(0), shapes_only=True)


class name_scope:
    """A `with` block whose operations carry `name` in profiles and compiled programs; what is built in it, in its path.

    Args:
        name: A string without `/`.
        **kwargs: Kept for Keras's signature.
    """

    def __init__(self, name, **kwargs):
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"name_scope: `name` must be a string without '/'. Got {name!r}.")
        self.name = name
        self._scope = jax.named_scope(name)

    def __enter__(self):
        self._scope.__enter__()
        self._token = scopes.names.set((*scopes.names.get(), self.name))
        return self

    def __exit__(self, *exception):
        scopes.names.reset(self._token)
        self._scope.__exit__(*exception)


def device(device_name) -> Any:
    """A `with` block that puts new arrays on a device.

    Args:
        device_name: `"cpu"`, `"gpu"` (or `"cuda"`), `"tpu"`, with a number after a colon (`"gpu:1"`), or a JAX device.

    Raises:
        ValueError: if there is no such device.
    """
    if isinstance(device_name, jax.Device):
        return jax.default_device(device_name)
    match = (
        re.fullmatch(r"(cpu|gpu|cuda|tpu)(?::(\d+))?", device_name.lower()) if isinstance(device_name, str) else None
    )
    if match is None:
        hint = suggest(device_name, ("cpu", "gpu", "tpu"))
        raise ValueError(
            f"device: expected a name such as 'cpu' or 'gpu:0', or a JAX device. Got {device_name!r}.{hint}"
        )
    kind, index = match[1].replace("cuda", "gpu"), int(match[2] or 0)
    try:
        found = jax.local_devices(backend=kind)
    except RuntimeError:
        found = []
    if index >= len(found):
        raise ValueError(f"device: there is no {device_name!r}. This process has {jax.local_devices()}.")
    return jax.default_device(found[index])
