"""Checks of what users give to `compile` and `fit`, before anything is traced or compiled."""

import jax
import numpy as np

from kerax import losses as losses_module
from kerax import metrics as metrics_module
from kerax.data import ArraySource, unpack_x_y_sample_weight
from kerax.train.compiling import name_outputs, pick

_CHOSEN_BY_SHAPE = ("accuracy", "acc", "crossentropy", "ce")


def check_compile_arguments(loss, loss_weights, metrics, weighted_metrics):
    """Raises `ValueError` for a loss or metric name that does not exist, `TypeError` for weights that are no numbers."""
    for weight in jax.tree.leaves(loss_weights):
        if not isinstance(weight, (int, float, np.number, jax.Array)):
            raise TypeError(
                f"compile: `loss_weights` must hold numbers. Got {weight!r}. "
                "Metrics are the argument `metrics`, which comes after `loss_weights`."
            )
    for name in jax.tree.leaves(loss):
        if isinstance(name, str) and name.lower() not in _CHOSEN_BY_SHAPE:
            losses_module.get(name)
    for name in jax.tree.leaves((metrics, weighted_metrics)):
        if isinstance(name, str) and name.lower() not in _CHOSEN_BY_SHAPE:
            metrics_module.get(name)


def check_fit_arguments(epochs, initial_epoch, steps_per_epoch, validation_split, validation_freq):
    """Raises `ValueError` for numbers out of range."""
    for name, value, least in (
        ("epochs", epochs, 0),
        ("initial_epoch", initial_epoch, 0),
        ("steps_per_epoch", steps_per_epoch, 1),
    ):
        if value is not None and (not isinstance(value, (int, np.integer)) or value < least):
            raise ValueError(f"fit: `{name}` must be an integer of at least {least}. Got {value!r}.")
    if not 0 <= validation_split < 1:
        raise ValueError(f"fit: `validation_split` must be in [0, 1). Got {validation_split!r}.")
    if isinstance(validation_freq, int) and validation_freq < 1:
        raise ValueError(f"fit: `validation_freq` must be at least 1. Got {validation_freq!r}.")


def split(source, fraction: float):
    """Training and validation rows. Raises `ValueError` for a source of batches, which has no rows to split."""
    if not isinstance(source, ArraySource):
        raise ValueError("fit: `validation_split` needs arrays. Pass `validation_data` with a source of batches.")
    return source.split(fraction)


def check_labels(model, source):
    """Raises `ValueError` if integer labels of a sparse crossentropy are outside the range of classes."""
    loss = model.compiled_loss
    if loss is None or not isinstance(source, ArraySource):
        return
    sparse = {
        name: fn
        for name, fn in loss.losses.items()
        if isinstance(fn, losses_module.SparseCategoricalCrossentropy)
        or getattr(fn, "fn", None) is losses_module.sparse_categorical_crossentropy
    }
    _, y, _ = unpack_x_y_sample_weight(source.data)
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
                f"fit: labels must be in [0, {num_classes}) for the {num_classes} classes of output {name!r}. "
                f"Got labels from {labels.min()} to {labels.max()}. Renumber them, or give the last layer more units."
            )
