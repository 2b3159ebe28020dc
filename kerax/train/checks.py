"""Checks of what users give to `compile` and `fit`, before anything is traced or compiled."""

import warnings

import jax
import numpy as np

from kerax import config
from kerax import losses as losses_module
from kerax import metrics as metrics_module
from kerax.core.registry import is_serialized
from kerax.core.scope import Scope
from kerax.data import ArraySource, array_source, unpack_x_y_sample_weight
from kerax.train.compiling import name_outputs, pick

_CHOSEN_BY_SHAPE = ("accuracy", "acc", "crossentropy", "ce")


def check_compile_arguments(loss, loss_weights, metrics, weighted_metrics):
    """Raises `ValueError` for a loss or metric that does not exist, `TypeError` for what is none, or no number."""
    for weight in jax.tree.leaves(loss_weights):
        if not isinstance(weight, (int, float, np.number, jax.Array)):
            raise TypeError(
                f"compile: `loss_weights` must hold numbers. Got {weight!r}. "
                "Metrics are the argument `metrics`, which comes after `loss_weights`."
            )
    for given, get in ((loss, losses_module.get), ((metrics, weighted_metrics), metrics_module.get)):
        for identifier in jax.tree.leaves(given, is_leaf=is_serialized):
            if not callable(identifier) and not (
                isinstance(identifier, str) and identifier.lower() in _CHOSEN_BY_SHAPE
            ):
                get(identifier)


def check_numbers(who: str, **arguments):
    """Raises `ValueError` for an argument, given as (value, least), that is neither `None` nor an integer in range."""
    for name, (value, least) in arguments.items():
        if value is not None and (not isinstance(value, (int, np.integer)) or value < least):
            raise ValueError(f"{who}: `{name}` must be an integer of at least {least}. Got {value!r}.")


def check_validation_arguments(validation_split, validation_freq):
    """Raises `ValueError` for a fraction or frequency out of range."""
    if not 0 <= validation_split < 1:
        raise ValueError(f"fit: `validation_split` must be in [0, 1). Got {validation_split!r}.")
    epochs = [validation_freq] if isinstance(validation_freq, (int, np.integer)) else validation_freq
    if isinstance(epochs, str) or not all(isinstance(epoch, (int, np.integer)) and epoch >= 1 for epoch in epochs):
        raise ValueError(
            f"fit: `validation_freq` must be an integer of at least 1, or a list of epochs. Got {validation_freq!r}."
        )


def check_targets(model, y, y_pred, sample_weight):
    """Raises what the losses and metrics of a model raise for targets and weights of these shapes; computes nothing."""

    def update(y, y_pred, sample_weight):
        with Scope(shapes_only=True):
            if model.compiled_loss.losses:
                model.compiled_loss(y, y_pred, sample_weight)
            model.compiled_metrics.update_state(y, y_pred, sample_weight)

    jax.eval_shape(update, y, y_pred, sample_weight)


def split(source, fraction: float, class_weight=None):
    """Training rows, weighted by their classes, and validation rows, which are not.

    Raises:
        ValueError: for a source of batches, which has no rows to split.
    """
    if not isinstance(source, ArraySource):
        raise ValueError("fit: `validation_split` needs arrays. Pass `validation_data` with a source of batches.")
    source, held_out = source.split(fraction)
    if class_weight is not None:
        parts = unpack_x_y_sample_weight(source.data)
        source = array_source(*parts, source.batch_size, class_weight, "fit")
    return source, held_out


def check_labels(model, source, who: str = "fit"):
    """Raises `ValueError` if labels of a sparse crossentropy are outside the range of classes.

    Of a source of batches only the first batch is looked at.
    """
    loss = model.compiled_loss
    sparse = {
        name: fn
        for name, fn in loss.losses.items()
        if isinstance(fn, losses_module.SparseCategoricalCrossentropy)
        or getattr(fn, "fn", None) is losses_module.sparse_categorical_crossentropy
    }
    _, y, _ = unpack_x_y_sample_weight(source.data if isinstance(source, ArraySource) else source.first_batch())
    if not sparse or y is None:
        return
    outputs = name_outputs(model.output_names, model.output_spec, "The prediction")
    targets = pick(list(outputs), list(loss.losses), y, "`y`")
    for name, function in sparse.items():
        labels, num_classes = np.asarray(targets[name]), outputs[name].shape[-1]
        ignored = getattr(function, "ignore_class", None)
        if ignored is not None:
            labels = labels[labels != ignored]
        if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
            raise ValueError(
                f"{who}: labels must be in [0, {num_classes}) for the {num_classes} classes of output {name!r}. "
                f"Got labels from {labels.min()} to {labels.max()}. Renumber them, or give the last layer more units."
            )


def within_max_epochs(epochs: int) -> int:
    """The number of the last epoch, at most `config.max_epochs()`; says so where that is less."""
    most = config.max_epochs()
    if most is None or most >= epochs:
        return epochs
    warnings.warn(f"`config.set_max_epochs` limits the {epochs} epochs to {most}.", stacklevel=3)
    return most


def within_max_steps(steps: int | None, source) -> int | None:
    """The steps over a source, at most `config.max_steps_per_epoch()`; says so where that is less.

    Args:
        steps: The steps asked for; `None` for all there are.
        source: The source of batches, or `None`.
    """
    most = config.max_steps_per_epoch()
    planned = steps or (source.num_batches if source is not None else 0)
    if most is None or (planned is not None and planned <= most):
        return steps
    warnings.warn(f"`config.set_max_steps_per_epoch` limits the steps to {most} of {planned or '?'}.", stacklevel=3)
    return most
