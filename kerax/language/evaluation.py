"""`harness_model`: a language model as the package `lm_eval` wants it, for its tasks."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerax.errors import check_integers
from kerax.language.models import TOKENS
from kerax.language.scoring import NEXT, WEIGHT, Scores

_SAMPLING = ("top_k", "top_p", "min_p")


def harness_model(
    model: Any, tokenizer: Any, length: int = 2048, batch_size: int = 8, max_new_tokens: int = 256
) -> Any:
    """An `lm_eval.api.model.LM`, for `lm_eval.simple_evaluate(model=...)`.

    Args:
        model: From tokens to logits.
        tokenizer: A `Tokenizer`.
        length: Most tokens that the model looks at: of longer texts the last.
        batch_size: Rows at a time.
        max_new_tokens: Of tasks that generate and do not say how many.

    Raises:
        ImportError: if `lm_eval` is not installed.
    """
    try:
        base = importlib.import_module("lm_eval.api.model").LM
    except ImportError as error:
        raise ImportError("harness_model: evaluation by tasks needs lm_eval: pip install lm_eval") from error
    check_integers("harness_model", length=(length, 2), batch_size=(batch_size, 1), max_new_tokens=(max_new_tokens, 1))
    options = {"model": model, "tokenizer": tokenizer, "length": length, "batch_size": batch_size}
    return type("HarnessModel", (_Harness, base), {})(options | {"max_new_tokens": max_new_tokens})


class _Harness:
    """What `lm_eval` asks a model for. Its own class comes second, for it is there only if the package is."""

    def __init__(self, options: dict):
        super().__init__()
        self.options, self.tokenizer = options, options["tokenizer"]

    @property
    def tokenizer_name(self) -> str:
        """By which `lm_eval` tells what it has kept of one tokenizer from that of another."""
        return f"kerax-{self.tokenizer.vocabulary_size}"

    def apply_chat_template(self, chat_history: list[dict], add_generation_prompt: bool = True) -> str:
        """The text of a chat."""
        return self.tokenizer.apply_chat_template(chat_history, add_generation_prompt, tokenize=False)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """For each context and continuation the log-probability of that, and whether it is the likeliest."""
        rows = []
        for context, continuation in (request.args for request in requests):
            # Together, as they would be read; spaces between belong to the continuation.
            whole = self._encode(context + continuation)
            start = len(self._encode(context.rstrip())) if context.strip() else 0
            rows.append((whole, min(start, len(whole) - 1)))
        return [(score, bool(is_likeliest)) for score, is_likeliest in self._score(rows)]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """The log-probability of each text, of which each token is predicted once, from all that fits before it."""
        size, found = self.options["length"], []
        for (text,) in (request.args for request in requests):
            ids, rows = [self._first(), *self._encode(text)], []
            for start in range(0, len(ids) - 1, size):
                end = min(start + size, len(ids) - 1)
                first = max(end - size, 0)
                rows.append((ids[first : end + 1], start + 1 - first))
            found.append(sum(score for score, _ in self._score(rows, with_first=False)))
        return found

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """What follows each context, up to the first of the texts that end it."""
        model, texts = self.options["model"], []
        for context, given in (request.args for request in requests):
            until = given.get("until") or []
            until = [until] if isinstance(until, str) else list(until)
            count = given.get("max_gen_toks", self.options["max_new_tokens"])
            prompt = self._encode(context) or [self._first()]
            temperature = given.get("temperature", 1.0) if given.get("do_sample") else 0.0
            sampling = {name: given[name] for name in _SAMPLING if temperature and name in given}
            stops = {"stop_tokens": self.tokenizer.stop_tokens, "stop_strings": until, "tokenizer": self.tokenizer}
            kept = prompt[-max(self.options["length"] - count, 1) :]
            found = model.generate(kept, count, temperature=temperature, **stops, **sampling)
            text = self.tokenizer.decode(found)
            ends = [text.index(one) for one in until if one in text]
            texts.append(text[: min(ends)] if ends else text)
        return texts

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _first(self) -> int:
        """What stands before a text: the token of a beginning, else of an end."""
        named = self.tokenizer.special_tokens
        known = [self.tokenizer.token_id(named.get(name, "")) for name in ("bos_token", "eos_token")]
        return next((number for number in known if number is not None), self.tokenizer.pad_id)

    def _score(self, rows: list[tuple[list[int], int]], with_first: bool = True) -> list[tuple[float, float]]:
        """The log-probability of each row's tokens from an index on, and whether all of them are the likeliest."""
        rows = [([self._first(), *ids], start + 1) for ids, start in rows] if with_first else rows
        most = self.options["length"] + 1
        rows = [(ids[-most:], start - max(len(ids) - most, 0)) for ids, start in rows]
        width = -(-max(len(ids) for ids, _ in rows) // 16) * 16  # few lengths, few programs
        shape = len(rows), width
        given = {TOKENS: np.zeros(shape, np.int32), NEXT: np.zeros(shape, np.int32), WEIGHT: np.zeros(shape, "float32")}
        for row, (ids, start) in enumerate(rows):
            size = len(ids) - 1
            given[TOKENS][row, :size], given[NEXT][row, :size] = ids[:-1], ids[1:]
            given[WEIGHT][row, max(start, 1) - 1 : size] = 1
        scores = Scores(self.options["model"], with_likeliest=True)
        return scores.predict(given, batch_size=self.options["batch_size"], verbose=0).tolist()
