"""The server: an ASGI application with the routes of KServe, TensorFlow Serving and OpenAI."""

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from kerax.errors import check_integers
from kerax.serve import coding, kserve, metrics, openapi, tf_serving
from kerax.serve.batching import Batch, Batcher
from kerax.serve.completion_routes import Completions
from kerax.serve.hanging_up import until_gone
from kerax.serve.language import LanguageModel
from kerax.serve.repository import Entry, Repository, parse_sources
from kerax.serve.tensors import RequestError, check_inputs
from kerax.serve.uploads import is_upload, read_upload
from kerax.version import __version__

logger = logging.getLogger("kerax.serve")
Action = Callable[[Request, Entry, bytes], Awaitable[Response]]
_LONGEST_TEXT = 600  # seconds
_BEST = 5  # classes that `:classify` answers with, if not asked for another number


class Server:
    """Models behind HTTP: an application that any ASGI server runs, as `uvicorn module:server` does.

    It speaks KServe's V2 protocol (`/v2/models/NAME/infer`, with tensors in JSON or as bytes) and TensorFlow Serving's
    (`/v1/models/NAME:predict`, `:classify`), both of which take pictures, forms, tables and texts too; language models
    speak OpenAI's (`/v1/completions`, `/v1/chat/completions`); `/metrics` is for Prometheus, `/` a page to try the
    models on, `/openapi.json` describes it all.

    Args:
        models: Paths to `.keras` and `.onnx` files, checkpoints, folders of runs, or folders with numbers as names for
            several versions: `"digits.keras"`, `["digits=runs/digits", "mnist:2=new.keras"]`; or a mapping from names
            to paths or models. A language model is a folder that `kerax.language.load` reads, or one with a `.keras`
            file, each with a tokenizer beside it; or a `LanguageModel`.
        max_batch: Rows that are computed at once at most, default 32. Programs for 1, 2, 4, ... up to it are compiled
            before the server is ready.
        max_delay: Seconds that an idle device waits for more rows, default 0: what comes while it computes is enough.
        max_queue: Rows that may wait, default 1024; more are refused (503).
        max_bytes: Of a request's body, unpacked, default 64 MiB; more is refused (413).
        timeout: Seconds for a request, default 30; then it is given up (408 in its body, 504 after it). Of a language
            model for each token.
        labels: Names of classes: a list, a file with one in each line, or one of these for each model. Default: a file
            `labels.txt` in a model's folder, or `class_names` in a checkpoint's metadata.
        scale: Factor on the pixels of uploaded pictures. Default: 1, and 1/255 for runs with a `scale` in their config.
        lengths: Sizes of what models leave open (`None`), as of sequences: their programs are compiled before the
            server is ready. For all models, or by name. Default: none; each shape is compiled when it is asked for.
        pad_value: What shorter rows are filled up with to the next of `lengths`, at their ends. A model whose numbers
            that changes, which is tried before it is ready, is not served. For all models, or by name. Default: nothing
            is filled up.
        slots, cache_length, cache_dtype: Of language models, as for `kerax.language.Engine`; `max_queue` requests wait.
        dtype, quantization: As for `kerax.language.load`.

    Raises:
        ValueError: for what cannot be read or served, or a number that is out of range.
    """

    def __init__(
        self,
        models: Any,
        max_batch: int = 32,
        max_delay: float = 0.0,
        max_queue: int = 1024,
        max_bytes: int = 64 * 2**20,
        timeout: float = 30.0,
        labels: Any = None,
        scale: Any = None,
        lengths: Any = None,
        pad_value: Any = None,
        slots: int = 8,
        cache_length: int | None = None,
        cache_dtype: Any = None,
        dtype: Any = None,
        quantization: str | None = None,
    ):
        check_integers("serve", max_batch=(max_batch, 1), max_queue=(max_queue, 1), max_bytes=(max_bytes, 1))
        if not timeout > 0 or not max_delay >= 0:
            raise ValueError(f"serve: expected timeout > 0 and max_delay >= 0. Got {timeout} and {max_delay}.")
        engine = {"slots": slots, "cache_length": cache_length, "cache_dtype": cache_dtype, "max_queue": max_queue}
        as_language = {"dtype": dtype, "quantization": quantization, "engine": engine}
        self.repository = Repository(parse_sources(models), max_batch, labels, scale, lengths, pad_value, as_language)
        self._max_bytes, self.timeout = max_bytes, timeout
        self._batcher = Batcher(max_queue, max_delay, self._note)
        self._metrics = metrics.Metrics(lambda: self._batcher.rows, lambda: _engines(self.repository))
        self._preparing: threading.Thread | None = None
        self._starting = threading.Lock()
        self.is_draining = False
        self._actions = {"/infer": self._infer, ":predict": self._predict, ":classify": self._classify}
        self._app = Starlette(
            routes=self._routes(), lifespan=self._lifespan, exception_handlers={HTTPException: _on_http_error}
        )

    async def __call__(self, scope, receive, send):
        self.start()  # for ASGI servers that tell applications nothing of their life
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self.is_draining:
            # A client that reuses its connection would send the next request into one that is about to be closed.
            send = _closing(send)
        # Not by Starlette's routes, which take a fifth of the time of a small model's request.
        found = _REQUEST.fullmatch(scope["path"].removeprefix(scope.get("root_path", "")))
        if found is None:
            await self._app(scope, receive, send)
            return
        name, version, verb = found.groups()
        scope["path_params"] = {"name": name, "version": version}
        if scope["method"] == "POST":
            response = await self._respond(Request(scope, receive), self._actions[verb])
        else:
            response = _refusal(RequestError(405, f"{verb} is a POST. Got {scope['method']}.", {"Allow": "POST"}))
        await response(scope, receive, send)

    @property
    def is_ready(self) -> bool:
        """Whether all models have all their programs."""
        return not self.is_draining and all(entry.is_ready for entry in self.repository.entries())

    @property
    def grace(self) -> float:
        """Seconds that answers may take once no more requests are taken: a request's, or a long text's."""
        return max(self.timeout, _LONGEST_TEXT if _engines(self.repository) else 0) + 5

    def start(self):
        """Compiles the models' programs in a thread, if that was not begun."""
        if self._preparing is not None:  # asked for each request
            return
        with self._starting:
            if self._preparing is None:
                loading = threading.Thread(target=self.repository.prepare, name="kerax serve loading", daemon=True)
                loading.start()
                self._preparing = loading  # now that others may wait for its end

    def wait(self):
        """Starts, if that was not done, and waits until all programs are compiled."""
        self.start()
        if self._preparing is not None:
            self._preparing.join()

    def load(self, name: str):
        """Reads a model anew and serves it in place of the old one, which answers until then.

        Raises:
            RequestError: for an unknown name, or what cannot be read or served.
        """
        self.repository.load(name)

    def close(self):
        """Computes what waits, and ends the threads that do."""
        self._batcher.close()
        self.repository.close()

    @asynccontextmanager
    async def _lifespan(self, _):
        self.start()
        yield
        self.is_draining = True
        await asyncio.to_thread(self.close)

    def _note(self, batch: Batch):
        entry, before = batch.owner, batch.owner.num_programs
        entry.num_programs = entry.model.num_programs
        self._metrics.batch(batch, entry.name, entry.version, entry.num_programs, before)

    # Routes.

    def _routes(self) -> list[Route]:
        def get(path: str, make: Callable[[Request], Any], methods=("GET",)) -> Route:
            async def endpoint(request: Request) -> Response:
                try:
                    found = make(request)
                except RequestError as error:
                    return _refusal(error)
                return found if isinstance(found, Response) else _json(found)

            return Route(path, endpoint, methods=methods)

        repository = self.repository
        complete = Completions(repository, self.read_body, self._metrics, self.timeout)
        v1, v2 = "/v1/models/{name}", "/v2/models/{name}"
        return [
            get("/v2", lambda _: {"name": "kerax", "version": __version__, "extensions": kserve.EXTENSIONS}),
            get("/v2/health/live", lambda _: {"live": True}),
            get("/v2/health/ready", lambda _: self._health(repository.entries())),
            get("/v2/models", lambda _: {"models": [self._describe(entry) for entry in repository.entries()]}),
            get(v2, lambda q: self._describe(_find(repository, q))),
            get(f"{v2}/versions/{{version}}", lambda q: self._describe(_find(repository, q))),
            get(f"{v2}/ready", lambda q: self._health([_find(repository, q)])),
            get(f"{v2}/versions/{{version}}/ready", lambda q: self._health([_find(repository, q)])),
            get("/v1/models", lambda _: complete.models()),
            get(v1, lambda q: complete.model(q) | tf_serving.status(list(repository.versions(_name(q)).values()))),
            Route("/v1/completions", complete.answer, methods=["POST"]),
            Route("/v1/chat/completions", complete.answer, methods=["POST"]),
            get(f"{v1}/metadata", lambda q: tf_serving.metadata(_find(repository, q))),
            get(f"{v1}/versions/{{version}}", lambda q: tf_serving.status([_find(repository, q)])),
            get(f"{v1}/versions/{{version}}/metadata", lambda q: tf_serving.metadata(_find(repository, q))),
            get("/v2/repository/index", lambda _: self._index(), ("GET", "POST")),
            Route("/v2/repository/models/{name}/load", self._load, methods=["POST"]),
            get("/metrics", lambda _: Response(self._metrics.show(), media_type=metrics.CONTENT_TYPE)),
            get("/openapi.json", lambda _: openapi.describe(repository.entries())),
            get("/", lambda _: Response(_PAGE.read_bytes(), media_type="text/html")),
        ]

    def _health(self, entries: list[Entry]) -> Response:
        is_ready = not self.is_draining and all(entry.is_ready for entry in entries)
        errors = {f"{entry.name}/{entry.version}": entry.error for entry in entries if entry.error}
        return _json({"ready": is_ready} | ({"errors": errors} if errors else {}), 200 if is_ready else 503)

    def _describe(self, entry: Entry) -> dict:
        return kserve.metadata(entry, list(self.repository.versions(entry.name))) | {
            "version": entry.version,
            "has_labels": entry.labels is not None,
            "has_classes": entry.has_classes,
            "images": [spec.name for spec in entry.inputs if spec.is_image],
        }

    def _index(self) -> list[dict]:
        return [
            {
                "name": entry.name,
                "version": entry.version,
                "state": "READY" if entry.is_ready else "UNAVAILABLE",
                "reason": entry.error or ("" if entry.is_ready else "loading"),
            }
            for entry in self.repository.entries()
        ]

    async def _load(self, request: Request) -> Response:
        try:
            await self.read_body(request)
            await asyncio.to_thread(self.load, request.path_params["name"])
        except RequestError as error:
            return _refusal(error)
        return _json({})

    # Requests.

    async def _respond(self, request: Request, action: Action) -> Response:
        """What an action answers; or, of whatever goes wrong, a status and a sentence."""
        began, entry, body = time.perf_counter(), None, None
        try:
            async with asyncio.timeout(self.timeout) as limit:
                # Before anything is refused: who is still sending would see the connection cut, and no reason.
                body = await self.read_body(request)
                entry = _find(self.repository, request)
                if isinstance(entry.model, LanguageModel):
                    raise RequestError(400, f"{entry.name!r} answers to /v1/completions and /v1/chat/completions.")
                with until_gone(request, limit):
                    response = await coding.packed(request.headers, await action(request, entry, body))
        except RequestError as error:
            response = _refusal(error)
        except TimeoutError:
            what, status = ("the body did not come", 408) if body is None else ("there was no answer", 504)
            response = _refusal(RequestError(status, f"{what} within {self.timeout:g} seconds."))
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody reads it; counted as nginx does
        except Exception as error:
            logger.exception("%s", request.url.path)
            response = _refusal(RequestError(500, f"{type(error).__name__}: {error}"))
        # Names that nothing has are not counted by name: anybody could make new ones for ever.
        name, version = ("", "") if entry is None else (entry.name, entry.version)
        self._metrics.request(name, version, response.status_code, time.perf_counter() - began)
        return response

    async def read_body(self, request: Request) -> bytes:
        """The whole body. Raises `RequestError` for one that is too large (413), having read it."""
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size <= self._max_bytes:
                parts.append(part)
            else:
                parts.clear()
        if size > self._max_bytes:
            raise RequestError(413, f"the body has {size} bytes. At most {self._max_bytes} are taken.")
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return await coding.unpacked(request.headers, body, self._max_bytes)

    async def _compute(self, entry: Entry, given: dict[str, Any]) -> list:
        arrays = check_inputs(entry.inputs, given)
        if not entry.is_ready:
            raise RequestError(503, entry.error or f"{entry.name!r} is not ready yet.", {"Retry-After": "1"})
        arrays, size = entry.lengths.fill(arrays)
        try:
            return entry.lengths.cut(await self._batcher.compute(entry, arrays), size)
        except (TypeError, ValueError) as error:  # of open sizes: what the model itself says of them
            raise RequestError(400, f"{entry.name!r} cannot be computed for these inputs: {error}") from error

    async def _given(self, request: Request, entry: Entry, body: bytes) -> dict[str, Any] | None:
        """The inputs of a body that is no JSON, else `None`."""
        if not is_upload(request.headers.get("content-type", "")):
            return None
        # Pillow decodes beside the loop, which goes on reading other requests.
        return await asyncio.to_thread(read_upload, entry, request.headers, body)

    async def _infer(self, request: Request, entry: Entry, body: bytes) -> Response:
        given = await self._given(request, entry, body)
        data: dict = {}
        if given is None:
            text, tail = kserve.split(body, request.headers.get(kserve.HEADER))
            data = _loads(text)
            given = kserve.read(data, tail)
        outputs = await self._compute(entry, given)
        head, tails = kserve.write(entry, data, outputs)
        if not tails:
            return _json(head)
        text = kserve.to_json(head)
        headers = {kserve.HEADER: str(len(text))}
        return Response(b"".join([text, *tails]), headers=headers, media_type="application/octet-stream")

    async def _predict(self, request: Request, entry: Entry, body: bytes) -> Response:
        given, by_rows = await self._given(request, entry, body), True
        if given is None:
            given, by_rows = tf_serving.read(entry, _loads(body))
        return _json(tf_serving.write(entry, await self._compute(entry, given), by_rows))

    async def _classify(self, request: Request, entry: Entry, body: bytes) -> Response:
        count = request.query_params.get("top_k", str(_BEST))
        if not count.isdecimal() or int(count) < 1:
            raise RequestError(400, f"`top_k` must be a whole number of at least 1. Got {count!r}.")
        given = await self._given(request, entry, body)
        if given is None:
            given, _ = tf_serving.read(entry, _loads(body), "examples")
        return _json(tf_serving.write_classes(entry, await self._compute(entry, given), int(count)))


def app(models: Any, **options) -> Server:
    """A `Server`, as the application that ASGI servers ask for: `application = kerax.serve.app("digits.keras")`."""
    return Server(models, **options)


_REQUEST = re.compile(r"/v(?:2(?=.*/infer)|1(?=.*:))/models/([^/:]+)(?:/versions/([^/:]+))?(/infer|:predict|:classify)")
_PAGE = Path(__file__).with_name("page.html")


def _name(request: Request) -> str:
    return request.path_params["name"]


def _engines(repository: Repository) -> list:
    """Name, version and engine of each language model, for metrics."""
    models = [(entry, entry.model) for entry in repository.entries()]
    return [(entry.name, entry.version, m.engine) for entry, m in models if isinstance(m, LanguageModel)]


def _find(repository: Repository, request: Request) -> Entry:
    return repository.find(request.path_params["name"], request.path_params.get("version"))


def _loads(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {error}") from None


def _json(data: Any, status: int = 200, headers: dict | None = None) -> Response:
    # Not Starlette's: numbers that are not finite are answered as TensorFlow Serving does, by their names.
    return Response(json.dumps(data, separators=(",", ":")), status, headers, "application/json")


def _refusal(error: RequestError) -> Response:
    return _json({"error": error.message}, error.status, error.headers)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": f"{request.method} {request.url.path}: {error.detail}"}, error.status_code)


def _closing(send):
    async def send_and_close(message):
        if message["type"] == "http.response.start":
            message = message | {"headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return send_and_close
