"""OpenAI's routes: `/v1/completions`, `/v1/chat/completions` and `/v1/models`."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from kerax.serve import coding, completions
from kerax.serve.answering import Answers, Stream, whole
from kerax.serve.completions import ApiError
from kerax.serve.hanging_up import until_gone
from kerax.serve.language import LanguageModel
from kerax.serve.tensors import RequestError

logger = logging.getLogger("kerax.serve")


class Completions:
    """The routes of language models.

    Args:
        repository: Has the models.
        read_body: Reads a request's body.
        metrics: Counts.
        timeout: Seconds for a body, and for each token.
    """

    def __init__(self, repository: Any, read_body: Callable, metrics: Any, timeout: float):
        self._repository, self._read_body, self._metrics, self._timeout = repository, read_body, metrics, timeout

    def models(self) -> dict:
        """All language models, as OpenAI lists them."""
        names = [name for name in self._repository.names if self._model(name) is not None]
        return {"object": "list", "data": [self._describe(name) for name in names]}

    def model(self, request: Request) -> dict:
        """One of them; of other models nothing. Raises `RequestError` (404)."""
        name = request.path_params["name"]
        return {} if self._model(name) is None else self._describe(name)

    def _model(self, name: str) -> LanguageModel | None:
        model = self._repository.find(name).model
        return model if isinstance(model, LanguageModel) else None

    def _describe(self, name: str) -> dict:
        model = self._model(name)
        return {} if model is None else model.describe(name)

    async def answer(self, request: Request) -> Response:
        """The answer to `/v1/completions` or `/v1/chat/completions`, or what is wrong with the request."""
        began, name, version = time.perf_counter(), "", ""
        answers: Answers | None = None

        def end(status: int):
            self._metrics.request(name, version, status, time.perf_counter() - began)
            if answers is not None and answers.first_at is not None:
                self._metrics.first_token(name, version, answers.first_at - began)

        try:
            async with asyncio.timeout(self._timeout):
                body = await self._read_body(request)
            data = _loads(body)
            entry = self._find(data)
            name, version = entry.name, entry.version
            is_chat = request.url.path.endswith("/chat/completions")
            # Beside the loop: a long text takes its time.
            asked = await asyncio.to_thread(completions.read, data, is_chat, entry.model.tokenizer)
            answers = Answers(asked, entry.model, self._timeout)
            form = completions.Form(asked, name, entry.model.tokenizer)
            if asked.is_stream:
                return Stream(answers, form, end)
            async with asyncio.timeout(None) as limit:
                with until_gone(request, limit):
                    response = await coding.packed(request.headers, JSONResponse(await whole(answers, form)))
        except RequestError as error:
            response = _refusal(error)
        except TimeoutError:
            response = _refusal(ApiError(408, f"the body did not come within {self._timeout:g} seconds."))
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody reads it; counted as nginx does
        except Exception as error:
            logger.exception("%s", request.url.path)
            response = _refusal(ApiError(500, f"{type(error).__name__}: {error}"))
        end(response.status_code)
        return response

    def _find(self, data: Any) -> Any:
        """The entry that a request is for. Raises `ApiError`."""
        name = data.get("model") if isinstance(data, dict) else None
        if not isinstance(name, str):
            raise ApiError(400, f"`model` must be the name of a model. Got {name!r}.", "model")
        try:
            entry = self._repository.find(name)
        except RequestError as error:
            raise ApiError(404, error.message, "model", "model_not_found") from None
        if not isinstance(entry.model, LanguageModel):
            raise ApiError(400, f"{name!r} is no language model.", "model")
        if not entry.is_ready:
            message = entry.error or f"{name!r} is not ready yet."
            raise ApiError(503, message, headers={"Retry-After": "1"})
        return entry


def _loads(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None


def _refusal(error: RequestError) -> Response:
    return JSONResponse(completions.error_body(error), error.status, error.headers)
