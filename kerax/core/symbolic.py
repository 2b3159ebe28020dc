"""Symbolic tensors: what a layer or op called on one would give, without computing it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kerax.core import masks
from kerax.core.operators import Operators
from kerax.core.scope import Scope

Shape = tuple[int | None, ...]


class KerasTensor(Operators):
    """The shape and dtype of a value in a graph, and where it comes from.

    Args:
        shape: Tuple of sizes, `None` where unknown.
        dtype: Name of the dtype.
        sparse, ragged, record_history: Kept for Keras's signature.
        name: Optional name.
    """

    astype: Callable[..., Any]
    reshape: Callable[..., Any]
    squeeze: Callable[..., Any]
    __getitem__: Callable[[Any], Any]

    def __init__(self, shape, dtype="float32", sparse=False, ragged=False, record_history=True, name=None, **_):
        self.shape: Shape = tuple(shape)
        self.dtype = jnp.dtype(dtype).name
        self.sparse, self.ragged = sparse, ragged
        self.name = name or "keras_tensor"
        self._keras_history: tuple[Any, int, int] | None = None  # (operation, node index, tensor index)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def node(self) -> "Node":
        """The call that made this tensor."""
        if self._keras_history is None:
            raise ValueError(f"{self!r} was made by no call: start a graph with `kerax.Input`.")
        operation, node_index, _ = self._keras_history
        return operation.inbound_nodes[node_index]

    @property
    def operation(self) -> Any:
        """The layer or op whose call made this tensor."""
        return self.node.operation

    def _refuse(self, *_, **__) -> Any:
        raise ValueError(
            f"{self!r} is symbolic and has no values. Use `kerax.ops` or a layer on it, not `jax.numpy` or NumPy; "
            "`kerax.ops.lift(function)` makes any pure JAX function fit."
        )

    __array__ = __bool__ = __float__ = __int__ = __iter__ = _refuse
    __hash__ = object.__hash__

    def __repr__(self):
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


class Node:
    """One call of an operation on symbolic tensors."""

    def __init__(self, operation, args: tuple, kwargs: dict, outputs):
        self.operation, self.args, self.kwargs, self.outputs = operation, args, kwargs, outputs
        self.inputs = [leaf for leaf in jax.tree.leaves((args, kwargs)) if isinstance(leaf, KerasTensor)]
        index = len(operation.inbound_nodes)
        operation.inbound_nodes.append(self)
        for position, tensor in enumerate(jax.tree.leaves(outputs)):
            # The operation's index, not the node: Keras's form, which users' code reads.
            tensor._keras_history = (operation, index, position)
            # An `Input` keeps the name that it was given.
            if tensor.name == "keras_tensor":
                tensor.name = f"keras_tensor_{operation.name}"

    def arguments(self, values: dict[KerasTensor, Any]) -> tuple[tuple, dict]:
        """The arguments of the call, (args, kwargs), with the values of tensors in their places."""
        leaves, form = jax.tree.flatten((self.args, self.kwargs))
        for place, leaf in enumerate(leaves):
            if isinstance(leaf, KerasTensor):
                leaves[place] = values[leaf]
        return jax.tree.unflatten(form, leaves)

    def note(self, outputs, values: dict[KerasTensor, Any]) -> None:
        """Adds what the call returned to the values."""
        values.update(zip(jax.tree.leaves(self.outputs), jax.tree.leaves(outputs), strict=True))


def is_keras_tensor(x) -> bool:
    """Whether `x` is a symbolic tensor."""
    return isinstance(x, KerasTensor)


def get_source_inputs(tensor) -> list:
    """The `Input`s that a symbolic tensor is computed from, each once, in the order a walk back meets them."""
    if not isinstance(tensor, KerasTensor):
        return tensor
    if tensor._keras_history is None:
        return [tensor]
    node = tensor.node
    # A node without inputs is an `Input`: its outputs are the sources.
    sources = [source for needed in node.inputs for source in get_source_inputs(needed)]
    return list({id(source): source for source in sources or jax.tree.leaves(node.outputs)}.values())


def is_symbolic(*structures) -> bool:
    """Whether any leaf is a `KerasTensor`."""
    for leaf in jax.tree.leaves(structures):  # a loop, not `any`: every call of every layer comes here
        if isinstance(leaf, KerasTensor):
            return True
    return False


def record(operation, args: tuple, kwargs: dict) -> Any:
    """Calls `operation` symbolically: infers what it returns and records a node. Returns symbolic tensors."""
    outputs = inferred_tensors(operation, args, kwargs)
    Node(operation, args, kwargs, outputs)
    return outputs


def inferred_tensors(function: Callable, args: tuple, kwargs: dict) -> Any:
    """What `infer` finds, as symbolic tensors that are in no graph yet."""
    specs = infer(function, args, kwargs)
    return jax.tree.map(lambda spec: KerasTensor(known_shape(spec.shape), spec.dtype), specs)


def is_shape(value) -> bool:
    """Whether a value is a shape: a tuple or list of integers and `None`."""
    return isinstance(value, (list, tuple)) and all(size is None or isinstance(size, int) for size in value)


def known_shape(shape) -> Shape:
    """A shape with `None` for every size that is not a known number."""
    return tuple(size if isinstance(size, int) else None for size in shape)


def infer(function: Callable, args: tuple, kwargs: dict) -> Any:
    """What `function` returns for arguments whose leaves are arrays, specs or `KerasTensor`s.

    Unknown sizes become JAX's symbolic dimensions, one per axis position, so that the unknown sizes of several inputs
    agree. Where JAX cannot decide something about a symbol, two concrete sizes are tried instead, and the sizes
    that differ between them are unknown.

    Returns: the same structure with `jax.ShapeDtypeStruct` leaves; unknown sizes are not ints.
    """
    leaves, treedef = jax.tree.flatten((args, kwargs))
    # Everything else, as flags and arrays, goes in as it is.
    dynamic = [i for i, leaf in enumerate(leaves) if isinstance(leaf, (KerasTensor, jax.ShapeDtypeStruct))]
    tensors = [leaves[i] for i in dynamic]
    tensors = tensors, list(map(masks.get_mask, tensors))

    def pure(values, their_masks):
        filled = list(leaves)
        for position, value, mask in zip(dynamic, values, their_masks, strict=True):
            filled[position] = value
            if mask is not None:
                masks.set_mask(value, mask)
        inner_args, inner_kwargs = jax.tree.unflatten(treedef, filled)
        # Any key: no number is drawn, only its shape.
        with Scope(key=jax.random.key(0), shapes_only=True):
            return function(*inner_args, **inner_kwargs)

    def run(size_of: Callable[[int], Any]):
        def spec(tensor):
            shape = [size if isinstance(size, int) else size_of(axis) for axis, size in enumerate(tensor.shape)]
            return jax.ShapeDtypeStruct(shape, tensor.dtype)

        return jax.eval_shape(pure, *jax.tree.map(spec, tensors))

    # Known shapes need neither symbols nor a second try.
    if all(isinstance(size, int) for i in dynamic for size in leaves[i].shape):
        return run(lambda axis: axis)
    try:
        return run(lambda axis: _symbols()[axis])
    except Exception as error:
        # A mistake of the user's would only fail again, at sizes that the user has never seen.
        if not _is_inconclusive(error):
            raise
    # Different for each axis, so that sizes are not mistaken for each other; multiples of 8 fit strides and heads.
    first, second = run(lambda axis: 16 + 8 * axis), run(lambda axis: 48 + 8 * axis)
    return jax.tree.map(_unknown_where_different, first, second)


def _unknown_where_different(first: jax.ShapeDtypeStruct, second: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    shape = [
        a if a == b else _symbols()[axis] for axis, (a, b) in enumerate(zip(first.shape, second.shape, strict=True))
    ]
    return jax.ShapeDtypeStruct(shape, first.dtype)


def _is_inconclusive(error: Exception) -> bool:
    """Whether a failure is about a symbolic size rather than a mistake that concrete sizes would show too."""
    text = f"{type(error).__name__} {error}"
    words = ("Inconclusive", "symbolic", "Symbolic", "_DimExpr", "dimension variables", "shape polymorphism")
    return any(word in text for word in words)


_symbol_cache: list = []


def _symbols() -> list:
    """One symbolic size per axis position, all in one scope."""
    if not _symbol_cache:
        from jax import export  # costs import time that only symbolic models need

        _symbol_cache.extend(export.symbolic_shape("batch, " + ", ".join(f"size{axis}" for axis in range(1, 12))))
    return _symbol_cache
