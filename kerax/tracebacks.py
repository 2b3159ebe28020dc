"""Tracebacks without library frames: the user's lines and the message are what helps.

Errors of `fit` and of calls of layers lose those frames where they leave kerax; all others where they are printed.
"""

import dis
import os
import sys
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import jax

_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
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


def hide_library_frames(error: BaseException) -> None:
    """Drops the frames of kerax and JAX below the current one from `error`'s traceback, in place, and JAX's note that
    there are fewer.

    The frame that raised stays if no user code is below the current frame, so that no error loses its origin.
    """
    first = error.__traceback__
    if not _filtering or first is None:
        return
    _drop_notes(error)
    below = list(_frames(first))[1:]
    _link([first, *([frame for frame in below if not _is_library_frame(frame)] or below[-1:])])


def show_users_frames(error: BaseException) -> None:
    """Drops all frames of kerax and JAX from the tracebacks of an error and of its causes, in place.

    kerax's last one stays where it did not raise the error on purpose: it may be a fault of the library.
    """
    seen: set[int] = set()
    before, found = error, error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        _drop_notes(found)
        frames = list(_frames(found.__traceback__))
        kept = [frame for frame in frames if not (_is_library_frame(frame) or _is_standard(frame))]
        if not kept and found is not error:  # a cause inside the library, of which the message tells
            before.__cause__, before.__suppress_context__ = None, True
            return
        if frames and (not kept or (_is_of(frames[-1], _HIDDEN_FOLDERS[0]) and not _raises(frames[-1]))):
            kept.append(frames[-1])
        if kept:
            _link(kept)
            found.__traceback__ = kept[0]
        before, found = found, found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def warn_each_time(message: str) -> None:
    """Warns with the place where the user's code called kerax, also if the same was said there before."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HIDDEN_FOLDERS):
        frame = frame.f_back
    # Without a registry Python does not remember what it has shown; filters hold all the same.
    warnings.warn_explicit(message, UserWarning, frame.f_code.co_filename, frame.f_lineno, frame.f_globals["__name__"])


def install() -> None:
    """Has tracebacks printed without library frames: by Python and, where it runs, by IPython."""
    before = sys.excepthook
    if getattr(before, "is_kerax", False):
        return

    def hook(kind, error, trace):
        if not _passes_through_kerax(trace):
            before(kind, error, trace)
        elif _is_told_in_a_line(error):
            print(f"KeyboardInterrupt: {error}", file=sys.stderr)
        else:
            show_users_frames(error)
            before(kind, error, error.__traceback__)

    hook.is_kerax = True  # pyright: ignore[reportFunctionMemberAccess]
    sys.excepthook = hook
    if "IPython" in sys.modules:  # a plain script shall not wait for it
        from IPython import get_ipython

        shell: Any = get_ipython()
        if shell is not None:
            shell.set_custom_exc((Exception, KeyboardInterrupt), _show_in_ipython)


def _show_in_ipython(shell, kind, error, trace, tb_offset=None):
    if _passes_through_kerax(trace):
        if _is_told_in_a_line(error):
            shell._showtraceback(kind, error, [f"KeyboardInterrupt: {error}"])
            return
        show_users_frames(error)
    shell.showtraceback((kind, error, error.__traceback__), tb_offset=tb_offset)


def _is_told_in_a_line(error: BaseException) -> bool:
    """Whether it is a Ctrl-C that says what it stopped."""
    return isinstance(error, KeyboardInterrupt) and bool(error.args)


def _passes_through_kerax(trace: TracebackType | None) -> bool:
    return _filtering and any(_is_of(frame, _HIDDEN_FOLDERS[0]) for frame in _frames(trace))


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _link(frames: list[TracebackType]) -> None:
    # A frame is dropped by linking the one above it to the one below: tracebacks are linked lists.
    for upper, lower in zip(frames, [*frames[1:], None], strict=True):
        upper.tb_next = lower


def _is_library_frame(trace: TracebackType) -> bool:
    return _is_of(trace, _HIDDEN_FOLDERS)


def _is_standard(trace: TracebackType) -> bool:
    """Whether it is of Python's own modules, in which kerax may have called itself."""
    return _is_of(trace, _STANDARD_LIBRARY) and "site-packages" not in trace.tb_frame.f_code.co_filename


def _is_of(trace: TracebackType, folders: str | tuple[str, ...]) -> bool:
    return trace.tb_frame.f_code.co_filename.startswith(folders)


def _raises(trace: TracebackType) -> bool:
    """Whether the frame stopped at a `raise`."""
    code = trace.tb_frame.f_code.co_code
    return 0 <= trace.tb_lasti < len(code) and dis.opname[code[trace.tb_lasti]] in ("RAISE_VARARGS", "RERAISE")


def _drop_notes(error: BaseException) -> None:
    if hasattr(error, "__notes__"):
        error.__notes__[:] = [note for note in error.__notes__ if not note.startswith("-----")]


install()
