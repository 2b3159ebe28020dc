"""A process that serves: signals, and an end that loses no request."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import uvicorn

from kerax.serve.server import Server
from kerax.serve.tensors import RequestError

logger = logging.getLogger("kerax.serve")
_KEEP_ALIVE = 75  # seconds; a shorter one cuts connections that clients are about to use again
_BACKLOG = 2048
_LAST_REQUESTS = 0.25  # seconds


def run(
    models: Any,
    host: str = "127.0.0.1",
    port: int = 8000,
    drain: float = 1.0,
    watch: float = 0.0,
    say: Callable[[str], Any] = print,
    **options,
) -> None:
    """Serves models until SIGTERM or Ctrl-C; SIGHUP has all of them read anew.

    After SIGTERM the server says that it is not ready, goes on answering for `drain` seconds, with `Connection: close`,
    so that clients go elsewhere; then it takes no more connections, answers all that it has taken, and ends. A second
    signal ends it at once.

    Args:
        models: As for `Server`, or one.
        host, port: Where to listen; 0 is any free port.
        drain: Seconds in which load balancers find out.
        watch: Seconds between looks for changed files and new versions, which are read once they were found twice as
            they are; 0 never looks.
        say: Called with lines for people.
        **options: As for `Server`.

    Raises:
        ValueError: as `Server` does.
        OSError: if the address is not free.
    """
    # First: nobody wants to hear that a port is taken after the models were read.
    if not watch >= 0:
        raise ValueError(f"serve: expected watch >= 0 seconds. Got {watch}.")
    with _listening(host, port) as listening:
        server = models if isinstance(models, Server) else Server(models, **options)
        config = uvicorn.Config(
            server,
            lifespan="on",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=_KEEP_ALIVE,
            # Requests have an end of their own; this is for clients that do not read their answers.
            timeout_graceful_shutdown=math.ceil(server.grace),
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:  # uvloop's, where it is installed
            runner.run(_serve(server, config, listening, drain, watch, say))


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, for asyncio sends at once only on what it knows to be TCP: answers would wait 40 ms for the client's
    # acknowledgement of their head.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it lets a second server take the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


class _Uvicorn(uvicorn.Server):
    """Uvicorn without its signals, after which it would end with their number, not with 0."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield

    def refuse_connections(self):
        """Stops listening, and nothing else."""
        for server in getattr(self, "servers", ()):  # there are none before it has begun
            server.close()


async def _serve(
    server: Server,
    config: uvicorn.Config,
    listening: socket.socket,
    drain: float,
    watch: float,
    say: Callable[[str], Any],
):
    process, loop, began = _Uvicorn(config), asyncio.get_running_loop(), time.perf_counter()

    def stop(seconds: float):
        if server.is_draining:
            process.should_exit = process.force_exit = True
            logging.getLogger("uvicorn.error").disabled = True  # which would show where it was cut
            return
        server.is_draining = True
        # First no more than one connection may wait to be taken: closing resets those that do.
        loop.call_later(seconds, listening.listen, 0)
        loop.call_later(seconds + _LAST_REQUESTS / 2, process.refuse_connections)
        # Uvicorn cuts connections on which nothing came yet: those that it has just taken get time to send.
        loop.call_later(seconds + _LAST_REQUESTS, setattr, process, "should_exit", True)

    def reload():
        tasks.append(loop.create_task(_reload(server, server.repository.names, say)))

    tasks: list[asyncio.Task] = []
    _on_signal(loop, signal.SIGTERM, lambda: stop(drain))
    _on_signal(loop, signal.SIGINT, lambda: stop(0))
    if hasattr(signal, "SIGHUP"):  # not on Windows
        _on_signal(loop, signal.SIGHUP, reload)
    host, port = listening.getsockname()[:2]
    say(f"http://{f'[{host}]' if ':' in host else host}:{port} serves {', '.join(server.repository.names)}")
    tasks.append(loop.create_task(_tell_when_ready(server, began, say)))
    if watch:
        tasks.append(loop.create_task(_watch(server, watch, say)))
    await process.serve(sockets=[listening])
    logging.getLogger("uvicorn.error").disabled = False
    for task in tasks:
        task.cancel()


async def _tell_when_ready(server: Server, began: float, say: Callable[[str], Any]):
    await asyncio.to_thread(server.wait)
    failed = [f"{entry.name!r}: {entry.error}" for entry in server.repository.entries() if entry.error]
    say(f"not ready: {'; '.join(failed)}" if failed else f"ready after {time.perf_counter() - began:.1f} s")


async def _watch(server: Server, seconds: float, say: Callable[[str], Any]):
    await asyncio.to_thread(server.wait)
    repository, before = server.repository, {}
    while True:
        await asyncio.sleep(seconds)
        found = {name: await asyncio.to_thread(repository.new_files, name) for name in repository.names}
        # Files that go on changing are still being written.
        await _reload(server, [name for name, files in found.items() if files and files == before.get(name)], say)
        before = found


async def _reload(server: Server, names: list[str], say: Callable[[str], Any]):
    for name in names:
        try:
            await asyncio.to_thread(server.load, name)
            say(f"read {name} anew")
        except RequestError as error:
            say(str(error))


def _on_signal(loop: asyncio.AbstractEventLoop, number: int, call: Callable[[], Any]):
    try:
        loop.add_signal_handler(number, call)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))
