"""Calls of an ASGI application without a network."""

import asyncio
import json
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """A status, headers and a body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json()["error"]


async def send(
    app,
    method: str,
    path: str,
    body: Any = b"",
    headers: dict | None = None,
    parts: int = 1,
    end: asyncio.Event | None = None,
) -> Answer:
    """The answer to a request whose body comes in some parts; a dict or a list is sent as JSON.

    Args:
        end: Once it is set the client hangs up.
    """
    if not isinstance(body, bytes):
        body, headers = json.dumps(body).encode(), {"content-type": "application/json"} | (headers or {})
    size = -(-len(body) // parts) or 1
    pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = False
    sent: list[dict] = []

    async def receive():
        if not messages:
            await (end or asyncio.Event()).wait()
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def take(message):
        assert not (message["type"] == "http.response.start" and body and messages), "answered before the body was read"
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "root_path": ""}
    scope |= {"query_string": query.encode(), "http_version": "1.1", "scheme": "http", "client": ("test", 1)}
    scope["headers"] = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    await app(scope | {"server": ("test", 80)}, receive, take)
    named = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], named, b"".join(message.get("body", b"") for message in sent))


def get(app, path: str) -> Answer:
    return asyncio.run(send(app, "GET", path))


def post(app, path: str, body: Any = b"", headers: dict | None = None, parts: int = 1) -> Answer:
    return asyncio.run(send(app, "POST", path, body, headers, parts))
