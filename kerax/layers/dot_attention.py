"""Attention without projections: `Attention` (products) and `AdditiveAttention` (sums)."""

from typing import Any

import jax.numpy as jnp

from kerax.core.variable import Variable
from kerax.layers.attention import DroppedAttention
from kerax.layers.options import check_choice
from kerax.ops.attention import weighted_mean


class _PlainAttention(DroppedAttention):
    """What both share: lists of inputs and masks, the softmax of the scores, and dropout."""

    scale: Variable | None

    def __init__(self, use_scale: bool, dropout: float, seed: int | None, **kwargs):
        super().__init__(dropout, seed, **kwargs)
        self.use_scale = use_scale

    def _check_shapes(self, shapes):
        is_list = isinstance(shapes, (list, tuple)) and all(isinstance(shape, (list, tuple)) for shape in shapes)
        if not is_list or len(shapes) not in (2, 3):
            raise ValueError(f"{self}: call it on a list [query, value] or [query, value, key]. Got shapes {shapes}.")
        query, value, key = (*shapes, shapes[1])[:3]
        have_rank = len(query) >= 2 and all(len(shape) == len(query) for shape in shapes)
        if not have_rank or query[-1] != key[-1] or value[-2] != key[-2]:
            raise ValueError(
                f"{self}: query must have shape (batch, ..., queries, features), key (batch, ..., keys, features), and "
                f"value (batch, ..., keys, size). Got query {query}, key {key}, value {value}."
            )

    def _calculate_scores(self, query, key):
        """How well each query fits each key: `(batch, ..., queries, keys)`."""
        raise NotImplementedError

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: Any = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        query, value, key = (*inputs, inputs[1])[:3]  # the value is the key where none is given
        if mask is not None and (not isinstance(mask, (list, tuple)) or len(mask) not in (2, 3)):
            raise ValueError(f"{self}: `mask` must be a list [query_mask, value_mask]. Got mask={mask!r}.")
        query_mask, value_mask = (None, None) if mask is None else mask[:2]
        scores = self._calculate_scores(query, key)
        around = scores.shape[:-2]
        seen = None
        if value_mask is not None:
            seen = jnp.broadcast_to(value_mask.astype(bool)[..., None, :], scores.shape)
            seen = seen.reshape(-1, 1, *scores.shape[-2:])
        if use_causal_mask:
            causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
            seen = causal if seen is None else seen & causal
        drop = self.drop if training and self.dropout else None
        # One head: the softmax, its masking and the CPU's form of it are those of multi-head attention.
        scores, heads = (part.reshape(-1, 1, *part.shape[-2:]) for part in (scores, value))
        outputs, weights = weighted_mean(
            scores, heads, seen, None if return_attention_scores else drop, return_attention_scores
        )
        if weights is not None:
            weights = weights.reshape(*around, *weights.shape[-2:])
            if drop is not None:  # the weights that are returned are those that were used
                weights = drop(weights)
                outputs = weights @ value
        outputs = outputs.reshape(*around, *outputs.shape[-2:])
        if query_mask is not None:
            # The softmax gave them some mean of the values: a mask of queries is not one of scores.
            outputs = jnp.where(query_mask.astype(bool)[..., None], outputs, 0)
        return outputs if weights is None else (outputs, weights)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The query's mask."""
        return mask[0] if isinstance(mask, (list, tuple)) else None


class Attention(_PlainAttention):
    """`softmax(query @ key.T) @ value`.

    Args:
        use_scale: Whether the scores are multiplied by a weight.
        score_mode: `"dot"`, or `"concat"`: `weight * sum(tanh(query + key))`, the scale inside the `tanh`.
        dropout: Fraction of attention weights to drop while training.
        seed: Integer for a stream of random numbers of the layer's own.

    Call arguments:
        inputs: `[query, value]` or `[query, value, key]`: `(batch, queries, features)`, `(batch, keys, size)`,
            `(batch, keys, features)`; the value is the default key.
        mask: `[query_mask, value_mask]`, `(batch, positions)`, true where a position counts, or `None` for either.
            Outputs of masked queries are 0.
        return_attention_scores: Whether to return the weights `(batch, queries, keys)` too.
        use_causal_mask: Whether a query sees only keys up to its own position.

    Weights: with `use_scale` `scale ()`, with `"concat"` `concat_score_weight ()`.
    Output shape: `(batch, queries, size)`. Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025

    Raises:
        ValueError: if the inputs are not such a list, or their shapes do not fit.
    """

    def __init__(self, use_scale=False, score_mode="dot", dropout=0.0, seed=None, **kwargs):
        super().__init__(use_scale, dropout, seed, **kwargs)
        check_choice(self, "score_mode", score_mode, ("dot", "concat"))
        self.score_mode = score_mode

    def build(self, input_shape: Any) -> None:
        self._check_shapes(input_shape)
        self.scale = self.add_weight(name="scale", initializer="ones") if self.use_scale else None
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(name="concat_score_weight", initializer="ones")

    def _calculate_scores(self, query, key):
        scale = 1 if self.scale is None else self.scale.value
        if self.score_mode == "dot":
            return query @ jnp.swapaxes(key, -1, -2) * scale
        # (batch, queries, 1, features) + (batch, 1, keys, features)
        sums = query[..., None, :] + key[..., None, :, :]
        return self.concat_score_weight.value * jnp.sum(jnp.tanh(scale * sums), -1)


class AdditiveAttention(_PlainAttention):
    """`softmax(sum(scale * tanh(query + key))) @ value`.

    Args:
        use_scale: Whether each feature has a weight `scale`.
        dropout: Fraction of attention weights to drop while training.
        seed: Integer for a stream of random numbers of the layer's own.

    Call arguments: as in `Attention`.
    Weights: with `use_scale` `scale (features,)`.
    Output shape: `(batch, queries, size)`. Source: Bahdanau et al. 2014, https://arxiv.org/abs/1409.0473

    Raises:
        ValueError: if the inputs are not a list of 2 or 3, or their shapes do not fit.
    """

    def __init__(self, use_scale=True, dropout=0.0, seed=None, **kwargs):
        super().__init__(use_scale, dropout, seed, **kwargs)

    def build(self, input_shape: Any) -> None:
        self._check_shapes(input_shape)
        self.scale = self.add_weight((input_shape[0][-1],), "glorot_uniform", name="scale") if self.use_scale else None

    def _calculate_scores(self, query, key):
        scale = 1 if self.scale is None else self.scale.value
        return jnp.sum(scale * jnp.tanh(query[..., None, :] + key[..., None, :, :]), -1)
