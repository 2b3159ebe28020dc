"""The programs of `Engine`: one that adds tokens to all slots, and those that bring a prompt into one slot.

A slot is a row of the cache. What a program is compiled for does not depend on the requests: their numbers are arrays
with an entry for each slot, so that nothing is compiled for a request.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from kerax.core import placement
from kerax.ops import sampling

Settings = dict[str, Any]
MOST_STOPS = 16  # tokens that end a request


class Memory(NamedTuple):
    """What stays on the device from one program to the next. It is donated: nothing of it is copied."""

    cache: Any  # of the model, with a row for each slot
    counts: Any  # (slots, vocabulary), int32, how often a request has got each token
    seen: Any  # (slots, vocabulary), bool, tokens of prompts and what followed
    bias: Any  # (slots, vocabulary), what requests add to the logits


class Rows(NamedTuple):
    """Where each slot stands."""

    token: Any  # (slots,), the last known, which the model has not seen yet
    position: Any  # (slots,), its position
    is_active: Any  # (slots,), whether it gets tokens: free ones do not, nor those whose prompt is not whole yet


class Emitted(NamedTuple):
    """The new tokens of a dispatch, in the first columns."""

    tokens: Any  # (slots, columns)
    count: Any  # (slots,)
    log_probabilities: Any  # (slots, columns), of the logits as the model makes them
    top_tokens: Any  # (slots, columns, number), the likeliest
    top_log_probabilities: Any


def empty_memory(model, slots: int, length: int, vocabulary: int, cache_dtype: Any) -> Memory:
    """A memory of no requests."""
    zeros = [jnp.zeros((slots, vocabulary), dtype) for dtype in (jnp.int32, jnp.bool_, jnp.float32)]
    return Memory(model.init_cache(slots, length, cache_dtype), *placement.place(zeros))


def decoding(model, length: int, num_columns: int, num_top: int) -> Callable:
    """A token for each active slot, `num_steps` times, at most `num_columns`: `run(variables, memory, rows, settings,
    num_steps, ends_early) -> emitted, memory`.

    It ends before that if no slot is active any more, or with `ends_early` once one is not: somebody waits for it.
    """

    def run(variables, memory: Memory, rows: Rows, settings: Settings, num_steps, ends_early):
        num_slots = rows.token.shape[0]
        wanted = (num_slots, num_columns)
        emitted = Emitted(
            jnp.zeros(wanted, jnp.int32),
            jnp.zeros(num_slots, jnp.int32),
            jnp.zeros(wanted, jnp.float32),
            jnp.zeros((*wanted, num_top), jnp.int32),
            jnp.zeros((*wanted, num_top), jnp.float32),
        )

        def goes_on(carry):
            index, _, now, _ = carry
            has_ended = (now.is_active != rows.is_active).any()
            return (index < num_steps) & now.is_active.any() & ~(ends_early & has_ended)

        def turn(carry):
            index, memory, now, emitted = carry
            # Beyond the cache, where nothing is written: another prompt may be on its way into such a slot.
            place = jnp.where(now.is_active, now.position, length)
            logits, _, cache = model.apply(
                variables, now.token[:, None], cache=memory.cache, positions=place, training=False
            )
            logits = logits[:, 0].astype(jnp.float32)
            token = _drawn(logits, memory, now, settings)
            emitted = _with_chances(logits, token, index, now, settings, emitted)
            return index + 1, _counted(memory, cache, token, now), _advanced(token, now, settings), emitted

        found = lax.while_loop(goes_on, turn, (jnp.int32(0), memory, rows, emitted))
        return found[3], found[1]

    return run


def _drawn(logits, memory: Memory, now: Rows, settings: Settings):
    """The next token of each slot. What no active slot asks for is not computed, and changes no bit of the others."""

    def is_asked(which):
        return (which & now.is_active).any()

    changes = ("repetition_penalty", 1), ("presence_penalty", 0), ("frequency_penalty", 0), ("has_bias", False)
    is_changed = jnp.stack([settings[name] != nothing for name, nothing in changes]).any(0)
    logits = lax.cond(is_asked(is_changed), lambda: _changed(logits, memory, settings), lambda: logits)
    is_drawn = settings["temperature"] > 0

    def filtered(*names):
        return sampling.filtered(logits, {name: settings[name] for name in ("temperature", *names)})

    def draw():
        # Each looks at all logits 32 times.
        has_k, has_p = (is_asked(is_drawn & (settings[name] != no)) for name, no in (("top_k", 0), ("top_p", 1)))
        ways = [("min_p",), ("top_k", "min_p"), ("top_p", "min_p"), ("top_k", "top_p", "min_p")]
        chosen = lax.switch(has_k + 2 * has_p, [functools.partial(filtered, *names) for names in ways])
        keys = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(settings["keys"]), now.position)
        return sampling.draw(chosen, keys)

    return lax.cond(is_asked(is_drawn), draw, lambda: jnp.argmax(logits, axis=-1).astype(jnp.int32))


def _changed(logits, memory: Memory, settings: Settings):
    logits = sampling.penalized(logits, memory.seen, settings["repetition_penalty"])
    presence, frequency = settings["presence_penalty"][:, None], settings["frequency_penalty"][:, None]
    return logits - presence * (memory.counts > 0) - frequency * memory.counts + memory.bias


def _with_chances(logits, token, index, now: Rows, settings: Settings, emitted: Emitted) -> Emitted:
    """What is emitted with the tokens of a step, and how likely they were where somebody asks."""
    num_top = emitted.top_tokens.shape[-1]

    def with_top():
        chances = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        values, tokens = lax.top_k(chances, num_top)
        return sampling.log_probability(logits, token), tokens, values

    def without():
        shape = (len(token), num_top)
        return jnp.zeros(token.shape), jnp.zeros(shape, jnp.int32), jnp.zeros(shape)

    chance, tokens, values = lax.cond((settings["has_chances"] & now.is_active).any(), with_top, without)
    return Emitted(
        emitted.tokens.at[:, index].set(token),
        emitted.count + now.is_active,
        emitted.log_probabilities.at[:, index].set(chance),
        emitted.top_tokens.at[:, index].set(tokens),
        emitted.top_log_probabilities.at[:, index].set(values),
    )


def _counted(memory: Memory, cache, token, now: Rows) -> Memory:
    slots = jnp.arange(token.shape[0])
    kept = jnp.where(now.is_active, token, memory.counts.shape[1])
    counts = memory.counts.at[slots, kept].add(1, mode="drop")
    return Memory(cache, counts, memory.seen.at[slots, kept].set(True, mode="drop"), memory.bias)


def _advanced(token, now: Rows, settings: Settings) -> Rows:
    position = now.position + now.is_active
    ends = (token[:, None] == settings["stops"]).any(-1) | (position >= settings["last"])
    return Rows(jnp.where(now.is_active, token, now.token), position, now.is_active & ~ends)


def prefilling(model) -> Callable:
    """A piece of a prompt, `tokens (1, size)`, seen by the model: `run(variables, memory, tokens, slot, start)`.

    What fills the piece up is seen too, behind the prompt, where the tokens that follow it come to lie.
    """

    def run(variables, memory: Memory, tokens, slot, start) -> Memory:
        own = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, slot, 1), memory.cache)
        own = model.apply(variables, tokens, cache=own, positions=start[None], training=False)[2]

        def put(leaf, part):
            return lax.dynamic_update_slice_in_dim(leaf, part, slot, 0)

        return memory._replace(cache=jax.tree.map(put, memory.cache, own))

    return run


def entering() -> Callable:
    """A new request in a slot: `run(memory, slot, seen, bias)`, `seen (vocabulary,)` the tokens of its prompt."""

    def run(memory: Memory, slot, seen, bias) -> Memory:
        counts = memory.counts.at[slot].set(0)
        return Memory(memory.cache, counts, memory.seen.at[slot].set(seen), memory.bias.at[slot].set(bias))

    return run
