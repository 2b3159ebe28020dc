"""`Decoder` and `Encoder`: the models that all families are made of, from tokens to logits and to vectors."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from kerax.core.layer import Layer
from kerax.core.remat import remat
from kerax.layers import Dense, Dropout, Embedding, PositionEmbedding, ReversibleEmbedding
from kerax.models import Model

TOKENS, PADDING, SEGMENTS, POSITIONS = "token_ids", "padding_mask", "segment_ids", "positions"
_PARTS = (TOKENS, PADDING, SEGMENTS, POSITIONS)


def read_inputs(model: Model, inputs: Any, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Token ids alone or in a dict, as a dict. Raises `ValueError` for a name that is not one of the inputs'."""
    parts = inputs if isinstance(inputs, dict) else {TOKENS: inputs}
    unknown = [name for name in parts if name not in (*_PARTS, *more)]
    if unknown or TOKENS not in parts:
        raise ValueError(f"{model}: inputs must be token ids, or a dict of {(*_PARTS, *more)}. Got {list(parts)}.")
    return parts


def attention_mask(parts: dict[str, Any]) -> Any:
    """`(batch, 1 or length, length)`: true where a position may be seen, of padding and of segments; or `None`."""
    found = None
    if PADDING in parts:
        found = parts[PADDING].astype(bool)[:, None, :]
    if SEGMENTS in parts:
        segments = parts[SEGMENTS]
        same = segments[:, :, None] == segments[:, None, :]
        found = same if found is None else found & same
    return found


def positions_in(parts: dict[str, Any]) -> Any:
    """Those given, else with a mask of padding those that count from the first token of each row; or `None`."""
    if POSITIONS not in parts and PADDING in parts:
        return jnp.maximum(jnp.cumsum(parts[PADDING].astype("int32"), axis=1) - 1, 0)
    return parts.get(POSITIONS)


class Decoder(Model):
    """A language model: a table of tokens, blocks that look back, and logits of the next token.

    Args:
        vocabulary_size: Number of tokens.
        hidden_dim: Size of the vectors between the blocks.
        blocks: The blocks, such as `kerax.layers.DecoderBlock`, in their order.
        normalization: Layer after the last block, or `None`.
        tie_weights: Whether the logits are products with the table of tokens, else with one of their own.
        embedding_scale: What tokens' vectors are multiplied by. Default: nothing.
        num_positions: Number of learned positions that are added to them. Default: none, as the blocks' attention turns
            by positions.
        logit_soft_cap: Largest size of a logit, as in `ReversibleEmbedding`.
        dropout: Fraction of the first vectors to drop while training.
        source: The `config.json` that the model was made from, which `kerax.language.save` writes.

    Call arguments: `inputs`, token ids `(batch, length)`, or a dict with `token_ids` and any of `padding_mask`, bool,
        true where a token counts; `segment_ids`, where only tokens of equal number see each other; `positions`. All
        `(batch, length)`. With a mask of padding and no positions, these count from the first token of each row.
    Attributes:
        remat: Whether training keeps the inputs of the blocks alone and computes the rest again for the gradient: a
            fraction of the memory for a third more time. Set it before training. Default: `False`.

    Output shape: `(batch, length, vocabulary_size)`.
    """

    remat = False

    def __init__(
        self,
        vocabulary_size: int,
        hidden_dim: int,
        blocks: Sequence[Layer],
        normalization: Layer | None = None,
        tie_weights: bool = True,
        embedding_scale: float | None = None,
        num_positions: int | None = None,
        logit_soft_cap: float | None = None,
        dropout: float = 0.0,
        source: dict | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size, self.hidden_dim, self.source = vocabulary_size, hidden_dim, source
        self.blocks, self.normalization, self.embedding_scale = list(blocks), normalization, embedding_scale
        self.tie_weights, self.num_positions, self.logit_soft_cap = tie_weights, num_positions, logit_soft_cap
        self.dropout, self.drop = dropout, Dropout(dropout, dtype=self.dtype_policy)
        options = {"logit_soft_cap": logit_soft_cap, "dtype": self.dtype_policy}
        self.token_embedding = ReversibleEmbedding(vocabulary_size, hidden_dim, tie_weights, **options)
        self.position_embedding = (
            None if num_positions is None else PositionEmbedding(num_positions, dtype=self.dtype_policy)
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        parts = read_inputs(self, inputs)
        positions, mask = positions_in(parts), attention_mask(parts)
        hidden = self.token_embedding(parts[TOKENS])
        if self.embedding_scale is not None:  # rounded as the vectors are, which half precision is trained with
            hidden = hidden * jnp.asarray(self.embedding_scale, hidden.dtype)
        if self.position_embedding is not None:
            hidden = hidden + self.position_embedding(hidden, positions=positions)
        hidden = self.drop(hidden)
        for block in self.blocks:
            run_block = remat(block) if self.remat and training else block
            hidden = run_block(hidden, attention_mask=mask, positions=positions)
        hidden = hidden if self.normalization is None else self.normalization(hidden)
        return self.token_embedding(hidden, reverse=True)


class Encoder(Model):
    """A model from tokens to vectors that look both ways, as BERT's.

    Args:
        vocabulary_size: Number of tokens.
        hidden_dim: Size of the vectors.
        blocks: The blocks, such as `kerax.layers.EncoderBlock`, in their order.
        normalization: Layer before the first block.
        num_positions: Number of learned positions.
        first_position: The position of a row's first token.
        num_segments: Number of kinds of segments, each with a vector that is added.
        pad_id: Token that is padding and takes position `first_position - 1`, as in RoBERTa. Default: none is.
        use_pooler: Whether the first position's vector, projected, is an output too.
        head: Layers from the vectors to those whose products with the table of tokens are logits, as in a masked
            language model: a list, or `None`.
        dropout: Fraction of the first vectors to drop while training.
        source: As in `Decoder`.

    Call arguments: `inputs`, token ids `(batch, length)`, or a dict with `token_ids` and any of `padding_mask` and
        `segment_ids`, here the kinds of segments, default 0. All `(batch, length)`.
    Output: `{"sequence_output": (batch, length, hidden_dim)}`, with the pooler `"pooled_output": (batch, hidden_dim)`,
        with a head `"logits": (batch, length, vocabulary_size)`.
    Source: Devlin et al. 2018, https://arxiv.org/abs/1810.04805
    """

    def __init__(
        self,
        vocabulary_size: int,
        hidden_dim: int,
        blocks: Sequence[Layer],
        normalization: Layer,
        num_positions: int,
        first_position: int = 0,
        num_segments: int = 2,
        pad_id: int | None = None,
        use_pooler: bool = True,
        head: Sequence[Layer] | None = None,
        dropout: float = 0.0,
        source: dict | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size, self.hidden_dim, self.source = vocabulary_size, hidden_dim, source
        self.blocks, self.normalization = list(blocks), normalization
        self.num_positions, self.first_position = num_positions, first_position
        self.num_segments, self.pad_id, self.use_pooler = num_segments, pad_id, use_pooler
        options: dict[str, Any] = {"dtype": self.dtype_policy}
        self.dropout, self.drop = dropout, Dropout(dropout, **options)
        self.token_embedding = ReversibleEmbedding(vocabulary_size, hidden_dim, **options)
        self.position_embedding = PositionEmbedding(num_positions, **options)
        self.segment_embedding = Embedding(num_segments, hidden_dim, **options)
        self.pooler = Dense(hidden_dim, "tanh", **options) if use_pooler else None
        self.head = None if head is None else list(head)

    def build(self, input_shape: Any) -> None:
        """Makes the bias of the logits, if there are any; the rest is built by the call."""
        has_logits = self.head is not None
        self.logit_bias = self.add_weight((self.vocabulary_size,), "zeros", name="logit_bias") if has_logits else None

    def call(self, inputs: Any) -> Any:
        parts = read_inputs(self, inputs)
        tokens = parts[TOKENS]
        mask = None if PADDING not in parts else parts[PADDING].astype(bool)
        hidden = self.token_embedding(tokens) + self.segment_embedding(parts.get(SEGMENTS, jnp.zeros_like(tokens)))
        hidden = hidden + self.position_embedding(hidden, positions=self._positions(tokens))
        hidden = self.drop(self.normalization(hidden))
        for block in self.blocks:
            hidden = block(hidden, padding_mask=mask)
        outputs = {"sequence_output": hidden}
        if self.pooler is not None:
            outputs["pooled_output"] = self.pooler(hidden[:, 0])
        if self.head is not None and self.logit_bias is not None:
            for layer in self.head:
                hidden = layer(hidden)
            outputs["logits"] = self.token_embedding(hidden, reverse=True) + self.logit_bias.value
        return outputs

    def _positions(self, tokens):
        if self.pad_id is None:
            return self.first_position + jnp.arange(tokens.shape[1])
        counts = (tokens != self.pad_id).astype("int32")
        return jnp.cumsum(counts, axis=1) * counts + self.first_position - 1
