"""What of a model lies in a file of weights under which path, and how values are put back: all or none."""

import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core import placement
from kerax.core.layer import Layer
from kerax.core.registry import to_snake_case
from kerax.core.tracking import tracked_attributes, unique
from kerax.core.variable import Variable, materialize
from kerax.optimizers import Optimizer

OPTIMIZER = "optimizer"


def saveables(model, objects_to_skip: Collection = ()) -> Iterator[tuple[str, Any]]:
    """(path, object) of a model, the layers below it, each once, and its optimizer, in Keras's order.

    Sublayers are named after the attribute that holds them; in containers and in the `layers` of a model, after the
    class with a counter. Skipped objects come with nothing that is below them.
    """
    seen = set(map(id, objects_to_skip))
    yield from _layers(model, "", seen)
    optimizer = getattr(model, "optimizer", None)
    if isinstance(optimizer, Optimizer) and id(optimizer) not in seen:
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
        first = ["layers"] if hasattr(type(layer), "output_shape") else []
    # Keras goes through attributes by name, those with an underscore last; a layer counts where it is met first.
    for name in first + sorted(attributes, key=lambda name: (name.startswith("_"), name)):
        yield from _below(attributes[name], f"{path}/{name}" if path else name, seen)


def _below(value, path: str, seen: set[int], outer: tuple = ()) -> Iterator[tuple[str, Layer]]:
    if isinstance(value, Layer):
        yield from _layers(value, path, seen)
    elif isinstance(value, (list, tuple, dict)) and not any(value is other for other in outer):  # one may hold itself
        taken: set[str] = set()
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, (Layer, list, tuple, dict)):
                # Counted by class, in containers of containers as well: the paths of Keras's files.
                kind = to_snake_case(type(item).__name__) if isinstance(item, Layer) else "container"
                name = unique(kind, taken)
                taken.add(name)
                yield from _below(item, f"{path}/{name}", seen, (*outer, value))


def vars_of(path: str) -> str:
    """The group that holds an object's own variables."""
    return f"{path}/vars" if path else "vars"


class Store(NamedTuple):
    """What a file holds of one object."""

    group: str
    name: str
    values: dict[str, np.ndarray]
    labels: dict[str, str] | None  # of an optimizer: what each value is


def stores(model, objects_to_skip: Collection = ()) -> Iterator[Store]:
    """What files hold of everything in a model."""
    # All at once: one by one each draw would wait for the one before.
    materialize(model.weights)
    for path, owner in saveables(model, objects_to_skip):
        store: dict[str, np.ndarray] = {}
        # Through the method, which a user's layer may have overridden.
        owner.save_own_variables(store)
        values = {name: placement.to_host(value) for name, value in store.items()}
        labels = None
        if path == OPTIMIZER:
            # By these slots are found again when other weights are trained.
            known = {str(index): name for index, name in enumerate(_slot_names(owner))}
            labels = known if known.keys() == values.keys() else None
        yield Store(vars_of(path), owner.name, values, labels)


def _slot_names(optimizer: Optimizer) -> list[str]:
    """The paths of an optimizer's variables, each once."""
    names: list[str] = []
    for variable in optimizer.variables:
        names.append(unique(variable.path, names))
    return names


class Source(NamedTuple):
    """A file of weights, looked into."""

    where: str  # for messages
    find: Callable[[str], Mapping | None]  # of a group's path: its members, which have `shape` and `dtype`
    below: Callable[[str], dict[str, str | None]]  # of a path: the groups below it, each with its layer's name
    groups: Iterable[str]  # the groups that hold something


def fill(model, source: Source, who: str, skip_mismatch: bool = False, objects_to_skip: Collection = ()):
    """Puts the values of a file into a model. An optimizer takes what fits it; other slots begin anew.

    Args:
        who: What was called, for messages.
        skip_mismatch: Whether to skip what does not fit, with a warning that lists it.
        objects_to_skip: Layers (with what is in them) that are left alone.

    Raises:
        ValueError: listing every weight that is missing, has another shape or is of another kind; nothing was changed
            then.
    """
    plans: list[tuple[Any, list | Mapping]] = []
    differences: list[str] = []
    kept = list(saveables(model, objects_to_skip))
    places = _places(kept, source.below)
    # The groups of what is skipped may be there.
    seen = {vars_of(path) for path, _ in saveables(model)} - {vars_of(path) for path, _ in kept}
    for path, owner in kept:
        group = vars_of(places[path])
        members = source.find(group) or {}
        seen.add(group)
        if path == OPTIMIZER:
            plans.append((owner, _match_slots(owner, members, f"{who}: {source.where}")))
            continue
        if _loads_itself(owner):
            plans.append((owner, members))
            continue
        found = match(group, owner, members)
        wrong = [difference for difference in found if isinstance(difference, str)]
        differences += wrong
        # As in Keras, a layer is loaded or not.
        plans.append((owner, [] if wrong else found))
    differences += [
        f"{group}: in the file only" for group in source.groups if group not in seen and not group.startswith(OPTIMIZER)
    ]
    report(differences, f"{who}: {source.where} does not fit {model}.", skip_mismatch)
    values: list[tuple[Variable, np.ndarray]] = []
    for owner, plan in plans:  # everything is read before anything is changed
        if isinstance(plan, list):
            values += [(variable, member[()]) for variable, member in plan]
            values += owner.also_loaded() if plan and hasattr(owner, "also_loaded") else []
    for owner, plan in plans:
        if not isinstance(plan, list):
            # After all that kerax reads itself: what the user's method raises comes before any other weight is changed.
            owner.load_own_variables({name: member[()] for name, member in plan.items()})
    values.reverse()
    while values:  # each is let go as it is assigned: not everything lies there twice
        variable, value = values.pop()
        variable.assign(_handed_over(variable, value))


def _handed_over(variable: Variable, value: Any) -> Any:
    """What was read from a file, which nobody else holds: on one device it need not be copied, as users' arrays are."""
    if not isinstance(value, np.ndarray) or placement.active() is not None:
        return value
    return jax.device_put(value.astype(variable.stored_dtype, copy=False))


def report(differences: list[str], message: str, skip_mismatch: bool):
    """Raises `ValueError` with what does not fit, or with `skip_mismatch` warns of it."""
    if not differences:
        return
    message = "\n  ".join([message, *differences])
    if not skip_mismatch:
        raise ValueError(f"{message}\nNothing was loaded. Pass `skip_mismatch=True` to load what fits.")
    warnings.warn(message, stacklevel=5)


def _places(kept: list[tuple[str, Any]], below: Callable) -> dict[str, str]:
    """The path in the file of each object: its own, or where a class has another name now, that of its old one.

    A layer in an attribute of a model may lie in the file under `layers`, where functional models have theirs.
    """
    beside: dict[str, dict[str, Any]] = {}
    numbered = _numbered_layers(kept)
    for path, owner in kept:
        parent, _, last = path.rpartition("/")
        beside.setdefault(parent, {})[last] = owner
    found = {"": ""}

    def place(path: str) -> str:
        if path not in found:
            parent, _, last = path.rpartition("/")
            there = place(parent)
            own = {name: owner for name, owner in beside.get(parent, {}).items() if name and name != OPTIMIZER}
            names = _renamed(own, below(there)) if own else {}
            for name in {last, *own}:
                old = names.get(name, name)
                mine = f"{there}/{old}" if there else old
                model, number = numbered.get(id(own.get(name)), ("", ""))
                if number and old not in below(there):
                    layers = f"{place(model)}/layers".lstrip("/")
                    mine = f"{layers}/{number}" if number in below(layers) else mine
                found[f"{parent}/{name}" if parent else name] = mine
        return found[path]

    return {path: place(path) for path, _ in kept}


def _numbered_layers(kept: list[tuple[str, Any]]) -> dict[int, tuple[str, str]]:
    """Of each layer in the `layers` of a model, by its id: the model's path, and its name in a file below `layers`."""
    found: dict[int, tuple[str, str]] = {}
    for path, owner in kept:
        taken: set[str] = set()
        for layer in owner.layers if hasattr(owner, "get_layer") else ():
            taken.add(name := unique(to_snake_case(type(layer).__name__), taken))
            found.setdefault(id(layer), (path, name))
    return found


def _renamed(own: dict[str, Any], stored: dict[str, str | None]) -> dict[str, str]:
    """The names in the file of objects that stand side by side, where some of these are not there under their own."""
    missing = [name for name in own if name not in stored]
    spare = [name for name in stored if name not in own and name != OPTIMIZER]
    if not missing or not spare:
        return {}
    by_label = {label: name for name, label in stored.items() if label is not None}
    labels = [owner.name for owner in own.values()]
    if len(set(labels)) == len(labels) and all(label in by_label for label in labels):
        return {name: by_label[owner.name] for name, owner in own.items()}
    # Else in order, if those left over are of one class: `dense`, `dense_1`, `dense_2`.
    numbers = {name: int(number[1]) if (number := re.search(r"_(\d+)$", name)) else 0 for name in spare}
    is_one_class = len({re.sub(r"_\d+$", "", name) for name in spare}) == 1
    if len(missing) != len(spare) or not is_one_class:
        return {}
    return dict(zip(missing, sorted(spare, key=lambda name: numbers[name]), strict=True))


def _loads_itself(owner) -> bool:
    """Whether an object has a `load_own_variables` of its own, which knows what is in its store."""
    return isinstance(owner, Layer) and type(owner).load_own_variables is not Layer.load_own_variables


def _match_slots(optimizer: Optimizer, members: Mapping, where: str) -> list:
    """(variable, member) pairs of an optimizer and its group; one warning names what is left out.

    Slots are found by their names, which kerax writes; in files without them, or for another optimizer, by their
    places, if all of them fit; else the first two, the step and the rate.
    """
    if not optimizer.built:  # it has no slots yet, and a rate of its own
        return []
    stored = [member for _, member in sorted(members.items(), key=by_number)]
    own = dict(zip(_slot_names(optimizer), optimizer.variables, strict=True))
    pairs = [
        (own[member.label], member) for member in stored if member.label in own and fits(own[member.label], member)
    ]
    if not pairs:
        # Keras scales the loss for half precision without saying so in the file.
        for one in [optimizer, *optimizer.nested()]:
            count = len(stored) if len(stored) <= 2 else len(one.variables)
            if len(stored) == count and all(map(fits, one.variables, stored)):
                return list(zip(one.variables, stored, strict=False))
        head = zip(optimizer.variables[:2], stored[:2], strict=False)
        pairs = [(variable, member) for variable, member in head if variable.shape == () and fits(variable, member)]
    if len(pairs) < len(stored):
        taken = {id(member) for _, member in pairs}
        left = [member.label or str(index) for index, member in enumerate(stored) if id(member) not in taken]
        warnings.warn(
            f"{where}: {len(left)} of {len(stored)} values of the optimizer's state fit nothing in {optimizer} and are "
            f"left out: {', '.join(left[:6])}{', ...' if len(left) > 6 else ''}.",
            stacklevel=5,
        )
    return pairs


def by_number(item: tuple[str, Any]) -> tuple[int, str]:
    """What sorts the members `"0"`, ..., `"10"` of a group as numbers."""
    return len(item[0]), item[0]


def match(group: str, owner, members: Mapping) -> list:
    """(variable, member) pairs of an object and its group, and sentences about what does not fit."""
    # An optimizer has all its variables in one group.
    variables = owner.variables if isinstance(owner, Optimizer) else owner.kerax_stored_variables()
    if len(members) != len(variables):
        return [f"{group} ({owner.name}): expected {len(variables)} weights, the file has {len(members)}"]
    found: list = []
    for index, variable in enumerate(variables):
        member = members.get(str(index))
        # Shape and dtype are in the header: nothing has been read so far.
        if member is not None and fits(variable, member):
            found.append((variable, member))
        else:
            found.append(f"{group}/{index} ({variable.path}): {difference(variable, member)}")
    return found


_KINDS = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)


def kind_of(dtype) -> Any:
    """Whether a dtype is of truth values, integers, floats or complex numbers; `None` for anything else."""
    return next((kind for kind in _KINDS if jnp.issubdtype(dtype, kind)), None)


def fits(variable: Variable, member) -> bool:
    """Whether a stored value has the shape of a variable, and is of its kind."""
    return member.shape == variable.shape and kind_of(member.dtype) == kind_of(variable.stored_dtype)


def difference(variable: Variable, member) -> str:
    """In what a stored value, or `None`, differs."""
    if member is None or member.shape != variable.shape:
        return f"expected shape {variable.shape}, found {None if member is None else member.shape}"
    return f"expected {np.dtype(variable.stored_dtype).name}, found {member.dtype}, numbers of another kind"
