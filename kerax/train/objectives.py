"""The losses and metrics of all outputs of a model: which belongs to which, and what they are called in the logs."""

from collections.abc import Collection
from typing import Any, cast

import jax
import jax.numpy as jnp

from kerax import losses as losses_module
from kerax import metrics as metrics_module
from kerax.core.tracking import unique

Tree = Any
CHOSEN_BY_SHAPE = ("accuracy", "acc", "crossentropy", "ce")


def name_outputs(output_names: list[str] | None, structure: Tree, what: str, whole=frozenset()) -> dict[str, Any]:
    """A structure of outputs as `{name: part}`: its leaves, and the parts at the paths `whole` as they are.

    A leaf is called after its key in a dict, else after the output, and behind the keys and indices around it.
    """
    found = list(_parts(structure, whole))
    is_named = output_names is not None and len(output_names) == len(jax.tree.leaves(structure))
    if output_names is not None and len(output_names) > 1 and not is_named and not isinstance(structure, dict):
        raise ValueError(f"{what} has {len(found)} parts, but the model has outputs {output_names}.")
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
            raise ValueError(f"compile: `{what}` names outputs {sorted(unknown)}; the model's are {names}.")
        return {name: given.get(name) for name in names}
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise ValueError(f"compile: `{what}` has {len(given)} entries for {len(names)} outputs {names}.")
        return dict(zip(names, given, strict=True))
    return {name: given for name in names}


def spread(names: list[str], given, structure: Tree, what: str, path: tuple = ()) -> dict[tuple, Any]:
    """Values by the path of an output, from one value for all or a structure of them: of the outputs' own form, a dict
    by the outputs' names, a list in their order."""
    if not isinstance(given, (dict, list, tuple)):
        # One for all goes to each leaf; beside others, one for a part of the outputs gets that part.
        return {path: given} if path else {where: given for where, _ in _parts(structure)}
    if not isinstance(structure, (dict, list, tuple)):
        values = list(given.values()) if isinstance(given, dict) else list(given)
        if len(values) != 1:
            raise ValueError(f"compile: `{what}` has {len(values)} entries for one output of {names}. Got {given}.")
        return spread(names, values[0], structure, what, path) or {path: values[0]}
    leaves = [where for where, _ in _parts(structure, path=path)]
    items = None
    if isinstance(given, dict):
        if isinstance(structure, dict) and given.keys() <= structure.keys():
            items = given.items()
    elif not isinstance(structure, dict) and len(given) == len(structure):
        items = enumerate(given)
    if items is not None:
        each = [spread(names, value, structure[key], what, (*path, key)) for key, value in items]
        return {where: value for found in each for where, value in found.items()}
    by_name = match(names, given, what)  # by the names of all outputs, or in their order
    return {
        where: value
        for (name, given_value), place in zip(by_name.items(), leaves, strict=True)
        for where, value in spread([name], given_value, None, what, place).items()
    }


class CompiledLoss:
    """The weighted sum of the losses of all outputs.

    Args:
        loss: A loss for all outputs, a list, or a dict by output name.
        loss_weights: Weights in the same form, default 1.
        output_names: Names of the model's outputs, if it has any.
    """

    def __init__(self, loss, loss_weights, output_names):
        self.given, self.loss_weights, self.output_names = loss, loss_weights, output_names
        self.losses: dict[str, Any] = {}
        self.whole: frozenset = frozenset()  # the paths of the structures of outputs that have one loss
        self.weights: dict[str, Any] = {}
        self.trackers: dict[str, metrics_module.Mean] = {}

    def build(self, y_true: Tree, y_pred: Tree):
        """Picks a loss per output from the shapes of targets and predictions."""
        names = list(name_outputs(self.output_names, y_pred, "The prediction"))
        by_path = spread(names, self.given, y_pred, "loss")
        self.whole = frozenset(path for path in by_path if isinstance(_at(y_pred, path), (dict, list, tuple)))
        outputs = name_outputs(self.output_names, y_pred, "The prediction", self.whole)
        paths = dict(zip([path for path, _ in _parts(y_pred, self.whole)], outputs, strict=True))
        used = [paths[path] for path, loss in by_path.items() if loss is not None]
        targets = pick(list(outputs), used, y_true, "`y`", self.whole) if y_true is not None else {}
        for path, loss in by_path.items():
            name = paths[path]
            if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
                loss = metrics_module.crossentropy_for(targets[name].shape, outputs[name].shape)().name
            if loss is not None:
                self.losses[name] = losses_module.as_loss(loss)
        weights = spread(names, self.loss_weights, y_pred, "loss_weights")
        self.weights = {paths[path]: weight for path, weight in weights.items() if path in paths}
        # Of a single output the total is its loss: Keras logs it once.
        if len(self.losses) > 1:
            self.trackers = {name: metrics_module.Mean(name=f"{name}_loss") for name in self.losses}

    def tells_rows_apart(self, y_true: Tree, y_pred: Tree) -> bool:
        """Whether every loss is a sum or mean of something of each row, for targets and predictions of these shapes."""
        outputs = name_outputs(self.output_names, y_pred, "The prediction", self.whole)
        targets = pick(list(outputs), list(self.losses), y_true, "`y`", self.whole)
        return all(
            _share_rows(targets[name], outputs[name]) and loss.tells_rows_apart(targets[name], outputs[name])
            for name, loss in self.losses.items()
        )

    def __call__(self, y_true: Tree, y_pred: Tree, sample_weight=None, counted=None):
        """The total loss: a float32 scalar. Keeps each output's own loss in its tracker.

        Args:
            counted: Which rows count, bool `(rows,)`. Default: all.
        """
        outputs = name_outputs(self.output_names, y_pred, "The prediction", self.whole)
        names = list(outputs)
        targets = pick(names, list(self.losses), y_true, "`y`", self.whole)
        weights = pick(names, list(self.losses), sample_weight, "`sample_weight`", self.whole)
        total = jnp.zeros((), jnp.float32)
        for name, loss in self.losses.items():
            if targets.get(name) is None:
                raise ValueError(
                    f"No target for output {name!r}, whose loss is {loss.name}. Got targets {list(targets)}."
                )
            arguments = targets[name], outputs[name], weights.get(name)
            # A `__call__` of the user's counts, where all rows do.
            value = loss(*arguments) if counted is None else loss.of_rows(*arguments, counted)
            value = jnp.asarray(value, jnp.float32)
            if name in self.trackers:
                num_rows = _rows(outputs[name]) if counted is None else jnp.sum(counted)
                self.trackers[name].update_state(value, sample_weight=num_rows)
            # In float32, whatever the outputs' dtype: a sum of bfloat16 would lose small losses.
            factor = self.weights.get(name)
            total = total + (value if factor is None else value * factor)
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


class CompiledMetrics:
    """The metrics of all outputs.

    Args:
        metrics: Metrics that ignore sample weights: a list for all outputs, a list of lists, or a dict by output name.
        weighted_metrics: Metrics that use sample weights, in the same forms.
        output_names: Names of the model's outputs, if it has any.
    """

    def __init__(self, metrics, weighted_metrics, output_names):
        self.given = {False: metrics, True: weighted_metrics}
        self.output_names = output_names
        self.metrics: list[tuple[str, bool, metrics_module.Metric]] = []  # (output, weighted, metric)
        self.names: dict[int, str] = {}  # in the logs, by the metric's id: users' objects keep their own names
        self.used: list[str] = []  # the outputs that have targets where not all have

    def build(self, y_true: Tree, y_pred: Tree, with_loss: Collection[str] = ()):
        """Makes the metric objects, picking the kind of "accuracy" from the shapes.

        Args:
            with_loss: The outputs that have a loss, and so a target.
        """
        outputs = name_outputs(self.output_names, y_pred, "The prediction")
        names = list(outputs)
        by_output = {weighted: _per_output(names, given, y_pred) for weighted, given in self.given.items()}
        watched = [name for name in names if any(wanted.get(name) for wanted in by_output.values())]
        self.used = [name for name in names if name in watched or name in with_loss]
        targets = pick(names, self.used, y_true, "`y`") if watched else {}
        for weighted, found in by_output.items():
            for name, wanted in found.items():
                for identifier in wanted:
                    metric = _make(identifier, targets.get(name), outputs[name])
                    prefix = f"{name.split('/')[-1]}_" if len(names) > 1 else ""
                    log_name = prefix + metric.name
                    if weighted and log_name in self.names.values():
                        log_name = f"{prefix}weighted_{metric.name}"
                    self.names[id(metric)] = unique(log_name, self.names.values())
                    if not getattr(metric, "built", True):
                        metric.build(targets[name].shape, outputs[name].shape)
                    self.metrics.append((name, weighted, metric))

    def tells_rows_apart(self, y_true: Tree, y_pred: Tree) -> bool:
        """Whether every metric takes weights of rows, for targets and predictions of these shapes."""
        outputs = name_outputs(self.output_names, y_pred, "The prediction")
        targets = pick(list(outputs), self.used, y_true, "`y`") if self.metrics else {}
        return all(
            _share_rows(targets[name], outputs[name]) and metric.tells_rows_apart(targets[name], outputs[name])
            for name, _, metric in self.metrics
        )

    def update_state(self, y_true: Tree, y_pred: Tree, sample_weight=None, counted=None):
        """Updates every metric with a batch, of which only the rows count that are in `counted`. Default: all."""
        if not self.metrics:
            return
        outputs = name_outputs(self.output_names, y_pred, "The prediction")
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
        structure = structure[key] if not isinstance(structure, dict) or key in structure else None
        if structure is None:
            return None
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
