"""What of a model lies in a file of weights under which path, and how values are put back: all or none."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from kerax.core import placement
from kerax.core.layer import Layer
from kerax.core.registry import to_snake_case
from kerax.core.tracking import tracked_attributes, unique
from kerax.core.variable import Variable, materialize
from kerax.optimizers import Optimizer

OPTIMIZER = "optimizer"


def saveables(model) -> Iterator[tuple[str, Any]]:
    """(path, object) of a model, the layers below it, each once, and its built optimizer, in Keras's order.

    Sublayers are named after the attribute that holds them; in containers and in the `layers` of a model, after the
    class with a counter.
    """
    yield from _layers(model, "", set())
    optimizer = getattr(model, "optimizer", None)
    if isinstance(optimizer, Optimizer) and optimizer.built:
        yield OPTIMIZER, optimizer


def _layers(layer: Layer, path: str, seen: set[int]) -> Iterator[tuple[str, Layer]]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield path, layer
    attributes = tracked_attributes(layer)
    first = []
    if hasattr(layer, "get_layer"):  # a model
        attributes["layers"] = cast(Any, layer).layers
        # Keras goes through the `layers` of functional models and `Sequential`s before all other attributes.
        first = ["layers"] if hasattr(layer, "output_shape") else []
    # Keras goes through attributes by name, those with an underscore last; a layer counts where it is met first.
    for name in first + sorted(attributes, key=lambda name: (name.startswith("_"), name)):
        yield from _below(attributes[name], f"{path}/{name}" if path else name, seen)


def _below(value, path: str, seen: set[int]) -> Iterator[tuple[str, Layer]]:
    if isinstance(value, Layer):
        yield from _layers(value, path, seen)
    elif isinstance(value, (list, tuple, dict)):
        taken: set[str] = set()
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, (Layer, list, tuple, dict)):
                # Counted by class, in containers of containers as well: the paths of Keras's files.
                kind = to_snake_case(type(item).__name__) if isinstance(item, Layer) else "container"
                name = unique(kind, taken)
                taken.add(name)
                yield from _below(item, f"{path}/{name}", seen)


def vars_of(path: str) -> str:
    """The group that holds an object's own variables."""
    return f"{path}/vars" if path else "vars"


def stores(model) -> Iterator[tuple[str, str, dict[str, np.ndarray]]]:
    """(group, name, values) of everything in a model."""
    # All at once: one by one each draw would wait for the one before.
    materialize(model.weights)
    for path, owner in saveables(model):
        store: dict[str, np.ndarray] = {}
        # Through the method, which a user's layer may have overridden.
        owner.save_own_variables(store)
        yield vars_of(path), owner.name, {name: placement.to_host(value) for name, value in store.items()}


def fill(
    model, where: str, who: str, find: Callable, groups: Iterable[str], skip_mismatch: bool, strict_optimizer: bool
):
    """Puts the values of a file into a model.

    Args:
        where: The file, for messages.
        who: What was called, for messages.
        find: Function of a group's path that returns a mapping of names to members with `shape`, or `None`.
        groups: The groups of the file that hold something.
        skip_mismatch: Whether to skip what does not fit, with a warning that lists it.
        strict_optimizer: Whether the optimizer's state must fit. Else it is left alone where it does not.

    Raises:
        ValueError: listing every weight that is missing or has another shape; nothing was changed then.
    """
    plans: list[tuple[Any, list | Mapping]] = []
    differences: list[str] = []
    seen = set()
    for path, owner in saveables(model):
        group = vars_of(path)
        members = find(group) or {}
        seen.add(group)
        # Weights for another optimizer are as good: it starts anew then.
        if path == OPTIMIZER and not strict_optimizer and not _fits_optimizer(owner, members):
            continue
        if _loads_itself(owner):
            plans.append((owner, members))
            continue
        found = match(group, owner, members)
        differences += [difference for difference in found if isinstance(difference, str)]
        plans.append((owner, [pair for pair in found if not isinstance(pair, str)]))
    differences += [
        f"{group}: in the file only" for group in groups if group not in seen and not group.startswith(OPTIMIZER)
    ]
    report(differences, f"{who}: {where} does not fit {model}.", skip_mismatch)
    values: list[tuple[Variable, np.ndarray]] = []
    for owner, plan in plans:  # everything is read before anything is changed
        if isinstance(plan, list):
            values += [(variable, member[()]) for variable, member in plan]
            values += owner.also_loaded() if plan and hasattr(owner, "also_loaded") else []
    for owner, plan in plans:
        if not isinstance(plan, list):
            # After all that kerax reads itself: what the user's method raises comes before any other weight is changed.
            owner.load_own_variables({name: member[()] for name, member in plan.items()})
    for variable, value in values:
        variable.assign(value)


def report(differences: list[str], message: str, skip_mismatch: bool):
    """Raises `ValueError` with what does not fit, or with `skip_mismatch` warns of it."""
    if not differences:
        return
    message = "\n  ".join([message, *differences])
    if not skip_mismatch:
        raise ValueError(f"{message}\nNothing was loaded. Pass `skip_mismatch=True` to load what fits.")
    warnings.warn(message, stacklevel=5)


def _loads_itself(owner) -> bool:
    """Whether an object has a `load_own_variables` of its own, which knows what is in its store."""
    return isinstance(owner, Layer) and type(owner).load_own_variables is not Layer.load_own_variables


def _fits_optimizer(optimizer: Optimizer, members: Mapping) -> bool:
    shapes = [member.shape for _, member in sorted(members.items(), key=by_number)]
    return shapes == [variable.shape for variable in optimizer.variables]


def by_number(item: tuple[str, Any]) -> tuple[int, str]:
    """What sorts the members `"0"`, ..., `"10"` of a group as numbers."""
    return len(item[0]), item[0]


def match(group: str, owner, members: Mapping) -> list:
    """(variable, member) pairs of an object and its group, and sentences about what does not fit."""
    # An optimizer has all its variables in one group.
    variables = owner.variables if isinstance(owner, Optimizer) else owner.stored_variables()
    if len(members) != len(variables):
        return [f"{group} ({owner.name}): expected {len(variables)} weights, the file has {len(members)}"]
    found: list = []
    for index, variable in enumerate(variables):
        member = members.get(str(index))
        # Shapes are in the header: nothing has been read so far.
        if member is not None and member.shape == variable.shape:
            found.append((variable, member))
        else:
            shape = None if member is None else member.shape
            found.append(f"{group}/{index} ({variable.path}): expected shape {variable.shape}, found {shape}")
    return found
