"""`ops.cond` in a graph: calls that only one of its branches needs run there, so that one branch is computed."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from kerax.core.calling import call_context
from kerax.core.scope import Scope, find_key
from kerax.core.symbolic import KerasTensor, Node


class _BranchScope(Scope):
    """What a branch writes to variables, or adds to the losses."""

    captures = True


class _StateWritten(Exception):
    """A branch has written state, which must not leave the program of a branch."""


class Choice:
    """A call of `cond` with the calls that only one of its branches needs; it stands in a graph for all of them.

    Args:
        node: The call of `cond`.
        branches: The calls of the true branch, then of the false one.
    """

    def __init__(self, node: Node, branches: list[list]):
        self.node, self.branches = node, branches
        self.note = node.note
        self._writes_state = False

    def arguments(self, values: dict[KerasTensor, Any]) -> tuple[tuple, dict]:
        """The arguments of `operation`: all values so far."""
        return (values,), {}

    def operation(self, values: dict[KerasTensor, Any]) -> Any:
        """What the branch that the values choose gives."""
        pred, *ends = _parts(self.node)
        pred = _filled(pred, values)

        def branch(index: int):
            known = dict(values)  # one of its own: what a branch makes stays in it
            run(self.branches[index], known)
            return jax.tree.map(jnp.asarray, _filled(ends[index], known))

        context = call_context.get()
        # Who looks at each layer's outputs wants all of them.
        if self._writes_state or (context is not None and context.tap is not None):
            return jax.lax.cond(pred, *map(_constant, (branch(0), branch(1))))
        if not isinstance(pred, Tracer):
            return branch(0 if pred else 1)
        keys = find_key()
        draws = 0 if keys is None else keys.draws
        try:
            return jax.lax.cond(pred, *(lambda index=index: _stateless(branch, index) for index in (0, 1)))
        except _StateWritten:
            self._writes_state = True
            if keys is not None:  # the same draws as those of a program that knew
                keys.draws = draws
            return self.operation(values)


def run(calls: list, values: dict[KerasTensor, Any]) -> None:
    """Makes calls in their order and adds what they return to the values."""
    for call in calls:
        args, kwargs = call.arguments(values)
        call.note(call.operation(*args, **kwargs), values)


def with_branches(nodes: list[Node], outputs: list[KerasTensor]) -> list:
    """The calls of a graph, each after those it needs, with `Choice`s in the place of calls of `cond`."""
    if not any(map(_is_choice, nodes)):
        return nodes
    # The branch that each call is for: the `cond`s around with the index of the branch, outermost first.
    places: dict[int, tuple] = {id(tensor.node): () for tensor in outputs}
    for node in reversed(nodes):  # who needs something comes before it
        place = places[id(node)]
        is_choice = _is_choice(node)
        for index, part in enumerate(_parts(node) if is_choice else [node.inputs]):
            inside = (*place, (id(node), index - 1)) if is_choice and index else place
            for tensor in _tensors(part):
                places[id(tensor.node)] = _common(places.get(id(tensor.node), inside), inside)
    calls: dict[tuple, list] = {(): []}
    for node in nodes:
        branches = [calls.get((*places[id(node)], (id(node), index)), []) for index in (0, 1)]
        calls.setdefault(places[id(node)], []).append(Choice(node, branches) if any(branches) else node)
    return calls[()]


def _is_choice(node: Node) -> bool:
    return getattr(node.operation, "op_name", None) == "cond"


def _parts(node: Node) -> list:
    """Of a call of `cond` what it chooses by, and what it chooses from."""
    bound = inspect.signature(node.operation.function).bind(*node.args, **node.kwargs)
    return list(bound.arguments.values())


def _tensors(part) -> list[KerasTensor]:
    return [leaf for leaf in jax.tree.leaves(part) if isinstance(leaf, KerasTensor)]


def _filled(part, values: dict[KerasTensor, Any]) -> Any:
    return jax.tree.map(lambda leaf: values[leaf] if isinstance(leaf, KerasTensor) else leaf, part)


def _common(first: tuple, second: tuple) -> tuple:
    length = next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    return first[: min(len(first), len(second)) if length is None else length]


def _constant(value):
    return lambda: value


def _stateless(branch, index: int):
    with _BranchScope() as scope:
        outputs = branch(index)
    if scope.values or scope.added_losses:
        raise _StateWritten
    return outputs
