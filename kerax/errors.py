"""What every error message shares: suggestions for misspelt names, and tracebacks without library frames."""

import difflib
import os
from collections.abc import Iterable
from types import TracebackType

import jax

_HIDDEN_FOLDERS = (os.path.dirname(os.path.abspath(__file__)) + os.sep, os.path.dirname(jax.__file__) + os.sep)
_filtering = True


def enable_traceback_filtering() -> None:
    """Hides the frames of kerax and JAX in the tracebacks of errors raised below user code (the default)."""
    global _filtering
    _filtering = True


def disable_traceback_filtering() -> None:
    """Shows every frame in tracebacks."""
    global _filtering
    _filtering = False


def is_traceback_filtering_enabled() -> bool:
    """Whether tracebacks hide the frames of kerax and JAX."""
    return _filtering


def suggest(name: object, options: Iterable[object]) -> str:
    """` Did you mean 'x'?` when an option is close to `name`, else an empty string."""
    close = difflib.get_close_matches(str(name), [str(option) for option in options], n=5, cutoff=0.6)
    close.sort(key=lambda option: sorted(option) != sorted(str(name)))  # exchanged letters first
    return f" Did you mean {close[0]!r}?" if close else ""


def _is_library_frame(traceback: TracebackType) -> bool:
    return traceback.tb_frame.f_code.co_filename.startswith(_HIDDEN_FOLDERS)


def hide_library_frames(error: BaseException) -> None:
    """Drops the frames of kerax and JAX below the current one from `error`'s traceback, in place.

    The frame that raised stays if no user code is below the current frame, so that no error loses its origin.
    """
    first = error.__traceback__
    if not _filtering or first is None:
        return
    below, frame = [], first.tb_next
    while frame is not None:
        below.append(frame)
        frame = frame.tb_next
    kept = [frame for frame in below if not _is_library_frame(frame)] or below[-1:]
    for upper, lower in zip([first, *kept], [*kept, None], strict=True):
        upper.tb_next = lower
