"""Keras's pure losses on lists of values, for training loops written with `jax.value_and_grad`."""

import jax
import jax.numpy as jnp

from kerax.core.seeds import key_from
from kerax.core.stateless import StatelessScope
from kerax.train import steps


def _groups(model) -> tuple:
    return model.trainable_variables, model.non_trainable_variables, model.metrics_variables


def _scope(model, values: tuple, key=None) -> StatelessScope:
    pairs = []
    names = ("trainable_variables", "non_trainable_variables", "metrics_variables")
    for name, variables, given in zip(names, _groups(model), values, strict=True):
        if len(variables) != len(given):
            raise ValueError(f"{model}: expected {len(variables)} `{name}`. Got {len(given)}.")
        pairs += zip(variables, given, strict=True)
    scope = StatelessScope(pairs)
    scope.key = None if key is None else key_from(key)
    return scope


def _specs(structure):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), structure)


def _make_losses(model, y, y_pred):
    # Losses are made by shapes at the first batch, which is this one.
    if model.compiled and model.compilation.loss is None:
        model.compilation.build_losses(model, _specs(y), _specs(y_pred))


def stateless_compute_loss(
    self,
    trainable_variables,
    non_trainable_variables,
    metrics_variables,
    x=None,
    y=None,
    y_pred=None,
    sample_weight=None,
    training: bool = True,
):
    """`compute_loss` for given values of all variables. Pure.

    Returns: the loss, and the three lists of values after it.
    """
    values = (trainable_variables, non_trainable_variables, metrics_variables)
    _make_losses(self, y, y_pred)
    with _scope(self, values) as scope:
        loss = steps.loss_of(self, x, y, y_pred, sample_weight, training=training)
    _, frozen, metrics = _groups(self)
    return loss, (trainable_variables, [scope.value_of(v) for v in frozen], [scope.value_of(v) for v in metrics])


def compute_loss_and_updates(
    self,
    trainable_variables,
    non_trainable_variables,
    metrics_variables,
    x,
    y,
    sample_weight,
    training: bool = False,
    optimizer_variables=None,
    key=None,
):
    """Outputs and their loss for given values of all variables. Pure.

    Args:
        optimizer_variables: Kept for Keras's signature.
        key: PRNG key of random layers, which Keras does not have here.

    Returns: the loss, scaled as the optimizer wants it, and `(loss, y_pred, non_trainable_variables,
    metrics_variables)`.
    """
    _, frozen, metrics = _groups(self)
    with _scope(self, (trainable_variables, non_trainable_variables, metrics_variables), key) as scope:
        y_pred = self(x, training=training)
        _make_losses(self, y, y_pred)
        loss = steps.loss_of(self, x, y, y_pred, sample_weight, training=training)
    # Gradients are taken of the scaled loss; `update` divides by the scale.
    scaled = self.optimizer.scale_loss(loss) if training and self.optimizer is not None else loss
    return scaled, (loss, y_pred, [scope.value_of(v) for v in frozen], [scope.value_of(v) for v in metrics])
