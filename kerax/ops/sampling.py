"""The next token of logits `(rows, vocabulary)`: which tokens may follow, and drawing one of them.

Every option is an array with a number for each row, so that no other number needs another program.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Options = dict[str, Any]
_NEVER = -jnp.inf


def penalized(logits, seen, penalty):
    """Logits with those of tokens in `seen (rows, vocabulary)` divided by the penalty, negative ones multiplied.

    Source: Keskar et al. 2019, https://arxiv.org/abs/1909.05858
    """
    penalty = penalty[:, None]
    return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def filtered(logits, options: Options):
    """Logits divided by the temperature, and -inf for tokens that may not follow.

    Args:
        options: `temperature`, above 0, or 0 for the likeliest token alone; `top_k`: so many tokens stay, and those
            as likely as the last of them; `top_p`: the likeliest stay that have so much probability together;
            `min_p`: those stay that have this fraction of the largest probability. Each acts on what the one before
            left. Missing ones do nothing, as do `top_k` of 0, `top_p` of 1 and `min_p` of 0.

    Sources: top-p: Holtzman et al. 2019, https://arxiv.org/abs/1904.09751; min-p: Nguyen et al. 2024,
        https://arxiv.org/abs/2407.01082
    """
    options = {name: value[:, None] for name, value in options.items()}
    temperature = options["temperature"]
    likeliest = logits >= jnp.max(logits, axis=-1, keepdims=True)
    found = logits / jnp.where(temperature > 0, temperature, 1)
    if "top_k" in options:
        k = jnp.where(options["top_k"] > 0, options["top_k"], found.shape[-1])
        found = _kept(found, _threshold(found, lambda kept: jnp.sum(kept, axis=-1, keepdims=True) >= k))
    if "top_p" in options:
        chances, p = jax.nn.softmax(found), options["top_p"]
        least = _threshold(found, lambda kept: jnp.sum(jnp.where(kept, chances, 0), axis=-1, keepdims=True) >= p)
        found = jnp.where(p < 1, _kept(found, least), found)
    if "min_p" in options:
        largest = jnp.max(found, axis=-1, keepdims=True)
        found = _kept(found, largest + jnp.log(options["min_p"]))
    # Of several likeliest the first, as `argmax` has it.
    first = likeliest & (jnp.cumsum(likeliest, axis=-1) == 1)
    return jnp.where((temperature > 0) | first, found, _NEVER)


def _kept(logits, least):
    least = jnp.minimum(least, jnp.max(logits, axis=-1, keepdims=True))  # one always stays
    return jnp.where(logits >= least, logits, _NEVER)


def _threshold(values, is_enough: Callable):
    """The largest number such that `is_enough` of the values at or above it, for each row `(rows, 1)`.

    Found by halving: 32 looks at the values, where sorting 50,000 of them takes ten times as long on CPU.
    """

    def as_float(order):  # integers in the order of the floats that they stand for
        return lax.bitcast_convert_type(jnp.where(order < 0, order ^ jnp.int32(0x7FFFFFFF), order), jnp.float32)

    def halve(_, bounds):
        low, high = bounds
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        holds = is_enough(values >= as_float(middle))
        return jnp.where(holds, middle, low), jnp.where(holds, high, middle)

    rows = (values.shape[0], 1)
    # From -inf, at which all are, up to just above inf.
    bounds = jnp.full(rows, -0x7F800001, jnp.int32), jnp.full(rows, 0x7F800001, jnp.int32)
    return as_float(lax.fori_loop(0, 32, halve, bounds)[0])


def draw(logits, keys):
    """A token for each row, drawn from the softmax of its logits with its key.

    It is where a uniform number falls among the sums of the chances, looked for among blocks of tokens and then in one.
    A random number for each of 50,000 tokens takes 25 ms of a CPU core for 16 rows, this takes 1.3.
    """
    rows, size = logits.shape
    width = max(math.isqrt(size), 1)
    count = -(-size // width)
    chances = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    chances = jnp.pad(chances, ((0, 0), (0, count * width - size))).reshape(rows, count, width)
    sums = jnp.sum(chances, axis=-1)  # (rows, blocks)
    ends = jnp.cumsum(sums, axis=-1)
    number = jax.vmap(jax.random.uniform)(keys) * ends[:, -1]
    block = _place(ends, sums, number)[:, None]
    inside = jnp.take_along_axis(chances, block[..., None], axis=1)[:, 0]  # (rows, width)
    before = jnp.take_along_axis(ends - sums, block, axis=1)[:, 0]
    return (block[:, 0] * width + _place(jnp.cumsum(inside, axis=-1), inside, number - before)).astype(jnp.int32)


def _place(ends, parts, number):
    """The first of the parts that ends above the number; rounding may have it above all: then the last that counts."""
    last = parts.shape[-1] - 1 - jnp.argmax(parts[:, ::-1] > 0, axis=-1)
    return jnp.minimum(jnp.sum(ends <= number[:, None], axis=-1), last)


def log_probability(logits, tokens):
    """The logarithm of the probability of each row's token under the logits."""
    chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)
