"""The training state as steps see it that were written for Keras on JAX: a tuple of lists of arrays.

`train_step(self, state, data)` unpacks (trainable, non-trainable, optimizer, metric variables), `test_step` leaves the
optimizer out, `predict_step` the metrics too; each list is in the order of the model's property of that name. The same
object has the trees of a `TrainState` by name, for steps that want these.
"""

from typing import Any

import jax

from kerax.core.variable import Variable
from kerax.train.state import TrainState

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
