"""Multi-head attention."""

import math
from typing import Any

import jax.numpy as jnp

from kerax import initializers, random
from kerax.core import caching, placement
from kerax.core.layer import Layer
from kerax.core.seed_generator import generator_for
from kerax.layers.dense import EinsumDense
from kerax.layers.normalization import RMSNormalization
from kerax.layers.options import PassesMasks, check, check_positive, check_rate, leave_out, without
from kerax.ops import caches
from kerax.ops.attention import attend

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
MORE = ("rotary", "query_key_normalization", "logit_soft_cap", "scale", "use_output_bias")
"""Arguments that Keras's layers do not have."""
_PENALTIES = ("kernel_regularizer", "bias_regularizer", "activity_regularizer")
_PROJECTION_OPTIONS = ("kernel_initializer", "bias_initializer", *_PENALTIES, "kernel_constraint", "bias_constraint")


class DroppedAttention(PassesMasks):
    """What all attention shares: dropout of its weights."""

    def __init__(self, dropout: float, seed: int | None, **kwargs):
        super().__init__(**kwargs)
        check_rate(self, dropout=dropout)
        self.dropout, self.seed = dropout, seed
        self.seed_generator = generator_for(seed) if dropout else None

    def drop(self, weights: Any) -> Any:
        """The weights with a fraction of them 0."""
        return random.dropout(weights, self.dropout, seed=self.next_key())


class HeadAttention(DroppedAttention):
    """What attention with several heads shares: projections, masks, and the attention itself.

    A subclass sets `key_dim`, builds `query_dense`, `key_dense`, `value_dense`,
    `output_dense` and with `use_gate` `gate_dense`, and sets `attended_axes`, the attended ones.
    """

    _untracked = DroppedAttention._untracked | {"query_key_normalization"}  # a pattern of two layers
    key_dim: int
    query_dense: EinsumDense
    key_dense: EinsumDense
    value_dense: EinsumDense
    output_dense: EinsumDense
    gate_dense: EinsumDense
    attended_axes: tuple[int, ...]
    rotary: Layer | None
    query_norm: Layer | None
    key_norm: Layer | None

    def __init__(
        self,
        dropout,
        use_bias,
        sliding_window,
        flash_attention,
        projections: tuple,
        use_gate,
        seed,
        more: dict,
        **kwargs,
    ):
        """`projections`: what they are made with, in the order of `_PROJECTION_OPTIONS`; `more`: what Keras's layers
        do not have."""
        super().__init__(dropout, seed, **kwargs)
        for name in ("logit_soft_cap", "scale"):
            check(self, more[name] is None or more[name] > 0, f"`{name}` must be above 0", **{name: more[name]})
        self.rotary, self.logit_soft_cap, self.scale = more["rotary"], more["logit_soft_cap"], more["scale"]
        self.use_output_bias = more["use_output_bias"]
        self.query_key_normalization = more["query_key_normalization"]
        self.query_norm, self.key_norm = (self._head_norm(name) for name in ("query_norm", "key_norm"))
        if sliding_window is not None:
            check_positive(self, sliding_window=sliding_window)
        check(self, not (flash_attention and dropout), "`flash_attention` has no dropout", dropout=dropout)
        self.use_bias, self.sliding_window = use_bias, sliding_window
        self.flash_attention, self.use_gate = flash_attention, use_gate
        self.kernel_initializer, self.bias_initializer = (initializers.get(item) for item in projections[:2])
        options = self.kernel_initializer, self.bias_initializer, *projections[2:]
        self._projection_options: dict[str, Any] = dict(zip(_PROJECTION_OPTIONS, options, strict=True))
        self._projection_options["dtype"] = self.dtype_policy

    def _head_norm(self, name: str) -> Layer | None:
        """A normalization of projected queries or keys as `query_key_normalization` says."""
        given = self.query_key_normalization
        if not given:
            return None
        if isinstance(given, Layer):
            return type(given).from_config({**given.get_config(), "name": name})
        is_known = given is True or given == "rms"
        check(self, is_known, "`query_key_normalization` must be a layer, 'rms' or `None`", got=given)
        return RMSNormalization(dtype=self.dtype_policy, name=name)

    def build_projections(self, shapes: tuple, queries: tuple, keys: tuple, values: tuple, outputs: Any) -> None:
        """Makes the projections of query, value and key of these shapes; the others are heads and their sizes."""
        query_shape, value_shape, key_shape = shapes
        self.query_dense = self._projection("query", query_shape, 1, queries)
        self.key_dense = self._projection("key", key_shape, 1, keys)
        if self.use_gate:
            # Beside the outputs of the heads, which it multiplies; between key and value, as in Keras's files.
            gates = (queries[0], values[1])
            self.gate_dense = self._projection("gate", query_shape, 1, gates, activation="sigmoid")
        self.value_dense = self._projection("value", value_shape, 1, values)
        joined = (*query_shape[:-1], queries[0], values[1])
        has_bias = self.use_bias if self.use_output_bias is None else self.use_output_bias
        self.output_dense = self._projection("attention_output", joined, 2, outputs, has_bias)
        for norm, shape, heads in ((self.query_norm, query_shape, queries), (self.key_norm, key_shape, keys)):
            if norm is not None:
                norm.build((*shape[:-1], *heads))

    def _projection(
        self, name: str, input_shape, num_contracted: int, new_sizes, has_bias: bool | None = None, **kwargs
    ) -> EinsumDense:
        """A built layer that maps the last axes of its input to new ones."""
        has_bias = self.use_bias if has_bias is None else has_bias
        free = _LETTERS[: len(input_shape) - num_contracted]
        contracted = _LETTERS[len(free) : len(input_shape)]
        new = _LETTERS[len(input_shape) : len(input_shape) + len(new_sizes)]
        layer = EinsumDense(
            f"{free}{contracted},{contracted}{new}->{free}{new}",
            output_shape=[None] * (len(free) - 1) + list(new_sizes),
            bias_axes=new if has_bias else None,
            name=name,
            **kwargs,
            **self._projection_options,
        )
        layer.supports_masking = True  # the masks of the inputs are the attention's
        layer.build(input_shape)
        return layer

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: Any = None,
        use_causal_mask: bool = False,
        positions: Any = None,
    ) -> Any:
        key = value if key is None else key
        masks = (query_mask, value_mask, key_mask, attention_mask)
        # A user's way to attend gets one mask of all, as it was when Keras had no other.
        is_plain = type(self)._compute_attention is HeadAttention._compute_attention
        # Said to `attend` rather than made a mask of: kernels that know of it can skip what is never seen.
        is_told = is_plain and query.ndim == 3
        is_causal, window = (use_causal_mask, self.sliding_window) if is_told else (False, None)
        mask = self._join_masks(query, value, *masks, use_causal_mask and not is_told, is_told)
        heads = self.query_dense(query), self.key_dense(key), self.value_dense(value)
        if query.ndim == 3:  # (batch, positions, heads, size): what a distribution may spread over devices
            heads = [placement.constrain(part, ("batch", "positions", "heads", None)) for part in heads]
        if self.query_norm is not None and self.key_norm is not None:
            heads = self.query_norm(heads[0]), self.key_norm(heads[1]), heads[2]
        if self.rotary is not None:
            heads = *(self.rotary(part, positions=positions) for part in heads[:2]), heads[2]
        part = caching.part_of(self)
        if part is not None:
            fits = use_causal_mask and is_plain and not return_attention_scores
            part = self._keep(part, heads, fits, attention_mask)
        if part is not None:
            outputs, weights = self._attend_to(part, heads[0]), None
        elif is_plain:  # not by the method, which would put a frame between the layer and its formula
            mask = None if mask is None else self._with_heads(mask, *heads[:2])
            outputs, weights = attend(
                *self._flat(*heads), **self._options(mask, training, return_attention_scores, is_causal, window)
            )
            outputs, weights = self._in_form(outputs, weights, *heads[:2])
        else:
            query_heads, key_heads, value_heads = heads
            asked = {"return_attention_scores": True} if return_attention_scores else {}  # users' may not know of it
            options = {"attention_mask": mask, "training": training, **asked}
            outputs, weights = self._compute_attention(query_heads, key_heads, value_heads, **options)
        if self.use_gate:
            outputs = outputs * self.gate_dense(query)
        outputs = self.output_dense(outputs)
        return (outputs, weights) if return_attention_scores else outputs

    def _compute_attention(
        self,
        query,
        key,
        value,
        attention_mask=None,
        training=None,
        return_attention_scores=False,
        use_causal_mask=False,
    ) -> tuple[Any, Any]:
        """The outputs and weights (or `None`) for projected query, key and value; users override it.

        Args:
            attention_mask: `(batch, ..., queries, keys)`, with or without an axis of heads before these.
        """
        mask = None if attention_mask is None else self._with_heads(attention_mask, query, key)
        options = self._options(mask, training, return_attention_scores, use_causal_mask)
        return self._in_form(*attend(*self._flat(query, key, value), **options), query, key)

    # Caches.

    def kerax_own_cache(self, batch_size: int, length: int, dtype: Any) -> dict[str, Any]:
        """Room for keys and values of so many positions."""
        num_heads = getattr(self, "num_key_value_heads", getattr(self, "num_heads", 0))
        sizes = self.key_dim, getattr(self, "value_dim", self.key_dim)
        return caches.empty(batch_size, num_heads, length, sizes, jnp.dtype(dtype or self.compute_dtype))

    def _keep(self, part, heads, fits: bool, attention_mask) -> Any:
        """Keeps keys and values. Returns what queries must look at of what is kept; `None` if that is all new."""
        goes_on = part.positions is not None
        is_over_one_axis = self.attended_axes == (1,) and heads[0].ndim == 4
        if not (fits and is_over_one_axis) or (goes_on and attention_mask is not None):
            raise caching.NotCached(
                f"{self}: only causal attention over one axis goes on from a cache, without an `attention_mask` and "
                "without returned weights. Call it with `use_causal_mask=True`, or the model without a cache."
            )
        kept = caches.updated(part.values, heads[1], heads[2], part.positions)
        caching.keep(self, kept)
        return kept if goes_on else None

    def _attend_to(self, kept, query) -> Any:
        """The heads' outputs of queries at their positions, over all that is kept up to there."""
        positions = caching.positions_of_call(query.shape[1])
        options = {"scale": self._score_scale(), "window": self.sliding_window, "cap": self.logit_soft_cap}
        return caches.attend(query, kept, positions, **options)

    def _score_scale(self) -> float:
        return 1 / math.sqrt(self.key_dim) if self.scale is None else self.scale

    def _options(self, mask, training, with_weights, is_causal=False, sliding_window=None) -> dict[str, Any]:
        return {
            "sliding_window": sliding_window,
            "mask": mask,
            "scale": self._score_scale(),
            "cap": self.logit_soft_cap,
            "is_causal": is_causal,
            "flash_attention": self.flash_attention,
            "drop": self.drop if training and self.dropout else None,
            "with_weights": with_weights,
        }

    def _flat(self, *heads) -> tuple:
        return tuple(_flatten_positions(part, self.attended_axes) for part in heads)

    def _in_form(self, outputs, weights, query, key) -> tuple[Any, Any]:
        """Outputs and weights with the axes that the heads have."""
        outputs = _split_positions(outputs, query.shape, self.attended_axes)
        if weights is None:
            return outputs, None
        # The weights' last two axes become the attended ones again: (batch, heads, *queries, *keys).
        sizes = [part.shape[axis] for part in (query, key) for axis in self.attended_axes]
        return outputs, weights.reshape(*weights.shape[:-2], *sizes)

    def get_config(self) -> dict:
        """The constructor's arguments but `flash_attention`; those that Keras has not only where they are set."""
        return without(leave_out(super().get_config(), "flash_attention"), *MORE)

    def _join_masks(
        self, query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask, window_is_told
    ):
        """All masks as one `(batch, ..., queries, keys)`, or with the heads before these, or `None`."""
        found = []
        if query_mask is not None:  # (batch, queries, 1), the others (batch, 1, keys)
            found.append(query_mask.astype(bool)[..., :, None])
        found += [mask.astype(bool)[..., None, :] for mask in (value_mask, key_mask) if mask is not None]
        window = None if window_is_told else self.sliding_window
        if use_causal_mask or window is not None:
            # (queries, keys): how far a key lies before its query.
            distance = jnp.arange(query.shape[1])[:, None] - jnp.arange(value.shape[1])[None, :]
            found += [(distance >= 0)[None]] if use_causal_mask else []
            found += [(abs(distance) < window)[None]] if window is not None else []
        joined = None
        for mask in [*found, *([attention_mask.astype(bool)] if attention_mask is not None else [])]:
            joined = mask if joined is None else joined & mask
        return joined

    def _with_heads(self, joined, query, key):
        """A mask that broadcasts to the scores `(batch, ..., heads, queries, keys)` of projected query and key."""
        rank = len(self.attended_axes)
        for _ in range(query.ndim - 1 + rank - joined.ndim):  # the axis of heads, before queries and keys
            joined = jnp.expand_dims(joined, -2 * rank - 1)
        if rank == 1:
            return joined
        # Several attended axes become one: (batch, heads, *queries, *keys) to (batch, heads, queries, keys).
        sizes = (math.prod(array.shape[axis] for axis in self.attended_axes) for array in (query, key))
        return joined.reshape(*joined.shape[: joined.ndim - 2 * rank], *sizes)


class MultiHeadAttention(HeadAttention):
    """`softmax(query @ key.T / sqrt(key_dim)) @ value` in several learned projections (heads), joined by another one.

    Args:
        num_heads: Number of heads.
        key_dim: Size of a head's queries and keys.
        value_dim: Size of a head's values. Default: `key_dim`.
        dropout: Fraction of attention weights to drop while training.
        use_bias: Whether the projections have biases.
        output_shape: Size, or sizes, of the output without batch and attended axes. Default: the query's.
        attention_axes: Axes that are attended over. Default: all but batch and features.
        sliding_window: Largest distance plus 1 between a query and a key that it sees. Default: any.
        flash_attention: Whether to use cuDNN's fused attention (GPU, half precision). Default: `config` says.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint,
            activity_regularizer: Options of the projections.
        use_gate: Whether to multiply the heads' outputs by a sigmoid projection of the query.
        seed: Integer for a stream of random numbers of the layer's own.
        rotary: A `RotaryEmbedding` of queries and keys. Keras has none of these last five.
        query_key_normalization: Normalization of projected queries and keys before that: `"rms"`, of each head, or a
            layer, of which each gets a copy, such as `RMSNormalization(axis=(-2, -1))` over all heads.
        logit_soft_cap: Scores `s` become `cap * tanh(s / cap)`.
        scale: What products of queries and keys are multiplied by. Default: `1 / sqrt(size of a head)`.
        use_output_bias: Whether the last projection has a bias, if it differs from the others.

    Call arguments:
        query: `(batch, queries, features)`. value: `(batch, keys, features)`. key: like `value`, which is the default.
        query_mask, value_mask, key_mask: `(batch, queries or keys)`, true where a position counts.
        attention_mask: `(batch, queries, keys)` or `(batch, heads, queries, keys)`, true where a query sees a key.
        use_causal_mask: Whether a query sees only keys up to its own position.
        positions: `(batch, positions)` or `(positions,)`, those that `rotary` turns by. Default: one after the other.
        return_attention_scores: Whether to return the weights `(batch, heads, queries, keys)` too.

    Weights: in `query_dense`, `key_dense`, (`gate_dense`,) `value_dense`: `kernel (features, heads, size)`,
        `bias (heads, size)`; in `output_dense`: `kernel (heads, value_dim, out)`, `bias (out,)`.
    Output shape: `(batch, queries, out)`. A query that sees no key gets the mean of all values.
    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762

    Raises:
        ValueError: if an argument is out of its range, or key and value do not have the same positions.
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape=None,
        attention_axes=None,
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
        super().__init__(
            dropout, use_bias, sliding_window, flash_attention, projections, use_gate, seed, more, **kwargs
        )
        value_dim = key_dim if value_dim is None else value_dim
        check_positive(self, num_heads=num_heads, key_dim=key_dim, value_dim=value_dim)
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        sizes = [output_shape] if output_shape is None or isinstance(output_shape, int) else output_shape
        are_sizes = isinstance(sizes, (list, tuple)) and all(isinstance(n, (int, type(None))) for n in sizes)
        check(self, are_sizes, "`output_shape` must be a size or several", output_shape=output_shape)
        self.output_sizes = (output_shape,) if isinstance(output_shape, int) else output_shape
        self.attention_axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes

    # Shapes by the names of `call`'s arguments, as Keras has them.
    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        key_shape = value_shape if key_shape is None else key_shape
        given = {"query": query_shape, "value": value_shape, "key": key_shape}
        fits = 3 <= len(query_shape) == len(value_shape)
        expected = "query and value must have shape (batch, ..., features) with equally many axes, at least 3"
        check(self, fits, expected, **given)
        fits = value_shape[1:-1] == key_shape[1:-1]
        check(self, fits, "key and value must have equal axes but the last", **given)
        rank = len(query_shape)
        axes = range(1, rank - 1) if self.attention_axes is None else self.attention_axes
        self.attended_axes = tuple(axis % rank for axis in axes)
        keys, values = (self.num_heads, self.key_dim), (self.num_heads, self.value_dim)
        sizes = self.output_sizes or (query_shape[-1],)
        self.build_projections(tuple(given.values()), keys, keys, values, sizes)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return super().get_config() | {"value_dim": self.value_dim, "output_shape": self.output_sizes}


def _order(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of `(batch, ..., heads, size)` with the attended ones before the heads."""
    rest = [axis for axis in range(1, ndim - 2) if axis not in axes]
    return (0, *rest, *axes, ndim - 2, ndim - 1)


def _flatten_positions(heads, axes: tuple[int, ...]):
    """`(batch, ..., heads, size)` with all attended axes as one: `(batch, rest, positions, heads, size)`."""
    ordered = jnp.transpose(heads, _order(heads.ndim, axes))
    start = heads.ndim - 2 - len(axes)
    return ordered.reshape(*ordered.shape[:start], -1, *ordered.shape[-2:]) if len(axes) > 1 else ordered


def _split_positions(outputs, shape: tuple[int, ...], axes: tuple[int, ...]):
    """The inverse of `_flatten_positions`, for heads of this shape but for their size."""
    order = _order(len(shape), axes)
    split = outputs.reshape(*(shape[axis] for axis in order[:-2]), *outputs.shape[-2:])
    return jnp.transpose(split, [order.index(axis) for axis in range(len(shape))])
