"""Grouped-query attention."""

from typing import Any

from kerax.core.layer import Layer
from kerax.layers.attention import MORE, HeadAttention
from kerax.layers.options import check, check_positive


class GroupQueryAttention(HeadAttention):
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
        rotary, query_key_normalization, logit_soft_cap, scale, use_output_bias: As in `MultiHeadAttention`.

    Call arguments: as in `MultiHeadAttention`, with three axes each.
    Weights: in `query_dense`, `key_dense`, (`gate_dense`,) `value_dense`: `kernel (features, heads, head_dim)`,
        `bias (heads, head_dim)`; in `output_dense`: `kernel (query heads, head_dim, features)`, `bias (features,)`.
    Output shape: `(batch, queries, features)`.
    Source: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245

    Raises:
        ValueError: if an argument is out of its range, or key and value do not have the same positions.
    """

    default_name = "grouped_query_attention"  # in Keras it is a class of that name

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
        *,
        rotary: Layer | None = None,
        query_key_normalization: Any = None,
        logit_soft_cap: float | None = None,
        scale: float | None = None,
        use_output_bias: bool | None = None,
        **kwargs,
    ):
        values = rotary, query_key_normalization, logit_soft_cap, scale, use_output_bias
        more = dict(zip(MORE, values, strict=True))
        penalties = kernel_regularizer, bias_regularizer, activity_regularizer
        projections = kernel_initializer, bias_initializer, *penalties, kernel_constraint, bias_constraint
        kwargs |= {"activity_regularizer": activity_regularizer}  # of the outputs too, unlike in `MultiHeadAttention`
        super().__init__(
            dropout, use_bias, sliding_window, flash_attention, projections, use_gate, seed, more, **kwargs
        )
        counts = {"num_query_heads": num_query_heads, "num_key_value_heads": num_key_value_heads}
        check_positive(self, head_dim=head_dim, **counts)
        fits = num_query_heads % num_key_value_heads == 0
        check(self, fits, "`num_query_heads` must be a multiple of `num_key_value_heads`", **counts)
        self.head_dim = self.key_dim = head_dim
        self.num_query_heads, self.num_key_value_heads = num_query_heads, num_key_value_heads

    # Shapes by the names of `call`'s arguments, as Keras has them.
    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        key_shape = value_shape if key_shape is None else key_shape
        shapes = {"query": query_shape, "value": value_shape, "key": key_shape}
        fits = all(len(shape) == 3 for shape in shapes.values())
        check(self, fits, "query, value and key must have shape (batch, positions, features)", **shapes)
        check(self, value_shape[1] == key_shape[1], "key and value must have equally many positions", **shapes)
        self.attended_axes = (1,)
        queries, shared = (self.num_query_heads, self.head_dim), (self.num_key_value_heads, self.head_dim)
        self.build_projections(tuple(shapes.values()), queries, shared, shared, query_shape[2:])
