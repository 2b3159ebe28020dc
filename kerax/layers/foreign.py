"""Models of other JAX libraries as layers: `JaxLayer` for functions, `FlaxLayer` for Flax modules."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from kerax.core.configurable import captured_arguments, serialize_arguments
from kerax.core.layer import Layer
from kerax.core.seed_generator import generator_for
from kerax.core.seeds import make_seed
from kerax.core.variable import Variable

_CALL_ARGUMENTS = ("params", "state", "rng", "inputs", "training")
_INIT_ARGUMENTS = ("rng", "inputs", "training")
_NOT_IN_CONFIGS = ("params", "state", "variables", "seed")


class JaxLayer(Layer):
    """The result of a pure JAX function of parameters, state and inputs.

    Args:
        call_fn: A function whose arguments are some of `params` (trained), `state` (not trained), `rng` (a key, `None`
            outside training), `inputs` (required) and `training`. It returns the outputs, or with `state`
            `(outputs, new state)`.
        init_fn: A function whose arguments are some of `rng`, `inputs` (required; ones of the input's shape) and
            `training`. It returns the params, or if `call_fn` takes `state` `(params, state)`.
        params, state: Initial trees of arrays, in place of `init_fn`. They are not part of the config.
        seed: Integer for a stream of random numbers of the layer's own.
        native_serialization_platforms: Kept for Keras's signature; it concerns TensorFlow only.

    Weights: the leaves of `params` and of `state`, in the order of `jax.tree.leaves`.

    `init_fn` is called once, when the layer is built, so that `init(key)` gives the same weights for every key.
    To be saved in a config, `call_fn` and `init_fn` must have registered names.

    Raises:
        ValueError: if a function takes other arguments, or there is nothing to make the weights from.
    """

    def __init__(
        self, call_fn, init_fn=None, params=None, state=None, seed=None, native_serialization_platforms=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.call_fn, self.init_fn, self.seed = call_fn, init_fn, seed
        self._taken = _check_arguments(self, "call_fn", call_fn, _CALL_ARGUMENTS)
        self._init_taken = () if init_fn is None else _check_arguments(self, "init_fn", init_fn, _INIT_ARGUMENTS)
        # A function of inputs alone needs no weights.
        if init_fn is None and params is None and state is None and {"params", "state"} & set(self._taken):
            raise ValueError(
                f"{self}: `call_fn` takes `params` or `state`, so `init_fn`, `params` or `state` must be given."
            )
        self.seed_generator = generator_for(seed)
        if params is not None or state is not None:
            self._add_trees(params, state)

    def build(self, input_shape: Any) -> None:
        if self.init_fn is not None and not hasattr(self, "_treedefs"):
            ones = jax.tree.map(_ones, input_shape, is_leaf=_is_shape)
            arguments = {"rng": self._init_rng(), "inputs": ones, "training": True}
            made = self.init_fn(**{name: arguments[name] for name in self._init_taken})
            self._add_trees(*(made if "state" in self._taken else (made, None)))
        elif not hasattr(self, "_treedefs"):
            self._add_trees(None, None)

    def _init_rng(self) -> Any:
        return jax.random.key(make_seed())

    def _call_rng(self, training) -> Any:
        return self.next_key() if training else None

    def _add_trees(self, params, state):
        """Makes a weight of every leaf; floats get the layer's variable dtype."""
        self._treedefs = tuple(map(jax.tree.structure, (params, state)))
        self._params, self._state = [], []
        for weights, tree, trainable in ((self._params, params, True), (self._state, state, False)):
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                if not hasattr(leaf, "dtype") and not isinstance(leaf, (bool, int, float, complex)):
                    weights.append(leaf)  # no number, as an option of the function
                    continue
                leaf = jnp.asarray(leaf)  # trees may hold NumPy arrays and numbers
                # Integers and keys keep their dtype: they are no weights that a policy is about.
                is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
                name = jax.tree_util.keystr(path, simple=True, separator="_") or f"weight_{len(self._weights)}"
                name = name if name not in self._weights else f"{name}_{len(self._weights)}"
                dtype = None if is_float else leaf.dtype
                weights.append(self.add_weight(leaf.shape, _Given(leaf), dtype, trainable, name=name))

    @property
    def params(self) -> Any:
        """The trained weights as the tree that `call_fn` takes; `None` before the layer is built."""
        return jax.tree.unflatten(self._treedefs[0], self._params) if hasattr(self, "_treedefs") else None

    @property
    def state(self) -> Any:
        """The other weights as the tree that `call_fn` takes; `None` before the layer is built."""
        return jax.tree.unflatten(self._treedefs[1], self._state) if hasattr(self, "_treedefs") else None

    def call(self, inputs: Any, training: Any = False) -> Any:
        values = [[getattr(leaf, "value", leaf) for leaf in leaves] for leaves in (self._params, self._state)]
        params, state = map(jax.tree.unflatten, self._treedefs, values)
        arguments = {"params": params, "state": state, "inputs": inputs, "training": bool(training)}
        if "rng" in self._taken:
            arguments["rng"] = self._call_rng(training)
        outputs = self.call_fn(**{name: arguments[name] for name in self._taken})
        if "state" not in self._taken:
            return outputs
        outputs, new_state = outputs
        # Else leaves would be assigned to the wrong weights.
        if jax.tree.structure(new_state) != self._treedefs[1]:
            raise ValueError(
                f"{self}: `call_fn` returned a state of another structure. Expected {self._treedefs[1]}, "
                f"got {jax.tree.structure(new_state)}."
            )
        for leaf, value in zip(self._state, jax.tree.leaves(new_state), strict=True):
            if isinstance(leaf, Variable):
                leaf.assign(value)
        return outputs

    def get_config(self) -> dict:
        """The constructor's arguments but the weights and the seed."""
        return self._configuration({})

    def _configuration(self, changes: dict) -> dict:
        config = captured_arguments(self) | {"name": self.name, "trainable": self.trainable, "dtype": self.dtype_policy}
        kept = {name: value for name, value in config.items() if name not in _NOT_IN_CONFIGS}
        return serialize_arguments(self, kept | changes)


class FlaxLayer(JaxLayer):
    """A `flax.linen` module as a layer. Its collection "params" is trained, the others are state.

    Args:
        module: The module. Its method takes `inputs` and may take `training`.
        method: The module's method to call, its name, or a function `(module, inputs)`. Default: `__call__`.
        variables: Initial variables. Default: the module's `init` makes them.

    Weights: the leaves of "params", then those of the other collections.

    Raises:
        ValueError: if the method does not take `inputs`.
    """

    def __init__(self, module, method: Any = None, variables=None, **kwargs):
        from flax.linen import DenyList  # pyright: ignore[reportMissingImports] (an optional package)

        method = getattr(module, method) if isinstance(method, str) else method
        takes_training = "training" in inspect.signature(method or type(module).__call__).parameters

        def options(training):
            return {"method": method} | ({"training": training} if takes_training else {})

        def call_fn(params, state, rng, inputs, training):
            given = {**params, **state}
            return module.apply(given, inputs, rngs=rng, mutable=DenyList(["params"]), **options(training))

        def init_fn(rng, inputs, training):
            return _split(module.init(rng, inputs, **options(training)))

        params, state = (None, None) if variables is None else _split(variables)
        super().__init__(call_fn, init_fn, params, state, **kwargs)
        self.module, self.method = module, method

    def _init_rng(self):
        # Flax asks for a key by what it is used for.
        return {name: super(FlaxLayer, self)._init_rng() for name in ("params", "dropout")}

    def _call_rng(self, training):
        return {"dropout": self.next_key()} if training else {}

    def get_config(self) -> dict:
        """The constructor's arguments but the weights and the seed; the module must be registered and have a config."""
        bound = getattr(self.method, "__self__", None) is self.module
        return self._configuration({"method": self.method.__name__ if bound else self.method})


class _Given:
    """The initializer that gives one array."""

    def __init__(self, value):
        self.value = value

    def __call__(self, shape: Any, dtype: Any = None, key: Any = None) -> Any:
        return self.value.astype(dtype)


def _check_arguments(layer: Layer, name: str, function, known: tuple) -> tuple:
    taken = tuple(inspect.signature(function).parameters)
    wrong = [argument for argument in taken if argument not in known]
    if wrong or "inputs" not in taken:
        raise ValueError(
            f"{layer}: `{name}` must take `inputs` and may take {', '.join(known)}, by these names. Got {taken}."
        )
    return taken


def _split(variables) -> tuple[dict, dict]:
    """Flax's variables as params and state."""
    params = {name: value for name, value in variables.items() if name == "params"}
    return params, {name: value for name, value in variables.items() if name != "params"}


def _is_shape(value) -> bool:
    return isinstance(value, tuple) and all(size is None or isinstance(size, int) for size in value)


def _ones(shape):
    return jnp.ones([1 if size is None else size for size in shape])
