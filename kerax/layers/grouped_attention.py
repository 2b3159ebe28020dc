"""Grouped-query attention."""

from typing import Any

from kerax.layers.attention import _HeadAttention
from kerax.layers.options import check_positive


class GroupQueryAttention(_HeadAttention):
    """Multi-head attention in which groups of query heads share a head of keys and values.

    Args:
        head_dim: Size of a head.
        num_query_heads: Number of heads of queries, a multiple of `num_key_value_heads`.
        num_key_value_heads: Number of heads of keys and values: 1 is multi-query attention.
        dropout: Fraction of attention weights to drop while training.
        use_bias: Whether the projections have biases.
        sliding_window: Largest distance plus 1 between a query and a key that it sees. Default: any.
        flash_attention: Whether to use cuDNN's fused attention (GPU, half precision). Default: `config` says.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint,
            activity_regularizer: Options of the projections.
        use_gate: Whether to multiply the heads' outputs by a sigmoid projection of the query.
        seed: Integer for a stream of random numbers of the layer's own.

    Call arguments: as in `MultiHeadAttention`, with three axes each.
    Weights: in `query_dense`, `key_dense`, (`gate_dense`,) `value_dense`: `kernel (features, heads, head_dim)`,
        `bias (heads, head_dim)`; in `output_dense`: `kernel (query heads, head_dim, features)`, `bias (features,)`.
    Output shape: `(batch, queries, features)`.
    Source: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245

    Raises:
        ValueError: if an argument is out of its range, or key and value do not have the same positions.
    """

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        counts = {"num_query_heads": num_query_heads, "num_key_value_heads": num_key_value_heads}
        check_positive(self, head_dim=head_dim, **counts)
        if num_query_heads % num_key_value_heads:
            raise ValueError(
                f"{self}: `num_query_heads` must be a multiple of `num_key_value_heads`. "
                f"Got num_query_heads={num_query_heads}, num_key_value_heads={num_key_value_heads}."
            )
        self._set_options(dropout, use_bias, sliding_window, flash_attention, use_gate, seed)
        weights = kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer
        self._set_projection_options(*weights, activity_regularizer, kernel_constraint, bias_constraint)
        self.head_dim = self.key_dim = head_dim
        self.num_query_heads, self.num_key_value_heads = num_query_heads, num_key_value_heads

    # Shapes by the names of `call`'s arguments, as Keras has them.
    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        key_shape = value_shape if key_shape is None else key_shape
        if {len(query_shape), len(value_shape), len(key_shape)} != {3}:
            raise ValueError(
                f"{self}: query, value and key must have shape (batch, positions, features). "
                f"Got query {query_shape}, value {value_shape}, key {key_shape}."
            )
        if value_shape[1] != key_shape[1]:
            raise ValueError(
                f"{self}: key and value must have equally many positions. Got key {key_shape}, value {value_shape}."
            )
        self._axes = (1,)
        queries, shared = (self.num_query_heads, self.head_dim), (self.num_key_value_heads, self.head_dim)
        self.query_dense = self._projection("query", query_shape, 1, queries)
        self.key_dense = self._projection("key", key_shape, 1, shared)
        if self.use_gate:
            self.gate_dense = self._projection("gate", query_shape, 1, queries, activation="sigmoid")
        self.value_dense = self._projection("value", value_shape, 1, shared)
        self.output_dense = self._projection("attention_output", (*query_shape[:2], *queries), 2, query_shape[2:])

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        config.pop("flash_attention")
        return config
