"""What `keras.src.losses` has beyond the public API."""

from typing import Any

from kerax.losses.loss import LossFunctionWrapper as LossFunctionWrapper
from kerax.losses.loss import match_ranks, reduce_weighted

REDUCTIONS = {None, "none", "sum", "sum_over_batch_size", "mean", "mean_with_sample_weight"}


def squeeze_or_expand_to_same_rank(x1, x2, expand_rank_1: bool = True) -> tuple[Any, Any]:
    """Both with one rank, where they differ by a last axis of size 1."""
    return match_ranks(x1, x2)


def reduce_weighted_values(values, sample_weight=None, mask=None, reduction="sum_over_batch_size", dtype=None) -> Any:
    """The values times weights and mask, reduced."""
    return reduce_weighted("reduce_weighted_values", values, sample_weight, mask, reduction)


def standardize_reduction(reduction: str | None) -> str | None:
    """The reduction itself. Raises `ValueError` for an unknown one."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"`reduction` must be one of {sorted(map(str, REDUCTIONS))}. Got {reduction!r}.")
    return reduction
