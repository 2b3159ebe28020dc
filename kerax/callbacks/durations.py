"""When this process traces and compiles, and when it waits for data, as JAX and kerax tell while they do."""

import threading

import jax

COMPILING = ("/jax/core/compile/", "/kerax/compile/wait")  # beginnings of events; the second: for another thread
WAITING = ("/kerax/data/wait",)

_spans: dict[tuple[int, tuple], list[tuple[float, float]]] = {}  # by thread and kind: from when to when, in order


def listen() -> None:
    """Notes from now on what is asked for here."""
    if not _spans:
        _spans[threading.get_ident(), COMPILING] = []
        jax.monitoring.register_event_time_span_listener(_note)


def forget_waits() -> None:
    """Forgets when this thread waited for data."""
    _spans.pop((threading.get_ident(), WAITING), None)


def has_waited() -> bool:
    """Whether this thread has waited for data since that was last forgotten."""
    return bool(_spans.get((threading.get_ident(), WAITING)))


def seconds(kind: tuple, since: float, until: float) -> float:
    """Seconds between two times of `time.time()` that this thread spent on what `kind` names."""
    spans = _spans.get((threading.get_ident(), kind), [])
    return sum(max(0.0, min(end, until) - max(start, since)) for start, end in spans)


def _note(event: str, start_time: float, end_time: float, **_: str | int):
    for kind in (COMPILING, WAITING):
        if event.startswith(kind):
            # By thread: what another one compiles meanwhile does not hold this one up.
            spans = _spans.setdefault((threading.get_ident(), kind), [])
            while spans and spans[-1][0] >= start_time:  # a program traced while this one was
                spans.pop()
            spans.append((start_time, end_time))
