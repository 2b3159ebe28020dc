"""`TrainState`, and who owns its arrays: the model's variables between runs, a `Store` during one."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kerax import tree
from kerax.core import placement
from kerax.core import scope as scopes
from kerax.core.display import tree_page
from kerax.core.tracking import unique, walk
from kerax.core.variable import Variable, materialize
from kerax.optimizers import Optimizer

Tree = Any
RANDOM_KEY = "random_key"  # uint32[3]: stream (0 training, n the n-th evaluation or prediction), seed, step
FIRST_BAD_STEP = "first_bad_step"  # int32: the step that made a number NaN or infinite, if one is guarded against; -1


class TrainState(NamedTuple):
    """Everything a training step reads and returns.

    `params` holds the weights that are trained, `state` frozen weights, moving averages and the random key, as nested
    dicts by structure; `opt_state` is what `optimizer.init` gives, or a dict of that by attribute if the model holds
    other optimizers beside the compiled one (`"optimizer"`); `metrics` is `{metric: {variable: array}}`.
    """

    params: Tree
    state: Tree
    opt_state: Tree
    metrics: Tree

    def _repr_html_(self) -> str:
        return "".join(tree_page(part, name) for name, part in zip(self._fields, self))


def state_variables(model, with_optimizer: bool = True, with_metrics: bool = True) -> TrainState:
    """The variables that hold a model's training state, in the form of the state itself."""
    params, state = [], []
    for path, variable in walk(model):
        is_trained = model.trainable and variable.trainable and variable.is_parameter
        (params if is_trained else state).append((path, variable))
    params = tree.nest(params)
    state = tree.nest(state) | {RANDOM_KEY: model.random_key}
    if model.compilation.bad_step is not None:
        state[FIRST_BAD_STEP] = model.compilation.bad_step
    opt_state = ()
    if with_optimizer and model.optimizer is not None:
        model.optimizer.build(params)
        opt_state = model.optimizer.state_variables
        others = {name: other.state_variables for name, other in other_optimizers(model).items() if other.built}
        if others:
            opt_state = {"optimizer": opt_state} | others
    return TrainState(params, state, opt_state, metric_variables(model) if with_metrics else {})


def other_optimizers(model) -> dict[str, Optimizer]:
    """Optimizers in a model's attributes beside the compiled one, by the attribute's name."""
    known = [] if model.optimizer is None else [model.optimizer, *model.optimizer.nested()]
    found = {}
    for name, value in vars(model).items():
        if isinstance(value, Optimizer) and not any(value is other for other in known):
            found[name] = value
            known.append(value)
    return found


def metric_variables(model) -> dict:
    """`{metric: {variable: Variable}}` of all metrics of a model."""
    found: dict[str, dict] = {}
    for metric in model.metrics:
        variables = {f"{index}_{variable.name}": variable for index, variable in enumerate(metric.variables)}
        found[unique(model.log_name(metric), found)] = variables
    return found


def initial_metrics(model) -> list[np.ndarray | None]:
    """The leaves of the metrics tree at the start of an epoch, on the host; `None` for what stays as it is then."""
    variables = jax.tree.leaves(metric_variables(model))
    with scopes.Scope([(variable, None) for variable in variables]) as scope:
        for metric in model.metrics:
            metric.reset_state()
        values = map(scope.value_of, variables)
        return [None if value is None else np.asarray(value) for value in values]


def metrics_at_start(fresh: list[np.ndarray | None], present: Callable[[int], Any]) -> tuple:
    """The leaves of the metrics tree at the start of an epoch, on the device.

    Args:
        fresh: As `initial_metrics` gives them.
        present: The leaf as it is, by its index, where a user's `reset_state` lets it be.
    """
    placed = iter(placement.place_numbers([value for value in fresh if value is not None]))
    return tuple(present(index) if value is None else next(placed) for index, value in enumerate(fresh))


def inference_values(model, variables: TrainState) -> tuple:
    """The leaves of a state, uncopied, with a random key of its own for each evaluation or prediction.

    To be used before the next training step.
    """
    model.inferences += 1
    leaves = jax.tree.leaves(variables)
    materialize(leaves)
    key = np.array([model.inferences, np.asarray(model.random_key.peek())[1], 0], np.uint32)
    return tuple(key if variable is model.random_key else variable.peek() for variable in leaves)


class Store:
    """The arrays of some variables while a compiled run replaces them step by step.

    Meanwhile each variable reads from here, as a copy that outlives the next step, and writes here.

    Args:
        variables: The variables, each once. Arrays that others may hold too are copied, so that donating them is safe.
    """

    def __init__(self, variables: list[Variable]):
        materialize(variables)
        self.variables = variables
        self.take_back: Callable[[tuple], tuple] | None = None  # makes the present arrays of those at hand
        self.lock = threading.RLock()  # of threads that read weights while another one trains
        arrays, are_shared = zip(*(variable.offer() for variable in variables))
        shared = [array for array, is_shared in zip(arrays, are_shared) if is_shared]
        if jax.process_count() > 1:
            copies = map(jnp.copy, shared)
        else:  # all at once, and without a program for each shape to compile
            copies = iter(jax.device_put(shared, may_alias=False))
        self._leaves: tuple[jax.Array, ...] = tuple(
            next(copies) if is_shared else array for array, is_shared in zip(arrays, are_shared)
        )
        self._outer = [variable.lend(self, index) for index, variable in enumerate(variables)]

    @property
    def leaves(self) -> tuple[jax.Array, ...]:
        """The present arrays."""
        if self.take_back is not None:
            with self.lock:
                if self.take_back is not None:
                    self._leaves, self.take_back = self.take_back(self._leaves), None
        return self._leaves

    @leaves.setter
    def leaves(self, leaves: tuple[jax.Array, ...]):
        self._leaves, self.take_back = leaves, None

    def read(self, index: int) -> jax.Array:
        """The current value, as a copy."""
        return jnp.copy(self.leaves[index])

    def write(self, index: int, value: jax.Array):
        """Replaces a value from the next step on."""
        leaves = list(self.leaves)
        leaves[index] = jnp.copy(placement.put_variable(self.variables[index], value))
        self.leaves = tuple(leaves)

    def release(self):
        """Gives the arrays back to the variables."""
        for variable, value, outer in zip(self.variables, self.leaves, self._outer, strict=True):
            variable.take_back(value, outer)
