"""Optimizers as Keras users write them: `build` makes variables, `update_step` assigns to one weight after another.

Both are kept, and made a pure transformation of trees: each step runs in a scope in which the weights and the
optimizer's own variables have the values that are given, and keep none of what is assigned to them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from kerax.core import scope as scopes
from kerax.core.stateless import StatelessScope
from kerax.core.tracking import unique
from kerax.core.variable import Variable

Tree = Any


class Slots(NamedTuple):
    """The weights, in the order of the tree's leaves and in that of the model, and what `build` made for them: by name
    and weight, and by name what belongs to no weight; `made` is all of it in the order in which it was made."""

    weights: list[Variable]
    listed: list[Variable]
    by_name: dict[str, dict[int, Variable]]
    free: dict[str, Variable]
    made: list[Variable]


def make_slots(optimizer, weights: list[Variable], listed: list[Variable]) -> Slots:
    """Calls the `build` that the subclass wrote, which notes what it makes in `optimizer.own_slots`."""
    optimizer.own_slots, optimizer.is_making_slots = Slots(weights, listed, {}, {}, []), True
    try:
        # Variables made inside a step that is being traced must outlive it.
        with scopes.outside():
            # In the order of the model, in which Keras hands the weights over.
            type(optimizer).build_own(optimizer, listed)
    finally:
        optimizer.is_making_slots = False
    return optimizer.own_slots


def add_variable(optimizer, shape, initializer, dtype, name, reference: Variable | None = None) -> Variable:
    """A variable of the optimizer, noted under its name and weight."""
    if optimizer.own_slots is None:
        raise ValueError(f"{optimizer}: variables are added in `build`, which is called when the weights are known.")
    slots = optimizer.own_slots
    if reference is None:
        # A name may serve weights and the whole: they share one dict in the state.
        name = unique(name or "variable", slots.free.keys() | slots.by_name.keys())
    elif id(reference) in slots.by_name.get(name, {}) or name in slots.free:
        raise ValueError(f"{optimizer}: {reference.path} has a variable {name!r} already. Give this one another name.")
    full = name if reference is None else f"{reference.path.replace('/', '_')}_{name}"
    variable = Variable(initializer, shape, dtype, trainable=False, autocast=False, name=full)
    variable.path = f"{optimizer.name}/{full}"
    if reference is None:
        slots.free[name] = variable
    else:
        slots.by_name.setdefault(name, {})[id(reference)] = variable
    # The order in which they are made is that of Keras's files.
    slots.made.append(variable)
    return variable


def adopt(optimizer, values: Tree) -> Tree:
    """The part of the state that a subclass made, with its own variables as leaves, which take the values over."""
    own = _state_of(optimizer.own_slots, optimizer.weights_tree, lambda variable: variable)
    jax.tree.map(lambda variable, value: variable.assign(value.value), own, values)
    return own


def in_order(optimizer, variables: list[Variable]) -> list[Variable]:
    """The variables of a state with those that a subclass made last, in the order in which it made them."""
    made = {id(variable) for variable in optimizer.own_slots.made}
    return [variable for variable in variables if id(variable) not in made] + optimizer.own_slots.made


def transformation(optimizer) -> optax.GradientTransformationExtraArgs:
    """The steps of a subclass as an optax transformation."""

    def init(params: Tree) -> Tree:
        return _state_of(_slots_for(optimizer, params), params, lambda variable: variable.value)

    def update(grads: Tree, state: Tree, params: Tree, *, learning_rate, step):
        slots = _slots_for(optimizer, params)
        # The order of `slots.weights`, as `build` got them.
        before = jax.tree.leaves(params)
        pairs = list(zip(slots.weights, before, strict=True))
        for name, of_weight in slots.by_name.items():
            values = jax.tree.leaves(state[name])
            owners = [of_weight[id(weight)] for weight in slots.weights if id(weight) in of_weight]
            pairs += zip(owners, values, strict=True)
        pairs += [(variable, state[name]) for name, variable in slots.free.items()]
        # `step` counts updates from 1; the variable counts steps from 0.
        pairs.append((optimizer._iterations, (step - 1) * (optimizer.gradient_accumulation_steps or 1)))
        if optimizer._learning_rate is not None:
            pairs.append((optimizer._learning_rate, learning_rate))
        # What `update_step` assigns stays in the scope, from where it is read below.
        with StatelessScope(pairs) as scope:
            for weight, grad in zip(slots.weights, jax.tree.leaves(grads), strict=True):
                optimizer.update_step(grad, weight, learning_rate)
        after = [scope.value_of(weight) for weight in slots.weights]
        # As optax wants it: what is added, not the new weight.
        updates = [(new - old).astype(old.dtype) for new, old in zip(after, before, strict=True)]
        return _in_form(params, updates), _state_of(slots, params, scope.value_of)

    return optax.GradientTransformationExtraArgs(init, cast(Any, update))  # optax's annotations know no more arguments


def _slots_for(optimizer, params: Tree) -> Slots:
    """The slots for weights of these shapes: those of the last `build`, or new ones for stand-ins of the weights."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
    slots = optimizer.own_slots
    # `init` and `update` are pure: they may get weights that `build` has never seen.
    if slots is None or [weight.shape for weight in slots.weights] != shapes:
        leaves = jax.tree_util.tree_leaves_with_path(params)
        names = ["_".join(str(getattr(part, "key", part)) for part in path) for path, _ in leaves]
        stand_ins = [
            Variable(jnp.zeros, leaf.shape, jnp.dtype(leaf.dtype).name, name=name.replace("/", "_"))
            for name, (_, leaf) in zip(names, leaves, strict=True)
        ]
        slots = make_slots(optimizer, stand_ins, stand_ins)
    return slots


def _state_of(slots: Slots, form: Tree, read: Callable[[Variable], Any]) -> dict[str, Tree]:
    """`read` of each variable that `build` made: by name, those of weights in the form of the weights' tree."""
    of_weights = {
        name: _in_form(form, [read(made[id(weight)]) if id(weight) in made else None for weight in slots.weights])
        for name, made in slots.by_name.items()
    }
    return of_weights | {name: read(variable) for name, variable in slots.free.items()}


def _in_form(params: Tree, values: list) -> Tree:
    """Values in the order of the leaves, in the form of `params`; `None` leaves a place empty."""
    return jax.tree.unflatten(jax.tree.structure(params), values)
