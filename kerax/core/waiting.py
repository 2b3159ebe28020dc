"""What each thread waits for at the moment, for displays that would else look hung."""

import contextlib
import threading
import time
from collections.abc import Iterator

COMPILING, DATA = "compiling", "waiting for data"

_now: dict[int, tuple[str, float]] = {}  # by thread: what for, and since when


@contextlib.contextmanager
def waits_for(what: str) -> Iterator[None]:
    """Notes for a block that this thread waits for `COMPILING` or `DATA`."""
    thread = threading.get_ident()
    before = _now.get(thread)
    _now[thread] = what, time.time()
    try:
        yield
    finally:
        if before is None:
            _now.pop(thread, None)
        else:
            _now[thread] = before


def of(thread: int) -> tuple[str, float]:
    """What a thread waits for and since when, in seconds of `time.time()`; an empty text and 0 for nothing."""
    return _now.get(thread, ("", 0.0))
