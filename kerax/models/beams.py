"""Beam search: the likeliest of several continuations that are followed at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from kerax.models.decoding import Rules, State, next_logits

_NEVER = -1e9  # a score below all others, but not -inf, whose differences are NaN


class Beams(NamedTuple):
    """A state with `rows * num_beams` rows, and what has ended so far of each prompt."""

    live: State
    scores: Any  # (rows, beams), log probabilities of the live ones
    ended: Any  # (rows, beams, length), tokens of those that ended
    ended_scores: Any  # (rows, beams)
    ended_positions: Any  # (rows, beams)
    starts: Any  # (rows,), positions of the prompts' last tokens
    is_done: Any  # (rows,)


def starting(begin: Callable, num_beams: int) -> Callable:
    """What makes the first state of prompts, of what makes that without beams."""

    def start(*arguments) -> Beams:
        state = begin(*arguments)
        rows, length = state.tokens.shape
        live = jax.tree.map(lambda leaf: jnp.repeat(leaf, num_beams, axis=0), state)
        scores = jnp.where(jnp.arange(num_beams) == 0, 0.0, _NEVER)  # all are alike: only one may go on
        shape = (rows, num_beams)
        return Beams(
            live,
            jnp.broadcast_to(scores, shape),
            jnp.zeros((*shape, length), jnp.int32),
            jnp.full(shape, _NEVER),
            jnp.zeros(shape, jnp.int32),
            state.positions,
            state.is_done,
        )

    return start


def step(model, rules: Rules, window: int | None, num_beams: int, length_penalty: float) -> Callable:
    """A step that lets the best `num_beams` continuations of each prompt go on."""

    def take(variables, beams: Beams, options: dict, stops) -> Beams:
        rows = beams.scores.shape[0]
        repeated = {name: jnp.repeat(value, num_beams) for name, value in options.items()}
        _, logits, cache = next_logits(model, variables[0], beams.live, rules, repeated, window)
        vocabulary = logits.shape[-1]
        totals = beams.scores[..., None] + jax.nn.log_softmax(logits).reshape(rows, num_beams, vocabulary)
        # Twice as many as go on: half of them may end here.
        scores, places = lax.top_k(totals.reshape(rows, -1), 2 * num_beams)
        parents, tokens = places // vocabulary, (places % vocabulary).astype(jnp.int32)
        before = jnp.take_along_axis(beams.live.positions.reshape(rows, num_beams), parents, axis=1)
        extended = _extended(beams.live.tokens, parents, tokens, before)
        positions = before[:, :1] + 1  # (rows, 1): all beams of a prompt are equally long
        ends = (tokens[..., None] == stops).any(-1) | (positions >= beams.live.last.reshape(rows, num_beams)[:, :1])
        lengths = (positions - beams.starts[:, None]).astype(jnp.float32)
        may_end = ends & (jnp.arange(2 * num_beams) < num_beams)
        found = _with_ended(beams, extended, jnp.where(may_end, scores / lengths**length_penalty, _NEVER), positions)
        going_on = jnp.where(ends, _NEVER, scores)
        scores, chosen = lax.top_k(going_on, num_beams)
        live = _moved(beams.live, jnp.take_along_axis(parents, chosen, axis=1), cache)
        kept = jnp.take_along_axis(extended, chosen[..., None], axis=1).reshape(live.tokens.shape)
        live = live._replace(tokens=kept, positions=live.positions + 1)
        if live.seen is not None:
            token = jnp.take_along_axis(tokens, chosen, axis=1).ravel()
            live = live._replace(seen=live.seen.at[jnp.arange(token.size), token].set(True))
        # Done when no live beam can come before the worst that ended.
        best = jnp.max(scores, axis=1) / lengths[:, 0] ** length_penalty
        is_done = beams.is_done | (jnp.min(found[1], axis=1) >= best) | (jnp.max(scores, axis=1) <= _NEVER)
        renewed = beams._replace(live=live, scores=scores, is_done=is_done)
        renewed = renewed._replace(ended=found[0], ended_scores=found[1], ended_positions=found[2])
        # A prompt that is done stays as it is.
        return jax.tree.map(
            lambda new, old: _where_going_on(beams.is_done, new, old),
            renewed,
            beams._replace(live=beams.live._replace(cache=live.cache)),
        )

    return take


def best(beams: Beams) -> State:
    """The best continuation of each prompt."""
    num_beams = beams.scores.shape[1]
    state = jax.tree.map(lambda leaf: leaf[::num_beams], beams.live)
    index = jnp.argmax(beams.ended_scores, axis=1)[:, None]
    return state._replace(
        tokens=jnp.take_along_axis(beams.ended, index[..., None], axis=1)[:, 0],
        positions=jnp.take_along_axis(beams.ended_positions, index, axis=1)[:, 0],
        is_done=beams.is_done,
    )


def _where_going_on(is_done, new, old):
    if new is old:
        return new
    rows = jnp.repeat(is_done, new.shape[0] // is_done.shape[0])
    return jnp.where(rows.reshape(-1, *[1] * (new.ndim - 1)), old, new)


def _extended(tokens, parents, new, positions):
    """The tokens `(rows, candidates, length)` of each candidate: its parent's, and a new one after these."""
    rows, num_candidates = parents.shape
    each = jnp.take_along_axis(tokens.reshape(rows, -1, tokens.shape[-1]), parents[..., None], axis=1)
    index = jnp.arange(rows)[:, None], jnp.arange(num_candidates)
    return each.at[*index, positions + 1].set(new, mode="drop")


def _with_ended(beams: Beams, tokens, scores, positions) -> tuple:
    """The best of what ended before and of candidates, with score `_NEVER` where they did not end."""
    scores = jnp.concatenate([beams.ended_scores, scores], axis=1)
    tokens = jnp.concatenate([beams.ended, tokens], axis=1)
    positions = jnp.broadcast_to(positions, (positions.shape[0], scores.shape[1] - beams.ended_scores.shape[1]))
    positions = jnp.concatenate([beams.ended_positions, positions], axis=1)
    scores, index = lax.top_k(scores, beams.ended_scores.shape[1])
    tokens = jnp.take_along_axis(tokens, index[..., None], axis=1)
    return tokens, scores, jnp.take_along_axis(positions, index, axis=1)


def _moved(state: State, parents, cache) -> State:
    """The state with each beam in the place of one of its continuations."""
    rows, num_beams = parents.shape
    index = (parents + num_beams * jnp.arange(rows)[:, None]).ravel()
    return jax.tree.map(lambda leaf: leaf[index], state._replace(cache=cache))
