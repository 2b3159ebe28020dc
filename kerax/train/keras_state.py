"""The training state as steps see it that were written for Keras on JAX: a tuple of lists of arrays.

`train_step(self, state, data)` unpacks (trainable, non-trainable, optimizer, metric variables), `test_step` leaves the
optimizer out, `predict_step` the metrics too; each list is in the order of the model's property of that name. The same
object has the trees of a `TrainState` by name, for steps that want these.
"""

import functools
from typing import Any

import jax
import numpy as np

from kerax import tree
from kerax.core.variable import Variable
from kerax.train.state import TrainState, state_variables

_PARTS = ("params", "state", "opt_state", "metrics")


class ListedState(TrainState):
    """A `TrainState` that is unpacked, indexed and measured as Keras's tuple of lists."""

    lists: tuple[list, ...]

    def __iter__(self):
        return iter(self.lists)

    def __getitem__(self, index):
        return self.lists[index]

    def __len__(self):
        return len(self.lists)

    # The one of `NamedTuple` goes through what is unpacked, which are lists here.
    def _replace(self, **parts):  # pyright: ignore[reportIncompatibleMethodOverride]
        return as_trees(self)._replace(**parts)


_KINDS = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")


class PathState(TrainState):
    """A `TrainState` that answers by name as Keras's dict of dicts, a variable by its path."""

    paths: tuple[tuple[str, ...] | None, ...]  # of each leaf, its kind first; `None` for what Keras has not

    @functools.cached_property
    def by_path(self) -> dict:
        """The values as Keras has them; what is changed here, `set_state_tree` puts back."""
        leaves = zip(self.paths, jax.tree.leaves(as_trees(self)), strict=True)
        return {kind: {} for kind in _KINDS} | tree.nest((path, leaf) for path, leaf in leaves if path is not None)

    def __getitem__(self, key):
        return self.by_path[key] if isinstance(key, str) else super().__getitem__(key)

    def _replace(self, **parts):  # pyright: ignore[reportIncompatibleMethodOverride]
        return _unflatten(self.paths, super()._replace(**parts))  # steps return what they were given

    def __contains__(self, key):
        return key in self.by_path

    def keys(self):
        """The four kinds of variables."""
        return self.by_path.keys()

    def items(self):
        """The four kinds with their variables."""
        return self.by_path.items()


def _flatten(state: PathState):
    return tuple(as_trees(state)), state.paths


def _unflatten(paths, parts) -> PathState:
    state = PathState(*parts)
    state.paths = paths
    return state


jax.tree_util.register_pytree_node(PathState, _flatten, _unflatten)


def _variables_by_path(model) -> dict[tuple[str, ...], Variable]:
    lists = (
        model.trainable_variables,
        model.non_trainable_variables,
        [] if model.optimizer is None else model.optimizer.variables,
        model.metrics_variables,
    )
    found = {}
    for kind, variables in zip(_KINDS, lists, strict=True):
        for variable in variables:
            found[kind, *variable.path.split("/")] = variable
    return found


def state_of(model, on_host: bool = False) -> PathState:
    """The present training state of a model, as copies: arrays, or NumPy arrays."""
    variables = state_variables(model)
    paths = {id(variable): path for path, variable in _variables_by_path(model).items()}
    owners, treedef = jax.tree.flatten(variables)
    values = [np.asarray(owner.raw) if on_host else owner.raw for owner in owners]
    return _unflatten(tuple(paths.get(id(owner)) for owner in owners), jax.tree.unflatten(treedef, values))


def put_state(model, state: TrainState | dict) -> None:
    """Puts a training state back, or those of its values that a dict of Keras's form has.

    Raises:
        ValueError: if its form differs, or it has values of variables that are not there.
    """
    by_path = state if isinstance(state, dict) else vars(state).get("by_path", {}) if hasattr(state, "paths") else {}
    known = _variables_by_path(model)
    given = tree.unnest(by_path)
    unknown = [kind for kind in by_path if kind not in _KINDS] + ["/".join(path) for path in given if path not in known]
    if unknown:
        raise ValueError(f"{model}: the state has values of {unknown}, which are not there.")
    if not isinstance(state, dict):
        variables = state_variables(model)
        state = as_trees(state) if isinstance(state, PathState) else state
        # Else values would go to other variables of the same number.
        if jax.tree.structure(variables) != jax.tree.structure(state):
            raise ValueError(
                f"{model}: the state has another form. Expected {jax.tree.structure(variables)}, "
                f"got {jax.tree.structure(state)}."
            )
        jax.tree.map(lambda variable, value: variable.assign(value), variables, state)
    for path, value in given.items():
        known[path].assign(value if hasattr(value, "shape") else np.asarray(value))


def as_trees(state: TrainState) -> TrainState:
    """The trees of a state, as a tuple of them."""
    return TrainState(*(getattr(state, part) for part in _PARTS))


class KerasLists:
    """Which variables Keras's lists hold.

    Args:
        model: The model.
        variables: What hold the state.
        parts: Which lists a step knows, of those of `TrainState`.
    """

    def __init__(self, model, variables: TrainState, parts: tuple[str, ...] = _PARTS):
        optimizer = [] if model.optimizer is None else model.optimizer.variables
        listed = model.trainable_variables, model.non_trainable_variables, optimizer, model.metrics_variables
        self._parts, self._owners = parts, jax.tree.leaves(variables)
        self._listed = [list(part) for name, part in zip(_PARTS, listed, strict=True) if name in parts]

    def give(self, state: TrainState) -> ListedState:
        """The state for a step."""
        values = {id(owner): leaf for owner, leaf in zip(self._owners, jax.tree.leaves(state), strict=True)}
        made = ListedState(*state)
        made.lists = tuple([_value(variable, values) for variable in part] for part in self._listed)
        return made

    def take(self, who: str, given: ListedState, returned: Any) -> Any:
        """What a step returned, with the values of its lists in the trees. The random key, in no list, stays as given.

        Args:
            who: The step's name, for messages.

        Raises:
            ValueError: if a list has another length than it was given.
        """
        if isinstance(returned, ListedState):
            return as_trees(returned)
        if isinstance(returned, TrainState) or not isinstance(returned, (tuple, list)):
            return returned
        if len(returned) != len(self._parts) or not any(isinstance(part, (list, tuple)) for part in returned):
            return returned
        state, new = as_trees(given), {}
        for name, part, variables in zip(self._parts, returned, self._listed, strict=True):
            if not isinstance(part, (list, tuple)) or isinstance(part, type(state.opt_state)):
                state = state._replace(**{name: part})  # a tree
                continue
            if len(part) != len(variables):
                names = [variable.path for variable in variables]
                raise ValueError(f"{who}: returned {len(part)} values for the {len(variables)} variables {names}.")
            new |= {id(variable): value for variable, value in zip(variables, part, strict=True)}
        leaves, treedef = jax.tree.flatten(state)
        leaves = [new.get(id(owner), leaf) for owner, leaf in zip(self._owners, leaves, strict=True)]
        return jax.tree.unflatten(treedef, leaves)


def _value(variable: Variable, values: dict[int, Any]) -> Any:
    return values[id(variable)] if id(variable) in values else variable.value
