"""`Layer`: what the user writes with attributes and `call`, and the pure pair `init`/`apply` derived from it."""

import inspect
import math
import operator
import sys
import weakref
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from kerax import dtype_policies, errors, tree
from kerax.core import (
    building,
    caching,
    calling,
    locking,
    persistence,
    placement,
    registry,
    sparse,
    switches,
    symbolic,
    tracking,
)
from kerax.core import remat as rematerialization
from kerax.core import scope as scopes
from kerax.core.configurable import reject_unknown
from kerax.core.display import layer_page
from kerax.core.host_arrays import GraphTensorGiven
from kerax.core.input_spec import check_inputs
from kerax.core.operation import Operation, check_name
from kerax.core.registry import Family
from kerax.core.seed_generator import next_key
from kerax.core.seeds import key_from
from kerax.core.stateless import ScopeOfValues
from kerax.core.tensorflow_graphs import call_in_graph
from kerax.core.tracking import Alias, Path, Trackable, aliases, are_built, descendants, structure, walk
from kerax.core.variable import Variable, initial_value, materialize, unwrap

LAYERS = Family("layers", "layer")
_set_attribute = object.__setattr__  # half the time of one found by `super()`: a layer has thirty attributes
Own = list[tuple[Path, Variable]] | None
_with_losses: weakref.WeakSet = weakref.WeakSet()  # layers that hold losses of a call outside any scope: few do


class Layer(Operation, Trackable):
    """A function of arrays with weights, and the pure functions `init` and `apply` derived from it.

    A subclass writes `__init__`, optionally `build(self, input_shape)` with `self.add_weight(...)`, and
    `call(self, inputs, ...)`. Sublayers are attributes, or lists and dicts of layers in attributes.

    Args:
        activity_regularizer: Regularizer of the outputs; its value is divided by the number of rows in the batch.
        trainable: Whether the optimizer updates the weights.
        dtype: Dtype or `DTypePolicy`. Default: the global policy.
        autocast: Whether float inputs and weights are cast to the compute dtype.
        name: Default: the class name in snake case, made unique inside the parent.
    """

    _untracked = frozenset(
        {"_arguments", "_base_arguments", "_weights", "inbound_nodes", "_losses", "_metrics", "kerax_arrived"}
    )
    build_shapes = Alias("kerax_build_shapes")
    _initialized = False
    # Kerax's own layers without weights are built from the start, but for those that are not in Keras.
    _has_no_build = kerax_builds_in_call = False
    _released: set[int] | None = None  # since it was built it takes no new parts, but for these that it had before
    kerax_locks = True  # not models that are lists or graphs, which are built as layers are added
    supports_jit = True  # kept for Keras's layers that say otherwise
    autograph_info__ = None  # that TensorFlow finds this name keeps it from rewriting the code of layers in its graphs
    hands_on_text = True  # whether `call` may get arrays of text; of kerax's own layers only those that say so

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            # Wrapped here, once for each class: a user's `build` needs no decorator.
            cls.build = calling.recording(cls.__dict__["build"])
        if cls.__module__.startswith("kerax.") and not cls.__name__.startswith("_"):
            # Only kerax's own: files find a user's class only if it was registered.
            LAYERS.add(cls)
        is_own = cls.__module__.startswith("kerax.layers.")
        cls._has_no_build = is_own and cls.build is Layer.build and not cls.kerax_builds_in_call
        if "hands_on_text" not in vars(cls):
            cls.hands_on_text = not is_own

    def __init__(self, *, activity_regularizer=None, trainable=True, dtype=None, autocast=True, name=None, **kwargs):
        # First of all: anything below may ask for attributes that only `__init__` makes.
        self._initialized, self.kerax_number = True, tracking.next_number()
        self._weights: dict[str, Variable] = {}
        self._losses: list = []
        self.inbound_nodes: list = []
        self.auto_named = name is None
        self.name = check_name(self, name)
        self.dtype_policy = dtype
        self.autocast = autocast
        self.activity_regularizer = _resolve("regularizers", activity_regularizer)
        if not isinstance(trainable, bool):
            raise ValueError(f"{self}: `trainable` must be a boolean. Got {trainable!r}.")
        self._trainable = trainable
        self.built, self._ready = self._has_no_build, False
        self.path: str | None = None  # the names of the layers it was built in, and its own
        self.input_spec = None
        # Who writes `compute_mask` has thought of masks.
        self.supports_masking = type(self).compute_mask is not Layer.compute_mask
        self.kerax_build_shapes: dict[str, Any] | None = None
        self.kerax_build_dtypes: Any = None  # where they are not those of floats
        self._remat = rematerialization.current_mode()
        self._drops_masks = False
        # Keras's older ways to start a `Sequential` without an `Input`.
        if "input_dim" in kwargs:
            kwargs["input_shape"] = (kwargs.pop("input_dim"),)
        shape = kwargs.pop("input_shape", None)
        self.first_input_shape = kwargs.pop("batch_input_shape", None if shape is None else (None, *shape))
        reject_unknown(self, kwargs, "name", "dtype", "trainable", "activity_regularizer")

    def __setattr__(self, name: str, value: Any):
        if self._released is not None:
            locking.check_attribute(self, name, value)
        if type(value) not in tracking.PLAIN:
            tracking.note_arrival(self, name, value)
        _set_attribute(self, name, value)

    def __delattr__(self, name: str):
        locking.release(self, name)
        super().__delattr__(name)

    # What a subclass writes or calls.

    @calling.recording
    @calling.leaves_to_call
    def build(self, input_shape) -> None:
        """Creates the weights for an input shape. The default creates none."""

    @calling.taking_no_name_first
    def add_weight(
        self,
        shape=None,
        initializer=None,
        dtype=None,
        trainable=True,
        autocast=True,
        regularizer=None,
        constraint=None,
        aggregation="none",
        overwrite_with_gradient=False,
        name=None,
    ) -> Variable:
        """A weight of this layer, recorded with shape and initializer; its array is made later.

        Args:
            shape: Tuple of ints. Default: a scalar.
            initializer: Name or function. Default: `"glorot_uniform"` for floats, else `"zeros"`.
            dtype: Default: the policy's variable dtype.
            trainable: Whether the optimizer updates it.
            overwrite_with_gradient: Whether the optimizer puts the gradient in the weight's place.
            name: Default: the attribute it is assigned to.
        """
        self.kerax_require_init()
        if self._released is not None:
            locking.refuse(self, f"`add_weight` is called with name={name!r}")
        shape = () if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
        dtype = jnp.dtype(dtype or self.variable_dtype).name
        if initializer is None:
            initializer = "glorot_uniform" if jnp.issubdtype(dtype, jnp.floating) else "zeros"
        initializer = _resolve("initializers", initializer)
        if any(size is None for size in shape):
            raise ValueError(f"{self}: weight {name!r} needs a known shape, but the input leaves it open. Got {shape}.")
        variable = Variable(initializer, shape, dtype, trainable, autocast, aggregation, name=name)
        variable.path = f"{self.path or self.name}/{variable.name}"
        variable.regularizer = _resolve("regularizers", regularizer)
        variable.constraint = _resolve("constraints", constraint)
        variable.overwrite_with_gradient = overwrite_with_gradient
        # A weight made in a frozen layer is frozen; `is_parameter` still says where it lies in the trees.
        variable.trainable = variable.trainable and self._trainable
        # Without a name it is called after the attribute: see `_own_variables`.
        self._weights[name or f"_{len(self._weights)}"] = variable
        return variable

    def add_variable(self, shape, initializer, *args, name=None, **kwargs) -> Variable:
        """`add_weight` under its other name, without `aggregation` and `overwrite_with_gradient`."""
        return self.add_weight(shape, initializer, *args, name=name, **kwargs)

    def add_metric(self, *args, **kwargs) -> Any:
        """Raises `NotImplementedError`, as in Keras 3."""
        raise NotImplementedError(f"{self}: no `add_metric`. Pass it to `compile`, or call its `update_state`.")

    def add_loss(self, loss) -> None:
        """Adds a scalar, the sum of an array, or each of a list of these to the loss of the running training step."""
        for value in jax.tree.leaves(loss):
            scope = scopes.current_scope()
            if scope is not None:
                scope.added_losses.append((self, value))
            # Outside a scope a traced loss would leak.
            elif not isinstance(value, Tracer):
                self._losses.append(value)
                _with_losses.add(self)

    def _forget_losses(self):
        for item in descendants(self):
            if isinstance(item, Layer):
                item._losses.clear()
                _with_losses.discard(item)

    def next_key(self) -> jax.Array:
        """A PRNG key: this layer's own stream's if it has a `seed_generator`, else the running call's next."""
        return next_key(getattr(self, "seed_generator", None))

    def compute_mask(self, inputs, previous_mask) -> Any:
        """The mask of the outputs. Default: the inputs' mask, unchanged."""
        return previous_mask

    # The call.

    def __call__(self, *args, **kwargs) -> Any:
        if not self._initialized:
            self.kerax_require_init()
        # From here on each line runs at each call of each layer: hence no helper that could be a line.
        outer = calling.call_context.get()
        if outer is None and switches.are_on():
            return switches.call_without(lambda: self(*args, **kwargs), {})
        if symbolic.is_symbolic(args, kwargs):
            return self._record(args, kwargs)
        compute_dtype = self.compute_dtype if self.autocast else None
        try:
            args, kwargs = jax.tree.map(calling.caster(self, compute_dtype), (args, kwargs))
        except GraphTensorGiven:
            return call_in_graph(self, args, kwargs)
        arguments = calling.bind(self, args, kwargs)
        # Before anything is built: a wrong input must leave no weights behind.
        first = next(iter(arguments.values()), None)
        if self.input_spec is not None:
            check_inputs(self, first)
        if not self._ready:
            self._prepare(arguments, args, kwargs, at_root=outer is None)
        training = calling.resolve_training(self, kwargs, arguments)
        signature = calling.signature_of(type(self).call)
        if signature.takes_training and training is not None:
            arguments["training"] = training
        if signature.takes_masks:
            arguments.update(calling.collect_masks(self, arguments))
        # Losses of the last eager call; few models have any, and looking for them costs a walk.
        if outer is None and _with_losses and scopes.current_scope() is None:
            self._forget_losses()
        tap, around = (None, (self,)) if outer is None else (outer.tap, (*outer.around, self))
        context = calling.call_context.set(calling.CallContext(training, tap, around))
        cast = scopes.autocast.set(compute_dtype)
        bound = inspect.BoundArguments(signature.signature, arguments)
        call = self.call if self._remat is None else self.rematerialized_call(self.call, first)
        if sparse.MODULE in sys.modules and sparse.holds_any(arguments):
            call = sparse.caller(self, call)
        try:
            # Names in profiles and in XLA's programs.
            with jax.named_scope(self.name):
                outputs = placement.constrain_output(self, call(*bound.args, **bound.kwargs))
        except Exception as error:
            calling.explain(error, self, first, at_root=outer is None)
            raise
        finally:
            calling.call_context.reset(context)
            scopes.autocast.reset(cast)
        if self.activity_regularizer is not None and not scopes.infers_shapes():
            self.add_loss([building.penalty(self.activity_regularizer, leaf) for leaf in jax.tree.leaves(outputs)])
        if self.supports_masking:
            calling.pass_mask(self, arguments, outputs, Layer.compute_mask)
        elif not self._drops_masks:
            self._drops_masks = calling.warn_of_lost_mask(self, first, outputs)
        if tap is not None:
            tap(self, outputs)
        return outputs

    def _record(self, args: tuple, kwargs: dict) -> Any:
        outputs = self.symbolic_call(*args, **kwargs)
        symbolic.Node(self, args, kwargs, outputs)
        locking.lock_all([self])
        if self.supports_masking:
            arguments = calling.bind(self, args, kwargs)
            calling.pass_mask(self, arguments, outputs, Layer.compute_mask)
        return outputs

    def _prepare(self, arguments: dict, args: tuple, kwargs: dict, at_root: bool):
        """Builds what is not built, and outside a pure call makes the weights of the whole tree at once."""
        if not self.built:
            with scopes.outside(), jax.ensure_compile_time_eval():  # what `build` makes outlives this call
                calling.build_in_call(self, arguments)
        if at_root and scopes.current_scope() is None:
            # Sublayers of a `call` of the user's are built by inferring its shapes, before any array is made.
            if not are_built(descendants(self)):
                building.try_to_build(self, args, kwargs)
            self.kerax_claim_seeds()
            materialize(variable for _, variable in walk(self))
            # Only the outermost layer, outside a pure call: in a trace nothing can be made for good.
            self._ready = True

    def kerax_require_init(self) -> None:
        if not self._initialized:
            raise ValueError(
                f"{type(self).__name__}: `super().__init__()` was not called. Make it the first line of `__init__`."
            )

    # The pure pair.

    def kerax_build_from(self, *args, **kwargs) -> Any:
        """Builds this layer and all below it from arrays, specs or symbolic tensors, computing nothing.

        Returns: the outputs' `jax.ShapeDtypeStruct`s.
        """
        self.kerax_require_init()
        args, kwargs = jax.tree.map(building.as_spec, (args, kwargs))
        # Calling it on shapes builds it.
        outputs = symbolic.infer(self, args, kwargs)
        locking.lock_all(descendants(self))
        return outputs

    def init(self, key, *args, **kwargs) -> dict:
        """Fresh values of all variables, drawn from `key`; touches no existing value.

        Args:
            key: PRNG key or integer. Each weight takes `fold_in(key, hash of its path)`.
            *args: Inputs as arrays or `jax.ShapeDtypeStruct`s, needed if the layer is not built.

        Returns: `{"params": {...}, "state": {...}}`, nested dicts by structure.
        """
        if args or kwargs:
            self.kerax_build_from(*args, **kwargs)
        elif not self.built:
            raise ValueError(f"{self}: not built yet. Pass inputs (arrays or ShapeDtypeStructs): init(key, x).")
        key_data = jax.random.key_data(key_from(key))
        return building.parameters_and_state(
            (path, variable, variable._value)
            # Made from a value, which no key changes.
            if variable.initializer is None
            else (path, variable, initial_value(variable, key_data, "/".join(path)))
            for path, variable in walk(self)
        )

    def apply(self, variables: dict, *args, key=None, cache=None, positions=None, **kwargs) -> tuple:
        """The outputs and the new state for given variables. Pure: safe under every JAX transformation.

        Args:
            variables: `{"params": ..., "state": ...}` as `init` gives it.
            *args: The arguments of `call`; keyword arguments such as `training` likewise.
            key: PRNG key for random layers.
            cache: What `init_cache` or a call before gave; the new one is then returned too, as the third.
            positions: Integers: where in their rows the inputs stand, `(batch, inputs)`, or the first of them, `()` or
                `(batch,)`. Default: at the start, where nothing in the cache counts.

        Raises:
            ValueError: if a variable is missing or has the wrong shape, or a key is needed and missing.
        """
        if cache is not None or positions is not None:
            return caching.apply(self, variables, args, kwargs, key, cache, positions)
        below = structure(self)
        if not are_built(below.items):
            self.kerax_build_from(*args, **kwargs)
            below = structure(self)
        # `structure` once: the call and what is collected after it see the same variables.
        with self.kerax_bind_variables(variables, key, below.variables) as scope:
            outputs = self(*args, **kwargs)
        return outputs, self.kerax_collect_state(scope, variables.get("state", {}), below.variables)

    def kerax_bind_variables(self, variables: dict, key=None, own: Own = None) -> scopes.Scope:
        """A pure scope in which this layer's variables have the values of `variables`, to be opened by `with`.

        `own` is what `walk` finds, where that is known.
        """
        given = tree.unnest(variables.get("params", {})) | tree.unnest(variables.get("state", {}))
        # One dict by path: which of the two trees holds a variable does not matter.
        pairs = []
        for path, variable in walk(self) if own is None else own:
            if path not in given:
                raise ValueError(
                    f"{self}: `variables` has no value for {'/'.join(path)!r} of shape {variable.shape}."
                    f"{errors.suggest('/'.join(path), ('/'.join(other) for other in given))}"
                )
            if jnp.shape(given[path]) != variable.shape:
                raise ValueError(
                    f"{self}: {'/'.join(path)!r} must have shape {variable.shape}. Got {jnp.shape(given[path])}."
                )
            pairs.append((variable, given[path]))
        return scopes.Scope(pairs, None if key is None else key_from(key))

    def kerax_collect_state(self, scope: scopes.Scope, before: dict, own: Own = None) -> dict:
        """The state tree after a call in `scope`: `before` with every written variable replaced."""
        leaves = tree.unnest(before)
        for path, variable in walk(self) if own is None else own:
            if path in leaves:
                # What was not written keeps its value, and the tree its form.
                leaves[path] = scope.values.get(id(variable), leaves[path])
        return tree.nest(leaves.items())

    def variables_tree(self) -> dict:
        """The current values as `{"params": ..., "state": ...}`."""
        found = list(walk(self))
        materialize(variable for _, variable in found)
        return building.parameters_and_state((path, variable, variable.value) for path, variable in found)

    def set_variables_tree(self, variables: dict) -> None:
        """Puts values of the form of `variables_tree` back. Raises `ValueError` for a missing or unknown path."""
        given = tree.unnest(variables.get("params", {})) | tree.unnest(variables.get("state", {}))
        own = dict(walk(self))
        missing, unknown = own.keys() - given.keys(), given.keys() - own.keys()
        if missing or unknown:
            raise ValueError(
                f"{self}: the tree does not fit. Missing: {sorted(map('/'.join, missing))}. "
                f"Unknown: {sorted(map('/'.join, unknown))}."
            )
        for path, value in given.items():
            own[path].assign(value)

    def stateless_call(
        self, trainable_variables, non_trainable_variables, *args, return_losses=False, key=None, **kwargs
    ) -> Any:
        """Keras's pure call on lists of values, in the order of the attributes of the same names, or on the trees
        `params` and `state` of a `TrainState`.

        `key` is the PRNG key of random layers, which Keras does not have here. Default: the key of the call around, or
        one made of the values and inputs.

        Returns: outputs and new non-trainable values, and with `return_losses` the list of losses.
        """
        if isinstance(trainable_variables, dict):
            scope = self.kerax_bind_variables({"params": trainable_variables, "state": non_trainable_variables}, key)
        else:
            variables = [*self.trainable_variables, *self.non_trainable_variables]
            if not self.built and type(self).build is not Layer.build:
                raise ValueError(f"{self}: `stateless_call` needs a built layer. Call it on data or `build` it first.")
            values = map(unwrap, (*trainable_variables, *non_trainable_variables))
            pairs = list(zip(variables, values, strict=True))
            if key is None and scopes.find_key() is None:
                scope = ScopeOfValues(pairs, (args, kwargs))
            else:
                scope = scopes.Scope(pairs, None if key is None else key_from(key))
        with scope:
            outputs = self(*args, **kwargs)
            losses = [self.losses] if return_losses else []
        if isinstance(non_trainable_variables, dict):
            return outputs, self.kerax_collect_state(scope, non_trainable_variables), *losses
        return outputs, [scope.value_of(variable) for variable in self.non_trainable_variables], *losses

    # Variables.

    _own_variables = persistence.own_variables

    @property
    def variables(self) -> list[Variable]:
        """All variables below this layer, seed generators' included."""
        return [variable for _, variable in walk(self)]

    @property
    def weights(self) -> list[Variable]:
        """All variables but positions of seed generators and recurrent states, in the order of `get_weights`."""
        return [variable for variable in self.variables if variable.is_weight]

    @property
    def trainable_variables(self) -> list[Variable]:
        """Variables that the optimizer updates."""
        return [variable for variable in self.variables if self._trainable and variable.trainable]

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """Variables that the optimizer leaves alone."""
        return [variable for variable in self.variables if not (self._trainable and variable.trainable)]

    @property
    def trainable_weights(self) -> list[Variable]:
        """Weights that the optimizer updates."""
        return [variable for variable in self.weights if self._trainable and variable.trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """Weights that the optimizer leaves alone."""
        return [variable for variable in self.weights if not (self._trainable and variable.trainable)]

    get_weights = persistence.get_weights
    set_weights = persistence.set_weights
    kerax_stored_variables = persistence.kerax_stored_variables
    kerax_stored_values = persistence.kerax_stored_values
    also_loaded = persistence.also_loaded
    save_own_variables = persistence.save_own_variables
    load_own_variables = persistence.load_own_variables

    def count_params(self) -> int:
        """Number of elements of all weights."""
        if not self.built:
            raise ValueError(
                f"{self}: not built yet, so its weights are not known. Call it on data or `build` it first."
            )
        return sum(math.prod(weight.shape) for weight in self.weights)

    @property
    def trainable(self) -> bool:
        """Whether the optimizer updates this layer; setting it sets every layer below."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for item in descendants(self):
            if isinstance(item, Layer):
                item._trainable = bool(value)
                for _, variable in item._own_variables():
                    variable.trainable = bool(value) and variable.is_parameter

    @property
    def losses(self) -> list:
        """Scalars from `add_loss`, activity and weight regularizers, of the running or the last call."""
        below = [item for item in descendants(self) if isinstance(item, Layer)]
        scope = scopes.current_scope()
        if scope is not None:
            # A scope collects from all layers of the call; these are asked for.
            members = set(map(id, below))
            collected = [value for layer, value in scope.added_losses if id(layer) in members]
        else:
            collected = [value for item in below for value in item._losses]
        return collected + [v.regularizer(v.value) for v in self.trainable_variables if v.regularizer is not None]

    # Shapes, dtypes, symbolic tensors.

    def _set_dtype_policy(self, policy):
        self._dtype_policy = persistence.put_policy(self, dtype_policies.get(policy))

    # Read in every call, so without a Python function.
    dtype_policy: Any = property(operator.attrgetter("_dtype_policy"), _set_dtype_policy)

    @property
    def dtype(self) -> str:
        """The dtype of the weights."""
        return self.kerax_own_policy.variable_dtype

    variable_dtype = dtype

    @property
    def compute_dtype(self) -> str:
        """The dtype of the computation."""
        return self.kerax_own_policy.compute_dtype

    input_dtype = compute_dtype

    @property
    def kerax_own_policy(self) -> dtype_policies.DTypePolicy:
        """The dtype policy of this very layer: of a `DTypePolicyMap` the entry of its path."""
        policy: Any = self.dtype_policy
        return policy[self.path] if isinstance(policy, dtype_policies.DTypePolicyMap) and self.path else policy

    @property
    def quantization_mode(self) -> str | None:
        """How the weights are quantized, `"int8"` for example; `None` if they are not."""
        return self.kerax_own_policy.quantization_mode

    def symbolic_call(self, *args, **kwargs) -> Any:
        """`compute_output_spec` of a built layer: only calling the layer itself records a node."""
        cls = type(self)
        # Followed through `call`, a layer is built on the way; one that says by itself what comes out is not.
        if cls.compute_output_spec is not Layer.compute_output_spec or self._says_its_shape():
            building.build_for(self, args, kwargs)
        return self.compute_output_spec(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs) -> Any:
        """Symbolic outputs for symbolic inputs, without recording a node."""
        if self._says_its_shape():
            return building.spec_from_shapes(self, args, kwargs)
        return symbolic.inferred_tensors(self, args, kwargs)

    def _says_its_shape(self) -> bool:
        return type(self).compute_output_shape is not Layer.compute_output_shape

    compute_output_shape = building.compute_output_shape

    def _repr_html_(self) -> str:
        return layer_page(self)

    # Metrics, config.

    init_cache, kerax_claim_seeds = caching.init_cache, building.claim_seeds
    metrics = property(building.metrics_below)
    metrics_variables = property(building.metrics_variables_below)
    get_config = persistence.get_config
    from_config = classmethod(persistence.from_config)  # pyright: ignore[reportAssignmentType]
    get_build_config = persistence.get_build_config
    build_from_config = persistence.build_from_config


aliases(Layer)


def _resolve(family: str, identifier):
    return identifier if identifier is None else registry.family(family).get(identifier)
