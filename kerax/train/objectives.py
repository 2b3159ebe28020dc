"""The losses and metrics of all outputs of a model: which belongs to which, and what they are called in the logs."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from kerax import losses as losses_module
from kerax import metrics as metrics_module
from kerax.core.registry import is_serialized
from kerax.core.tracking import unique
from kerax.errors import UnknownNameError

Tree = Any
CHOSEN_BY_SHAPE = ("accuracy", "acc", "crossentropy", "ce")


def name_outputs(output_names: list[str] | None, structure: Tree, whole=frozenset()) -> dict[str, Any]:
    """A structure of outputs as `{name: part}`: its leaves, and the parts at the paths `whole` as they are.

    A leaf is called after its key in a dict, else after the output, and behind the keys and indices around it.
    """
    found = list(_parts(structure, whole))
    is_named = _are_named(output_names, structure)
    if is_named:
        given = iter(cast("list[str]", output_names))
    else:
        given = iter([f"output_{index}" for index in range(len(found))] if len(found) > 1 else ["output"])
    named = {}
    for path, part in found:
        own = [next(given) for _ in jax.tree.leaves(part)] if is_named else [next(given)]
        is_key = bool(path) and (isinstance(path[-1], str) or isinstance(part, (dict, list, tuple)))
        last = path[-1] if is_key else own[0]
        named["/".join(map(str, (*path[:-1], last)))] = part
    return named


def _are_named(output_names: list[str] | None, structure: Tree) -> bool:
    return output_names is not None and len(output_names) == len(jax.tree.leaves(structure))


def _is_unnamed(output_names: list[str] | None, structure: Tree, path: tuple) -> bool:
    return not _are_named(output_names, structure) and not (path and isinstance(path[-1], str))


def _parts(structure: Tree, whole=frozenset(), path: tuple = ()):
    """(path, part) in JAX's order."""
    if path in whole or not isinstance(structure, (dict, list, tuple)):
        if structure is not None:
            yield path, structure
        return
    items = sorted(structure.items()) if isinstance(structure, dict) else enumerate(structure)
    for key, item in items:
        yield from _parts(item, whole, (*path, key))


def match(names: list[str], given, what: str) -> dict[str, Any]:
    """Per-output values from one value for all, a list in order, or a dict by name."""
    if isinstance(given, dict):
        unknown = given.keys() - set(names)
        if unknown:
            raise UnknownNameError(f"compile: `{what}` names outputs {sorted(unknown)}; the model's are {names}.")
        return {name: given.get(name) for name in names}
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise ValueError(f"compile: `{what}` has {len(given)} entries for {len(names)} outputs {names}.")
        return dict(zip(names, given, strict=True))
    return {name: given for name in names}


def spread(names: list[str], given, structure: Tree, what: str, path: tuple = ()) -> list[tuple[tuple, Any]]:
    """(path of an output, value) pairs, from one value for all or a structure of them: of the outputs' own form, a dict
    by the outputs' names, a list in their order, or a list of such values that all hold."""

    def here(value):
        # Beside others, one value for a part of the outputs gets that part.
        return spread(names, value, structure, what, path) if _is_nested(value) else [(path, value)]

    if not _is_nested(given):  # one for all goes to each leaf
        return [(path, given)] if path else [(where, given) for where, _ in _parts(structure)]
    if not _is_nested(structure):  # all are of this output
        return [pair for value in (given.values() if isinstance(given, dict) else given) for pair in here(value)]
    is_flat = not isinstance(given, dict) and not any(map(_is_nested, given))
    items = None
    if isinstance(given, dict):
        if isinstance(structure, dict) and given.keys() <= structure.keys():
            items = given.items()
    elif not isinstance(structure, dict) and len(given) == len(structure):
        # `(a, [b, c])` of outputs in a list: `a` of the whole list, as Keras reads it.
        items = enumerate(given) if is_flat or type(given) is type(structure) else None
    if items is not None:
        return [pair for key, value in items for pair in spread(names, value, structure[key], what, (*path, key))]
    places = [where for where, _ in _parts(structure, path=path)]
    is_other = not isinstance(given, dict) and type(given) is not type(structure)
    if is_other and (not is_flat or (isinstance(structure, dict) and len(given) != len(places))):
        return [pair for value in given for pair in here(value)]
    by_name = match(names, given, what)  # by the names of all outputs, or in their order
    return [
        pair
        for value, place in zip(by_name.values(), places, strict=True)
        for pair in spread(names, value, None, what, place)
    ]


def _is_nested(value) -> bool:
    return isinstance(value, (dict, list, tuple)) and not is_serialized(value)


class Part(NamedTuple):
    """A loss of one output, or of a structure of outputs, and its factor in the total."""

    path: tuple
    name: str
    log_name: str
    loss: losses_module.Loss
    weight: Any


class CompiledLoss:
    """The weighted sum of the losses of all outputs.

    Args:
        loss: A loss for all outputs, a list, or a dict by output name.
        loss_weights: Weights in the same form, default 1.
        output_names: Names of the model's outputs, if it has any.
    """

    def __init__(self, loss, loss_weights, output_names):
        self.given, self.loss_weights, self.output_names = loss, loss_weights, output_names
        self.parts: list[Part] = []
        self.whole: frozenset = frozenset()  # the paths of the structures of outputs that have one loss, none inside
        self.trackers: dict[str, metrics_module.Mean] = {}
        self.built = loss is None

    def build(self, y_true: Tree, y_pred: Tree):
        """Picks the losses of each output from the shapes of targets and predictions."""
        names = list(name_outputs(self.output_names, y_pred))
        places = dict(zip([path for path, _ in _parts(y_pred)], names, strict=True))
        # Numbers in place of the losses: weights of the same form are found by them.
        losses, form = jax.tree.flatten(self.given, is_leaf=lambda value: not _is_nested(value))
        found = spread(names, jax.tree.unflatten(form, range(len(losses))), y_pred, "loss")
        found = [(path, index) for path, index in found if index is not None and losses[index] is not None]
        weights, weights_form = jax.tree.flatten(self.loss_weights, is_leaf=lambda value: not _is_nested(value))
        has_form = weights_form == form
        by_path = {} if has_form else dict(spread(names, self.loss_weights, y_pred, "loss_weights"))
        inner = {path[:size] for path, _ in found for size in range(len(path))}
        self.whole = frozenset(path for path, _ in found if path and path not in places and path not in inner)
        outputs = name_outputs(self.output_names, y_pred, self.whole)
        places |= zip([path for path, _ in _parts(y_pred, self.whole)], outputs, strict=True)
        used = [name for name in dict.fromkeys(places.get(path) for path, _ in found) if name in outputs]
        targets = self._targets(y_true, outputs, used) if y_true is not None else {}
        for path, index in found:
            name, loss = places.get(path) or "/".join(map(str, path)) or "_".join(names), losses[index]
            if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
                loss = metrics_module.crossentropy_for(targets[name].shape, outputs[name].shape)().name
            weight = weights[index] if has_form else by_path.get(path)
            made, log_name = cast(losses_module.Loss, losses_module.as_loss(loss)), f"{name}_loss"
            if _is_unnamed(self.output_names, y_pred, path):
                # It is told by its loss, as in Keras.
                own = losses[index] if isinstance(losses[index], str) else made.name
                log_name = unique(
                    "/".join((*map(str, path[:-1]), f"{own}_loss")), [part.log_name for part in self.parts]
                )
            self.parts.append(Part(path, name, log_name, made, weight))
        self.built = True
        # Of a single output the total is its loss: Keras logs it once.
        if len(self.parts) > 1:
            self.trackers = {part.log_name: metrics_module.Mean(name=part.log_name) for part in self.parts}

    def _targets(self, structure: Tree, outputs: dict, used: list[str], what: str = "`y`") -> dict[str, Any]:
        return pick(list(outputs), used, structure, what, self.whole)

    def arguments(self, y_true: Tree, y_pred: Tree, sample_weight=None) -> Iterator[tuple[Part, Any, Any, Any]]:
        """Each loss with its targets, outputs and weights."""
        outputs = name_outputs(self.output_names, y_pred, self.whole)
        used = [name for name in dict.fromkeys(part.name for part in self.parts) if name in outputs]
        targets = self._targets(y_true, outputs, used)
        weights = self._targets(sample_weight, outputs, used, "`sample_weight`")
        for part in self.parts:
            if part.name in outputs:
                found = targets.get(part.name), outputs[part.name], weights.get(part.name)
            else:  # of a structure whose parts have losses too
                weight = _at(sample_weight, part.path) if _is_nested(sample_weight) else sample_weight
                found = _at(y_true, part.path), _at(y_pred, part.path), weight
            if found[0] is None:
                raise ValueError(
                    f"No target for output {part.name!r}, whose loss is {part.loss.name}. Got targets {list(targets)}. "
                    "Data and `validation_data` are pairs `(x, y)`."
                )
            yield part, found[0], found[1], found[2]

    def tells_rows_apart(self, y_true: Tree, y_pred: Tree) -> bool:
        """Whether every loss is a sum or mean of something of each row, for targets and predictions of these shapes."""
        return all(
            _share_rows(targets, outputs) and part.loss.tells_rows_apart(targets, outputs)
            for part, targets, outputs, _ in self.arguments(y_true, y_pred)
        )

    def __call__(self, y_true: Tree, y_pred: Tree, sample_weight=None, counted=None):
        """The total loss: a float32 scalar. Keeps each output's own loss in its tracker.

        Args:
            counted: Which rows count, bool `(rows,)`. Default: all.
        """
        if not self.built:
            self.build(y_true, y_pred)
        total, own = jnp.zeros((), jnp.float32), {}
        for part, targets, outputs, weights in self.arguments(y_true, y_pred, sample_weight):
            # A `__call__` of the user's counts, where all rows do.
            given = targets, outputs, weights
            value = part.loss(*given) if counted is None else part.loss.of_rows(*given, counted)
            # In float32, whatever the outputs' dtype: a sum of bfloat16 would lose small losses.
            value = jnp.asarray(value, jnp.float32)
            own[part.log_name] = own.get(part.log_name, (0, None))[0] + value, outputs
            total = total + (value if part.weight is None else value * part.weight)
        for name, tracker in self.trackers.items():
            value, outputs = own[name]
            tracker.update_state(value, sample_weight=_rows(outputs) if counted is None else jnp.sum(counted))
        return total


def pick(names: list[str], used: list[str], structure: Tree, what: str, whole=frozenset()) -> dict[str, Any]:
    """Targets or weights per output: for all outputs, for those with a loss only, or one array for all."""
    if structure is None:
        return {}
    leaves = [part for _, part in _parts(structure, whole)]
    if isinstance(structure, dict):
        unknown = structure.keys() - set(names)
        if not unknown:
            return structure
        # A structure of the outputs' own form goes by its order.
        if len(leaves) != len(names) or not any(isinstance(part, (dict, list, tuple)) for part in structure.values()):
            raise ValueError(f"{what} names outputs {sorted(unknown)}; the model's are {names}.")
    if len(leaves) == len(names):
        return dict(zip(names, leaves, strict=True))
    # Keras lets targets of outputs without a loss be left out.
    if len(leaves) == len(used):
        return dict(zip(used, leaves, strict=True))
    if len(leaves) == 1 and what == "`sample_weight`":
        return {name: leaves[0] for name in names}
    raise ValueError(f"{what} has {len(leaves)} arrays, but the model has {len(names)} outputs: {names}.")


class CompiledMetrics(metrics_module.Metric):
    """The metrics of all outputs, as one: what a model's `metrics` list has in their place.

    Args:
        metrics: Metrics that ignore sample weights: a list for all outputs, a list of lists, or a dict by output name.
        weighted_metrics: Metrics that use sample weights, in the same forms.
        output_names: Names of the model's outputs, if it has any.
    """

    def __init__(self, metrics, weighted_metrics, output_names=None):
        super().__init__(name="compile_metrics")
        self.given = {False: metrics, True: weighted_metrics}
        self.output_names = output_names
        self.metrics: list[tuple[str, bool, metrics_module.Metric]] = []  # (output, weighted, metric)
        self.names: list[str] = []  # in the logs, one for each: users' objects keep their own
        self.used: list[str] = []  # the outputs that have targets where not all have

    def build(self, y_true: Tree, y_pred: Tree, with_loss: Collection[str] = ()):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Makes the metric objects, picking the kind of "accuracy" from the shapes.

        Args:
            with_loss: The outputs that have a loss, and so a target.
        """
        outputs = name_outputs(self.output_names, y_pred)
        names = list(outputs)
        by_output = {weighted: _per_output(names, given, y_pred) for weighted, given in self.given.items()}
        watched = [name for name in names if any(wanted.get(name) for wanted in by_output.values())]
        self.used = [name for name in names if name in watched or name in with_loss]
        targets = pick(names, self.used, y_true, "`y`") if watched else {}
        paths = zip(names, _parts(y_pred), strict=True)
        unnamed = [name for name, (path, _) in paths if _is_unnamed(self.output_names, y_pred, path)]
        for weighted, found in by_output.items():
            for name, wanted in found.items():
                for identifier in wanted:
                    metric = _make(identifier, targets.get(name), outputs[name])
                    prefix = f"{name.split('/')[-1]}_" if len(names) > 1 and name not in unnamed else ""
                    log_name = prefix + metric.name
                    if weighted and log_name in self.names:
                        log_name = f"{prefix}weighted_{metric.name}"
                    self.names.append(unique(log_name, self.names))
                    if not getattr(metric, "built", True):
                        metric.build(targets[name].shape, outputs[name].shape)
                    self.metrics.append((name, weighted, metric))

    @property
    def variables(self) -> list:
        """The variables of all metrics."""
        return [variable for metric in self.each() for variable in metric.variables]

    def each(self) -> list[metrics_module.Metric]:
        """The metrics, one by one."""
        return [metric for _, _, metric in self.metrics]

    def result(self) -> dict:
        """The results of all metrics, by their names in the logs."""
        return {name: metric.result() for name, metric in zip(self.names, self.each(), strict=True)}

    def log_name(self, metric: metrics_module.Metric) -> str:
        """The name of a metric in the logs: its own, unless it is one of these."""
        found = (name for name, one in zip(self.names, self.each(), strict=True) if one is metric)
        return next(found, metric.name)

    def reset_state(self):
        """Sets every metric to its start."""
        for metric in self.each():
            metric.reset_state()

    def tells_rows_apart(self, y_true: Tree, y_pred: Tree) -> bool:
        """Whether every metric takes weights of rows, for targets and predictions of these shapes."""
        outputs = name_outputs(self.output_names, y_pred)
        targets = pick(list(outputs), self.used, y_true, "`y`") if self.metrics else {}
        return all(
            _share_rows(targets[name], outputs[name]) and metric.tells_rows_apart(targets[name], outputs[name])
            for name, _, metric in self.metrics
        )

    def update_state(self, y_true: Tree, y_pred: Tree, sample_weight=None, counted=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Updates every metric with a batch, of which only the rows count that are in `counted`. Default: all."""
        if not self.metrics:
            return
        outputs = name_outputs(self.output_names, y_pred)
        names = list(outputs)
        targets = pick(names, self.used, y_true, "`y`")
        weights = pick(names, self.used, sample_weight, "`sample_weight`")
        for name, weighted, metric in self.metrics:
            weight = weights.get(name) if weighted else None
            if counted is not None:
                rows = counted.astype(jnp.float32)
                weight = rows if weight is None else weight * rows.reshape(-1, *(1,) * (jnp.ndim(weight) - 1))
            metric.update_state(targets[name], outputs[name], sample_weight=weight)


def _at(structure: Tree, path: tuple) -> Any:
    for key in path:
        if not (key in structure if isinstance(structure, dict) else _is_nested(structure) and key < len(structure)):
            return None
        structure = structure[key]
    return structure


def _per_output(names: list[str], given, structure: Tree) -> dict[str, list]:
    if given is None:
        return {}
    paths = [path for path, _ in _parts(structure)]
    is_nested = max(map(len, paths)) > 1 and isinstance(given, (dict, list, tuple))
    if is_nested and type(given) is type(structure) and len(given) == len(structure):
        found = {name: _at(given, path) for name, path in zip(names, paths, strict=True)}
    elif isinstance(given, dict):
        found = match(names, given, "metrics")
    elif isinstance(given, (list, tuple)) and any(isinstance(g, (list, tuple)) for g in given):
        found = match(names, given, "metrics")
    else:
        found = {name: given for name in names}
        if len(names) > 1 and isinstance(given, (list, tuple)) and len(given) == len(names):
            found = dict(zip(names, given, strict=True))
    return {
        name: list(wanted) if isinstance(wanted, (list, tuple)) else [] if wanted is None else [wanted]
        for name, wanted in found.items()
    }


def _make(identifier, y_true, y_pred) -> metrics_module.Metric:
    if isinstance(identifier, str) and identifier.lower() in CHOSEN_BY_SHAPE:
        if y_true is None:
            raise ValueError(f"Metric {identifier!r} needs targets, and the data has none.")
        choose = (
            metrics_module.accuracy_for if identifier.lower().startswith("acc") else metrics_module.crossentropy_for
        )
        return choose(y_true.shape, y_pred.shape)(name=identifier)
    metric = metrics_module.as_metric(identifier)
    if metric is None:
        raise ValueError(f"compile: a metric must be a name, a metric or a function. Got {identifier!r}.")
    if isinstance(identifier, str):
        metric.name = identifier
    return metric


def _rows(array) -> int:
    array = jax.tree.leaves(array)[0]
    return array.shape[0] if array.ndim else 1


def _share_rows(y_true: Tree, y_pred: Tree) -> bool:
    """Whether all arrays have a first axis of one size: the rows of the batch, for targets come as they are."""
    return len({leaf.shape[:1] for leaf in jax.tree.leaves((y_true, y_pred))} | {()}) == 2
