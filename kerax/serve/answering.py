"""The answers to a request for text while an engine makes them: as a whole, or as they come."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import StreamingResponse

from kerax.language.requests import News, NewToken, QueueFull
from kerax.serve import completions
from kerax.serve.completions import ApiError, Asked
from kerax.serve.language import LanguageModel
from kerax.serve.tensors import RequestError
from kerax.serve.writing import Writer


class _Choice:
    """One answer on its way."""

    def __init__(self, writer: Writer, echo: str):
        self.writer, self.echo = writer, echo
        self.tokens: list[NewToken] = []
        self.num_made, self.num_told, self.reason = 0, 0, None

    def take(self, news: News) -> str:
        """The text that news make sure."""
        self.num_made += len(news.tokens)
        # What ends an answer is no part of it.
        piece = ""
        for new in news.tokens[:-1] if news.finish_reason == "stop" else news.tokens:
            self.tokens.append(new)
            piece += self.writer.push(new.token)
        self.reason = news.finish_reason
        if self.reason is not None:
            piece += self.writer.finish()
        if self.writer.is_stopped:
            self.reason = "stop"
        return piece

    def untold(self) -> slice:
        """The tokens whose log probabilities were not told yet."""
        end = self.writer.count_within()
        start, self.num_told = self.num_told, end
        return slice(start, end)


class Answers:
    """The answers to one request, while an engine makes them.

    Args:
        asked: The request.
        model: Who answers.
        timeout: Seconds until the next token, before it is given up.

    Attributes:
        first_at: When the first token came, on the clock of `time.perf_counter`.
    """

    def __init__(self, asked: Asked, model: LanguageModel, timeout: float):
        self.asked, self._timeout = asked, timeout
        self.first_at: float | None = None
        self._news: asyncio.Queue[tuple[int, News]] = asyncio.Queue()
        loop, decode = asyncio.get_running_loop(), model.tokenizer.decode
        self._requests = completions.requests(asked, model.engine)
        for index, request in enumerate(self._requests):
            request.tell = lambda news, index=index: _put(loop, self._news, (index, news))
        echoes = [echo for echo in asked.echoes for _ in range(asked.num_answers)]
        self.choices = [_Choice(Writer(decode, asked.stops), echo) for echo in echoes]
        try:
            model.engine.submit_all(self._requests)
        except QueueFull as error:
            raise ApiError(429, str(error), None, "rate_limit_exceeded", {"Retry-After": "1"}) from None
        except RuntimeError:
            raise ApiError(503, "the model is being replaced or ended.", headers={"Retry-After": "1"}) from None

    async def pieces(self) -> AsyncIterator[tuple[int, str]]:
        """Pieces of the answers as they come, each with the answer's index; the last of an answer has its reason."""
        left = len(self.choices)
        try:
            while left:
                async with asyncio.timeout(self._timeout):
                    index, news = await self._news.get()
                self.first_at = self.first_at or time.perf_counter()
                choice = self.choices[index]
                if choice.reason is not None:  # made before the engine knew of the stop string
                    continue
                if news.error is not None:
                    raise news.error
                yield index, choice.take(news)
                if choice.reason is not None:
                    self._requests[index].cancel()
                    left -= 1
        except TimeoutError:
            raise ApiError(504, f"there was no token within {self._timeout:g} seconds.") from None
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Frees what is not done."""
        for request in self._requests:
            request.cancel()

    @property
    def num_new(self) -> int:
        """Tokens made so far."""
        return sum(choice.num_made for choice in self.choices)


def _put(loop: asyncio.AbstractEventLoop, news: asyncio.Queue, item: Any):
    if not loop.is_closed():
        loop.call_soon_threadsafe(news.put_nowait, item)


async def whole(answers: Answers, form: completions.Form) -> dict:
    """The answer with everything in it."""
    async for _ in answers.pieces():
        pass
    texts, chances = [], []
    for choice in answers.choices:
        texts.append(choice.echo + choice.writer.text)
        told = choice.untold()
        chances.append(form.chances(choice.tokens[told], choice.writer.offsets[told]))
    return form.whole(texts, [choice.reason for choice in answers.choices], chances, form.usage(answers.num_new))


async def events(answers: Answers, form: completions.Form) -> AsyncIterator[bytes]:
    """The answer as server-sent events. Raises what goes wrong."""
    for index, choice in enumerate(answers.choices):
        if answers.asked.is_chat:
            yield _event(form.chunk(index, None))
        elif choice.echo:
            yield _event(form.chunk(index, choice.echo))
    async for index, piece in answers.pieces():
        choice = answers.choices[index]
        told = choice.untold() if piece or choice.reason is not None else slice(0)
        chances = form.chances(choice.tokens[told], choice.writer.offsets[told])
        if piece:
            yield _event(form.chunk(index, piece, None, chances))
        if choice.reason is not None:
            yield _event(form.chunk(index, None, choice.reason, None if piece else chances))
    if answers.asked.has_usage:
        yield _event(form.last_chunk(form.usage(answers.num_new)))
    yield b"data: [DONE]\n\n"


class Stream(StreamingResponse):
    """The events of an answer; a client that hangs up frees its slots.

    Args:
        end: Called with a status once it is over.
    """

    def __init__(self, answers: Answers, form: completions.Form, end: Callable[[int], Any]):
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        self._answers, self._end, self._status = answers, end, 499  # unless it comes to its end
        super().__init__(self._events(events(answers, form)), media_type="text/event-stream", headers=headers)

    async def _events(self, made: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for event in made:
                yield event
            self._status = 200
        except Exception as error:  # the head is sent: all that is left is to say so
            told = error if isinstance(error, RequestError) else RequestError(500, f"{type(error).__name__}: {error}")
            self._status = told.status
            yield _event(completions.error_body(told))

    async def __call__(self, scope, receive, send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answers.cancel()
            self._end(self._status)


def _event(data: dict) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
