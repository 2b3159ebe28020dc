"""Connectionist temporal classification: the loss and its two decoders. Source: https://doi.org/10.1145/1143844.1143891"""

import jax
import jax.numpy as jnp
import optax

from kerax.ops.lifting import op

__all__ = ["ctc_decode", "ctc_loss"]


@op
def ctc_loss(target, output, target_length, output_length, mask_index=0):
    """`-log` of the probability of the labels, summed over all ways to spread them over the frames: `(batch,)`.

    Args:
        target: Class indices `(batch, length)`. output: Logits `(batch, frames, classes)`.
        target_length, output_length: How many labels and frames of each row count, `(batch,)`.
        mask_index: Index of the blank.
    """
    target, output = jnp.asarray(target).astype(jnp.int32), jnp.asarray(output)
    if target.ndim != 2 or output.ndim != 3:
        raise ValueError(
            f"ctc_loss: expected `target` (batch, length) and `output` (batch, frames, classes). "
            f"Got {target.shape} and {output.shape}."
        )
    # Hundreds of logarithms are added up: in half precision nothing would be left of their differences.
    logits = output.astype(jnp.promote_types(output.dtype, jnp.float32))
    beyond = lambda count, lengths: (jnp.arange(count) >= jnp.asarray(lengths)[:, None]).astype(logits.dtype)
    paddings = beyond(output.shape[1], output_length), beyond(target.shape[1], target_length)
    return optax.ctc_loss(logits, paddings[0], target, paddings[1], blank_id=mask_index)


@op
def ctc_decode(
    inputs, sequence_lengths, strategy="greedy", beam_width=100, top_paths=1, merge_repeated=True, mask_index=0
):
    """The most probable labels of frames.

    Args:
        inputs: Logits `(batch, frames, classes)`.
        sequence_lengths: How many frames of each row count, `(batch,)`.
        strategy: `"greedy"` takes the best class of each frame; `"beam_search"` adds up the ways to the same labels.
        beam_width: How many prefixes the beam search keeps.
        top_paths: How many label sequences it returns.
        merge_repeated: Whether equal neighbours are one label; with `"greedy"` only.
        mask_index: Index of the blank.

    Returns: labels `(paths, batch, frames)`, filled with -1, and scores `(batch, paths)`: log probabilities for
    `"beam_search"`, minus the sum of the largest inputs for `"greedy"`.
    """
    inputs, lengths = jnp.asarray(inputs), jnp.asarray(sequence_lengths)
    if strategy == "greedy":
        labels, scores = jax.vmap(lambda x, n: _greedy(x, n, merge_repeated, mask_index))(inputs, lengths)
        return labels[None], scores[:, None]
    if strategy != "beam_search":
        raise ValueError(f"ctc_decode: `strategy` must be 'greedy' or 'beam_search'. Got {strategy!r}.")
    if top_paths > beam_width:
        raise ValueError(f"ctc_decode: `top_paths` must be at most beam_width={beam_width}. Got {top_paths}.")
    labels, scores = jax.vmap(lambda x, n: _beam_search(x, n, beam_width, top_paths, mask_index))(inputs, lengths)
    return jnp.swapaxes(labels, 0, 1), scores


def _greedy(inputs, length, merge_repeated, blank):
    counts = jnp.arange(len(inputs)) < length
    best = jnp.argmax(inputs, -1).astype(jnp.int32)
    keeps = counts & (best != blank)
    if merge_repeated:
        keeps &= best != jnp.concatenate([jnp.full((1,), -1, best.dtype), best[:-1]])
    # What is not kept gets a place behind the end, where nothing is written.
    places = jnp.where(keeps, jnp.cumsum(keeps) - 1, len(inputs))
    labels = jnp.full(len(inputs), -1, jnp.int32).at[places].set(best, mode="drop")
    return labels, -jnp.sum(jnp.where(counts, jnp.max(inputs, -1), 0))


def _beam_search(inputs, length, width, paths, blank):
    """Prefixes with the log probabilities that they end in a blank, and in their last label."""
    frames, classes = inputs.shape
    log_probabilities = jax.nn.log_softmax(inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32)))
    never = jnp.full(width, -jnp.inf, log_probabilities.dtype)
    start = jnp.full((width, frames), -1, jnp.int32), jnp.zeros(width, jnp.int32), never.at[0].set(0.0), never

    def step(beam, frame):
        time, log_p = frame
        prefixes, sizes, in_blank, in_label = beam
        rows = jnp.arange(width)
        last = jnp.where(sizes > 0, prefixes[rows, sizes - 1], blank)
        total = jnp.logaddexp(in_blank, in_label)
        stays_label = jnp.where(sizes > 0, in_label + log_p[last], -jnp.inf)
        is_last = jnp.arange(classes) == last[:, None]
        grown = jnp.where(is_last, in_blank[:, None], total[:, None]) + log_p  # (prefix, class)
        grown = grown.at[:, blank].set(-jnp.inf)
        # Prefix v of the beam that is prefix w and one label more gets what w grows into.
        parents = prefixes.at[rows, sizes - 1].set(-1)
        same = jnp.all(parents[:, None] == prefixes[None], -1) & (sizes[:, None] == sizes + 1)  # (v, w)
        same &= jnp.isfinite(total)[:, None] & jnp.isfinite(total)
        into = jnp.where(same, grown[:, last].T, -jnp.inf)
        stays_label = jnp.logaddexp(stays_label, jax.nn.logsumexp(into, 1))
        taken = jnp.einsum("vw,vc->wc", same.astype(jnp.float32), jax.nn.one_hot(last, classes)) > 0
        grown = jnp.where(taken, -jnp.inf, grown)
        stays_blank = total + log_p[blank]
        candidates = jnp.concatenate([jnp.logaddexp(stays_blank, stays_label), grown.ravel()])
        _, best = jax.lax.top_k(candidates, width)
        is_grown = best >= width
        source = jnp.where(is_grown, (best - width) // classes, best)
        label = (best - width) % classes
        new = prefixes[source]
        extended = new.at[rows, sizes[source]].set(label, mode="drop")
        after = (
            jnp.where(is_grown[:, None], extended, new),
            sizes[source] + is_grown,
            jnp.where(is_grown, -jnp.inf, stays_blank[source]),
            jnp.where(is_grown, candidates[best], stays_label[source]),
        )
        return jax.tree.map(lambda old, new: jnp.where(time < length, new, old), beam, after), None

    (prefixes, _, in_blank, in_label), _ = jax.lax.scan(step, start, (jnp.arange(frames), log_probabilities))
    scores, best = jax.lax.top_k(jnp.logaddexp(in_blank, in_label), paths)
    return prefixes[best], scores
