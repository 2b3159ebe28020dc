"""The three pure steps, and what they are made of: methods of `Model`, which a subclass may override."""

import functools
import inspect
import math
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from kerax import tree
from kerax.core import masks, placement, row_flow, sparse
from kerax.core import scope as scopes
from kerax.core.tracking import walk
from kerax.core.variable import Variable, unwrap
from kerax.data import unpack_x_y_sample_weight
from kerax.optimizers.optimizer import joined
from kerax.train.state import RANDOM_KEY, TrainState, metric_variables


def train_step(self, state: TrainState, data) -> tuple[dict, TrainState]:
    """One update of the weights. Pure. Returns the logs and the next `TrainState`."""
    # The parts must be of one size: the largest number of them that divides the batch.
    key, num_parts = step_key(state), math.gcd(self.kerax_compilation.micro_batches or 1, num_rows_of(data))
    if num_parts == 1:
        found = _value_and_grad(self, state, data, key)(state.params)
        grads, state, results = _with_metrics(self, state, data, found)
    else:
        grads, state, results = mean_gradients(num_parts, self, state, data, key)
    if self.kerax_compilation.gradient_norm is not None:
        state = state._replace(metrics=_note_norm(self, state, grads))
    with jax.named_scope("optimizer"):  # as layers have their names in programs
        params, opt_state = self.optimizer.update(grads, own_opt_state(state), state.params)
    if isinstance(state.opt_state, dict):
        opt_state = state.opt_state | {"optimizer": opt_state}
    state = state._replace(params=constrain(self, params), opt_state=opt_state)
    return compute_logs(self, state.metrics, results), advance(state)


def gradients(model, state: TrainState, data, key):
    """The gradients of the (scaled) loss, the state with everything updated but the weights, and what a
    `compute_metrics` of the model's own returned."""
    return _with_metrics(model, state, data, _value_and_grad(model, state, data, key)(state.params))


def _value_and_grad(model, state: TrainState, data, key) -> Callable:
    """A function of the weights: ((scaled loss, what `_loss` returns beside it), gradients)."""
    loss_of = functools.partial(_loss, model=model, state=state, data=data, key=key)
    return jax.value_and_grad(placement.gathering_again(loss_of), has_aux=True)


def _with_metrics(model, state: TrainState, data, found):
    x, y, sample_weight = unpack_x_y_sample_weight(data)
    (_, (loss, outputs, new)), grads = found
    metrics, results = update_metrics(model, new.metrics, loss, x, y, outputs.tree, sample_weight)
    return grads, state._replace(state=new.state, metrics=metrics), results


def _loss(params, model, state: TrainState, data, key):
    x, y, sample_weight = unpack_x_y_sample_weight(data)
    with bind(model, state._replace(params=params), key) as scope:
        y_pred = model(x, training=True)
        with jax.named_scope("loss"):
            loss = scaled = loss_of(model, x, y, y_pred, sample_weight, training=True)
        if model.kerax_compilation.auto_scale_loss:
            scaled = model.optimizer.scale_loss(loss, own_opt_state(state))
    new = state._replace(
        state=model.kerax_collect_state(scope, state.state), metrics=collect_metrics(model, scope, state)
    )
    return scaled, (loss, masks.Carrier(y_pred), new)


def mean_gradients(num_parts: int, model, state: TrainState, data, key):
    """As `gradients`, of a batch that is cut into parts, worked off by a scan with the memory of one.

    Gradients are averaged, so that losses averaged over rows give those of the whole batch. Of weights that are
    overwritten with their gradients (float8 scales), the largest counts.
    """
    parts = jax.tree.map(lambda leaf: leaf.reshape(num_parts, len(leaf) // num_parts, *leaf.shape[1:]), data)
    overwritten = {"/".join(path) for path, variable in walk(model) if variable.overwrite_with_gradient}

    def add(path, old, new):
        # Scales of float8 take the place of their weights: their mean would be too small for the largest value.
        return jnp.maximum(old, new) if joined(path) in overwritten else old + new / num_parts

    def add_part(carry, part):
        total, state = carry
        index, data = part
        grads, state, results = gradients(model, state, data, jax.random.fold_in(key, index))
        return (jax.tree_util.tree_map_with_path(add, total, grads), state), results

    empty = jax.tree.map(jnp.zeros_like, state.params)
    (grads, state), results = jax.lax.scan(add_part, (empty, state), (jnp.arange(num_parts), parts))
    return grads, state, jax.tree.map(lambda parts: parts[-1], results)


def _note_norm(model, state: TrainState, grads) -> dict:
    is_scaled = model.kerax_compilation.auto_scale_loss
    scale = model.optimizer.scale_loss(jnp.ones(()), own_opt_state(state)) if is_scaled else 1.0
    with scopes.Scope(_metric_pairs(model, state.metrics)) as scope:
        model.kerax_compilation.gradient_norm.update_state(optax.global_norm(_trained(model, grads)) / scale)
    return jax.tree.map(lambda variable, value: scope.value_of(variable, value), metric_variables(model), state.metrics)


def _trained(model, grads):
    """The gradients without what takes the place of a weight."""
    overwritten = {path for path, variable in walk(model) if variable.overwrite_with_gradient}
    return tree.nest(item for item in tree.unnest(grads).items() if item[0] not in overwritten)


def test_step(self, state: TrainState, data) -> tuple[dict, TrainState]:
    """Loss and metrics of one batch. Pure. Returns the logs and the state with updated metrics."""
    x, y, sample_weight = unpack_x_y_sample_weight(data)
    with bind(self, state, step_key(state)) as scope:
        y_pred = self(x, training=False)
        loss = loss_of(self, x, y, y_pred, sample_weight, training=False)
    metrics, results = update_metrics(self, collect_metrics(self, scope, state), loss, x, y, y_pred, sample_weight)
    state = state._replace(state=self.kerax_collect_state(scope, state.state), metrics=metrics)
    return compute_logs(self, metrics, results, training=False), state


def test_step_on_rows(model, state: TrainState, data, counted) -> tuple[dict, TrainState]:
    """`test_step` of the rows alone that count, bool `(rows,)`; the others fill the batch up.

    Raises:
        RowsMixed: if layers add losses, which are of all rows.
    """
    x, y, sample_weight = unpack_x_y_sample_weight(data)
    compiled = model.kerax_compilation
    with bind(model, state, step_key(state)) as scope:
        y_pred = row_flow.marked(model(x, training=False))
        # Found while tracing, so that the caller takes the exact program instead.
        if scope.added_losses:
            raise RowsMixed
        loss = sum(map(_summed, model.losses), jnp.zeros((), jnp.float32))
        if compiled.loss.parts:
            loss = loss + compiled.loss(y, y_pred, sample_weight, counted)
    with scopes.Scope(_metric_pairs(model, collect_metrics(model, scope, state))) as metric_scope:
        compiled.loss_tracker.update_state(loss, sample_weight=jnp.sum(counted))
        compiled.metrics.update_state(y, y_pred, sample_weight, counted)
    metrics = collect_metrics(model, metric_scope, state)
    state = state._replace(state=model.kerax_collect_state(scope, state.state), metrics=metrics)
    return compute_logs(model, metrics, training=False), state


class RowsMixed(Exception):
    """Something is made of the whole batch, of which no rows can be left out."""


def predict_step(self, state: TrainState, data):
    """The outputs for one batch. Pure."""
    return predict_and_go_on(self, state, data)[0]


def predict_and_go_on(model, state: TrainState, data):
    """`predict_step`, and the state after it, in which those of recurrent layers may have gone on."""
    x, _, _ = unpack_x_y_sample_weight(data)
    with bind(model, state, step_key(state)) as scope:
        return model(x, training=False), state._replace(state=model.kerax_collect_state(scope, state.state))


def goes_on(model) -> bool:
    """Whether a layer of the model starts a batch with the states that the last one ended with."""
    return any(variable.goes_on for _, variable in walk(model))


def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
    """The scalar that training minimises: the compiled loss plus everything in `self.losses`."""
    total = None
    if self.kerax_compilation.loss is not None and self.kerax_compilation.loss.given is not None:
        if y is None:
            raise ValueError(f"{self}: the loss needs targets, and the data has none. Pass `y`.")
        total = self.kerax_compilation.loss(y, y_pred, sample_weight)
    # Regularizers and `add_loss`, after the compiled loss as Keras adds them.
    for loss in map(_summed, self.losses):
        total = loss if total is None else total + loss
    if total is None:
        raise ValueError(
            f"{self}: nothing to minimise. Pass `loss` to `compile`, call `add_loss`, or override `compute_loss`."
        )
    return jnp.asarray(total, jnp.float32)


def _summed(loss) -> jax.Array:
    """What layers and regularizers add, as a scalar: the sum of an array, of counts too, as in Keras."""
    loss = jnp.asarray(loss)
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        loss = loss.astype(jnp.float32)
    return jnp.sum(loss) if loss.ndim else loss


def loss_of(model, x, y, y_pred, sample_weight, training: bool):
    """What the model's `compute_loss` returns, also one that was written before it was given `training`."""
    named = {"x": x, "y": y, "y_pred": y_pred, "sample_weight": sample_weight}
    parameters = inspect.signature(model.compute_loss).parameters
    if "training" in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        named["training"] = training
    return model.compute_loss(**named)


def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict:
    """Updates the compiled metrics with a batch. Returns `{name: result}`, which are the logs of a step."""
    if y is not None:
        self.kerax_compilation.metrics.update_state(y, y_pred, sample_weight)
    return self.get_metrics_result()


def reset_metrics(self):
    """Sets every metric to its start."""
    for metric in self.metrics:
        metric.reset_state()


_DEFAULTS: dict[str, Callable] = {
    "reset_metrics": reset_metrics,
    "train_step": train_step,
    "test_step": test_step,
    "predict_step": predict_step,
    "compute_loss": compute_loss,
    "compute_metrics": compute_metrics,
}


def make_train_function(self, force: bool = False) -> Callable:
    """Sets and returns `train_function`: of (state, iterator of batches), it gives what `train_step` gives for the
    next batch. Where a subclass makes another one, that is the step, traced as such."""
    self.train_function = lambda state, iterator: self.train_step(state, next(iterator))
    return self.train_function


def make_test_function(self, force: bool = False) -> Callable:
    """Sets and returns `test_function`, as `make_train_function` does."""
    self.test_function = lambda state, iterator: self.test_step(state, next(iterator))
    return self.test_function


def make_predict_function(self, force: bool = False) -> Callable:
    """Sets and returns `predict_function`, as `make_train_function` does; it returns (outputs, state)."""
    self.predict_function = lambda state, iterator: (self.predict_step(state, next(iterator)), state)
    return self.predict_function


_MAKERS: dict[str, Callable] = {
    "train_step": make_train_function,
    "test_step": make_test_function,
    "predict_step": make_predict_function,
}


def step_of(model, name: str) -> Callable:
    """The model's step of this name, or what its own `make_..._function` makes of it."""
    maker = _MAKERS[name]
    if not _is_own(model, maker.__name__, maker):
        return getattr(model, name)
    made = getattr(model, maker.__name__)() or getattr(model, maker.__name__.removeprefix("make_"))
    return lambda state, data: made(state, iter([data]))


def _is_own(model, name: str, default: Callable) -> bool:
    return name in vars(model) or getattr(type(model), name) is not default


def is_own(model, name: str, base: type) -> bool:
    """Whether a method of `base` is a model's own."""
    return _is_own(model, name, getattr(base, name))


def takes_compile_arguments(model, base: type, config: dict) -> bool:
    """Whether a model's own `compile` takes what a file keeps of it, and nothing that the file lacks: else a warning.

    Keras warns of every `compile` that is not that of `base`.
    """
    if not is_own(model, "compile", base):
        return True
    own, usual = (inspect.signature(method).parameters.values() for method in (model.compile, base.compile))
    names = {p.name for p in own if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    unknown = sorted(config.keys() - names) if all(p.kind != p.VAR_KEYWORD for p in own) else []
    lost = sorted(names - config.keys() - {p.name for p in usual})
    if unknown or lost:
        warnings.warn(
            f"{model}: `compile` was not called. Its class's own takes arguments that are not kept ({lost}), or not "
            f"those that are ({unknown}). Call it yourself, or give the class `get_compile_config` and "
            "`compile_from_config`.",
            stacklevel=4,
        )
    return not (unknown or lost)


def overrides(model, name: str) -> bool:
    """Whether one of these methods is a model's own, or a step is made by one."""
    maker = _MAKERS.get(name)
    return _is_own(model, name, _DEFAULTS[name]) or (maker is not None and _is_own(model, maker.__name__, maker))


def overridden(model) -> set[str]:
    """Which of these methods are a model's own."""
    return {name for name in _DEFAULTS if overrides(model, name)}


def bind(model, state: TrainState, key=None) -> scopes.Scope:
    """A pure scope in which the model's variables and metrics have the values of `state`."""
    scope = model.kerax_bind_variables({"params": state.params, "state": state.state}, key)
    for variable, value in _metric_pairs(model, state.metrics):
        scope.values[id(variable)] = value
    return scope


def collect_metrics(model, scope: scopes.Scope, state: TrainState) -> dict:
    """The metrics tree after a call in `scope`."""
    return jax.tree.map(lambda variable, value: scope.value_of(variable, value), metric_variables(model), state.metrics)


def _metric_pairs(model, metrics: dict) -> list:
    if not metrics:  # a prediction has none
        return []
    return list(zip(jax.tree.leaves(metric_variables(model)), jax.tree.leaves(metrics), strict=True))


def update_metrics(model, metrics: dict, loss, x, y, y_pred, sample_weight) -> tuple[dict, dict | None]:
    """The metrics tree after one more batch: the mean loss and every compiled metric.

    Also what `compute_metrics` returned if a subclass wrote its own, which is then what is logged; else `None`.
    """
    variables, tracker = metric_variables(model), model.kerax_compilation.loss_tracker
    with scopes.Scope(_metric_pairs(model, metrics)) as scope:
        if any(metric is tracker for metric in model.metrics):
            tracker.update_state(loss, sample_weight=num_rows_of(x))
        results = model.compute_metrics(x, y, y_pred, sample_weight)
        if not overrides(model, "compute_metrics"):
            results = None
        results = jax.tree.map(unwrap, results, is_leaf=lambda leaf: isinstance(leaf, Variable))
    metrics = jax.tree.map(lambda variable, value: scope.value_of(variable, value), variables, metrics)
    return metrics, jax.tree.map(jnp.asarray, results)


def compute_logs(model, metrics: dict, results: dict | None = None, training: bool = True) -> dict:
    """`{name: result}` of every metric, or the `results` of an overridden `compute_metrics`, and the gradient norm."""
    norm = None if model.kerax_compilation.gradient_norm is None else model.kerax_compilation.gradient_norm.name
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
    # Folded with its position, never split: a resumed run draws the same numbers without having drawn those before.
    stream, seed, position = state.state[RANDOM_KEY]
    return jax.random.fold_in(jax.random.wrap_key_data(jnp.stack([stream, seed])), position)


def advanced(random_key: jax.Array, count=1) -> jax.Array:
    """The random key (stream, seed, position) at a later position."""
    return random_key + jnp.array([0, 0, 1], jnp.uint32) * jnp.asarray(count).astype(jnp.uint32)


def advance(state: TrainState) -> TrainState:
    """The state with the random key of the next step."""
    return state._replace(state=state.state | {RANDOM_KEY: advanced(state.state[RANDOM_KEY])})


def num_rows_of(data) -> int:
    """Size of the first axis of a batch; 1 for one without."""
    leaves = sparse.leaves(data)
    return leaves[0].shape[0] if leaves and leaves[0].ndim else 1


def constrain(model, params):
    """The weights after their constraints."""
    leaves = tree.unnest(params)
    for path, variable in walk(model):
        if variable.constraint is not None and path in leaves:
            leaves[path] = jnp.asarray(variable.constraint(leaves[path]), leaves[path].dtype)
    return tree.nest(leaves.items())
