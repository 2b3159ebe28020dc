"""`Loss`: from predictions to one number, with sample weights, masks and reductions."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from kerax import config as settings
from kerax import dtype_policies
from kerax.core import masks, row_flow
from kerax.core.configurable import Configurable, revive_arguments
from kerax.core.registry import Family, is_serialized, to_snake_case
from kerax.core.variable import unwrap
from kerax.errors import suggest
from kerax.ops import divide_no_nan

LOSSES = Family("losses", "loss")
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


class Loss(Configurable):
    """A loss with weights, masks and a reduction; a subclass writes `call(self, y_true, y_pred)`.

    Args:
        name: Default: the class name in snake case.
        reduction: `"sum_over_batch_size"` or `"mean"` (over all values that are not masked), `"sum"`,
            `"mean_with_sample_weight"` (divided by the sum of the weights), `"none"` or `None` (no reduction).
        dtype: What predictions and targets are cast to. Default: `floatx()`, float32 unless set.

    Raises:
        ValueError: if the reduction is none of these.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("kerax.losses"):
            # Only kerax's own: files find a user's class only if it was registered.
            LOSSES.add(cls)

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype=None):
        self.name = name or to_snake_case(type(self).__name__)
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{self.name}: `reduction` must be one of {REDUCTIONS}. Got {reduction!r}."
                f"{suggest(reduction, REDUCTIONS)}"
            )
        self.reduction = reduction
        self._dtype = dtype_policies.get(dtype or settings.floatx()).compute_dtype

    @property
    def dtype(self) -> str:
        """The dtype that predictions and targets are cast to."""
        return self._dtype

    def __call__(self, y_true, y_pred, sample_weight=None):
        return self.of_rows(y_true, y_pred, sample_weight)

    def of_rows(self, y_true, y_pred, sample_weight=None, counted=None):
        """What a call returns, of the rows alone that are in `counted`, bool `(rows,)`. Default: all."""
        # Before the casts, which make arrays without it.
        mask = masks.get_mask(y_pred)
        label_dtype = jnp.promote_types(self.dtype, jnp.float32)  # half precision cannot hold class indices
        y_pred = jax.tree.map(lambda leaf: leaf.astype(self.dtype), to_arrays(y_pred))
        y_true = jax.tree.map(
            lambda leaf: leaf.astype(self.dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else label_dtype),
            to_arrays(y_true),
        )
        values = self.call(y_true, y_pred)
        # A loss may mask places itself, as those of an ignored class.
        found = (fitting_mask(one, values) for one in (mask, masks.get_mask(values), counted))
        found = [one.reshape(*one.shape, *(1,) * (jnp.ndim(values) - one.ndim)) for one in found if one is not None]
        mask = functools.reduce(jnp.logical_and, found) if found else None
        return reduce_weighted(self.name, jnp.asarray(values, self.dtype), sample_weight, mask, self.reduction)

    def call(self, y_true, y_pred):
        """The loss of each sample. Written by a subclass."""
        raise NotImplementedError(f"{type(self).__name__} must implement `call(self, y_true, y_pred)`.")

    def tells_rows_apart(self, y_true, y_pred) -> bool:
        """Whether the loss of a batch of these shapes is a sum or mean of something of each row, which a mask leaves
        out."""
        # A `__call__` of the user's may do anything with rows; without a reduction every row is a result.
        if type(self).__call__ is not Loss.__call__ or self.reduction in ("none", None):
            return False
        return row_flow.function_keeps_rows_apart(self.call, y_true, y_pred)

    def get_config(self) -> dict:
        """The constructor's arguments; `dtype` only if it was given."""
        config = super().get_config()
        # So Keras writes it: a loss without a dtype follows the `floatx` of who loads it.
        if config.get("dtype", ...) is None:
            del config["dtype"]
        return config

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}>"


class LossFunctionWrapper(Loss):
    """A plain function `fn(y_true, y_pred, **kwargs)` of arrays as a `Loss`. Other arguments as `Loss`."""

    def __init__(self, fn, reduction: str | None = "sum_over_batch_size", name=None, dtype=None, **kwargs):
        super().__init__(name or name_of(fn), reduction, dtype)
        self.fn, self.fn_kwargs = fn, kwargs

    def call(self, y_true, y_pred):
        # Structures of several arrays are the function's own business.
        if isinstance(y_true, jax.Array) and isinstance(y_pred, jax.Array):
            y_true, y_pred = match_ranks(y_true, y_pred)
        return self.fn(y_true, y_pred, **self.fn_kwargs)

    def get_config(self) -> dict:
        """The constructor's arguments, `fn` as Keras writes it."""
        return describe_fn(super().get_config())

    @classmethod
    def from_config(cls, config: dict):
        """The loss that `get_config` described."""
        return cls(**revive_arguments(revive_fn(config, LOSSES)))


def describe_fn(config: dict) -> dict:
    """The config of a wrapper with the name of a known function `fn` in the form that Keras reads."""
    if not isinstance(config.get("fn"), str):
        return config
    # Keras looks a plain name up in its own modules only in this form.
    form = {"module": "builtins", "class_name": "function", "config": config["fn"], "registered_name": "function"}
    return config | {"fn": form}


def revive_fn(config: dict, *families: Family) -> dict:
    """The config of a wrapper with the function that the name or description `fn` stands for in these families.

    Elsewhere its name may mean something else: `"binary_accuracy"` is a metric's class, too.
    """
    name = config.get("fn")
    if is_serialized(name) and name["class_name"] == "function":
        name = name["config"]
    if not isinstance(name, str):
        return config
    # The last family where none has it: its message then lists what there is.
    family = next((family for family in families if name in family.entries), families[-1])
    return config | {"fn": family.find(name)}


def name_of(function: Callable) -> str:
    """The name of a function, or of a callable object's class, in snake case: `lambda` for a lambda."""
    return to_snake_case(getattr(function, "__name__", None) or type(function).__name__)


def to_arrays(structure):
    """The structure with arrays for leaves; nested lists of plain numbers become one array."""
    # A list of numbers is one array; a list of arrays is one target per output.
    if isinstance(structure, (list, tuple)) and all(isinstance(x, (int, float)) for x in jax.tree.leaves(structure)):
        return jnp.asarray(structure)
    return jax.tree.map(lambda leaf: jnp.asarray(unwrap(leaf)), structure)


def match_ranks(first, second):
    """Two arrays, one with a last axis of size 1 that the other lacks, brought to the same rank.

    `(batch,)` becomes `(batch, 1)`; otherwise the axis of size 1 is dropped.
    """
    if first.ndim == second.ndim + 1 and first.shape[-1] == 1:
        # (batch,) becomes (batch, 1); (batch, steps, 1) loses its axis
        return (first, second[:, None]) if second.ndim == 1 else (first[..., 0], second)
    if second.ndim == first.ndim + 1 and second.shape[-1] == 1:
        return (first[:, None], second) if first.ndim == 1 else (first, second[..., 0])
    return first, second


def align(name: str, y_true, y_pred, fix: Callable[[tuple, tuple], str] | None = None):
    """Both as arrays of `y_pred`'s dtype and of one shape.

    Args:
        name: The loss or metric, for the message.
        fix: Makes the way out of a message from both shapes.

    Raises:
        ValueError: if the shapes differ by more than a last axis of size 1: broadcasting would hide a mistake, and is
            done only with `config.set_compatibility("keras")`.
    """
    y_pred = jnp.asarray(unwrap(y_pred))
    true, pred = match_ranks(jnp.asarray(unwrap(y_true)).astype(y_pred.dtype), y_pred)
    if true.shape != pred.shape:
        # Keras does so, but for crossentropies, which have a way out of their own.
        if fix is None and settings.compatibility() == "keras" and _can_broadcast(true.shape, pred.shape):
            return tuple(jnp.broadcast_arrays(true, pred))
        raise ValueError(mismatch(name, true.shape, pred.shape, (fix or _fix_columns)(true.shape, pred.shape)))
    return true, pred


def _can_broadcast(first: tuple, second: tuple) -> bool:
    try:
        np.broadcast_shapes(first, second)
    except ValueError:
        return False
    return True


def class_indices(name: str, y_true, y_pred, axis: int = -1):
    """Integer labels of the shape of `y_pred` without its class axis.

    Raises:
        ValueError: if `y_true` is neither of that shape nor has a class axis of size 1.
    """
    # Labels keep their dtype until the end: float16 does not hold all class indices.
    labels, axis = jnp.asarray(unwrap(y_true)), axis % y_pred.ndim
    if labels.ndim == y_pred.ndim and labels.shape[axis] == 1:
        labels = jnp.squeeze(labels, axis)
    expected = y_pred.shape[:axis] + y_pred.shape[axis + 1 :]
    # The commonest mistake, for which the way out is known.
    if labels.shape == y_pred.shape:
        other = name.removeprefix("sparse_")
        use_other = "" if other == name else f"use {other!r} for them, or "
        indices = f"pass class indices, for example `y_true.argmax(axis={axis - y_pred.ndim})`."
        way_out = f"The targets look one-hot: {use_other}{indices}"
        raise ValueError(mismatch(name, labels.shape, y_pred.shape, way_out))
    if labels.shape != expected:
        way_out = f"Integer labels for these predictions have shape {expected}, each in [0, {y_pred.shape[axis]})."
        raise ValueError(mismatch(name, labels.shape, y_pred.shape, way_out))
    return labels.astype(jnp.int32)


def mismatch(name: str, true_shape: tuple, pred_shape: tuple, way_out: str) -> str:
    """The message for targets and predictions whose shapes do not fit."""
    return f"{name}: `y_true` has shape {true_shape} but `y_pred` has shape {pred_shape}. {way_out}"


def _fix_columns(true_shape: tuple, pred_shape: tuple) -> str:
    # Rows first: no column count helps where these differ.
    if pred_shape[:1] != true_shape[:1]:
        return "Both must have the same number of samples."
    columns = true_shape[-1] if len(true_shape) == len(pred_shape) else 1
    if len(pred_shape) >= 2 and true_shape[:-1] in (pred_shape[:-1], pred_shape[:-2]):
        return (
            "They must be equal; kerax does not broadcast one over the other. "
            f"Give the model's last layer {columns} unit(s), or the targets {pred_shape[-1]} columns."
        )
    return (
        "They must be equal; kerax does not broadcast one over the other. Reshape one of them, or see "
        "`kerax.config.set_compatibility`."
    )


def fitting_mask(mask, values):
    """The mask with no more axes than the values have, or `None` if it is not one of them.

    A function that returns one number per sequence, as CTC, or one for the batch, has no places for a mask of steps.
    """
    if mask is None or not hasattr(values, "ndim"):
        return None
    if mask.ndim == values.ndim + 1 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    fits = mask.ndim <= values.ndim and all(m in (1, v) for m, v in zip(mask.shape, values.shape))
    return mask if fits and values.ndim else None


def apply_mask(sample_weight, mask, dtype, reduction):
    """Weights that are 0 where `mask` is false. Means are scaled up, so that masked values do not count."""
    if mask is None:
        return sample_weight
    weights = jnp.asarray(mask, dtype)
    if reduction in ("mean", "sum_over_batch_size"):
        # Times all over unmasked places: the division by all in the mean then divides by the unmasked ones.
        weights = weights * divide_no_nan(jnp.asarray(weights.size, dtype), jnp.sum(weights))
    if sample_weight is None:
        return weights
    # (batch,) weights for masks (batch, steps)
    weights, sample_weight = match_ranks(weights, jnp.asarray(sample_weight, dtype))
    if sample_weight.ndim < weights.ndim:
        sample_weight = jnp.expand_dims(sample_weight, tuple(range(sample_weight.ndim, weights.ndim)))
    return weights * sample_weight


def weigh(name: str, values, sample_weight):
    """Values and weights of the same shape: `(batch,)` weights count for everything in a sample.

    Raises:
        ValueError: if the weights do not fit the values.
    """
    weights = jnp.asarray(sample_weight, values.dtype)
    values, weights = match_ranks(values, weights)
    given = weights.shape
    if weights.ndim < values.ndim:  # (batch,) -> (batch, 1, ...)
        weights = jnp.expand_dims(weights, tuple(range(weights.ndim, values.ndim)))
    if weights.ndim > values.ndim or any(w not in (1, v) for w, v in zip(weights.shape, values.shape, strict=True)):
        hint = " The function returns one number for the whole batch; return one per sample." * (not values.ndim)
        raise ValueError(f"{name}: `sample_weight` of shape {given} does not fit values of shape {values.shape}.{hint}")
    return values, jnp.broadcast_to(weights, values.shape)


def reduce_weighted(name: str, values, sample_weight=None, mask=None, reduction: str | None = "sum_over_batch_size"):
    """The values times weights and mask, reduced."""
    weights = apply_mask(unwrap(sample_weight), mask, values.dtype, reduction)
    if weights is not None:
        values, weights = weigh(name, values, weights)
        values = values * weights
    # A function that reduced by itself is left as it is: a sum stays a sum.
    if reduction in (None, "none") or values.ndim == 0:
        return values
    # `sum / size` instead of `mean`: the same for the weighted kinds, and 0 for an empty batch.
    total = jnp.sum(values)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and weights is not None:
        return divide_no_nan(total, jnp.sum(weights))
    return divide_no_nan(total, values.size)
