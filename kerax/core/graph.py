"""The graph between symbolic inputs and outputs: which calls to make, in which order, and how to write it down."""

from collections.abc import Callable
from typing import Any

import jax

from kerax.core.branches import run, with_branches
from kerax.core.symbolic import KerasTensor, Node
from kerax.core.tracking import unique

Tree = Any


class Graph:
    """The calls that lead from `inputs` to `outputs`, ordered so that each follows what it needs.

    Operations are ordered as Keras orders them: by their distance from the outputs, farthest first, and at equal
    distance in the order a depth-first search from the outputs meets them.

    Its `nodes` are all calls, its `calls` what runs: those that only one branch of a `cond` needs are inside that.

    Args:
        inputs: Symbolic tensors as one tensor, a list, tuple or dict. They need not be `Input`s.
        outputs: Tensors computed from them.

    Raises:
        ValueError: if something is not a symbolic tensor, or an output does not depend on the given inputs alone.
    """

    def __init__(self, inputs: Tree, outputs: Tree, owner: str = "Graph"):
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
        order: list[Node] = []  # `Input`s included
        done: set[int] = set()
        for tensor in self.flat_outputs:
            self._visit(tensor, order, done)
        op_depths = self._measure(order)
        self.nodes = sorted((node for node in order if node.inputs), key=lambda node: -self._depths[id(node)])
        self.calls = with_branches(self.nodes, self.flat_outputs)
        self.operations = self._ordered_operations(order, op_depths)

    def _visit(self, tensor: KerasTensor, order: list, done: set):
        """Depth-first from a tensor to the inputs, noting each call after those it needs."""
        # A stack, not recursion: a graph may be deeper than Python lets functions nest.
        stack: list[tuple[KerasTensor, bool]] = [(tensor, False)]
        while stack:
            tensor, is_ready = stack.pop()
            node = tensor.node
            if id(node) in done or (node.inputs and id(tensor) in self._starts):
                continue
            if is_ready:
                done.add(id(node))
                order.append(node)
                continue
            if not node.inputs and id(tensor) not in self._starts:
                raise ValueError(
                    f"{self.owner}: the graph is disconnected. {tensor!r} is needed for the outputs, but is neither "
                    f"among the inputs {[t.name for t in self.flat_inputs]} nor computed from them. Add it to `inputs`."
                )
            self._first_seen.setdefault(id(node.operation), len(self._first_seen))
            stack.append((tensor, True))
            # Reversed: the first input is met first, as in Keras.
            stack.extend((needed, False) for needed in reversed(node.inputs))

    def _measure(self, order: list[Node]) -> dict[int, int]:
        """Each call's distance from the outputs; the operations'. A call of a shared operation counts as far away as
        the farthest of its calls met before."""
        op_depths: dict[int, int] = {}
        inside = {id(node) for node in order}
        for node in reversed(order):
            depth = max(self._depths.get(id(node), 0), op_depths.get(id(node.operation), 0))
            self._depths[id(node)] = op_depths[id(node.operation)] = depth
            for tensor in node.inputs:
                if id(tensor.node) in inside:
                    self._depths[id(tensor.node)] = max(self._depths.get(id(tensor.node), 0), depth + 1)
        return op_depths

    def _ordered_operations(self, order: list[Node], op_depths: dict[int, int]) -> list:
        operations = {id(node.operation): node.operation for node in order}
        for tensor in self.flat_inputs:  # an input that nothing needs comes last
            operation = tensor.operation
            if id(operation) not in operations and not tensor.node.inputs:
                operations[id(operation)] = operation
        return sorted(operations.values(), key=lambda op: (-op_depths.get(id(op), 0), self._first_seen.get(id(op), -1)))

    def run(self, inputs: list, call: Callable | None = None) -> Tree:
        """The outputs for input values in flat order. `call(node, args, kwargs)` replaces the plain call."""
        values = dict(zip(self.flat_inputs, inputs, strict=True))
        if call is None:
            run(self.calls, values)
        else:
            for node in self.nodes:
                node.note(call(node, *node.arguments(values)), values)
        return jax.tree.map(values.__getitem__, self.outputs)


def assign_names(operations: list, owner) -> list[str]:
    """A name for each operation, unique in the list. Names not chosen by the user are changed to fit.

    Raises:
        ValueError: if the user gave two operations the same name.
    """
    each = list({id(operation): operation for operation in operations}.values())
    chosen = [operation.name for operation in each if not operation.auto_named]
    repeated = next((name for name in chosen if chosen.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(
            f"{owner}: the layer name {repeated!r} is used {chosen.count(repeated)} times. Names must be unique."
        )
    # Chosen names first, then those that another model knows already: a default one gives way, wherever it stands.
    taken = set(chosen)
    for operation in sorted((o for o in each if o.auto_named), key=lambda o: not o.named_in_graph):
        operation.name, operation.named_in_graph = unique(operation.name, taken), True
        taken.add(operation.name)
    return [operation.name for operation in operations]
