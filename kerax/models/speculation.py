"""Speculative decoding: a small model proposes tokens, the model accepts those that it would have drawn itself."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from kerax.models.decoding import Rules, State
from kerax.ops import sampling

_PROPOSE, _ACCEPT, _REPLACE = range(3)


def step(model, draft, num_drafts: int, rules: Rules) -> Callable:
    """A step that adds one to `num_drafts + 1` tokens to each row, as if the model had drawn them one by one.

    A proposed token of probability `q` by the draft and `p` by the model is accepted with probability `min(1, p / q)`;
    for the first that is not, one is drawn from what is left, `max(p - q, 0)`. Together they have the model's own
    distribution. Source: Leviathan et al. 2022, https://arxiv.org/abs/2211.17192
    """

    def take(variables, state: State, options: dict, stops) -> State:
        own, drafts = variables
        cache, draft_cache = state.cache
        last = jnp.take_along_axis(state.tokens, state.positions[:, None], axis=1)  # (rows, 1)

        def propose(carry, index):
            token, cache = carry
            positions = state.positions + index
            logits, _, cache = draft.apply(drafts, token, cache=cache, positions=positions, training=False)
            logits = sampling.filtered(logits[:, 0].astype(jnp.float32), options)
            token = sampling.draw(logits, _keys(state, index, _PROPOSE))
            return (token[:, None], cache), (token, jax.nn.softmax(logits))

        # One more than are proposed: the draft's cache must hold the last of them, should all be accepted.
        (_, draft_cache), (tokens, chances) = lax.scan(propose, (last, draft_cache), jnp.arange(num_drafts + 1))
        proposed, chances = tokens[:num_drafts].T, jnp.moveaxis(chances[:num_drafts], 0, 1)  # (rows, drafts, ...)
        given = jnp.concatenate([last, proposed], axis=1)
        logits, _, cache = model.apply(own, given, cache=cache, positions=state.positions, training=False)
        logits = logits.astype(jnp.float32)  # (rows, drafts + 1, vocabulary)
        found = _chances(logits, options)
        num_accepted = _num_accepted(state, proposed, found, chances)
        replacement = _replacement(state, num_accepted, found, chances)
        place = jnp.arange(num_drafts + 1)
        padded = jnp.pad(proposed, ((0, 0), (0, 1)))
        tokens = jnp.where(place < num_accepted[:, None], padded, replacement[:, None])
        return _appended(state, tokens, num_accepted + 1, logits, stops, rules)._replace(cache=(cache, draft_cache))

    return take


def _keys(state: State, index, purpose: int) -> Any:
    """A key for each row's draw at a position. A position that is drawn for again had no part in what was kept."""
    keys = jax.vmap(jax.random.fold_in)(state.keys, state.positions + index)
    return jax.vmap(jax.random.fold_in, (0, None))(keys, purpose)


def _chances(logits, options: dict):
    rows, places = logits.shape[:2]
    options = {name: jnp.repeat(value, places) for name, value in options.items()}
    return jax.nn.softmax(sampling.filtered(logits.reshape(rows * places, -1), options)).reshape(logits.shape)


def _num_accepted(state: State, proposed, found, chances):
    """How many of each row's proposed tokens are accepted: those before the first that is not."""
    index = proposed[..., None]
    own = jnp.take_along_axis(found[:, :-1], index, axis=-1)[..., 0]
    theirs = jnp.take_along_axis(chances, index, axis=-1)[..., 0]
    places = jnp.arange(proposed.shape[1])
    level = jax.vmap(lambda place: jax.vmap(jax.random.uniform)(_keys(state, place, _ACCEPT)), out_axes=1)(places)
    return jnp.sum(jnp.cumprod(level * theirs < own, axis=1), axis=1)


def _replacement(state: State, num_accepted, found, chances):
    """The token after the accepted ones: from what the draft left of the model's distribution there."""
    place = num_accepted[:, None, None]
    own = jnp.take_along_axis(found, place, axis=1)[:, 0]
    theirs = jnp.take_along_axis(jnp.pad(chances, ((0, 0), (0, 1), (0, 0))), place, axis=1)[:, 0]
    left = jnp.maximum(own - theirs, 0)
    # Nothing is left where both are equal to the last bit; then nothing was refused but by rounding.
    left = jnp.where(jnp.sum(left, axis=-1, keepdims=True) > 0, left, own)
    return sampling.draw(jnp.log(left), _keys(state, num_accepted, _REPLACE))


def _appended(state: State, tokens, count, logits, stops, rules: Rules) -> State:
    """The state with the first `count (rows,)` of `tokens (rows, places)`, up to a stop and the wanted length."""
    places = jnp.arange(tokens.shape[1])
    is_stop = (tokens[..., None] == stops).any(-1)
    until_stop = jnp.where(is_stop.any(1), jnp.argmax(is_stop, axis=1) + 1, tokens.shape[1])
    count = jnp.minimum(jnp.minimum(count, until_stop), state.last - state.positions)
    count = jnp.where(state.is_done, 0, count)
    rows = jnp.arange(tokens.shape[0])[:, None]
    columns = jnp.where(places < count[:, None], state.positions[:, None] + 1 + places, state.tokens.shape[1])
    positions = state.positions + count
    stopped = (is_stop & (places < count[:, None])).any(1)
    found = state._replace(
        tokens=state.tokens.at[rows, columns].set(tokens, mode="drop"),
        positions=positions,
        is_done=state.is_done | stopped | (positions >= state.last),
    )
    if not rules.has_log_probabilities:
        return found
    kept = found.log_probabilities.at[rows, columns].set(sampling.log_probability(logits, tokens), mode="drop")
    return found._replace(log_probabilities=kept)
