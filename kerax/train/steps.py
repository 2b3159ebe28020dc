"""The three pure steps. Each is a function of (state, batch) that a `Model` subclass may override as a method."""

import jax
import jax.numpy as jnp

from kerax import tree
from kerax.core import scope as scopes
from kerax.core.tracking import walk
from kerax.data import unpack_x_y_sample_weight
from kerax.train.state import RANDOM_KEY, TrainState, metric_variables


def train_step(model, state: TrainState, data) -> tuple[dict, TrainState]:
    """One update of the weights. Returns the logs and the next `TrainState`."""
    x, y, sample_weight = unpack_x_y_sample_weight(data)
    key = step_key(state)

    def loss_fn(params):
        with bind(model, state._replace(params=params), key) as scope:
            y_pred = model(x, training=True)
            loss = model.compute_loss(x, y, y_pred, sample_weight, training=True)
        return scaled(model, loss), (
            loss,
            y_pred,
            collect_state(model, scope, state),
            collect_metrics(model, scope, state),
        )

    (_, (loss, y_pred, new_state, metrics)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    params, opt_state = model.optimizer.update(grads, state.opt_state, state.params)
    params = constrain(model, params)
    metrics = update_metrics(model, metrics, loss, x, y, y_pred, sample_weight)
    return compute_logs(model, metrics), TrainState(params, new_state, opt_state, metrics)


def test_step(model, state: TrainState, data) -> tuple[dict, TrainState]:
    """Loss and metrics of one batch. Returns the logs and the state with updated metrics."""
    x, y, sample_weight = unpack_x_y_sample_weight(data)
    with bind(model, state, step_key(state)) as scope:
        y_pred = model(x, training=False)
        loss = model.compute_loss(x, y, y_pred, sample_weight, training=False)
    metrics = update_metrics(model, collect_metrics(model, scope, state), loss, x, y, y_pred, sample_weight)
    return compute_logs(model, metrics), state._replace(metrics=metrics)


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


def collect_state(model, scope: scopes.Scope, state: TrainState):
    """The state tree after a call in `scope`."""
    return model.collect_state(scope, state.state)


def collect_metrics(model, scope: scopes.Scope, state: TrainState) -> dict:
    """The metrics tree after a call in `scope`."""
    return jax.tree.map(lambda variable, value: scope.value_of(variable, value), metric_variables(model), state.metrics)


def _metric_pairs(model, metrics: dict) -> list:
    return list(zip(jax.tree.leaves(metric_variables(model)), jax.tree.leaves(metrics), strict=True))


def update_metrics(model, metrics: dict, loss, x, y, y_pred, sample_weight) -> dict:
    """The metrics tree after one more batch: the mean loss and every compiled metric."""
    variables = metric_variables(model)
    with scopes.Scope(_metric_pairs(model, metrics)) as scope:
        if any(metric is model._loss_tracker for metric in model.metrics):
            rows = jax.tree.leaves(x)[0].shape[0] if jax.tree.leaves(x) else 1
            model._loss_tracker.update_state(loss, sample_weight=rows)
        model.compute_metrics(x, y, y_pred, sample_weight)
    return jax.tree.map(lambda variable, value: scope.value_of(variable, value), variables, metrics)


def compute_logs(model, metrics: dict) -> dict:
    """`{name: result}` of every metric."""
    with scopes.Scope(_metric_pairs(model, metrics)):
        return model.get_metrics_result()


def step_key(state: TrainState) -> jax.Array:
    """The key of this step: the run's key, folded with the number of the step if there is an optimizer."""
    key = jax.random.wrap_key_data(state.state[RANDOM_KEY])
    return jax.random.fold_in(key, state.opt_state.iterations) if state.opt_state else key


def scaled(model, loss):
    """The loss times the optimizer's `loss_scale_factor`."""
    factor = getattr(model.optimizer, "loss_scale_factor", None)
    return loss if factor is None or not model.auto_scale_loss else loss * factor


def constrain(model, params):
    """The weights after their constraints."""
    leaves = tree.unnest(params)
    for path, variable in walk(model):
        if variable.constraint is not None and path in leaves:
            leaves[path] = jnp.asarray(variable.constraint(leaves[path]), leaves[path].dtype)
    return tree.nest(leaves.items())
