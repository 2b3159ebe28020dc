"""What subclasses of Keras's attention layers use of these: projections, equations, the softmax, the dropout."""

import functools
import string
from typing import Any

from kerax.as_keras.private.lending import Lent
from kerax.core.tracking import Alias
from kerax.layers import Softmax

# The options of the projections, by the names that the attributes have.
_OPTIONS = ("kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer", "activity_regularizer")
_OPTIONS += ("kernel_constraint", "bias_constraint")


def _option(item, name: str) -> Any:
    return item._projection_options.get(name)


def _get_common_kwargs_for_sublayer(self) -> dict[str, Any]:
    """The arguments that all projections share; initializers that draw are made anew for each."""
    options = {name: _option(self, name) for name in _OPTIONS if name != "activity_regularizer"}
    for name in ("kernel_initializer", "bias_initializer"):
        options[name] = type(options[name]).from_config(options[name].get_config())
    return options | {"dtype": self.dtype_policy}


def _build_attention(self, rank: int) -> None:
    """Settles what is attended over, for projected arrays of `rank` axes."""
    axes = range(1, rank - 2) if self.attention_axes is None else self.attention_axes
    self.attended_axes = tuple(axis % rank for axis in axes)


def _equations(item) -> tuple[str, str]:
    """The equations of the scores, of key and query, and of the outputs, of weights and value."""
    axes = item.attended_axes
    rank = max(axes) + 3
    query = string.ascii_lowercase[:rank]
    other = dict(zip(axes, string.ascii_lowercase[rank:], strict=False))
    key = "".join(other.get(axis, letter) for axis, letter in enumerate(query))
    kept = "".join(letter for axis, letter in enumerate(query[:-1]) if axis not in axes)
    scores = kept + "".join(query[axis] for axis in axes) + "".join(other.values())
    return f"{key},{query}->{scores}", f"{scores},{key}->{query}"


@functools.cache
def _softmax_over(num_axes: int, policy: str) -> Softmax:
    return Softmax(axis=tuple(range(-num_axes, 0)), dtype=policy)


def _softmax(item) -> Softmax:
    return _softmax_over(len(item.attended_axes), item.dtype_policy.name)


def _masked_softmax(self, attention_scores, attention_mask=None) -> Any:
    """The weights of scores `(batch, heads, queries, keys)`; the mask may lack the heads."""
    if attention_mask is not None:
        for _ in range(len(attention_scores.shape) - len(attention_mask.shape)):
            attention_mask = attention_mask[:, None]
    return _softmax(self)(attention_scores, mask=attention_mask)


def _dropout_of(item) -> Any:
    return lambda weights, training=None: item.drop(weights) if training and item.dropout else weights


ATTRIBUTES: dict[str, Any] = (
    {
        f"_{name}": Alias(name)
        for name in ("query_dense", "key_dense", "value_dense", "output_dense", "key_dim", "num_heads", "value_dim")
        + ("use_bias", "dropout", "attention_axes", "flash_attention")
    }
    | {f"_{name}": Lent(functools.partial(_option, name=name)) for name in _OPTIONS}
    | {
        "_output_shape": Lent(lambda item: item.output_sizes),
        "_inverse_sqrt_key_dim": Lent(lambda item: item.key_dim**-0.5),
        "_dot_product_equation": Lent(lambda item: _equations(item)[0]),
        "_combine_equation": Lent(lambda item: _equations(item)[1]),
        "_softmax": Lent(_softmax),
        "_dropout_layer": Lent(_dropout_of),
        "_masked_softmax": _masked_softmax,
        "_build_attention": _build_attention,
        "_get_common_kwargs_for_sublayer": _get_common_kwargs_for_sublayer,
    }
)
