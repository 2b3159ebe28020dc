"""What of a layer goes into files, in Keras's order: its own variables, its config and what it was built with."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core import placement
from kerax.core.configurable import captured_arguments, has_own_config, is_own, revive_arguments, serialize_arguments
from kerax.core.symbolic import is_shape
from kerax.core.tracking import descendants, members
from kerax.core.variable import Variable, materialize
from kerax.dtype_policies import DTypePolicy, DTypePolicyMap


def own_variables(self) -> list[tuple[str, Variable]]:
    """The layer's own variables by name, parameters first: what `add_weight` made and what attributes hold."""
    held = [("_".join(path), variable) for path, variable in members(self, Variable)]
    names: dict[int, str] = {}
    for name, variable in held:
        names.setdefault(id(variable), name)
    parameters, others, listed, replacing = [], [], set(), dict(held)
    for name, variable in [*self._weights.items(), *held]:
        if id(variable) not in names:  # what a user assigned to the attribute is in the weight's place
            variable = replacing.get(name, variable)
        if id(variable) not in listed:
            listed.add(id(variable))
            name = names.get(id(variable), "variable") if name.startswith("_") else name
            (parameters if variable.is_parameter else others).append((name, variable))
    return parameters + others


def get_weights(self) -> list:
    """The weights as NumPy arrays, in the order of `weights`."""
    weights = self.weights
    materialize(weights)
    return [placement.own(value) for value in placement.to_host_all([weight.value for weight in weights])]


def set_weights(self, weights) -> None:
    """Sets the weights from arrays in the order of `weights`. Raises `ValueError` if number or shapes differ."""
    own = self.weights
    if len(own) != len(weights):
        raise ValueError(f"{self}: expected {len(own)} weights, got {len(weights)}.")
    for variable, value in zip(own, weights, strict=True):
        # All shapes before the first assignment: all or none.
        if jnp.shape(value) != variable.shape:
            raise ValueError(f"{self}: {variable.path} has shape {variable.shape}. Got {jnp.shape(value)}.")
    for variable, value in zip(own, weights, strict=True):
        variable.assign(value)


def kerax_stored_variables(self) -> list[Variable]:
    """The layer's own weights, without those of layers inside, in the order of files."""
    own = [variable for _, variable in self._own_variables() if variable.is_weight]
    # `sorted` keeps the order in which they were added where places are equal.
    return sorted((v for v in own if v.place_in_files is not None), key=lambda v: v.place_in_files)


def kerax_stored_values(self) -> list:
    """The values that files hold for `stored_variables`."""
    variables = self.kerax_stored_variables()
    materialize(variables)
    return [v.value if v.value_in_files is None else v.value_in_files() for v in variables]


def also_loaded(self) -> list[tuple[Variable, np.ndarray]]:
    """Variables that files do not hold, and what they become when `stored_variables` are loaded."""
    return [(v, np.zeros(v.shape)) for _, v in self._own_variables() if v.zeroed_by_files]


def save_own_variables(self, store) -> None:
    """Puts the layer's own weights into a mapping under `"0"`, `"1"` and so on."""
    for index, value in enumerate(self.kerax_stored_values()):
        store[str(index)] = placement.to_host(value)


def load_own_variables(self, store) -> None:
    """Takes the layer's own weights from what `save_own_variables` filled.

    Raises:
        ValueError: if their number or a shape differs; nothing is changed then.
    """
    variables = self.kerax_stored_variables()
    if len(store) != len(variables):
        state = "" if self.built else " The layer is not built: call it on data or `build` it first."
        raise ValueError(f"{self}: expected {len(variables)} stored weights, got {len(store)}.{state}")
    values = [np.asarray(store[str(index)]) for index in range(len(variables))]
    for variable, value in zip(variables, values, strict=True):
        if value.shape != variable.shape:
            raise ValueError(f"{self}: {variable.path} has shape {variable.shape}. Got {value.shape}.")
    # All shapes have been compared: all or none.
    for variable, value in [*zip(variables, values, strict=True), *self.also_loaded()]:
        variable.assign(value)


def policy_to_save(self) -> DTypePolicy:
    """The dtype policy that a config holds: a map by path if layers inside are quantized and this one is not.

    In Keras such a layer comes back from its config unquantized.
    """
    policy, known = self.dtype_policy, {}
    if isinstance(policy, DTypePolicyMap):
        # A map of the user's own is added to, not replaced.
        policy, known = policy.default_policy, dict(policy)
    below: list[Any] = descendants(self)
    inside = {
        layer.path: layer.kerax_own_policy
        for layer in below
        if layer is not self and getattr(layer, "path", None) and layer.quantization_mode is not None
    }
    return DTypePolicyMap(policy, known | inside) if inside else self.dtype_policy


def put_policy(self, policy: DTypePolicy) -> Any:
    """What a layer's dtype policy becomes when it is assigned: in a map by path the layer's entry, else itself."""
    known = vars(self).get("_dtype_policy")
    if isinstance(policy, DTypePolicyMap) or not isinstance(known, DTypePolicyMap) or not self.path:
        return policy
    if self.path in known:
        del known[self.path]
    known[self.path] = policy
    return known


# Arguments whose attributes are something else: a generator, variables; of the others what is made of them, where
# Keras's files hold what was given.
_NOT_READ = frozenset("seed weights mean variance height_factor width_factor x_factor y_factor frame_step".split())


def get_config(self) -> dict:
    """The constructor's arguments, JSON-able, with name, trainable and dtype."""
    arguments = captured_arguments(self)
    if is_own(type(self)):
        # As Keras, what the attributes hold now: an option set later is saved, a number for all axes is one for each.
        arguments |= {name: getattr(self, name) for name in arguments if name not in _NOT_READ and hasattr(self, name)}
    config = arguments | {"name": self.name, "trainable": self.trainable, "dtype": policy_to_save(self)}
    if has_own_config(self):
        if config.pop("autocast", None) is not None and config["activity_regularizer"] is None:
            del config["activity_regularizer"]  # `Layer`'s own arguments, which Keras writes only where they are set
    else:
        # A constructor without them could not be called with them.
        parameters = inspect.signature(type(self).__init__).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            config = {name: value for name, value in config.items() if name in parameters}
    return serialize_arguments(self, config)


def from_config(cls, config: dict) -> Any:
    """A layer with the arguments that `get_config` described; a plain dtype policy is handed to it by its name."""
    arguments = revive_arguments(config)
    policy = arguments.get("dtype")
    if isinstance(policy, DTypePolicy) and not isinstance(policy, DTypePolicyMap) and policy.quantization_mode is None:
        arguments["dtype"] = policy.name
    return cls(**arguments)


def get_build_config(self) -> dict | None:
    """The arguments `build` was called with."""
    if self.kerax_build_shapes is None or not inspect.signature(self.build).parameters:
        return None
    shapes = self.kerax_build_shapes or {"input_shape": None}  # built without, as an embedding may be
    # Keras's two forms, of which the second is for more arguments.
    config = {"input_shape": next(iter(shapes.values()))} if len(shapes) == 1 else {"shapes_dict": shapes}
    return config if self.kerax_build_dtypes is None else config | {"dtypes": self.kerax_build_dtypes}


def build_from_config(self, config: dict) -> None:
    """Calls `build` as `get_build_config` described."""
    shapes = config.get("shapes_dict") or ({"input_shape": config["input_shape"]} if "input_shape" in config else None)
    if not shapes or self.built:
        return
    self.kerax_build_dtypes = config.get("dtypes")
    # JSON has no tuples.
    shapes = jax.tree.map(lambda shape: tuple(shape) if is_shape(shape) else shape, shapes, is_leaf=is_shape)
    self.build(*shapes.values()) if len(shapes) == 1 else self.build(**shapes)
