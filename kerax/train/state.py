"""`TrainState`, and who owns its arrays: the model's variables between runs, a `Store` during one."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kerax import tree
from kerax.core import placement
from kerax.core import scope as scopes
from kerax.core.display import tree_page
from kerax.core.tracking import held, unique, walk
from kerax.core.variable import Sum, Variable, lend, materialize, offer, take_back
from kerax.metrics import Metric
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


class Carried:
    """Which leaves of a state evaluation and prediction carry from batch to batch; all others stay as they are.

    They are the states of recurrent layers that go on and where streams stand that layers draw from, if there are any,
    and the metrics.

    Args:
        variables: What hold the state.

    Attributes:
        owners: The variables, in the order of the leaves.
        states: Those that go on.
    """

    def __init__(self, variables: TrainState):
        self.owners, self._treedef = jax.tree.flatten(variables)
        first = len(self.owners) - len(jax.tree.leaves(variables.metrics))
        going_on = [place for place in range(first) if self.owners[place].goes_on or self.owners[place].is_drawn_from]
        self.states = [self.owners[place] for place in going_on]
        self._carried = [*going_on, *range(first, len(self.owners))]
        self._constant = [place for place in range(first) if place not in going_on]

    def split(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The constants and the carry."""
        return tuple(leaves[place] for place in self._constant), tuple(leaves[place] for place in self._carried)

    def join(self, constants: tuple, carry: tuple) -> TrainState:
        """The state of both."""
        leaves = dict(zip((*self._constant, *self._carried), (*constants, *carry), strict=True))
        return jax.tree.unflatten(self._treedef, [leaves[place] for place in range(len(leaves))])


def state_variables(model, with_optimizer: bool = True, with_metrics: bool = True) -> TrainState:
    """The variables that hold a model's training state, in the form of the state itself."""
    # A frozen weight is state: it costs no gradient and no optimizer state.
    params, state = [], []
    for path, variable in walk(model):
        is_trained = model.trainable and variable.trainable and variable.is_parameter
        (params if is_trained else state).append((path, variable))
    params = tree.nest(params)
    state = tree.nest(state) | {RANDOM_KEY: model.kerax_random_key}
    if model.kerax_compilation.bad_step is not None:
        state[FIRST_BAD_STEP] = model.kerax_compilation.bad_step
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


def metrics_of(model) -> list[Metric]:
    """The mean loss, the compiled metrics as one, the outputs' losses, and metrics in attributes of the layers."""
    found = [*model.kerax_compilation.own_metrics(), *held(model, Metric)]
    if model.kerax_compilation.gradient_norm is not None:  # last, so that `metrics_names` begins as Keras's
        found.append(model.kerax_compilation.gradient_norm)
    return list({id(metric): metric for metric in found}.values())


def each_metric(model, found: list[Metric] | None = None) -> list[Metric]:
    """The metrics of a model, or those found, with those that `compile` was given one by one."""
    compiled, found = model.kerax_compilation.metrics, model.metrics if found is None else found
    return [one for metric in found for one in (compiled.each() if metric is compiled else [metric])]


def counted_metrics(model) -> list[Metric]:
    """The metrics whose state is the model's, one by one."""
    # Also those that a `metrics` of the model's own leaves out: they count all the same.
    compiled = model.kerax_compilation
    own = [metric for metric in compiled.own_metrics() if metric is not compiled.loss_tracker]
    return each_metric(model, list({id(metric): metric for metric in [*model.metrics, *own]}.values()))


def metric_variables(model) -> dict:
    """`{metric: {variable: Variable}}` of all metrics of a model, the rests of their sums among them."""
    found: dict[str, dict] = {}
    for metric in counted_metrics(model):
        variables = {f"{index}_{variable.name}": variable for index, variable in enumerate(metric.variables)}
        variables |= {f"{name}_rest": owner.rest for name, owner in variables.items() if isinstance(owner, Sum)}
        found[unique(model.kerax_log_name(metric), found)] = variables
    return found


def initial_metrics(model) -> list[np.ndarray | None]:
    """The leaves of the metrics tree at the start of an epoch, on the host; `None` for what stays as it is then."""
    variables = jax.tree.leaves(metric_variables(model))
    with scopes.Scope([(variable, None) for variable in variables]) as scope:
        model.reset_metrics()
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


def inference_values(model, owners: Sequence[Variable], reader: Any) -> tuple:
    """The arrays of the variables of a state, uncopied, with a random key of its own for each evaluation or prediction.

    To be used before the next training step of this thread.

    Args:
        reader: Who uses them: while that object lives, a run that begins in another thread leaves them alone.
    """
    model.kerax_inferences += 1
    with changing_hands:
        materialize(owners)
        model.kerax_compilation.readers.add(reader)
        key = np.array([model.kerax_inferences, np.asarray(model.kerax_random_key.peek())[1], 0], np.uint32)
        own = model.kerax_random_key
        return tuple(key if variable is own else variable.peek() for variable in owners)


changing_hands = threading.RLock()  # held while arrays go from variables to a run and back


def store_of(model, variables: list[Variable]) -> "Store":
    """A store of a model's state, which a run of this thread is about to change."""
    with changing_hands:
        return Store(variables, are_read=len(model.kerax_compilation.readers) > 0)


class Store:
    """The arrays of some variables while a compiled run replaces them step by step.

    Meanwhile each variable reads from here, as a copy that outlives the next step, and writes here.

    Args:
        variables: The variables, each once. Arrays that others may hold too are copied, so that donating them is safe.
        are_read: Whether that is so of all, for evaluations or predictions of other threads are under way.

    Attributes:
        thread: The number of the thread that runs.
        lock: For threads that read weights while it does.
    """

    def __init__(self, variables: list[Variable], are_read: bool = False):
        self.variables, self.thread = variables, threading.get_ident()
        self.take_back: Callable[[tuple], tuple] | None = None  # makes the present arrays of those at hand
        self.lock = threading.RLock()
        given = offer(variables)
        # An array that a user holds must survive its donation; all others are given away uncopied.
        shared = [array for array, is_shared in given if is_shared or are_read]
        if jax.process_count() > 1:
            copies = map(jnp.copy, shared)
        else:  # all at once, and without a program for each shape to compile
            copies = iter(jax.device_put(shared, may_alias=False) if shared else ())
        self._leaves: tuple[jax.Array, ...] = tuple(
            next(copies) if is_shared or are_read else array for array, is_shared in given
        )
        self._outer = lend(variables, self)

    @property
    def leaves(self) -> tuple[jax.Array, ...]:
        """The present arrays."""
        if self.take_back is not None:
            with self.lock:
                # Asked again under the lock: another thread may have done it.
                if self.take_back is not None:
                    self._leaves, self.take_back = self.take_back(self._leaves), None
        return self._leaves

    @leaves.setter
    def leaves(self, leaves: tuple[jax.Array, ...]):
        self._leaves, self.take_back = leaves, None

    def start_metrics(self, fresh: list[np.ndarray | None]):
        """Sets the metrics, which are last in a state, to what `initial_metrics` gave."""
        leaves, first = self.leaves, len(self.leaves) - len(fresh)
        self.leaves = (*leaves[:first], *metrics_at_start(fresh, lambda index: leaves[first + index]))

    def read(self, index: int) -> jax.Array:
        """The current value, as a copy."""
        with self.lock:
            return jnp.copy(self.leaves[index])

    def write(self, index: int, value: jax.Array):
        """Replaces a value from the next step on."""
        with self.lock:  # a step between reading and writing would donate what is written back
            leaves = list(self.leaves)
            # A copy, for the next step donates it while the caller may still hold it.
            leaves[index] = jnp.copy(placement.put_variable(self.variables[index], value))
            self.leaves = tuple(leaves)

    def release(self):
        """Gives the arrays back to the variables."""
        with changing_hands:  # else another thread's prediction finds a variable that has neither a store nor a value
            take_back(self.variables, self.leaves, self._outer)
