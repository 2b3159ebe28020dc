"""What goes into an `Engine` and comes out of it."""

import queue
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from kerax.language.sampling import Sampling


class NewToken(NamedTuple):
    """A token of an answer; the log probabilities are 0 and empty where they were not asked for."""

    token: int
    log_probability: float
    top: list[tuple[int, float]]


class News(NamedTuple):
    """What a dispatch brought a request: tokens, and with the last ones `"stop"` or `"length"`, or what went wrong."""

    tokens: list[NewToken]
    finish_reason: str | None = None
    error: Exception | None = None


class Dispatch(NamedTuple):
    """A program that was run: `"prefill"` or `"decode"`, the tokens that it read or made, and what there is to do."""

    kind: str
    num_tokens: int
    slots_in_use: int
    waiting: int


class QueueFull(RuntimeError):
    """As many requests wait as may."""


class Request:
    """A prompt in an engine, and what follows it.

    Iterating over it gives the new tokens as they come, `result()` all of them.

    Attributes:
        finish_reason: `"stop"` or `"length"` after the last token.
    """

    def __init__(self, tokens: np.ndarray, most: int, sampling: Sampling, tell: Callable[[News], Any] | None):
        self.tokens, self.max_new_tokens, self.sampling = tokens, most, sampling
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self.tell = tell or self._news.put
        self.is_cancelled, self.finish_reason = False, None

    def cancel(self) -> None:
        """Gives the request up: its slot is free from the next step on."""
        self.is_cancelled = True

    def __iter__(self) -> Iterator[NewToken]:
        while self.finish_reason is None:
            news = self._news.get()
            if news.error is not None:
                raise news.error
            yield from news.tokens
            self.finish_reason = news.finish_reason

    def result(self) -> list[int]:
        """The new tokens, once all are there. Raises what went wrong."""
        return [new.token for new in self]
