"""The three pure steps. Each is a function of (state, batch) that a `Model` subclass may override as a method."""

import math

import jax
import jax.numpy as jnp
import optax

from kerax import tree
from kerax.core import masks, placement
from kerax.core import scope as scopes
from kerax.core.tracking import walk
from kerax.core.variable import Variable, unwrap
from kerax.data import unpack_x_y_sample_weight
from kerax.optimizers.optimizer import joined
from kerax.train.state import RANDOM_KEY, TrainState, metric_variables


def train_step(model, state: TrainState, data) -> tuple[dict, TrainState]:
    """One update of the weights. Returns the logs and the next `TrainState`."""
    grads, state, results = gradients(model, state, data)
    if model._gradient_norm is not None:
        state = state._replace(metrics=_note_norm(model, state, grads))
    params, opt_state = model.optimizer.update(grads, own_opt_state(state), state.params)
    if isinstance(state.opt_state, dict):
        opt_state = state.opt_state | {"optimizer": opt_state}
    state = state._replace(params=constrain(model, params), opt_state=opt_state)
    return compute_logs(model, state.metrics, results), advance(state)


def gradients(model, state: TrainState, data):
    """The gradients of the (scaled) loss, the state with everything updated but the weights, and what a
    `compute_metrics` of the model's own returned.

    With `micro_batches` in `compile`, the batch is cut into that many parts (fewer, if they do not divide its rows),
    worked off by a scan; gradients are averaged, so that losses averaged over rows give those of the whole batch. Of
    weights that are overwritten with their gradients (float8 scales), the largest counts.
    """
    key, num_rows = step_key(state), _num_rows(data)
    num_parts = math.gcd(model.micro_batches or 1, num_rows)
    if num_parts == 1:
        return _gradients(model, state, data, key)
    parts = jax.tree.map(lambda leaf: leaf.reshape(num_parts, num_rows // num_parts, *leaf.shape[1:]), data)

    overwritten = {"/".join(path) for path, variable in walk(model) if variable.overwrite_with_gradient}

    def add(path, old, new):
        return jnp.maximum(old, new) if joined(path) in overwritten else old + new / num_parts

    def add_part(carry, part):
        total, state = carry
        index, data = part
        grads, state, results = _gradients(model, state, data, jax.random.fold_in(key, index))
        return (jax.tree_util.tree_map_with_path(add, total, grads), state), results

    empty = jax.tree.map(jnp.zeros_like, state.params)
    (grads, state), results = jax.lax.scan(add_part, (empty, state), (jnp.arange(num_parts), parts))
    return grads, state, jax.tree.map(lambda parts: parts[-1], results)


def _gradients(model, state: TrainState, data, key):
    x, y, sample_weight = unpack_x_y_sample_weight(data)

    def loss_fn(params):
        with bind(model, state._replace(params=params), key) as scope:
            y_pred = model(x, training=True)
            loss = model.compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss, own_opt_state(state)) if model.auto_scale_loss else loss
        new = state._replace(
            state=model.collect_state(scope, state.state), metrics=collect_metrics(model, scope, state)
        )
        return scaled, (loss, masks.Carrier(y_pred), new)

    loss_fn = placement.gathering_again(loss_fn)
    (_, (loss, outputs, new)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    metrics, results = update_metrics(model, new.metrics, loss, x, y, outputs.tree, sample_weight)
    return grads, TrainState(state.params, new.state, state.opt_state, metrics), results


def _note_norm(model, state: TrainState, grads) -> dict:
    scale = model.optimizer.scale_loss(jnp.ones(()), own_opt_state(state)) if model.auto_scale_loss else 1.0
    with scopes.Scope(_metric_pairs(model, state.metrics)) as scope:
        model._gradient_norm.update_state(optax.global_norm(_trained(model, grads)) / scale)
    return jax.tree.map(lambda variable, value: scope.value_of(variable, value), metric_variables(model), state.metrics)


def _trained(model, grads):
    """The gradients without what takes the place of a weight."""
    overwritten = {path for path, variable in walk(model) if variable.overwrite_with_gradient}
    return tree.nest(item for item in tree.unnest(grads).items() if item[0] not in overwritten)


def test_step(model, state: TrainState, data) -> tuple[dict, TrainState]:
    """Loss and metrics of one batch. Returns the logs and the state with updated metrics."""
    x, y, sample_weight = unpack_x_y_sample_weight(data)
    with bind(model, state, step_key(state)) as scope:
        y_pred = model(x, training=False)
        loss = model.compute_loss(x, y, y_pred, sample_weight, training=False)
    metrics, results = update_metrics(model, collect_metrics(model, scope, state), loss, x, y, y_pred, sample_weight)
    return compute_logs(model, metrics, results, training=False), state._replace(metrics=metrics)


def predict_step(model, state: TrainState, data):
    """The outputs for one batch."""
    x, _, _ = unpack_x_y_sample_weight(data)
    with bind(model, state, step_key(state)):
        return model(x, training=False)


def bind(model, state: TrainState, key=None) -> scopes.Scope:
    """A pure scope in which the model's variables and metrics have the values of `state`."""
    scope = model.bind_variables({"params": state.params, "state": state.state}, key)
    for variable, value in _metric_pairs(model, state.metrics):
        scope.values[id(variable)] = value
    return scope


def collect_metrics(model, scope: scopes.Scope, state: TrainState) -> dict:
    """The metrics tree after a call in `scope`."""
    return jax.tree.map(lambda variable, value: scope.value_of(variable, value), metric_variables(model), state.metrics)


def _metric_pairs(model, metrics: dict) -> list:
    return list(zip(jax.tree.leaves(metric_variables(model)), jax.tree.leaves(metrics), strict=True))


def update_metrics(model, metrics: dict, loss, x, y, y_pred, sample_weight) -> tuple[dict, dict | None]:
    """The metrics tree after one more batch: the mean loss and every compiled metric.

    Also what `compute_metrics` returned if a subclass wrote its own, which is then what is logged; else `None`.
    """
    variables = metric_variables(model)
    with scopes.Scope(_metric_pairs(model, metrics)) as scope:
        if any(metric is model._loss_tracker for metric in model.metrics):
            model._loss_tracker.update_state(loss, sample_weight=_num_rows(x))
        results = model.compute_metrics(x, y, y_pred, sample_weight)
        if hasattr(type(model).compute_metrics, "is_default"):
            results = None
        results = jax.tree.map(unwrap, results, is_leaf=lambda leaf: isinstance(leaf, Variable))
    metrics = jax.tree.map(lambda variable, value: scope.value_of(variable, value), variables, metrics)
    return metrics, jax.tree.map(jnp.asarray, results)


def compute_logs(model, metrics: dict, results: dict | None = None, training: bool = True) -> dict:
    """`{name: result}` of every metric, or the `results` of an overridden `compute_metrics`, and the gradient norm."""
    norm = None if model._gradient_norm is None else model._gradient_norm.name
    with scopes.Scope(_metric_pairs(model, metrics)):
        logs = model.get_metrics_result()
    if results is not None:
        logs = results | ({norm: logs[norm]} if norm else {})
    return {name: value for name, value in logs.items() if training or name != norm}


def own_opt_state(state: TrainState):
    """The state of the compiled optimizer, without those of others that the model holds."""
    return state.opt_state["optimizer"] if isinstance(state.opt_state, dict) else state.opt_state


def step_key(state: TrainState) -> jax.Array:
    """The key of this step: the run's key, folded with its position."""
    stream, seed, position = state.state[RANDOM_KEY]
    return jax.random.fold_in(jax.random.wrap_key_data(jnp.stack([stream, seed])), position)


def advanced(random_key: jax.Array, count=1) -> jax.Array:
    """The random key (stream, seed, position) at a later position."""
    return random_key + jnp.array([0, 0, 1], jnp.uint32) * jnp.asarray(count).astype(jnp.uint32)


def advance(state: TrainState) -> TrainState:
    """The state with the random key of the next step."""
    return state._replace(state=state.state | {RANDOM_KEY: advanced(state.state[RANDOM_KEY])})


def _num_rows(data) -> int:
    leaves = jax.tree.leaves(data)
    return leaves[0].shape[0] if leaves and leaves[0].ndim else 1


def constrain(model, params):
    """The weights after their constraints."""
    leaves = tree.unnest(params)
    for path, variable in walk(model):
        if variable.constraint is not None and path in leaves:
            leaves[path] = jnp.asarray(variable.constraint(leaves[path]), leaves[path].dtype)
    return tree.nest(leaves.items())
