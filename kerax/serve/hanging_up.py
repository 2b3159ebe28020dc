"""Clients that hang up before they are answered."""

import asyncio
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request

_PATIENCE = 0.05  # seconds until it is watched whether a client hangs up; most answers are there before


@contextmanager
def until_gone(request: Request, limit: asyncio.Timeout):
    """What is computed for a client that hangs up ends with `ClientDisconnect`, and leaves the queue."""
    loop, watching = asyncio.get_running_loop(), []

    async def watch():
        await request.receive()  # after the body only its client's end comes
        limit.reschedule(loop.time())

    # Not at once: a task takes longer than a small model.
    timer = loop.call_later(_PATIENCE, lambda: watching.append(loop.create_task(watch())))
    try:
        yield
    except asyncio.CancelledError:
        if any(task.done() for task in watching):
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        for task in watching:
            task.cancel()
