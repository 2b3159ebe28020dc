"""`RunState`: the variables that training, evaluation or prediction work with, kept from one call to the next."""

import operator
from typing import NamedTuple

import numpy as np

from kerax.core.tracking import structure
from kerax.metrics import Metric
from kerax.train import steps
from kerax.train.state import (
    Carried,
    TrainState,
    counted_metrics,
    initial_metrics,
    metrics_of,
    other_optimizers,
    state_variables,
)


class RunState(NamedTuple):
    """What one kind of call reads of a model, and what follows from it.

    Attributes:
        facts: What all of it was found from, by identity.
        variables: What hold the state.
        carried: Their list, and which of them evaluation and prediction carry from batch to batch.
        metrics: Those whose state is among them.
        names: Theirs in the logs, in Keras's order.
        frozen: Whether each item of the model is trained: a frozen layer has another gradient program.
        programs: Those that were asked for, by form.
        fresh: The numbers that metrics start with, once someone has asked: one entry.
    """

    facts: list
    variables: TrainState
    carried: Carried
    metrics: list[Metric]
    names: list[str]
    frozen: tuple[bool, ...]
    programs: dict
    fresh: list[list[np.ndarray | None]]

    def fresh_metrics(self, model) -> list[np.ndarray | None]:
        """The leaves of the metrics tree at the start of an epoch, on the host, see `initial_metrics`."""
        # One of the model's own may do more each time.
        if not self.fresh or steps.overrides(model, "reset_metrics"):
            known, key = model.kerax_compilation.programs, ("initial_metrics", *map(id, self.metrics))
            if key not in known or steps.overrides(model, "reset_metrics"):
                known[key] = self.metrics, initial_metrics(model)  # they live on, and so do their numbers
            self.fresh[:] = [known[key][1]]
        return self.fresh[0]


def run_state(model, kind: str) -> RunState:
    """What a model's training (`"train"`), evaluation (`"test"`) or prediction (`"predict"`) works with: that of the
    last call, if nothing has changed."""
    compiled = model.kerax_compilation
    kept = compiled.kept.get(kind)
    if kept is not None:
        facts = _facts(model, kind, kept.metrics)
        if len(facts) == len(kept.facts) and all(map(operator.is_, facts, kept.facts)):
            return kept
    variables = state_variables(model, kind == "train", kind != "predict")
    metrics = [] if kind == "predict" else counted_metrics(model)
    names = [] if kind == "predict" else model.metrics_names
    # Found again: making the state may have built an optimizer.
    facts, frozen = _facts(model, kind, metrics), _are_trained(structure(model).items)
    kept = compiled.kept[kind] = RunState(facts, variables, Carried(variables), metrics, names, frozen, {}, [])
    return kept


_OF_VARIABLE = operator.attrgetter("trainable", "is_parameter", "stored_dtype", "shape", "goes_on", "is_drawn_from")


def _facts(model, kind: str, metrics: list[Metric]) -> list:
    compiled, found = model.kerax_compilation, structure(model)
    # The list of variables is another one after anything in the model's structure changed.
    facts = [found.variables, model.trainable, compiled.bad_step]
    for _, variable in found.variables:
        facts += _OF_VARIABLE(variable)
    if kind == "predict":
        return facts
    facts += [compiled.loss, compiled.metrics, *compiled.metrics.each()]
    if compiled.loss is not None:
        facts += compiled.loss.trackers.values()
    if getattr(type(model).metrics, "fget", None) is not metrics_of:  # one of the model's own may say anything
        facts += model.metrics
    for metric in metrics:
        facts += metric.variables
    if kind == "train":
        optimizers = [compiled.optimizer, *other_optimizers(model).values()]
        facts += _are_trained(found.items)
        for optimizer in optimizers:
            facts += [optimizer, getattr(optimizer, "weights_tree", None), getattr(optimizer, "state_variables", None)]
    return facts


def _are_trained(items: list) -> tuple[bool, ...]:
    return tuple(getattr(item, "trainable", True) for item in items)
