"""Multi-head attention."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from kerax import config, random
from kerax.core import placement
from kerax.core.layer import Layer
from kerax.core.seed_generator import SeedGenerator
from kerax.layers.dense import EinsumDense
from kerax.layers.options import check_positive, check_rate, set_weight_options
from kerax.ops.nn import uses_fused_attention
from kerax.ops.projection import project

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class _HeadAttention(Layer):
    """What attention with several heads shares: projections, masks, and the attention itself.

    A subclass sets `key_dim`, builds `query_dense`, `key_dense`, `value_dense`,
    `output_dense` and with `use_gate` `gate_dense`, and sets `_axes`, the attended ones.
    """

    def _configure(self, arguments: dict):
        """Sets the attributes that all have, from the constructor's arguments by name."""
        given = arguments
        check_rate(self, dropout=given["dropout"])
        if given["sliding_window"] is not None:
            check_positive(self, sliding_window=given["sliding_window"])
        if given["flash_attention"] and given["dropout"]:
            raise ValueError(f"{self}: `flash_attention` has no dropout. Got dropout={given['dropout']}.")
        for name in ("dropout", "use_bias", "use_gate", "sliding_window", "flash_attention", "seed"):
            setattr(self, name, given[name])
        initializers = {name: given[name] for name in ("kernel_initializer", "bias_initializer")}
        set_weight_options(self, **initializers)
        names = [f"{weight}_{option}" for weight in ("kernel", "bias") for option in ("regularizer", "constraint")]
        self._projection_options = {name: getattr(self, name) for name in initializers}
        self._projection_options |= {name: given[name] for name in (*names, "activity_regularizer")}
        self._projection_options["dtype"] = self.dtype_policy
        if self.seed is not None:
            self.seed_generator = SeedGenerator(self.seed)
        self.supports_masking = True

    def _projection(self, name: str, input_shape, num_contracted: int, new_sizes, **kwargs) -> EinsumDense:
        """A built layer that maps the last axes of its input to new ones."""
        free = _LETTERS[: len(input_shape) - num_contracted]
        contracted = _LETTERS[len(free) : len(input_shape)]
        new = _LETTERS[len(input_shape) : len(input_shape) + len(new_sizes)]
        layer = EinsumDense(
            f"{free}{contracted},{contracted}{new}->{free}{new}",
            output_shape=[None] * (len(free) - 1) + list(new_sizes),
            bias_axes=new if self.use_bias else None,
            name=name,
            **kwargs,
            **self._projection_options,
        )
        layer.build(input_shape)
        return layer

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        key = value if key is None else key
        masks = (query_mask, value_mask, key_mask, attention_mask)
        mask = self._join_masks(query, value, *masks, use_causal_mask)
        is_causal = use_causal_mask and self.sliding_window is None and all(given is None for given in masks)
        heads = self._project_together(query) if self._is_self_attention(query, key, value) else None
        if heads is None:
            heads = self.query_dense(query), self.key_dense(key), self.value_dense(value)
        if query.ndim == 3:
            heads = [placement.constrain(part, ("batch", "positions", "heads", None)) for part in heads]
        outputs, scores = self._attend(*heads, mask, return_attention_scores, training, is_causal)
        if self.use_gate:
            outputs = outputs * self.gate_dense(query)
        outputs = self.output_dense(outputs)
        return (outputs, scores) if return_attention_scores else outputs

    def _is_self_attention(self, query, key, value) -> bool:
        layers = (self.query_dense, self.key_dense, self.value_dense)
        is_one = query is key and key is value and self._projection_options["activity_regularizer"] is None
        is_undivided = config.target_platform() == "cpu" and placement.active() is None  # a GPU gains nothing by it
        return (
            is_one
            and is_undivided
            and all(layer.quantization_mode is None and "call" not in vars(layer) for layer in layers)
        )

    def _project_together(self, inputs):
        """Queries, keys and values of one array, by one product with the three kernels side by side."""
        layers = (self.query_dense, self.key_dense, self.value_dense)
        heads = [layer.kernel.shape[1:] for layer in layers]
        kernels = [layer.representations["kernel"].value for layer in layers]
        kernel = jnp.concatenate([kernel.reshape(inputs.shape[-1], -1) for kernel in kernels], 1)
        together = project(inputs, kernel)
        if self.use_bias:
            together = together + jnp.concatenate([layer.bias.value.reshape(-1) for layer in layers])
        first, second, _ = map(math.prod, heads)
        parts = jnp.split(together, [first, first + second], axis=-1)
        return [part.reshape(*part.shape[:-1], *sizes) for part, sizes in zip(parts, heads, strict=True)]

    def _attend(self, query, key, value, mask, return_scores, training, is_causal=False):
        """The heads' outputs `(batch, ..., heads, value_dim)` and the attention weights.

        `is_causal` says that the mask is the causal one and no other: cuDNN then skips what it hides.

        Deviation from Keras: the softmax is taken in float32, whatever the compute dtype.
        """
        drops = training and self.dropout
        fused = not drops and not return_scores and query.ndim == 4
        if fused and uses_fused_attention(self.flash_attention, query, key, value):
            is_causal = is_causal and query.shape[1] == key.shape[1]
            mask = None if is_causal else mask
            outputs = jax.nn.dot_product_attention(
                query, key, value, mask=mask, is_causal=is_causal, implementation="cudnn"
            )
            return outputs, None
        query, key, value = (_heads_first(heads, self._axes) for heads in (query, key, value))
        rank = len(self._axes)
        batch_axes = query.ndim - rank - 1
        positions = query.shape[batch_axes:-1], key.shape[batch_axes:-1]
        query, key, value = (_flatten_positions(heads, batch_axes) for heads in (query, key, value))
        query = query * (1 / math.sqrt(self.key_dim))
        scores = _product(query, jnp.swapaxes(key, -1, -2))  # (batch, ..., heads, query, key)
        if mask is not None:
            flat = (math.prod(positions[0]), math.prod(positions[1])) if rank > 1 else mask.shape[-2:]
            mask = mask.reshape(*mask.shape[: mask.ndim - 2 * rank], *flat)
            scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min / 2)
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        if not return_scores and not drops and config.target_platform() == "cpu":
            return _heads_last(_split_positions(_softmax_product(scores, value), positions[0]), self._axes), None
        weights = dropped = jax.nn.softmax(scores).astype(value.dtype)
        if drops:
            dropped = random.dropout(weights, self.dropout, seed=self.next_key())
        outputs = _split_positions(_product(dropped, value), positions[0])
        return _heads_last(outputs, self._axes), weights.reshape(*weights.shape[:-2], *positions[0], *positions[1])

    def _join_masks(self, query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask):
        """All masks as one that broadcasts to the scores `(batch, ..., heads, queries, keys)`, or `None`."""
        found = []
        if query_mask is not None:
            found.append(query_mask.astype(bool)[..., :, None])
        found += [mask.astype(bool)[..., None, :] for mask in (value_mask, key_mask) if mask is not None]
        if use_causal_mask or self.sliding_window is not None:
            distance = jnp.arange(query.shape[1])[:, None] - jnp.arange(value.shape[1])[None, :]
            found += [(distance >= 0)[None]] if use_causal_mask else []
            found += [(abs(distance) < self.sliding_window)[None]] if self.sliding_window is not None else []
        joined = None
        for mask in [*found, *([attention_mask.astype(bool)] if attention_mask is not None else [])]:
            joined = mask if joined is None else joined & mask
        if joined is None:
            return None
        for _ in range(query.ndim + len(self._axes) - joined.ndim):  # the axis of heads, before queries and keys
            joined = jnp.expand_dims(joined, -2 * len(self._axes) - 1)
        return joined


class MultiHeadAttention(_HeadAttention):
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

    Call arguments:
        query: `(batch, queries, features)`. value: `(batch, keys, features)`. key: like `value`, which is the default.
        query_mask, value_mask, key_mask: `(batch, queries or keys)`, true where a position counts.
        attention_mask: `(batch, queries, keys)` or `(batch, heads, queries, keys)`, true where a query sees a key.
        use_causal_mask: Whether a query sees only keys up to its own position.
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
        num_heads,
        key_dim,
        value_dim=None,
        dropout=0.0,
        use_bias=True,
        output_shape=None,
        attention_axes=None,
        sliding_window=None,
        flash_attention=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_gate=False,
        seed=None,
        **kwargs,
    ):
        arguments = dict(locals())
        super().__init__(**kwargs)
        value_dim = key_dim if value_dim is None else value_dim
        check_positive(self, num_heads=num_heads, key_dim=key_dim, value_dim=value_dim)
        self._configure(arguments)
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        self._output_sizes = (output_shape,) if isinstance(output_shape, int) else output_shape
        self.attention_axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes

    def build(self, query_shape, value_shape, key_shape=None):
        key_shape = value_shape if key_shape is None else key_shape
        if len(query_shape) < 3 or len(query_shape) != len(value_shape):
            raise ValueError(
                f"{self}: query and value must have shape (batch, ..., features) with equally many axes, at least 3. "
                f"Got query {query_shape}, value {value_shape}."
            )
        if value_shape[1:-1] != key_shape[1:-1]:
            raise ValueError(
                f"{self}: key and value must have equal axes but the last. Got key {key_shape}, value {value_shape}."
            )
        rank = len(query_shape)
        axes = range(1, rank - 1) if self.attention_axes is None else self.attention_axes
        self._axes = tuple(axis % rank for axis in axes)
        heads, sizes = self.num_heads, self._output_sizes or (query_shape[-1],)
        self.query_dense = self._projection("query", query_shape, 1, (heads, self.key_dim))
        self.key_dense = self._projection("key", key_shape, 1, (heads, self.key_dim))
        if self.use_gate:
            self.gate_dense = self._projection("gate", query_shape, 1, (heads, self.value_dim), activation="sigmoid")
        self.value_dense = self._projection("value", value_shape, 1, (heads, self.value_dim))
        self.output_dense = self._projection("attention_output", (*query_shape[:-1], heads, self.value_dim), 2, sizes)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        config = super().get_config()
        config.pop("flash_attention")
        return config | {"value_dim": self.value_dim}


def _heads_first(heads, axes: tuple[int, ...]):
    """`(batch, ..., heads, size)` with the attended axes last but one: `(batch, rest, heads, positions, size)`."""
    rest = [axis for axis in range(1, heads.ndim - 2) if axis not in axes]
    return jnp.transpose(heads, (0, *rest, heads.ndim - 2, *axes, heads.ndim - 1))


def _heads_last(outputs, axes: tuple[int, ...]):
    """The inverse of `_heads_first`."""
    rest = [axis for axis in range(1, outputs.ndim - 2) if axis not in axes]
    order = (0, *rest, outputs.ndim - 2, *axes, outputs.ndim - 1)
    return jnp.transpose(outputs, [order.index(axis) for axis in range(outputs.ndim)])


def _product(left, right):
    """`left (..., heads, m, n) @ right (..., groups, n, k)`: neighbouring heads of `left` share one of `right`.

    They become more rows of one product, so that nothing is repeated.
    """
    *batch, heads, rows, size = left.shape
    groups = right.shape[-3]
    folded = left.reshape(*batch, groups, heads // groups * rows, size)
    return (folded @ right).reshape(*batch, heads, rows, right.shape[-1])


def _softmax_product(scores, value):
    """`softmax(scores) @ value`, divided by the sum of the exponentials last, where there is less to divide.

    A GPT step, 128 positions and heads of 32, takes 5 to 8% less time on CPU.
    """
    exponentials = jnp.exp(scores - lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    return (_product(exponentials.astype(value.dtype), value) / total).astype(value.dtype)


def _split_positions(outputs, sizes: tuple[int, ...]):
    """The inverse of `_flatten_positions`."""
    return outputs.reshape(*outputs.shape[:-2], *sizes, outputs.shape[-1])


def _flatten_positions(heads, start: int):
    """All attended axes as one."""
    return heads.reshape(*heads.shape[:start], math.prod(heads.shape[start:-1]), heads.shape[-1])
