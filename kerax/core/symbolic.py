"""Symbolic tensors: what a layer or op called on one would give, without computing it."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp

from kerax.core import masks, sparse
from kerax.core.operators import Operators
from kerax.core.scope import Scope
from kerax.core.shapes import Shape, read_shape
from kerax.errors import ArgumentTypeError, NotIterableError
from kerax.tracebacks import hide_library_frames


class KerasTensor(Operators):
    """The shape and dtype of a value in a graph, and where it comes from.

    Args:
        shape: Tuple of sizes, `None` where unknown.
        dtype: Name of the dtype.
        sparse: Whether it stands for a sparse array, JAX's `BCOO`.
        ragged, record_history: Kept for Keras's signature.
        name: Optional name.
    """

    astype: Callable[..., Any]
    reshape: Callable[..., Any]
    squeeze: Callable[..., Any]
    __getitem__: Callable[[Any], Any]
    _keras_history: tuple[Any, int, int] | None = None  # (operation, node index, tensor index)

    def __init__(self, shape, dtype="float32", sparse=False, ragged=False, record_history=True, name=None, **_):
        self.shape: Shape = read_shape("KerasTensor", shape)
        self.dtype = "string" if dtype in ("string", str) else jnp.dtype(dtype).name
        if sparse and ragged:
            raise ValueError("KerasTensor: `sparse` and `ragged` exclude each other. Got both.")
        self.sparse, self.ragged = sparse, ragged
        self.name = name or "keras_tensor"

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def node(self) -> "Node":
        """The call that made this tensor."""
        if self._keras_history is None:
            Node(Source(), (), {}, self)
        operation, node_index, _ = cast(tuple, self._keras_history)
        return operation.inbound_nodes[node_index]

    @property
    def operation(self) -> Any:
        """The layer or op whose call made this tensor."""
        return self.node.operation

    def _refuse(self, *_, **__) -> Any:
        raise ArgumentTypeError(
            f"{self!r} is symbolic and has no values. Use `kerax.ops` or a layer on it, not `jax.numpy` or NumPy; "
            "`kerax.ops.lift(function)` makes any pure JAX function fit."
        )

    __array__ = __bool__ = __float__ = __int__ = _refuse

    def __iter__(self):
        raise NotIterableError(f"{self!r} is symbolic: iterate over `kerax.ops.unstack` of it, or over its shape.")

    def __repr__(self):
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


class Size(KerasTensor):
    """The size of an axis that is not known yet, or what Python's operators make of such sizes: where the graph runs,
    an integer.

    Args:
        function: What gives it, from arguments in which such sizes may be.
    """

    def __init__(self, function: Callable, args: tuple, kwargs: dict):
        super().__init__((), "int32")
        self._made_by = function, args, kwargs

    def for_sizes(self, size_of: Callable[[int], Any]) -> Any:
        """The size, if unknown sizes are what `size_of(axis)` says."""
        function, args, kwargs = self._made_by

        def fill(leaf):
            if isinstance(leaf, Size):
                return leaf.for_sizes(size_of)
            if isinstance(leaf, KerasTensor):
                return jax.ShapeDtypeStruct(sized(leaf.shape, size_of), leaf.dtype)
            return leaf

        args, kwargs = jax.tree.map(fill, (args, kwargs))
        return function(*args, **kwargs)

    def __eq__(self, other):
        return other is None or self is other  # Keras has `None` in its place

    __hash__ = KerasTensor.__hash__


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
        tensors, found = jax.tree.leaves(self.outputs), sparse.leaves(outputs)
        if len(tensors) != len(found):  # a `compute_output_shape` that names an output which may be `None`
            found = jax.tree.leaves(outputs, is_leaf=lambda leaf: leaf is None)
        values.update(zip(tensors, found, strict=True))


class Source:
    """Where a symbolic tensor comes from that no call made: a graph may start there."""

    auto_named, named_in_graph = True, False

    def __init__(self):
        self.name = "source"
        self.inbound_nodes: list[Node] = []


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
    outputs = operation.compute_output_spec(*args, **kwargs)
    Node(operation, args, kwargs, outputs)
    return outputs


def inferred_tensors(function: Callable, args: tuple, kwargs: dict) -> Any:
    """What `infer` finds, as symbolic tensors that are in no graph yet."""
    specs = infer(function, args, kwargs)

    def tensor(spec):
        return KerasTensor(known_shape(spec.shape), spec.dtype, sparse=isinstance(spec, sparse.SparseSpec))

    return jax.tree.map(tensor, specs)


def is_shape(value) -> bool:
    """Whether a value is a shape: a tuple or list of integers and `None`."""
    return isinstance(value, (list, tuple)) and all(size is None or isinstance(size, int) for size in value)


def known_shape(shape) -> Shape:
    """A shape with `None` for every size that is not a known number."""
    return tuple(size if isinstance(size, int) else None for size in shape)


def sized(shape, size_of: Callable[[int], Any]) -> tuple:
    """A shape with `size_of(axis)` for each unknown size: of its own axis, or of that whose symbol stands there."""
    return tuple(
        size if isinstance(size, int) else size_of(axis if size is None else _symbols().index(size))
        for axis, size in enumerate(shape)
    )


def infer(function: Callable, args: tuple, kwargs: dict) -> Any:
    """What `function` returns for arguments whose leaves are arrays, specs or `KerasTensor`s.

    Unknown sizes become JAX's symbolic dimensions, one per axis position, so that the unknown sizes of several inputs
    agree. Where they do not fit each other so, other ways in which they could agree are tried. Where JAX cannot
    decide something about a symbol, two concrete sizes are tried instead, and the sizes that differ between them
    are unknown.

    Returns: the same structure with `jax.ShapeDtypeStruct` leaves; unknown sizes are not ints.
    """
    leaves, treedef = jax.tree.flatten((args, kwargs))
    # Everything else, as flags and arrays, goes in as it is.
    dynamic = [
        i
        for i, leaf in enumerate(leaves)
        if isinstance(leaf, (KerasTensor, jax.ShapeDtypeStruct)) and not isinstance(leaf, Size)
    ]
    if any(leaves[i].dtype == "string" for i in dynamic):
        raise ValueError(
            f"{function} cannot take text. In a model only layers that turn text into numbers do, as `StringLookup`, "
            "`TextVectorization` and `Hashing`, and those that say what comes out by `compute_output_shape`."
        )
    # A tensor's mask goes along: a layer's `call` may read it.
    their_masks = [masks.get_mask(leaves[i]) for i in dynamic]
    shapes = [known_shape(leaves[i].shape) for i in dynamic]
    others = [leaf.shape for leaf in leaves if hasattr(leaf, "shape") and not isinstance(leaf, KerasTensor)]

    def run(shapes: list, size_of: Callable[[int], Any]):
        filled = [leaf.for_sizes(size_of) if isinstance(leaf, Size) else leaf for leaf in leaves]

        def pure(values, given):
            given_leaves = list(filled)  # one of its own: what holds a tracer afterwards leaks it
            for position, value, mask in zip(dynamic, values, given, strict=True):
                given_leaves[position] = value
                if mask is not None:
                    masks.set_mask(value, mask)
            inner_args, inner_kwargs = jax.tree.unflatten(treedef, given_leaves)
            # Any key: no number is drawn, only its shape.
            with Scope(key=jax.random.key(0), shapes_only=True):
                return function(*inner_args, **inner_kwargs)

        specs = [
            (sparse.spec if getattr(leaves[i], "sparse", False) else jax.ShapeDtypeStruct)(
                sized(shape, size_of), leaves[i].dtype
            )
            for i, shape in zip(dynamic, shapes, strict=True)
        ]
        # A mask has the first axes of its tensor: where their sizes are not known, they are those.
        given = [
            None if mask is None else jax.ShapeDtypeStruct(_as_first_axes(mask.shape, spec.shape, size_of), mask.dtype)
            for mask, spec in zip(their_masks, specs, strict=True)
        ]
        try:
            return sparse.specs_of(jax.eval_shape(pure, specs, given))
        except Exception as error:
            hide_library_frames(error)  # and JAX's note, which would be the last word
            raise

    def symbol(axis):
        return _symbols()[axis]

    # Known shapes need neither symbols nor a second try.
    if not any(isinstance(leaf, Size) for leaf in leaves) and not any(None in shape for shape in shapes):
        return run(shapes, symbol)

    def fitting(ways: list[Callable[[int], Any]], is_final: Callable[[Exception], bool]) -> list:
        """What comes out for each way to choose sizes, with the first agreement that fits."""
        first_error = None
        for candidate in _agreements(shapes, others):
            try:
                return [run(candidate, size_of) for size_of in ways]
            except Exception as error:
                if is_final(error):
                    raise
                first_error = first_error or error
        raise cast(Exception, first_error)

    try:
        return fitting([symbol], _is_inconclusive)[0]
    except Exception as error:
        # A mistake of the user's would only fail again, at sizes that the user has never seen.
        if not _is_inconclusive(error):
            raise
    try:
        found = fitting([lambda axis, least=least: least + 8 * axis for least in (16, 48)], lambda _: False)
    # Parts of equal size: 840 is divided by all numbers up to 8. Later, as a loop over so many steps takes long.
    except Exception as error:
        try:
            found = fitting([lambda axis, by=by: 840 * (by + axis) for by in (1, 13)], lambda _: False)
        except Exception:
            raise error from None
    return jax.tree.map(_unknown_where_different, *found)


def _as_first_axes(shape, first: tuple, size_of: Callable[[int], Any]) -> tuple:
    """A shape with the sizes of `first` for those that are not known, as far as there are such."""
    return tuple(
        size if isinstance(size, int) else first[axis] if axis < len(first) else size_of(axis)
        for axis, size in enumerate(shape)
    )


def _agreements(shapes: list[tuple], others: list) -> Iterator[list[tuple]]:
    """The shapes with ways in which their unknown sizes could agree, from the most to the least likely."""
    rank = max(map(len, shapes), default=0)

    def known(at: Callable, shape=None) -> set[int]:
        return {
            n for s in (*shapes, *others) if s is not shape for k, n in enumerate(s) if at(s, k) and isinstance(n, int)
        }

    def agreeing(start: int) -> list[tuple]:
        """Each unknown size as the greatest that is known at its place, counted from the first or the last axis."""

        def size(shape, axis):
            here = known(lambda s, k: k - start * len(s) == axis - start * len(shape)) - {1}
            return max(here, default=_symbols()[axis + start * (rank - len(shape))])

        return [sized(shape, lambda axis, shape=shape: size(shape, axis)) for shape in shapes]

    first = [sized(shape, lambda axis: _symbols()[axis]) for shape in shapes]
    yield first
    # Broadcasting aligns the last axes.
    right = [sized(shape, lambda axis, shape=shape: _symbols()[axis + rank - len(shape)]) for shape in shapes]
    # As the lengths of queries, keys and masks that are one sequence's.
    one = [sized(shape, lambda axis: _symbols()[min(axis, 1)]) for shape in shapes]
    seen = [first]
    for candidate in (right, agreeing(1), agreeing(0), one):
        if candidate not in seen:
            seen.append(candidate)
            yield candidate


def _unknown_where_different(first: jax.ShapeDtypeStruct, second: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    shape = [
        a if a == b else _symbols()[axis] for axis, (a, b) in enumerate(zip(first.shape, second.shape, strict=True))
    ]
    return type(first)(shape, first.dtype)


def _is_inconclusive(error: Exception) -> bool:
    """Whether a failure is about a symbolic size rather than a mistake that concrete sizes would show too."""
    text = f"{type(error).__name__} {error}"
    words = (
        "Inconclusive",
        "symbolic",
        "Symbolic",
        "_DimExpr",
        "dimension variables",
        "hape polymorphism",
        "non-constant",
        "concrete values",
        "__index__()",
        "mod(",
        "floordiv(",
        "min(",
        "max(",
        "JaxprTracer'",
    )
    return any(word in text for word in words)


_symbol_cache: list = []


def _symbols() -> list:
    """One symbolic size per axis position, all in one scope."""
    if not _symbol_cache:
        from jax import export  # costs import time that only symbolic models need

        _symbol_cache.extend(export.symbolic_shape("batch, " + ", ".join(f"size{axis}" for axis in range(1, 12))))
    return _symbol_cache
