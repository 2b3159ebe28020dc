"""The graph between symbolic inputs and outputs: which calls to make, in which order, and how to write it down."""

from collections.abc import Callable
from typing import Any

import jax

from kerax.core.symbolic import KerasTensor, Node
from kerax.core.tracking import unique

Tree = Any


class Graph:
    """The calls that lead from `inputs` to `outputs`, ordered so that each follows what it needs.

    Operations are ordered as Keras orders them: by their distance from the outputs, farthest first, and at equal
    distance in the order a depth-first search from the outputs meets them.

    Args:
        inputs: Symbolic tensors as one tensor, a list, tuple or dict. They need not be `Input`s.
        outputs: Tensors computed from them.

    Raises:
        ValueError: if something is not a symbolic tensor, or an output does not depend on the given inputs alone.
    """

    def __init__(self, inputs: Tree, outputs: Tree, owner: str = "Model"):
        self.inputs, self.outputs, self.owner = inputs, outputs, owner
        self.flat_inputs, self.flat_outputs = jax.tree.leaves(inputs), jax.tree.leaves(outputs)
        for what, tensors in (("inputs", self.flat_inputs), ("outputs", self.flat_outputs)):
            for tensor in tensors:
                if not isinstance(tensor, KerasTensor):
                    raise ValueError(
                        f"{owner}: `{what}` must be symbolic tensors, made by `Input` and layers. Got {tensor!r}."
                    )
        self._starts = {id(tensor) for tensor in self.flat_inputs}
        self._first_seen: dict[int, int] = {}
        self._depths: dict[int, int] = {}
        order: list[Node] = []
        done: set[int] = set()
        for tensor in self.flat_outputs:
            self._visit(tensor, order, done)
        for node in reversed(order):
            depth = self._depths.setdefault(id(node), 0)
            for tensor in node.inputs:
                if id(tensor) not in self._starts:
                    self._depths[id(tensor.node)] = max(self._depths.get(id(tensor.node), 0), depth + 1)
        self.nodes = sorted(order, key=lambda node: -self._depths[id(node)])
        self.operations = self._ordered_operations(order)

    def _visit(self, tensor: KerasTensor, order: list, done: set):
        """Depth-first from a tensor to the inputs, noting each call after those it needs."""
        stack: list[tuple[KerasTensor, bool]] = [(tensor, False)]
        while stack:
            tensor, is_ready = stack.pop()
            operation, _, _ = tensor._keras_history
            self._first_seen.setdefault(id(operation), len(self._first_seen))
            if id(tensor) in self._starts or id(tensor.node) in done:
                continue
            node = tensor.node
            if is_ready:
                done.add(id(node))
                order.append(node)
                continue
            if not node.inputs:
                raise ValueError(
                    f"{self.owner}: the graph is disconnected. {tensor!r} is needed for the outputs, but is neither "
                    f"among the inputs {[t.name for t in self.flat_inputs]} nor computed from them. Add it to `inputs`."
                )
            stack.append((tensor, True))
            stack.extend((needed, False) for needed in reversed(node.inputs))

    def _ordered_operations(self, order: list[Node]) -> list:
        depths: dict[int, int] = {}
        operations: dict[int, Any] = {}
        for node in order:
            operation = node.operation
            operations[id(operation)] = operation
            depths[id(operation)] = max(depths.get(id(operation), 0), self._depths[id(node)])
        deepest = max(depths.values(), default=0) + 1
        starts = {}
        for tensor in self.flat_inputs:
            operation = tensor._keras_history[0]
            starts.setdefault(id(operation), operation)
            if id(operation) not in operations:
                depths[id(operation)] = deepest
        inputs = [
            operation for key, operation in starts.items() if key not in operations and not _is_computed(operation)
        ]
        ranked = sorted(operations.values(), key=lambda op: (-depths[id(op)], self._first_seen[id(op)]))
        return inputs + ranked

    def run(self, inputs: list, call: Callable | None = None) -> Tree:
        """The outputs for input values in flat order. `call(node, args, kwargs)` replaces the plain call."""
        values = {id(tensor): value for tensor, value in zip(self.flat_inputs, inputs, strict=True)}

        def fill(leaf):
            return values[id(leaf)] if isinstance(leaf, KerasTensor) else leaf

        for node in self.nodes:
            args, kwargs = jax.tree.map(fill, (node.args, node.kwargs))
            outputs = node.operation(*args, **kwargs) if call is None else call(node, args, kwargs)
            for tensor, value in zip(jax.tree.leaves(node.outputs), jax.tree.leaves(outputs), strict=True):
                values[id(tensor)] = value
        return jax.tree.map(lambda tensor: values[id(tensor)], self.outputs)


def _is_computed(operation) -> bool:
    """Whether an operation makes its outputs from others, unlike an `InputLayer`."""
    return any(node.inputs for node in operation.inbound_nodes)


def assign_names(operations: list, owner) -> list[str]:
    """A name for each operation, unique in the list. Names not chosen by the user are changed to fit, once.

    Raises:
        ValueError: if the user gave two operations the same name.
    """
    chosen = [operation.name for operation in operations if not operation.auto_named]
    repeated = next((name for name in chosen if chosen.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(
            f"{owner}: the layer name {repeated!r} is used {chosen.count(repeated)} times. Names must be unique."
        )
    taken, names = set(chosen), []
    for operation in operations:
        name = operation.name
        if operation.auto_named:
            name = unique(name, taken)
            operation.name, operation.auto_named = name, False
        taken.add(name)
        names.append(name)
    return names
