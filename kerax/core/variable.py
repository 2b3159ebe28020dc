"""`Variable`: a named array of a layer, metric or seed generator, abstract until someone reads it."""

import hashlib
import inspect
import math
import operator
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from kerax import config
from kerax.core import host_random, placement, seeds, sums
from kerax.core import scope as scopes
from kerax.core.operators import BINARY, COMPARISONS, UNARY, Operators
from kerax.core.registry import family
from kerax.core.shapes import read_shape


def call_initializer(initializer: Callable, key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
    """The initial array from any of the three kinds of initializers.

    kerax's `(shape, dtype, key=...)`, JAX's `(key, shape, dtype)`, and Keras users' `(shape, dtype)`.
    """
    parameters = list(inspect.signature(initializer).parameters)
    # Told by the names of the arguments: calling it to see would draw twice.
    if parameters and parameters[0] in ("key", "rng"):
        return initializer(key, shape, dtype)
    if "key" in parameters:
        return initializer(shape, dtype=dtype, key=key)
    return jnp.asarray(initializer(shape, dtype=dtype), dtype)


def path_hash(path: str) -> np.uint32:
    """32 bits of a weight's path: what its key is folded with, whatever other weights there are."""
    # Not Python's `hash`, which differs from process to process.
    return np.frombuffer(hashlib.blake2s(path.encode(), digest_size=4).digest(), "<u4")[0]


def initial_value(variable: "Variable", key_data: jax.Array, path: str) -> jax.Array:
    """The initial array from the key `fold_in(key, hash of the path)`. Pure: works under `jit` and `eval_shape`."""
    draw = _drawer(variable.initializer, variable.shape, variable.stored_dtype)
    return draw(key_data, path_hash(path))


_drawers: dict[Any, Callable] = {}


def _drawer(initializer: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """A function of (key data, path hash) that draws; compiled once per kind of initializer, shape and dtype."""

    def draw(key_data, path_hash):
        key = jax.random.fold_in(jax.random.wrap_key_data(key_data), path_hash)
        return call_initializer(initializer, key, shape, jnp.dtype(dtype))

    if not type(initializer).__module__.startswith("kerax.") or hasattr(initializer, "value"):
        return draw  # a function, a user's class whose config may not say all, or a constant that may be large
    # Equal configs give one program: twenty layers of one kind compile one draw.
    kind = (type(initializer), repr(sorted(initializer.get_config().items())), shape, dtype)
    return _drawers.setdefault(kind, jax.jit(draw))


def _fresh_array(variable: "Variable", key_data: dict[int, np.ndarray]) -> jax.Array:
    """A variable's initial array, with as little to compile as possible: a model's first step waits for it.

    On CPU the draws are compiled at optimization level 1: the same bits, in 0.2 s where the default took 0.85 for a
    kernel of 128 x 10.
    """
    initializer, (root, path) = variable.initializer, variable._seed_pair()
    dtype = jnp.dtype(variable.stored_dtype)
    if hasattr(initializer, "on_host"):
        # Zeros and ones need no program.
        return jax.device_put(initializer.on_host(variable.shape, dtype))
    on_cpu = jax.default_backend() == "cpu"
    bounds = initializer.uniform_range(variable.shape) if hasattr(initializer, "uniform_range") else None
    if (
        on_cpu
        and bounds is not None
        and variable.stored_dtype == "float32"
        and math.prod(variable.shape) <= _HOST_DRAWS
    ):
        return jax.device_put(host_random.uniform(root, path_hash(path), variable.shape, *bounds))
    draw = _drawer(initializer, variable.shape, variable.stored_dtype)
    if root not in key_data:
        key_data[root] = np.array([root >> 32, root & 0xFFFFFFFF], np.uint32)  # `key_data(key(root))`, uncompiled
    arguments = key_data[root], path_hash(path)
    if not on_cpu or not hasattr(draw, "lower") or jax.config.values["jax_disable_jit"]:
        return draw(*arguments)
    if draw not in _compiled:
        _compiled[draw] = draw.lower(*arguments).compile({"xla_backend_optimization_level": 1})
    return _compiled[draw](*arguments)


_compiled: dict[Callable, Callable] = {}
_HOST_DRAWS = 2**20  # elements; beyond it XLA's compilation is the shorter wait


def forget_programs() -> None:
    """Drops the compiled draws of initial values."""
    _drawers.clear()
    _compiled.clear()


def materialize(variables: Iterable["Variable"]) -> Any:
    """Gives every abstract variable its initial array."""
    # What a running `fit` owns has its arrays.
    variables = [variable for variable in variables if variable._store is None]
    abstract = [variable for variable in variables if variable._value is None]
    if placement.active() is not None and not scopes.is_tracing():
        return _materialize_spread(variables, abstract)
    if abstract and scopes.is_tracing():  # called while something is being traced
        with jax.ensure_compile_time_eval():
            return materialize(abstract)
    key_data: dict[int, np.ndarray] = {}
    for variable in abstract:
        variable._value, variable._is_shared = _fresh_array(variable, key_data), False


def _materialized(variable: Any) -> jax.Array:
    materialize([variable])
    return variable._value


def _materialize_spread(variables: list["Variable"], abstract: list["Variable"]):
    """Draws initial values on the devices that shall hold them, and moves values there that lie elsewhere."""

    def draw(seeds):
        return [initial_value(v, seed, v._seed_pair()[1]) for v, seed in zip(abstract, seeds, strict=True)]

    if abstract:
        roots = [variable._seed_pair()[0] for variable in abstract]
        key_data = [np.array([root >> 32, root & 0xFFFFFFFF], np.uint32) for root in roots]
        shardings = [placement.sharding_of(variable) for variable in abstract]
        # One program for all: no device ever holds a weight that it does not keep.
        for variable, value in zip(abstract, jax.jit(draw, out_shardings=shardings)(key_data), strict=True):
            variable._value, variable._is_shared = value, False
    for variable in variables:
        variable._value = placement.put_variable(variable, variable._value)


KINDS: set[type] = set()
"""`Variable` and its subclasses: a type is looked up sooner than an object is asked."""


AGGREGATIONS = (None, "none", "mean", "sum", "only_first_replica")
SYNCHRONIZATIONS = (None, "none", "on_read", "on_write", "auto")


def _checked(name: str, is_right: Callable[[Any], bool], expected: str, error: type[Exception]) -> Any:
    """An attribute that is looked at when it is set: what is wrong in it would show in the middle of training."""

    def set_value(self, value):
        if not is_right(value):
            raise error(f"{self.path}: `{name}` must be {expected}. Got {value!r}.")
        setattr(self, f"_{name}", value)

    return property(operator.attrgetter(f"_{name}"), set_value)


def _is_function(value) -> bool:
    return value is None or callable(value)


class Variable(Operators):
    """A named array with an initializer; the array is made when `value` is first read.

    Args:
        initializer: An initial value, or an initializer (or its name) called with `shape` and `dtype`.
        shape: Tuple of ints; required with an initializer.
        dtype: Name of the dtype. Default: the initial value's, or `floatx()`.
        trainable: Whether the optimizer updates it.
        autocast: Whether layers read a float variable in their compute dtype.
        aggregation: Kept for Keras's signature; JAX's sharded arrays need none. One of `AGGREGATIONS`.
        synchronization: Likewise, one of `SYNCHRONIZATIONS`.
        layout: `kerax.distribution.TensorLayout` under the active distribution. Default: what that says.
        name: A string without `/`. Default: `"variable"`.

    Raises:
        ValueError: if an initializer comes without a shape, a shape has a negative or unknown size, or an argument is
            none of those that it can be.
    """

    regularizer = _checked("regularizer", _is_function, "a function or a `Regularizer`, or None", ValueError)
    constraint = _checked("constraint", _is_function, "a function or a `Constraint`, or None", ValueError)
    # Whether the optimizer puts the gradient in its place.
    overwrite_with_gradient = _checked(
        "overwrite_with_gradient", lambda value: isinstance(value, bool), "a boolean", TypeError
    )

    def __init__(
        self,
        initializer,
        shape=None,
        dtype=None,
        trainable=True,
        autocast=True,
        aggregation="none",
        synchronization="auto",
        name=None,
        layout=None,
    ):
        self.name = name or "variable"
        if not isinstance(self.name, str) or "/" in self.name:
            raise ValueError(f"Variable: `name` must be a string without '/'. Got {name!r}.")
        if aggregation not in AGGREGATIONS or synchronization not in SYNCHRONIZATIONS:
            raise ValueError(
                f"Variable {name!r}: `aggregation` must be one of {AGGREGATIONS}, and `synchronization` one of "
                f"{SYNCHRONIZATIONS}. Got {aggregation!r} and {synchronization!r}."
            )
        self.path = "/".join((*scopes.names.get(), self.name))
        # The first may change by freezing; the second says for ever in which tree it lies.
        self.trainable = self.is_parameter = bool(trainable)
        self.autocast = autocast
        self.is_sliced = False  # whether its value is cut from one of several blocks'
        self.aggregation, self.synchronization = aggregation, synchronization
        self.goes_on = False  # whether evaluation and prediction keep what they make of it: states of recurrent layers
        self.is_drawn_from = False  # likewise, of a stream of keys that they draw from
        self.is_weight = True  # whether `weights` lists it: not so for positions of seeds and recurrent states
        self.place_in_files: int | None = 0  # in a layer's order, smaller ones first; `None`: files do not hold it
        self.value_in_files: Callable | None = None  # gives what files hold in place of `value`
        self.zeroed_by_files = False  # whether loading its layer makes it 0
        self.regularizer = self.constraint = None
        self.overwrite_with_gradient = False
        self.seed_and_path: tuple[int, str] | None = None  # (root seed, path): where the initial value's key comes from
        self._store: tuple[Any, int] | None = None  # (store, index) while a training run owns the array
        self._is_shared = True  # whether someone else may hold the array: then no step may take its memory
        self._value: Any = None  # the array, once there is one
        self.num_stacked = 0  # how many first axes are blocks that lie on top of each other
        self.layout = layout
        self.reference: Variable | None = None  # the weight that an optimizer's slot lies beside
        if isinstance(initializer, str):
            initializer = family("initializers").get(initializer)
        if callable(initializer):
            if shape is None:
                raise ValueError(f"Variable {self.name!r}: an initializer needs `shape`. Got {initializer!r} without.")
            self._initial: Any = initializer
            sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
            if None in sizes:
                raise ValueError(f"Variable {self.name!r}: every size must be known. Got shape {sizes}.")
            self.shape = cast(tuple[int, ...], read_shape(f"Variable {self.name!r}", sizes))
            self.stored_dtype = jnp.dtype(dtype or config.floatx()).name
        else:
            is_float = isinstance(initializer, float) or (
                isinstance(initializer, np.ndarray) and initializer.dtype == np.float64
            )
            dtype = dtype or (config.floatx() if is_float else None)
            if isinstance(initializer, (bool, int, float, np.ndarray, np.generic)):  # converted without a program
                dtype = jnp.dtype(dtype) if dtype else jax.dtypes.canonicalize_dtype(np.asarray(initializer).dtype)
                value = jax.device_put(np.array(initializer, dtype))
            else:
                value = jnp.asarray(initializer, dtype)
            if shape is not None and tuple(shape) != value.shape:
                raise ValueError(f"Variable {self.name!r}: `shape` is {tuple(shape)}, the value's is {value.shape}.")
            self._initial, self._value = None, value
            # As JAX holds it: without x64 that is 32 bits.
            self.shape, self.stored_dtype = value.shape, value.dtype.name

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        KINDS.add(cls)

    def _seed_pair(self) -> tuple[int, str]:
        if self.seed_and_path is None:
            # Without the number of a default name, which counts what else was made: the same seed, the same weights.
            self.seed_and_path = (seeds.make_seed(), re.sub(r"^([^/]*)_\d+/", r"\1/", self.path))
        return self.seed_and_path

    @property
    def initializer(self) -> Any:
        """What makes the initial value; `None` for a variable made from a value."""
        return self._initial

    @property
    def dtype(self) -> str:
        """Name of the dtype: the compute dtype inside a mixed-precision layer, else the stored one."""
        return scopes.cast_name(self) or self.stored_dtype

    @property
    def _dtype(self) -> str:
        return self.stored_dtype

    @property
    def value(self) -> jax.Array:
        """The array: the open scope's, the running training's (as a copy), or the variable's own."""
        scope = scopes.find(self)
        if scope is not None:
            value = scope.values.get(id(self))
            if value is None:
                # Only shapes are asked for: nothing is drawn.
                value = jnp.zeros(self.shape, self.stored_dtype) if self._value is None else self._value
            cast = scopes.cast_name(self)  # before it is gathered: half the bytes
            return placement.as_computed(self, value.astype(cast) if cast else value)
        elif self._store is not None:
            store, index = self._store
            value = store.read(index)  # a copy: the next step donates the array
        else:
            value = self._value if self._value is not None else _materialized(self)
            self._is_shared = True
        cast = scopes.cast_name(self)
        return value.astype(cast) if cast else value

    @property
    def exact(self) -> jax.Array:
        """The value in the dtype that it is stored in, in layers of another compute dtype too."""
        cast = scopes.autocast.set(None)
        try:
            return self.value
        finally:
            scopes.autocast.reset(cast)

    @property
    def raw(self) -> jax.Array:
        """The array that the variable holds, which for a `Sum` is not all of its value."""
        return self.value

    def peek(self) -> jax.Array:
        """The array itself, not a copy: for reading at once, before the next training step donates it.

        In a thread beside the one that trains a copy, for there "at once" means nothing.
        """
        if self._store is not None:
            store, index = self._store
            return store.leaves[index] if store.thread == threading.get_ident() else store.read(index)
        return self._value if self._value is not None else _materialized(self)

    def assign(self, value) -> Any:
        """Sets the value: in the open scope, in the running training from its next step on, or in the variable.

        Raises:
            ValueError: if the shape differs, or the value is traced and no scope is open.
        """
        value = unwrap(value)
        # A copy of the user's memory, which XLA would otherwise go on reading from.
        if isinstance(value, np.ndarray):
            value = np.array(value, jnp.dtype(self.stored_dtype))
            value = value if placement.active() is not None else jax.device_put(value)
        value = value if isinstance(value, np.ndarray) else jnp.asarray(value, self.stored_dtype)
        if value.shape != self.shape:
            raise ValueError(f"{self.path}: cannot assign shape {value.shape} to a variable of shape {self.shape}.")
        # Before the scope takes it: inside a traced step this is a constraint on its layout.
        value = placement.put_variable(self, value)
        scope = scopes.find(self, to_write=True)
        if scope is not None:
            scope.values[id(self)] = value
            scope.written.add(id(self))
        elif isinstance(value, Tracer):
            raise ValueError(
                f"{self.path}: a traced value was assigned outside a pure call, which would leak it. "
                "Inside `jit`, `grad`, `vmap` or `scan` call `layer.apply(variables, ...)` instead of `layer(...)`; "
                "it returns the new state."
            )
        else:
            self.accept(value)
        return value

    def accept(self, value: jax.Array):
        """`assign` of what a program made of this variable's value, or of its like: of its shape, dtype and place."""
        if self._store is not None:
            store, index = self._store
            store.write(index, value)
        else:
            self._value, self._is_shared = value, True

    def assign_add(self, value) -> jax.Array:
        """`assign(self.value + value)`."""
        return self.assign(self + value)

    def assign_sub(self, value) -> jax.Array:
        """`assign(self.value - value)`."""
        return self.assign(self - value)

    def numpy(self) -> np.ndarray:
        """The value on the host. Of one spread over several processes, all of them must ask for it together."""
        return placement.own(placement.to_host(self.value))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def is_lent(self) -> bool:
        """Whether a training run owns the array at the moment."""
        return self._store is not None

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.numpy(), dtype)

    def __jax_array__(self):
        return self.value  # for `jnp.asarray` and `jnp.stack`; other functions of JAX want the value itself

    def __len__(self):
        if not self.shape:
            raise TypeError(f"{self.path}: a scalar has no length.")
        return self.shape[0]

    def __getitem__(self, index):
        return self.value[index]

    def __iter__(self):
        return iter(self.value)  # Python would ask for items until one is missing, and JAX takes the last for those

    def __bool__(self):
        raise TypeError(f"{self!r} is neither true nor false. Ask `bool(variable.value)`, or whether it is None.")

    def __float__(self):
        return float(self.value)

    def __int__(self):
        return int(self.value)

    __hash__ = object.__hash__

    def __repr__(self):
        array = self._value
        # Only what is there and whole: to print is no reason to draw, to wait for other processes, or to fail.
        is_there = array is not None and array.is_fully_addressable and not array.is_deleted()
        value = f", value={np.asarray(array)}" if is_there else ""
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.stored_dtype}{value}>"


KINDS.add(Variable)


def offer(variables: Sequence[Variable]) -> list[tuple[jax.Array, bool]]:
    """Each array, and whether someone else may hold it, so that no step may take its memory."""
    materialize(variables)
    # What a run around this one owns is a copy.
    return [(v._value, v._is_shared) if v._store is None else (v.value, False) for v in variables]


def lend(variables: Sequence[Variable], store) -> list:
    """Lets a training run own the arrays: until `take_back` each variable reads and writes its entry of `store`.

    Returns: what `take_back` needs.
    """
    outer = [variable._store for variable in variables]  # a run inside another's callback borrows from that one
    for index, variable in enumerate(variables):
        variable._store, variable._value = (store, index), None
    return outer


def take_back(variables: Sequence[Variable], values: Sequence[jax.Array], outer: list):
    """Ends `lend`."""
    for variable, value, place in zip(variables, values, outer, strict=True):
        variable._store = place
        if place is None:
            variable._value, variable._is_shared = value, False
        else:
            store, index = place
            store.write(index, value)


class Sum(Variable):
    """A variable of a metric that is added to, exactly far beyond the digits of its dtype: see `core.sums`.

    Args:
        dtype: Of which `sums.has_rest` holds.
        initializer, shape, aggregation, name: As those of `Variable`.

    Attributes:
        rest: The variable beside it. In no list: a program carries it along, and what users see are Keras's variables.
    """

    def __init__(self, initializer, shape, dtype, aggregation="none", name=None):
        super().__init__(initializer, shape, dtype, False, False, aggregation, name=name)
        self.rest = Variable("zeros", shape, dtype, False, False, aggregation, name=f"{self.name}_rest")

    @property
    def raw(self) -> jax.Array:
        """The array that the variable holds, without the rest."""
        return Variable.value.__get__(self)

    @property
    def value(self) -> jax.Array:
        """The sum, as far as its dtype has digits; of integers modulo `sums.UNIT`."""
        # Not of integers, and zero before anyone added to it.
        if self.stored_dtype == "int32" or not self._has_rest() or (self.rest._value is None and not self._is_lent()):
            return self.raw
        return self.raw + self.rest.raw

    def assign(self, value) -> Any:
        """As that of `Variable`; the rest is 0 then."""
        value = super().assign(value)
        if self._is_lent():
            if self._has_rest():
                self.rest.assign(np.zeros(self.shape, self.stored_dtype))
        else:
            self.rest._value, self.rest._is_shared = None, True  # zeros again, made when they are read
        return value

    def assign_add(self, value) -> jax.Array:
        """Adds to the sum, and returns it."""
        if not self._has_rest():
            return super().assign_add(value)
        if self.stored_dtype == "int32" or scopes.find(self) is None:
            total, rest = sums.add_up(self.raw, self.rest.raw, unwrap(value))
            super().assign(total)
        else:
            rest = self.rest.raw + unwrap(value)  # the program settles it
        self.rest.assign(rest)
        return self.value

    def _has_rest(self) -> bool:
        # A user's own step may hold the sum alone: then it is added to as any variable.
        scope = scopes.find(self)
        return scope is None or id(self.rest) in scope.values

    def _is_lent(self) -> bool:
        return self.rest._store is not None or scopes.find(self.rest, to_write=True) is not None


def unwrap(value) -> Any:
    """A variable's value; anything else unchanged."""
    return value.value if isinstance(value, Variable) else value


def _operator(function: Callable, swapped: bool = False) -> Callable:
    def method(self, other):
        # A symbolic tensor's own operator records the operation in its graph.
        if other is None or isinstance(other, str) or hasattr(type(other), "_keras_history"):
            return NotImplemented
        # Lists count as arrays, as in Keras, where JAX's own operators refuse them.
        pair = self.value, jnp.asarray(other) if isinstance(other, (list, tuple)) else unwrap(other)
        return function(*(pair[::-1] if swapped else pair))

    return method


for _name, _function in {**BINARY, **COMPARISONS}.items():
    setattr(Variable, f"__{_name}__", _operator(_function))
    if _name in BINARY:
        setattr(Variable, f"__r{_name}__", _operator(_function, swapped=True))
for _name, _function in {**UNARY, "invert": jnp.invert}.items():  # `~` is that of the array, of symbolic ones logical
    setattr(Variable, f"__{_name}__", (lambda function: lambda self, *args: function(self.value, *args))(_function))
