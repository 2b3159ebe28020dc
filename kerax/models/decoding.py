"""Programs that generate: prompts through the model at once, then token after token, in one dispatch.

A row's token at position `p` lies in column `p` of `tokens` and at place `p` of the cache, so rows of unequal length
need no mask of their own: what lies behind a row's position is overwritten before anything looks at it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from kerax.ops import sampling

Tree = Any


class State(NamedTuple):
    """Where generation stands. It goes into each program and comes out of it."""

    tokens: Any  # (rows, length), prompts and what follows
    positions: Any  # (rows,), of the last known token, which the model has not seen yet
    last: Any  # (rows,), positions of the last tokens that are wanted
    is_done: Any  # (rows,)
    keys: Any  # (rows,), of random draws
    cache: Tree  # of the model; of speculative decoding a pair of caches
    seen: Any = None  # (rows, vocabulary), tokens of each row so far, where repetition is penalized
    log_probabilities: Any = None  # (rows, length), of generated tokens, where they are wanted


class Rules(NamedTuple):
    """How tokens follow: what a program is compiled for. The numbers are arrays that it gets."""

    is_greedy: bool  # whether all rows take the likeliest token
    is_penalized: bool = False
    has_log_probabilities: bool = False


def next_logits(
    model, variables, state: State, rules: Rules, options: dict, window: int | None
) -> tuple[Any, Any, Tree]:
    """Logits `(rows, vocabulary)` after the last known tokens, these with penalties, and the new cache.

    Args:
        window: Of a model without caches: the most tokens that it takes, or 0 for any number.
    """
    if window is None:
        token = jnp.take_along_axis(state.tokens, state.positions[:, None], axis=1)
        logits, _, cache = model.apply(variables, token, cache=state.cache, positions=state.positions, training=False)
        logits = logits[:, 0]
    else:
        logits, cache = _without_cache(model, variables, state, window), state.cache
    logits = logits.astype(jnp.float32)
    if not rules.is_penalized:
        return logits, logits, cache
    return logits, sampling.penalized(logits, state.seen, options["repetition_penalty"]), cache


def _without_cache(model, variables, state: State, window: int):
    """The logits, all computed anew: from the last `window` tokens, or from all."""
    tokens, column = state.tokens, state.positions
    if window:
        start = jnp.maximum(column + 1 - window, 0)
        tokens = jax.vmap(lambda row, first: lax.dynamic_slice(row, (first,), (window,)))(tokens, start)
        column = column - start
    logits, _ = model.apply(variables, tokens, training=False)
    return jnp.take_along_axis(logits, column[:, None, None], axis=1)[:, 0]


def keys_of(state: State) -> Any:
    """A key for each row's next draw. It depends on the row's own key and position, not on the rows around."""
    return jax.vmap(jax.random.fold_in)(state.keys, state.positions)


def advanced(state: State, token, log_probability, stops, cache: Tree) -> State:
    """The state with each row's next token in it; rows that are done stay as they are."""
    rows = jnp.arange(token.shape[0])
    going_on = ~state.is_done
    # Out of bounds, where nothing is written, for rows that are done.
    column = jnp.where(going_on, state.positions + 1, state.tokens.shape[1])
    positions = state.positions + going_on
    is_done = state.is_done | (token[:, None] == stops).any(-1) | (positions >= state.last)
    found = state._replace(
        tokens=state.tokens.at[rows, column].set(token, mode="drop"), positions=positions, is_done=is_done, cache=cache
    )
    if state.seen is not None:
        found = found._replace(seen=state.seen.at[rows, token].set(True))
    if state.log_probabilities is not None:
        kept = state.log_probabilities.at[rows, column].set(log_probability, mode="drop")
        found = found._replace(log_probabilities=kept)
    return found


def plain_step(model, rules: Rules, window: int | None) -> Callable:
    """A step that adds a token to each row: `step(variables, state, options, stops) -> state`."""

    def step(variables, state: State, options: dict, stops) -> State:
        plain, logits, cache = next_logits(model, variables[0], state, rules, options, window)
        if rules.is_greedy:
            token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        else:
            token = sampling.draw(sampling.filtered(logits, options), keys_of(state))
        chance = sampling.log_probability(plain, token) if rules.has_log_probabilities else None
        return advanced(state, token, chance, stops, cache)

    return step


def program(step: Callable) -> Callable:
    """Up to `num_steps` steps, fewer if all rows are done: `program(variables, state, options, stops, num_steps)`.

    The state is donated: the caches are renewed where they lie.
    """

    def run(variables, state: State, options: dict, stops, num_steps):
        def goes_on(carry):
            index, state = carry
            return (index < num_steps) & ~state.is_done.all()

        def turn(carry):
            index, state = carry
            return index + 1, step(variables, state, options, stops)

        return lax.while_loop(goes_on, turn, (jnp.int32(0), state))[1]

    return run


def starting(models: list, length: int, vocabulary: int, has_log_probabilities: bool, cache_dtype) -> Callable:
    """What makes the first state of prompts: `start(variables, tokens, lengths, last, keys)`, of all models' variables.

    The models see the prompts at once, but for each row's last token, which the first step begins with: so no logits of
    prompts are computed, which of a large vocabulary take a third of the time and most of the memory.

    Args:
        models: Those that have caches.
        length: Columns of the state's tokens, and places of the caches.
        vocabulary: Number of tokens, where repetition is penalized, else 0.
    """

    def start(variables, tokens, lengths, last, keys) -> State:
        rows, width = tokens.shape
        found = []
        for model, values in zip(models, variables, strict=False):
            cache = model.init_cache(rows, length, cache_dtype)
            found.append(model.apply(values, tokens, cache=cache, training=False)[2])
        seen = None
        if vocabulary:
            # Padding counts as the first token, which is there anyway.
            columns = jnp.where(jnp.arange(width) < lengths[:, None], tokens, tokens[:, :1])
            seen = jnp.zeros((rows, vocabulary), bool).at[jnp.arange(rows)[:, None], columns].set(True)
        return State(
            tokens=jnp.pad(tokens, ((0, 0), (0, length - width))),
            positions=lengths - 1,
            last=last,
            is_done=last < lengths,
            keys=keys,
            cache=found[0] if len(found) == 1 else tuple(found),
            seen=seen,
            log_probabilities=jnp.zeros((rows, length), jnp.float32) if has_log_probabilities else None,
        )

    return start
