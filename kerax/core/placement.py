"""Where arrays lie: what variables and programs ask of the active distribution, which `kerax.distribution` sets.

Without one, everything lies on JAX's default device and each function here returns what it was given.
"""

import math
from typing import Any

import jax
import numpy as np
from jax.core import Tracer, eval_jaxpr

from kerax.core.jaxprs import equations

Tree = Any
_active: Any = None
_DONE_AGAIN = ("sharding_constraint", "convert_element_type", "reshape", "transpose", "squeeze")
"""What is done anew for the gradient: gathering weights, and what costs nothing but would keep them whole."""


def active() -> Any:
    """The active `kerax.distribution.Distribution`, or `None`."""
    return _active


def is_spread() -> bool:
    """Whether a distribution over several devices is active."""
    return _active is not None and _active.device_mesh.devices.size > 1


def shards_weights() -> bool:
    """Whether the active distribution cuts weights over devices."""
    return _active is not None and _active.shards_weights


def set_active(distribution) -> None:
    """Makes a distribution, or none, the active one."""
    global _active
    _active = distribution


def put(value, sharding) -> Any:
    """An array that every process holds, NumPy's or JAX's, laid out as `sharding` says; itself if it is already."""
    if isinstance(value, Tracer):
        return jax.lax.with_sharding_constraint(value, sharding)
    # Nothing is moved, and no copy made, where it lies right.
    if isinstance(value, jax.Array) and value.sharding.is_equivalent_to(sharding, value.ndim):
        return value
    if jax.process_count() == 1 or (isinstance(value, jax.Array) and not value.is_fully_addressable):
        return jax.device_put(value, sharding)
    # Several processes: each puts its own devices' parts there, from its copy of the whole.
    host = np.asarray(value)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def put_variable(variable, value) -> Any:
    """A variable's value laid out as the active distribution says."""
    # Asked at each assignment: one comparison where there is no distribution.
    return value if _active is None else put(value, _active.variable_sharding(variable))


def sharding_of(variable) -> Any:
    """The sharding of a variable under the active distribution, or `None`."""
    return None if _active is None else _active.variable_sharding(variable)


def spec_of(leaf) -> jax.ShapeDtypeStruct:
    """Shape, dtype and place of an array, or of what a variable holds."""
    if isinstance(leaf, jax.Array):
        # An uncommitted array follows the others: naming its place would bind them.
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding if leaf.committed else None)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.stored_dtype, sharding=sharding_of(leaf))


def shardings_of(variables: list) -> list | None:
    """The shardings of variables under the active distribution, or `None`."""
    return None if _active is None else [_active.variable_sharding(variable) for variable in variables]


def as_computed(variable, value) -> Any:
    """A variable's traced value as layers compute with it: of weights that are only stored in parts, the whole."""
    if _active is None or not isinstance(value, Tracer):
        return value
    return _active.as_computed(variable, value)


def place(data: Tree) -> Tree:
    """A pytree of arrays on the device, where programs read them again and again; under a distribution on each of its
    devices, whole."""
    if _active is None:
        return jax.device_put(data)
    return jax.tree.map(lambda leaf: put(leaf, _active.replicated), data)


def place_numbers(values: list[np.ndarray]) -> list:
    """A few small arrays to be handed to a program once: as they are, or under a distribution on each device."""
    return values if _active is None else place(values)


def aligned_view(memory: np.ndarray, shape: tuple[int, ...], dtype) -> np.ndarray:
    """An array in a piece of memory, bytes, from its first multiple of 64 on.

    There XLA's CPU backend reads it in place (4 us for 4 MB); elsewhere it copies it first (1,100 us).
    """
    start, dtype = -memory.ctypes.data % 64, np.dtype(dtype)
    return memory[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


def place_batch(batch: Tree, is_whole: bool = False) -> Tree:
    """A batch with its rows spread over the devices.

    Args:
        batch: With several processes, each one's share of the rows.
        is_whole: Whether each process has all the rows instead.
    """
    return batch if _active is None else _active.place_batch(batch, is_whole)


def num_shares() -> int:
    """Number of shares that processes read batches in."""
    return 1 if _active is None or jax.process_count() == 1 else _active.num_shares


def first_readers() -> list[int]:
    """Of each share the first process that reads it."""
    count, shares = jax.process_count(), num_shares()
    return [-(-share * count // shares) for share in range(shares)]


def divides(num_rows: int) -> bool:
    """Whether the devices that a batch is spread over divide its rows."""
    return _active is None or num_rows % _active.num_model_replicas == 0


def global_spec(batch: Tree) -> Tree:
    """Shapes and dtypes of a batch of which each process has a share."""

    def spec(leaf):
        shape = leaf.shape if _active is None else _active.global_shape(leaf.shape)
        return jax.ShapeDtypeStruct(shape, leaf.dtype)

    return jax.tree.map(spec, batch)


def constrain_batch(batch: Tree) -> Tree:
    """A traced batch with its rows spread over the devices."""
    return batch if _active is None else _active.constrain_batch(batch)


def constrain_output(layer, outputs: Tree) -> Tree:
    """What a layer returned, laid out as the active distribution says of outputs of this layer."""
    layout = None if _active is None else _active.get_tensor_layout(f"{layer.path}/output")
    return outputs if layout is None else jax.tree.map(lambda leaf: put(leaf, layout.backend_layout), outputs)


def constrain(value, names: tuple[str | None, ...]) -> Any:
    """A traced activation whose axes have these logical names, laid out as the active distribution says of them."""
    if _active is None or not isinstance(value, Tracer) or not all(isinstance(n, int) for n in value.shape):
        return value
    layout = _active.get_logical_layout(value.shape, names)
    return jax.lax.with_sharding_constraint(value, layout.backend_layout) if any(layout.axes) else value


def gathering_again(function) -> Any:
    """A function of one tree, to be differentiated, whose gradient gathers weights again instead of keeping them whole.

    A function that has parts which are computed again anyway is left alone: they gather anew, and what surrounds them
    would take the place of their own choice of what to keep.
    """
    if not gathers():
        return function

    def computed(argument):
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(argument)

        def run(*leaves):
            return eval_jaxpr(closed.jaxpr, closed.consts, *leaves)

        # Two such choices inside each other would both be made, the outer one first.
        run = run if _has_checkpoint(closed.jaxpr) else keeping_no_weights(run)
        return jax.tree.unflatten(jax.tree.structure(shapes), run(*jax.tree.leaves(argument)))

    return computed


def keeping_no_weights(function) -> Any:
    """The function under `jax.checkpoint`, which for the gradient keeps everything but weights that were gathered."""
    return jax.checkpoint(function, policy=lambda primitive, *_, **__: primitive.name not in _DONE_AGAIN)


def gathers() -> bool:
    """Whether layers compute with more of a weight than a device holds."""
    return _active is not None and _active.gathers


def _has_checkpoint(jaxpr) -> bool:
    return any(equation.primitive.name in ("checkpoint", "remat2") for equation in equations(jaxpr))


def replicate(values: Tree) -> Tree:
    """Traced values, whole on every device."""
    if _active is None:
        return values
    return jax.tree.map(lambda value: jax.lax.with_sharding_constraint(value, _active.replicated), values)


def check(model, batch_spec: Tree, who: str) -> None:
    """Raises `ValueError` if the active distribution cannot spread the model or a batch."""
    if _active is not None:
        _active.check(model, batch_spec, who)


def to_host(value) -> np.ndarray:
    """An array as NumPy's. Of one spread over several processes, all must ask for it together."""
    if isinstance(value, jax.Array) and not value.is_fully_addressable and not value.is_fully_replicated:
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(value, tiled=True)  # needs all processes
    return np.asarray(value)


def own(array: np.ndarray) -> np.ndarray:
    """An array that is the caller's alone, to be written to: JAX's are views of its memory, which others read too."""
    return array if array.flags.writeable and array.flags.owndata else array.copy()


def to_host_all(values: list) -> list[np.ndarray]:
    """Several arrays as NumPy's, all transfers at once."""
    if jax.process_count() == 1:
        return jax.device_get(values)
    return [to_host(value) for value in values]
