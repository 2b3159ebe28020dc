"""How the variables of an optimizer's state belong to weights: by the weight's place in the slot's path."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from kerax import tree
from kerax.core.variable import Variable

Tree = Any


def leaves(params: Tree) -> list[Variable]:
    """The weights of a tree in the order in which it was filled, which is that of the layers."""
    # JAX's own flattening sorts a dict by its keys.
    return list(tree.unnest(params).values()) if isinstance(params, dict) else jax.tree.leaves(params)


def set_apart(optimizer, params: Tree) -> Tree:
    """The weights, given as a tree or list, without those whose gradients are their next values, whose places
    `optimizer` notes."""
    if isinstance(params, (list, tuple)):
        # The index keeps weights of the same path apart.
        params = {f"{index}/{variable.path}": variable for index, variable in enumerate(params)}
    optimizer.given_tree, optimizer.given_weights = params, leaves(params)
    if not any(variable.overwrite_with_gradient for variable in optimizer.given_weights):
        optimizer.overwritten_paths = set()
        return params
    found = tree.unnest(params)
    optimizer.overwritten_paths = {path for path, variable in found.items() if variable.overwrite_with_gradient}
    return without(params, optimizer.overwritten_paths)


def next_value(gradient, weight):
    """The value of a weight that is overwritten with its gradient."""
    # As float8 scales need it: a step whose loss overflowed must not spoil them.
    return jnp.where(jnp.isfinite(gradient), gradient, weight)


def sparing(update):
    """An optimizer's `update` for trees that also hold weights set apart: these become their gradients.

    A gradient that is not finite changes nothing. Where gradients are accumulated, the largest of them counts, at the
    steps that update weights: so scales of float8 are those of one large batch.
    """

    @functools.wraps(update)
    def updated(self, grads: Tree, state, params: Tree):
        # Nearly always: then the trees are not taken apart.
        if not self.overwritten_paths:
            return update(self, grads, state, params)
        weights, gradients = tree.unnest(params), tree.unnest(grads)
        kept = [path for path in weights if path not in self.overwritten_paths]
        rest = [tree.nest([(path, found[path]) for path in kept]) for found in (gradients, weights)]
        set_aside = {path: gradients[path] for path in weights if path in self.overwritten_paths}
        held, is_due = {}, True
        if self.gradient_accumulation_steps and not self.calls_apply:
            held = tree.unnest(state.accumulated)
            set_aside = {path: jnp.maximum(gradient, held[path]) for path, gradient in set_aside.items()}
            is_due = (state.iterations + 1) % self.gradient_accumulation_steps == 0
            state = state._replace(accumulated=without(state.accumulated, self.overwritten_paths))
        new, state = update(self, rest[0], state, rest[1])
        # Put back in the places where they were, so that the tree keeps its form.
        new = tree.unnest(new)
        for path, gradient in set_aside.items():
            new[path] = jnp.where(is_due, next_value(gradient, weights[path]), weights[path])
        if held:
            waiting = {path: jnp.where(is_due, 0, gradient) for path, gradient in set_aside.items()}
            waiting |= tree.unnest(state.accumulated)
            state = state._replace(accumulated=tree.nest([(path, waiting[path]) for path in weights]))
        return tree.nest([(path, new[path]) for path in weights]), state

    return updated


def without(params: Tree, paths: set) -> Tree:
    """A tree without the leaves at some paths."""
    return tree.nest([item for item in tree.unnest(params).items() if item[0] not in paths]) if paths else params


def form_of(params: Tree):
    """What a state's form depends on: the places, shapes and dtypes of the weights."""
    return jax.tree.structure(params), tuple((v.shape, v.stored_dtype) for v in jax.tree.leaves(params))


def keyed(state: Tree, params: Tree) -> Iterator[tuple[tuple, Any, int | None]]:
    """(key, slot, id of its weight or `None`) for the leaves of a state.

    The key is the slot's path with the weight's id in place of the weight's path, so that a slot is found again when
    the weights come in a tree of another form.
    """
    # `if path`: the tree may be a single variable, whose empty path would match anywhere.
    places = {path: id(variable) for path, variable in jax.tree_util.tree_leaves_with_path(params) if path}
    # Longest first: `a/b` must not be taken for a weight `a`.
    lengths = sorted({len(path) for path in places}, reverse=True)
    for path, slot in jax.tree_util.tree_leaves_with_path(state):
        key, owner = path, None
        for length in lengths:
            start = next((i for i in range(len(path) - length + 1) if path[i : i + length] in places), None)
            if start is not None:
                owner = places[path[start : start + length]]
                # The id is unique as long as the weight lives, and the optimizer holds it.
                key = (*path[:start], owner, *path[start + length :])
                break
        yield key, slot, owner


def name_of(key: tuple, weights: dict[int, Variable]) -> str:
    """The name of a slot: the weight's path and the slot's own, `dense_kernel_momentum` for example."""
    owners = [weights[part].path.replace("/", "_") for part in key if isinstance(part, int)]
    own = [jax.tree_util.keystr((part,), simple=True) for part in key if not isinstance(part, int)]
    # `slots` would be in every name.
    return "_".join([*owners, *(name for name in own if name != "slots")])


def in_keras_order(state: Tree, params: Tree) -> list[Variable]:
    """The variables of an `OptimizerState`: step and rate, averages and accumulators, then slots weight by weight.

    A slot type may name fields in `apart`, which come after those, each for all weights; scalars come last.
    """
    # Layers' order, not that of JAX's flattening.
    weights = [id(variable) for variable in leaves(params)]
    fields = [*getattr(state.slots, "_fields", ())]
    apart = getattr(state.slots, "apart", ())

    def rank(item):
        key, _, owner = item
        group = state._fields.index(key[0].name)
        field = fields.index(key[1].name) if len(key) > 1 and getattr(key[1], "name", None) in fields else 0
        if group != state._fields.index("slots"):
            # Averages and accumulators, fields after `slots`, come before it in Keras's lists.
            return group - len(state._fields) * (group > 2), 0, weights.index(owner) if owner else 0, 0
        is_apart = bool(fields) and fields[field] in apart
        if owner is None:
            return group, len(fields) + 1, 0, field
        return group, field + 1 if is_apart else 0, weights.index(owner), field

    # Step and rate are first whatever they are called inside.
    head, rest = [], []
    for item in keyed(state, params):
        (head if item[0][0].name in ("iterations", "learning_rate") else rest).append(item)
    return [slot for _, slot, _ in [*head, *sorted(rest, key=rank)]]


def placed(form: Tree, variables: list[Variable], values) -> Tree:
    """Values in the order of `variables`, put where these are in a tree."""
    # By identity: `==` of variables compares their values.
    by_variable = {id(variable): value for variable, value in zip(variables, values, strict=True)}
    return jax.tree.map(lambda variable: by_variable[id(variable)], form)


def taken(form: Tree, variables: list[Variable], values: Tree) -> list:
    """The inverse of `placed`: a tree's values in the order of `variables`."""
    pairs = zip(jax.tree.leaves(form), jax.tree.leaves(values), strict=True)
    by_variable = {id(variable): value for variable, value in pairs}
    return [by_variable[id(variable)] for variable in variables]
