"""Optimizers as Keras users write them: `build` makes variables, `update_step` assigns to one weight after another.

Both are kept, and made a pure transformation of trees: each step runs in a scope in which the weights and the
optimizer's own variables have the values that are given, and keep none of what is assigned to them.
"""

from collections.abc import Callable, Sequence
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
    """The slots of a state, with the variables that a subclass made as leaves, which take the values over."""
    own = _state_of(optimizer.own_slots, optimizer.weights_tree, lambda variable: variable)
    if not own and optimizer.has_rule():
        return values
    jax.tree.map(lambda variable, value: variable.assign(value.value), own, {name: values[name] for name in own})
    return values | own


_OF_RULE = "of_rule"


def slots_of_rule(optimizer, slots: Tree) -> Tree:
    """The slots of the rule that a subclass has from its base, without those that it made itself."""
    return slots[_OF_RULE] if isinstance(slots, dict) and optimizer.has_rule() and _OF_RULE in slots else slots


def around(optimizer, rule: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """The rule of a base class, as a subclass applies it: by an `update_step` that calls its base's."""
    steps = transformation(optimizer)

    def init(params: Tree) -> Tree:
        own: Any = steps.init(params)
        return own | {_OF_RULE: rule.init(params)} if own else rule.init(params)

    def update(grads: Tree, state: Tree, params: Tree, *, learning_rate, step):
        before, variables = (slots_of_rule(optimizer, slots) for slots in (state, optimizer.state_variables.slots))
        pairs = list(zip(jax.tree.leaves(variables), jax.tree.leaves(before), strict=True))
        updates, own, scope = _stepped(optimizer, grads, state, params, learning_rate, step, pairs)
        # What belongs to no weight changes once in a step, whatever the gradients are.
        _, once = rule.update(grads, before, params, learning_rate=learning_rate, step=step)
        owners = optimizer.slot_owners()
        after = jax.tree.map(
            lambda slot, value: value if owners[id(slot)] is None else scope.value_of(slot), variables, once
        )
        return updates, (own | {_OF_RULE: after} if own else after)

    return optax.GradientTransformationExtraArgs(init, cast(Any, update))


def by_apply(optimizer, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
    """A step of an optimizer whose subclass wrote `apply`: new weights and state."""
    weights, variables = optimizer.weights_tree, optimizer.state_variables
    pairs = [*zip(jax.tree.leaves(weights), jax.tree.leaves(params), strict=True)]
    pairs += zip(jax.tree.leaves(variables), jax.tree.leaves(state), strict=True)
    by_weight = dict(zip(map(id, jax.tree.leaves(weights)), jax.tree.leaves(grads), strict=True))
    listed = [weight for weight in optimizer.given_weights if id(weight) in by_weight]
    with StatelessScope(pairs) as scope:
        optimizer.apply([by_weight[id(weight)] for weight in listed], listed)
    return jax.tree.map(scope.value_of, weights), jax.tree.map(scope.value_of, variables)


def in_order(optimizer, variables: list[Variable]) -> list[Variable]:
    """The variables of a state with those that a subclass made last, in the order in which it made them."""
    made = {id(variable) for variable in optimizer.own_slots.made}
    return [variable for variable in variables if id(variable) not in made] + optimizer.own_slots.made


def transformation(optimizer) -> optax.GradientTransformationExtraArgs:
    """The steps of a subclass as an optax transformation."""

    def init(params: Tree) -> Tree:
        return _state_of(_slots_for(optimizer, params), params, lambda variable: variable.value)

    def update(grads: Tree, state: Tree, params: Tree, *, learning_rate, step):
        updates, state, _ = _stepped(optimizer, grads, state, params, learning_rate, step)
        return updates, state

    return optax.GradientTransformationExtraArgs(init, cast(Any, update))  # optax's annotations know no more arguments


def _stepped(optimizer, grads: Tree, state: Tree, params: Tree, learning_rate, step, pairs: Sequence = ()) -> tuple:
    """What `update_step` adds to the weights, the state of what the subclass made, and the scope in which it ran, where
    other variables had the values in `pairs`."""
    slots = _slots_for(optimizer, params)
    # The order of `slots.weights`, as `build` got them.
    before = jax.tree.leaves(params)
    pairs = [*pairs, *zip(slots.weights, before, strict=True)]
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
    return _in_form(params, updates), _state_of(slots, params, scope.value_of), scope


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
