"""The last line of a terminal, drawn again and again, below what is printed meanwhile.

A few bytes of text each time: a library's layout engine takes a millisecond, which is several steps of a small model.
"""

import os
import shutil
import sys
import threading
from collections.abc import Sequence

from kerax.core.terminal import printable

_COLORS = {"green": "\x1b[32m", "grey": "\x1b[90m"}
_RESET, _ERASE = "\x1b[0m", "\r\x1b[2K"


class LiveLine:
    """A line at the cursor of a stream. While it is open, whole lines printed to `sys.stdout` go above it.

    Args:
        stream: A terminal's text stream.
    """

    def __init__(self, stream):
        self._stream, self._shown = stream, ""
        self._above: _Above | None = None
        self._outer = None
        self._lock = threading.RLock()  # a thread may draw while this one prints
        self._is_colored = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    @property
    def is_open(self) -> bool:
        """Whether printed lines go above this one."""
        return self._above is not None

    def open(self):
        """Takes the cursor's line."""
        # `print` in a user's callback goes above the line instead of into it.
        self._above, self._outer = _Above(self, self._stream), sys.stdout
        sys.stdout = self._above

    def can_show(self, text: str) -> bool:
        """Whether the stream's encoding has these characters."""
        return printable(text, self._stream) == text

    def draw(self, parts: Sequence[tuple[str, str | None]]):
        """Shows pieces of text with their colours, as many as there is room for in one line."""
        # One column less: a full line would wrap, and could not be erased.
        room, shown = shutil.get_terminal_size().columns - 1, []
        for text, color in parts:
            shown.append((text[:room], color))
            room -= len(shown[-1][0])
        with self._lock:
            if self.is_open:
                self._write(self._paint(shown))

    def finish(self, parts: Sequence[tuple[str, str | None]]):
        """Leaves the whole text, however long, and gives the cursor back on the next line."""
        self.close(self._paint(parts))

    def close(self, last: str | None = None):
        """Gives the cursor back; without `last` below what was drawn last."""
        with self._lock:
            if self._above is None:
                return
            self._above.flush()
            if sys.stdout is self._above:  # else somebody redirects it, and will put it back
                sys.stdout = self._outer
            self._above = self._outer = None
            self._write(self._shown if last is None else last, "\n")
            self._shown = ""

    def print_above(self, text: str):
        """Writes whole lines where the line is, and the line below them."""
        with self._lock:
            shown = self._shown
            self._write(text + shown)
            self._shown = shown

    def _paint(self, parts) -> str:
        if not self._is_colored:
            return "".join(text for text, _ in parts)
        return "".join(text if color is None else f"{_COLORS[color]}{text}{_RESET}" for text, color in parts)

    def _write(self, text: str, end: str = ""):
        self._stream.write(printable(f"{_ERASE}{text}{end}", self._stream))
        self._stream.flush()
        self._shown = text


class _Above:
    """A stream whose whole lines go above a `LiveLine` while that is open; all else is the stream's own."""

    def __init__(self, line: LiveLine, stream):
        self._line, self._stream, self._rest = line, stream, ""

    def write(self, text: str) -> int:
        if not self._line.is_open:
            return self._stream.write(text)
        # Only whole lines: an unfinished one would be erased with the next drawing.
        whole, newline, self._rest = (self._rest + text).rpartition("\n")
        if newline:
            self._line.print_above(whole + newline)
        return len(text)

    def writelines(self, lines):
        for text in lines:
            self.write(text)

    def flush(self):
        """Lets go of a line that was begun."""
        rest, self._rest = self._rest, ""
        if rest:
            self._line.print_above(rest + "\n")
        self._stream.flush()

    def __getattr__(self, name):
        return getattr(self._stream, name)
