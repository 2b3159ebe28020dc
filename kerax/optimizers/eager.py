"""Updates of variables in place, as Keras users write them in loops and training steps of their own."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from kerax import tree
from kerax.core.variable import unwrap
from kerax.optimizers import slots, stepwise


def apply(optimizer, grads, trainable_variables=None):
    """Updates variables and the optimizer's state, in place or in the open scope: see `Optimizer.apply`."""
    grads, known = list(grads), optimizer.given_weights
    variables = known if trainable_variables is None else list(trainable_variables)
    if len(grads) != len(variables):
        raise ValueError(f"{optimizer}: expected a gradient for each of {len(variables)} variables. Got {len(grads)}.")
    # By identity: `==` of variables compares their values.
    given = {id(v): _dense(grad) for v, grad in zip(variables, grads, strict=True) if grad is not None}
    unknown = [v for v in variables if id(v) in given and not any(v is other for other in known)]
    if unknown:
        # The old ones come first: they keep their slots and places.
        optimizer.build([*known, *unknown])
    params = optimizer.given_tree
    if not optimizer.gradient_accumulation_steps:
        # Weights that become their gradients have no slots then: `update` need not see them.
        params = optimizer.weights_tree
        for variable in [v for v in variables if v.overwrite_with_gradient and id(v) in given]:
            variable.assign(slots.next_value(given.pop(id(variable)), variable.value))
        variables = [v for v in variables if not v.overwrite_with_gradient]
    if not given:
        if variables:
            raise ValueError(f"{optimizer}: no variable has a gradient. Got `None` for all {len(grads)}.")
        return
    if len(given) < len(variables):
        names = ", ".join(variable.path for variable in variables if id(variable) not in given)
        warnings.warn(f"{optimizer}: no gradient for {names}; left as it is.", stacklevel=3)
    state = optimizer.state_variables
    # Zeros where there is none, for a tree of one form; their results are not used.
    gradients = jax.tree.map(lambda v: given[id(v)] if id(v) in given else jnp.zeros(v.shape), params)
    was_applying, optimizer.is_applying = optimizer.is_applying, True
    try:
        new, new_state = optimizer.update(gradients, jax.tree.map(unwrap, state), jax.tree.map(unwrap, params))
    finally:
        optimizer.is_applying = was_applying
    for variable, value in zip(jax.tree.leaves(params), jax.tree.leaves(new), strict=True):
        if id(variable) in given:
            variable.assign(value if variable.constraint is None else variable.constraint(value))
    # Nor are the slots of weights without a gradient: a decayed momentum would be a change.
    owners = optimizer.slot_owners()
    for slot, value in zip(jax.tree.leaves(state), jax.tree.leaves(new_state), strict=True):
        owner = owners.get(id(slot))
        if owner is None or owner in given:
            slot.assign(value)


def _dense(gradient) -> jax.Array:
    """A gradient as an array, also one of JAX's sparse arrays."""
    gradient = unwrap(gradient)
    return jnp.asarray(gradient.todense() if hasattr(gradient, "todense") else gradient)


def update_step(optimizer, gradient, variable, learning_rate):
    """Assigns one weight's next value and those of its slots: see `Optimizer.update_step`."""
    state, rule = optimizer.state_variables, optimizer.transformation()
    path = next((path for path, known in tree.unnest(optimizer.weights_tree).items() if known is variable), None)
    if state is None or path is None:
        raise ValueError(f"{optimizer}: call `build(variables)` with {variable.path} before `update_step`.")
    # A tree of this weight alone, in its place: a rule may look at that.
    params = tree.nest([(path, variable.value)])
    own = dict(jax.tree_util.tree_leaves_with_path(stepwise.slots_of_rule(optimizer, state.slots)))
    places, form = jax.tree_util.tree_flatten_with_path(jax.eval_shape(rule.init, params))
    found = [own[place] for place, _ in places]
    updates, new = rule.update(
        tree.nest([(path, _dense(gradient))]),
        jax.tree.unflatten(form, map(unwrap, found)),
        params,
        learning_rate=unwrap(learning_rate),
        step=optimizer.num_updates + 1,
    )
    variable.assign((variable.value + jax.tree.leaves(updates)[0]).astype(variable.stored_dtype))
    owners = optimizer.slot_owners()
    for slot, value in zip(found, jax.tree.leaves(new), strict=True):
        if owners.get(id(slot)) == id(variable):
            slot.assign(value.astype(slot.stored_dtype))


def stateless_apply(optimizer, optimizer_variables, grads, trainable_variables) -> tuple[list, list]:
    """New weights and optimizer values, from lists in the order of the weights and of `optimizer.variables`."""
    if not optimizer.built:
        raise ValueError(f"{optimizer}: call `build(variables)` before `stateless_apply`.")
    # Lists in Keras's order, trees in the optimizer's own. `update` sees to weights that become their gradients.
    tree, weights = optimizer.given_tree, optimizer.given_weights
    form, own = optimizer.state_variables, optimizer.variables
    grads = [_dense(grad) for grad in grads]
    gradients, params = (slots.placed(tree, weights, list(map(unwrap, v))) for v in (grads, trainable_variables))
    state = slots.placed(form, own, list(map(unwrap, optimizer_variables)))
    new, new_state = optimizer.update(gradients, state, params)
    return slots.taken(tree, weights, new), slots.taken(form, own, new_state)


def set_weights(optimizer, weights):
    """Sets all variables at once, or none if one does not fit."""
    variables, weights = optimizer.variables, [np.asarray(unwrap(weight)) for weight in weights]
    expected, given = [v.shape for v in variables], [weight.shape for weight in weights]
    if expected != given:
        hint = "" if optimizer.built else " The optimizer is not built: call `build(variables)` first."
        raise ValueError(f"{optimizer}: expected arrays of shapes {expected}, got {given}.{hint}")
    # Only now: all shapes fit, so that it is all or none.
    for variable, weight in zip(variables, weights, strict=True):
        variable.assign(weight)
