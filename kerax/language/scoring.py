"""How likely a language model holds given tokens: perplexity, and preference optimization."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.errors import check_integers
from kerax.language.data import Example, cut
from kerax.language.models import TOKENS
from kerax.models import Model

NEXT, WEIGHT, REFERENCE = "next_tokens", "weight", "reference"


def _log_probabilities(model: Any, rows: dict[str, Any]):
    """`(batch,)`, both: sums of `weight` times the log-probability of each next token, in float32; whether all are the
    likeliest that have a weight."""
    logits = model({name: value for name, value in rows.items() if name not in (NEXT, WEIGHT)}).astype(jnp.float32)
    picked = jnp.take_along_axis(logits, rows[NEXT][..., None], axis=-1)[..., 0]
    is_likeliest = (jnp.argmax(logits, axis=-1) == rows[NEXT]) | (rows[WEIGHT] == 0)
    return jnp.sum((picked - jax.nn.logsumexp(logits, axis=-1)) * rows[WEIGHT], axis=-1), is_likeliest.all(-1)


class Scores(Model):
    """The log-probabilities of rows.

    Args:
        model: From tokens to logits.
        with_likeliest: Whether the outputs are `(batch, 2)`, the second number telling whether the tokens that have a
            weight are the likeliest.

    Call arguments: `inputs`, a dict of the model's inputs, of `"next_tokens"`, and of their `"weight"`.
    """

    def __init__(self, model: Model, with_likeliest: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.model, self.with_likeliest = model, with_likeliest

    def call(self, inputs: Any) -> Any:
        scores, is_likeliest = _log_probabilities(self.model, inputs)
        return jnp.stack([scores, is_likeliest.astype(scores.dtype)], axis=-1) if self.with_likeliest else scores


def perplexity(
    model: Any, ids: Sequence[int], length: int = 1024, stride: int | None = None, batch_size: int = 8, verbose=0
) -> float:
    """`exp` of the mean negative log-probability of each token but the first, given those before it in its window.

    Args:
        model: From tokens to logits.
        ids: The text, as `Tokenizer.encode` gives it.
        length: Most tokens that a window has before the one it predicts.
        stride: How far windows move on: in each only so many last tokens count, but for the first, and each token is
            counted once. Default: `length`; less takes longer and gives each token more to look back at.
        batch_size: Windows at a time.
        verbose: As in `predict`.

    Raises:
        ValueError: if there are fewer than two tokens, or `stride` is larger than `length`.
    """
    stride = length if stride is None else stride
    check_integers("perplexity", length=(length, 1), stride=(stride, 1), num_tokens=(len(ids), 2))
    if stride > length:
        raise ValueError(f"perplexity: `stride` must be at most `length`. Got stride={stride}, length={length}.")
    tokens = np.asarray(ids, np.int32)
    length = min(length, len(tokens) - 1)
    windows, done = [], 0
    while done < len(tokens) - 1:
        end = min(done + (stride if windows else length), len(tokens) - 1)
        windows.append((max(end - length, 0), done, end))
        done = end
    rows = {name: np.zeros((len(windows), length), np.int32) for name in (TOKENS, NEXT)}
    weight = np.zeros((len(windows), length), np.float32)
    for row, (start, counted, end) in enumerate(windows):
        size = end - start
        rows[TOKENS][row, :size], rows[NEXT][row, :size] = tokens[start:end], tokens[start + 1 : end + 1]
        weight[row, counted - start : size] = 1
    scores = Scores(model).predict(rows | {WEIGHT: weight}, batch_size=batch_size, verbose=verbose)
    return math.exp(-float(np.sum(scores, dtype="float64")) / float(weight.sum()))


class DirectPreference(Model):
    """A language model that learns to prefer one answer to another: how much more it does than it did before.

    The output is `beta * ((chosen - chosen before) - (rejected - rejected before))` of the log-probabilities of the
    answers, the logit of preferring rightly. Compile it with `BinaryCrossentropy(from_logits=True)` and targets of 1;
    `label_smoothing` is that of the loss.

    Args:
        model: The language model that is trained.
        beta: How far it may go from where it was: the less, the further.

    Call arguments: `inputs`, what `pairs` and then `with_reference` return.
    Output shape: `(batch,)`. Source: Rafailov et al. 2023, https://arxiv.org/abs/2305.18290
    """

    def __init__(self, model: Model, beta: float = 0.1, **kwargs):
        super().__init__(**kwargs)
        if beta <= 0:
            raise ValueError(f"{self}: `beta` must be above 0. Got {beta}.")
        self.model, self.beta = model, beta

    def call(self, inputs: Any) -> Any:
        rows = {name: jnp.concatenate([inputs[kind][name] for kind in _KINDS]) for name in inputs[_KINDS[0]]}
        chosen, rejected = jnp.split(_log_probabilities(self.model, rows)[0], 2)
        before = inputs[REFERENCE]
        return self.beta * ((chosen - before[:, 0]) - (rejected - before[:, 1]))

    def with_reference(self, inputs: dict, batch_size: int = 8, verbose=0) -> dict:
        """The inputs with what the model as it is now says of them, which training is compared with."""
        scores = Scores(self.model)
        each = [scores.predict(inputs[kind], batch_size=batch_size, verbose=verbose) for kind in _KINDS]
        return inputs | {REFERENCE: np.stack(each, axis=1).astype(np.float32)}


_KINDS = ("chosen", "rejected")


def pairs(chosen: Iterable[Example], rejected: Iterable[Example], length: int, pad_id: int = 0) -> dict[str, Any]:
    """Pairs of examples with the same prompt as inputs of `DirectPreference.with_reference`.

    Args:
        chosen, rejected: What `encode_example` returns, the better and the worse answer of each pair.
        length: Size of the rows; longer examples are cut off.
        pad_id: Id of what fills up shorter ones.

    Raises:
        ValueError: if there are not equally many, or an answer begins behind the end of its row.
    """
    found = {kind: list(each) for kind, each in zip(_KINDS, (chosen, rejected), strict=True)}
    kept = {kind: cut(each, length) for kind, each in found.items()}
    counts = {kind: (len(found[kind]), len(kept[kind])) for kind in _KINDS}
    if len(set(map(len, found.values()))) != 1 or any(before != after for before, after in counts.values()):
        raise ValueError(f"pairs: each example needs an answer within length={length}. Got {counts} (all, usable).")
    return {kind: _rows(each, length, pad_id) for kind, each in kept.items()}


def _rows(examples: Sequence[Example], length: int, pad_id: int) -> dict[str, np.ndarray]:
    shape = len(examples), length
    ids, following, weight = (
        np.full(shape, pad_id, np.int32),
        np.full(shape, pad_id, np.int32),
        np.zeros(shape, "float32"),
    )
    for row, example in enumerate(examples):
        size = len(example.ids) - 1
        ids[row, :size], following[row, :size] = example.ids[:-1], example.ids[1:]
        weight[row, :size] = example.is_answer[1:]
    return {TOKENS: ids, NEXT: following, WEIGHT: weight}
