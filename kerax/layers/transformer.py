"""Blocks of language models: feed-forward networks, a decoder block and an encoder block."""

from typing import Any

from kerax import activations, initializers
from kerax.core.layer import Layer
from kerax.layers.attention import MultiHeadAttention
from kerax.layers.dense import Dense
from kerax.layers.dropout import Dropout
from kerax.layers.grouped_attention import GroupQueryAttention
from kerax.layers.normalization import LayerNormalization, RMSNormalization
from kerax.layers.options import PassesMasks, check, check_positive, check_rate


class FeedForward(PassesMasks):
    """`down(activation(up(inputs)))` of the last axis, whose size comes out again.

    Args:
        intermediate_dim: Size between the two maps.
        activation: Name or function.
        use_bias: Whether both maps have biases.
        dropout: Fraction of what lies between to drop while training.
        kernel_initializer, bias_initializer: Options of the maps.

    Weights: those of the `Dense` layers `up_dense` and `down_dense`.
    Output shape: the input's.
    """

    def __init__(
        self,
        intermediate_dim: int,
        activation: Any = "gelu",
        use_bias: bool = True,
        dropout: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive(self, intermediate_dim=intermediate_dim)
        check_rate(self, dropout=dropout)
        self.intermediate_dim, self.use_bias, self.dropout = intermediate_dim, use_bias, dropout
        self.activation = activations.get(activation)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.drop = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        self.up_dense = self.dense("up_dense", self.intermediate_dim, input_shape)
        self.down_dense = self.dense("down_dense", input_shape[-1], (*input_shape[:-1], self.intermediate_dim))

    def dense(self, name: str, units: int, input_shape: Any) -> Dense:
        """A built map of the last axis."""
        options = {"kernel_initializer": self.kernel_initializer, "bias_initializer": self.bias_initializer}
        layer = Dense(units, use_bias=self.use_bias, name=name, dtype=self.dtype_policy, **options)
        layer.build(input_shape)
        return layer

    def call(self, inputs: Any) -> Any:
        return self.down_dense(self.drop(self.activation(self.up_dense(inputs))))


class GatedFeedForward(FeedForward):
    """`down(activation(gate(inputs)) * up(inputs))` of the last axis, whose size comes out again.

    With `"silu"` it is SwiGLU, with `"gelu"` GeGLU, of Llama and Gemma for example.

    Args:
        intermediate_dim: Size between the maps.
        activation: Name or function, of the gate.
        use_bias: Whether all maps have biases.
        dropout: Fraction of what lies between to drop while training.
        kernel_initializer, bias_initializer: Options of the maps.

    Weights: those of the `Dense` layers `gate_dense`, `up_dense` and `down_dense`.
    Output shape: the input's. Source: Shazeer 2020, https://arxiv.org/abs/2002.05202
    """

    def __init__(
        self,
        intermediate_dim: int,
        activation: Any = "silu",
        use_bias: bool = False,
        dropout: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs,
    ):
        options = kernel_initializer, bias_initializer
        super().__init__(intermediate_dim, activation, use_bias, dropout, *options, **kwargs)

    def build(self, input_shape: Any) -> None:
        self.gate_dense = self.dense("gate_dense", self.intermediate_dim, input_shape)
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        return self.down_dense(self.drop(self.activation(self.gate_dense(inputs)) * self.up_dense(inputs)))


def _norm(layer: Layer, kind: str | Layer, epsilon: float, name: str) -> Layer:
    """A normalization of a block's."""
    if isinstance(kind, Layer):
        return type(kind).from_config({**kind.get_config(), "name": name})
    cls = RMSNormalization if kind == "rms" else LayerNormalization
    return cls(epsilon=epsilon, name=name, dtype=layer.dtype_policy)


def _check_block(layer: Layer, normalization: str | Layer, dropout: float, **sizes: Any) -> None:
    check_positive(layer, **{name: size for name, size in sizes.items() if size is not None})
    is_known = isinstance(normalization, Layer) or normalization in ("rms", "layer")
    check(layer, is_known, "`normalization` must be 'rms', 'layer' or a layer", got=normalization)
    check_rate(layer, dropout=dropout)


class DecoderBlock(PassesMasks):
    """A block of a language model: causal attention and a feed-forward network, each added to its input.

    `h = x + after(attention(before(x)))`, `y = h + after(feedforward(before(h)))` with normalizations before, after or
    both: before as in Llama, after as in OLMo 2, both as in Gemma 2.

    Args:
        num_heads: Number of heads of queries.
        num_key_value_heads: Number of heads of keys and values, which `num_heads` is a multiple of. Default: equal.
        head_dim: Size of a head. Default: the features divided by `num_heads`.
        intermediate_dim: Size inside the feed-forward network. Default: 4 times the features.
        activation: Name or function of the feed-forward network.
        gated: Whether that is a `GatedFeedForward`, else a `FeedForward`.
        normalization: `"rms"`, `"layer"`, or a layer of which each normalization is a copy.
        normalization_epsilon: Added to the mean square or variance, of the first two.
        pre_norms: Whether the inputs of both parts are normalized.
        post_norms: Whether their outputs are, before they are added.
        use_bias: Whether queries, keys and values have biases.
        use_output_bias: Whether the attention's output has one. Default: `use_bias`.
        use_feedforward_bias: Whether the feed-forward network has some. Default: `use_bias`.
        rotary, query_key_normalization, logit_soft_cap, scale, sliding_window, flash_attention: As in
            `GroupQueryAttention`.
        dropout: Fraction of each part's outputs to drop while training.
        kernel_initializer: Of all projections.

    Call arguments:
        inputs: `(batch, positions, features)`, with a mask of padding if they have one.
        attention_mask: `(batch, positions, positions)`, true where a query sees a key, beside the causal one.
        positions: `(batch, positions)`, those that `rotary` turns by. Default: one after the other.

    Weights: those of `attention_norm`, `attention`, `attention_post_norm`, `feedforward_norm`, `feedforward`,
        `feedforward_post_norm`, of which there are those that are asked for.
    Output shape: the inputs'.

    Raises:
        ValueError: if an argument is out of its range.
    """

    _untracked = PassesMasks._untracked | {"normalization", "query_key_normalization"}  # patterns of layers

    def __init__(
        self,
        num_heads: int,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        intermediate_dim: int | None = None,
        activation: Any = "silu",
        gated: bool = True,
        normalization: str | Layer = "rms",
        normalization_epsilon: float = 1e-6,
        pre_norms: bool = True,
        post_norms: bool = False,
        use_bias: bool = False,
        use_output_bias: bool | None = None,
        use_feedforward_bias: bool | None = None,
        rotary: Layer | None = None,
        query_key_normalization: Any = None,
        logit_soft_cap: float | None = None,
        scale: float | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        dropout: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        sizes = {"num_key_value_heads": num_key_value_heads, "head_dim": head_dim, "intermediate_dim": intermediate_dim}
        _check_block(self, normalization, dropout, num_heads=num_heads, **sizes)
        self.num_heads, self.num_key_value_heads = num_heads, num_key_value_heads or num_heads
        self.head_dim, self.intermediate_dim, self.gated = head_dim, intermediate_dim, gated
        self.activation, self.kernel_initializer = activations.get(activation), initializers.get(kernel_initializer)
        self.normalization, self.normalization_epsilon = normalization, normalization_epsilon
        self.pre_norms, self.post_norms = pre_norms, post_norms
        self.use_bias, self.use_output_bias = use_bias, use_output_bias
        self.use_feedforward_bias = use_bias if use_feedforward_bias is None else use_feedforward_bias
        self.rotary, self.query_key_normalization = rotary, query_key_normalization
        self.logit_soft_cap, self.scale = logit_soft_cap, scale
        self.sliding_window, self.flash_attention, self.dropout = sliding_window, flash_attention, dropout
        self.drop = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        features, shape = input_shape[-1], tuple(input_shape)
        options = {"kernel_initializer": self.kernel_initializer, "dtype": self.dtype_policy}
        self.attention_norm = self._norm("attention_norm", self.pre_norms, shape)
        self.attention = GroupQueryAttention(
            self.head_dim or features // self.num_heads,
            self.num_heads,
            self.num_key_value_heads,
            use_bias=self.use_bias,
            sliding_window=self.sliding_window,
            flash_attention=self.flash_attention,
            rotary=self.rotary,
            query_key_normalization=self.query_key_normalization,
            logit_soft_cap=self.logit_soft_cap,
            scale=self.scale,
            use_output_bias=self.use_output_bias,
            name="attention",
            **options,
        )
        self.attention.build(shape, shape)
        self.attention_post_norm = self._norm("attention_post_norm", self.post_norms, shape)
        self.feedforward_norm = self._norm("feedforward_norm", self.pre_norms, shape)
        network = GatedFeedForward if self.gated else FeedForward
        size = self.intermediate_dim or 4 * features
        self.feedforward = network(size, self.activation, self.use_feedforward_bias, name="feedforward", **options)
        self.feedforward.build(shape)
        self.feedforward_post_norm = self._norm("feedforward_post_norm", self.post_norms, shape)

    def _norm(self, name: str, is_asked: bool, shape: tuple) -> Layer | None:
        if not is_asked:
            return None
        layer = _norm(self, self.normalization, self.normalization_epsilon, name)
        layer.build(shape)
        return layer

    def call(self, inputs: Any, attention_mask: Any = None, positions: Any = None) -> Any:
        normed = inputs if self.attention_norm is None else self.attention_norm(inputs)
        options = {"attention_mask": attention_mask, "positions": positions, "use_causal_mask": True}
        attended = self.attention(normed, normed, **options)
        hidden = inputs + self.drop(self.attention_post_norm(attended) if self.attention_post_norm else attended)
        normed = hidden if self.feedforward_norm is None else self.feedforward_norm(hidden)
        outputs = self.feedforward(normed)
        return hidden + self.drop(self.feedforward_post_norm(outputs) if self.feedforward_post_norm else outputs)


class EncoderBlock(PassesMasks):
    """A block of an encoder: attention to all positions and a feed-forward network, each added to its input.

    The sums are normalized, as in BERT; with `normalize_first` the inputs of both parts instead.

    Args:
        num_heads: Number of heads.
        intermediate_dim: Size inside the feed-forward network.
        head_dim: Size of a head. Default: the features divided by `num_heads`.
        activation: Name or function of the feed-forward network.
        normalize_first: Whether the inputs of both parts are normalized, not the sums.
        normalization: `"layer"`, `"rms"`, or a layer of which each normalization is a copy.
        normalization_epsilon: Added to the variance or mean square, of the first two.
        use_bias: Whether projections have biases.
        rotary: A `RotaryEmbedding` of queries and keys.
        dropout: Fraction of each part's outputs, and of attention weights, to drop while training.
        kernel_initializer: Of all projections.

    Call arguments:
        inputs: `(batch, positions, features)`, with a mask of padding if they have one.
        padding_mask: `(batch, positions)`, true where a position counts.
        attention_mask: `(batch, positions, positions)`, true where a query sees a key.

    Weights: those of `attention`, `attention_norm`, `feedforward` and `feedforward_norm`.
    Output shape: the inputs'.

    Raises:
        ValueError: if an argument is out of its range.
    """

    _untracked = PassesMasks._untracked | {"normalization"}

    def __init__(
        self,
        num_heads: int,
        intermediate_dim: int,
        head_dim: int | None = None,
        activation: Any = "gelu",
        normalize_first: bool = False,
        normalization: str | Layer = "layer",
        normalization_epsilon: float = 1e-5,
        use_bias: bool = True,
        rotary: Layer | None = None,
        dropout: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        sizes = {"num_heads": num_heads, "intermediate_dim": intermediate_dim, "head_dim": head_dim}
        _check_block(self, normalization, dropout, **sizes)
        self.num_heads, self.intermediate_dim, self.head_dim = num_heads, intermediate_dim, head_dim
        self.activation, self.kernel_initializer = activations.get(activation), initializers.get(kernel_initializer)
        self.normalize_first, self.use_bias = normalize_first, use_bias
        self.normalization, self.normalization_epsilon = normalization, normalization_epsilon
        self.rotary, self.dropout = rotary, dropout
        self.drop = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        features, shape = input_shape[-1], tuple(input_shape)
        options = {"kernel_initializer": self.kernel_initializer, "dtype": self.dtype_policy}
        heads = self.num_heads, self.head_dim or features // self.num_heads
        rest = {"dropout": self.dropout, "use_bias": self.use_bias, "rotary": self.rotary}
        self.attention = MultiHeadAttention(*heads, name="attention", **rest, **options)
        self.attention.build(shape, shape)
        norm = self.normalization, self.normalization_epsilon
        self.attention_norm = _norm(self, *norm, "attention_norm")
        self.attention_norm.build(shape)
        size = self.intermediate_dim
        self.feedforward = FeedForward(size, self.activation, self.use_bias, name="feedforward", **options)
        self.feedforward.build(shape)
        self.feedforward_norm = _norm(self, *norm, "feedforward_norm")
        self.feedforward_norm.build(shape)

    def call(self, inputs: Any, padding_mask: Any = None, attention_mask: Any = None) -> Any:
        normed = self.attention_norm(inputs) if self.normalize_first else inputs
        masks = {"value_mask": padding_mask, "attention_mask": attention_mask}
        hidden = inputs + self.drop(self.attention(normed, normed, **masks))
        hidden = hidden if self.normalize_first else self.attention_norm(hidden)
        normed = self.feedforward_norm(hidden) if self.normalize_first else hidden
        outputs = hidden + self.drop(self.feedforward(normed))
        return outputs if self.normalize_first else self.feedforward_norm(outputs)
