"""How progress is shown: as lines, as a bar in a terminal, or as a live table in a notebook."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from kerax.callbacks import durations, html_tables
from kerax.callbacks.live_line import LiveLine
from kerax.core import waiting
from kerax.core.terminal import say


def format_numbers(logs) -> str:
    """`accuracy: 0.9812 - loss: 0.0631`, small numbers in scientific notation."""
    return _joined(*(f"{name}: {format_number(value)}" for name, value in dict(logs or {}).items()))


def _joined(*parts: str) -> str:
    """What there is of some texts, with dashes between."""
    return " - ".join(filter(None, parts))


def format_number(value) -> str:
    """A number with four decimals, or in scientific notation below 0.001."""
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.4e}"


def _format_time(seconds: float, steps: int | None, in_steps: float | None = None) -> str:
    """`12s 20ms/step`, the second without what of the time was not spent `in_steps`."""
    text = f"{seconds:.0f}s" if seconds >= 1 else f"{seconds * 1e3:.0f}ms"
    if not steps:
        return text
    per_step = (seconds if in_steps is None else in_steps) / steps
    if per_step >= 1:
        return f"{text} {per_step:.1f}s/step"
    return f"{text} {per_step * 1e3:.3g}ms/step" if per_step >= 1e-3 else f"{text} {per_step * 1e6:.0f}us/step"


class View:
    """Shows nothing; the base of what does.

    Args:
        what: `"fit"`, `"evaluate"` or `"predict"`.
    """

    with_curves = False

    def __init__(self, what: str):
        self.what = what
        self.epochs, self.steps, self.started = 1, None, 0.0

    def open(self, epochs: int, steps: int | None):
        """Before the first epoch."""
        self.epochs, self.steps = epochs, steps

    def begin(self, epoch: int):
        """At the start of an epoch, an evaluation or a prediction."""
        self.started = time.time()

    def progress(self, step: int, logs):
        """After some batches."""

    def validating(self, step: int, total: int | None):
        """After some batches of the validation of an epoch."""

    def end(self, steps: int | None, logs):
        """At the end of what began."""

    def close(self):
        """After everything, however it ended."""

    def in_steps(self, since: float | None = None) -> float:
        """Seconds of the epoch so far, or since then, without compiling."""
        since, now = self.started if since is None else since, time.time()
        return now - since - durations.seconds(durations.COMPILING, since, now)

    def taken(self, steps: int | None) -> str:
        """The time of the epoch, and of a step."""
        return _format_time(time.time() - self.started, steps, self.in_steps())

    def remaining(self, step: int, total: int | None, since: float | None = None) -> str:
        """The time that is left, and that of a step; for an unknown number of steps the time so far."""
        if not total or not step:
            return self.taken(step)
        in_steps = self.in_steps(since)
        left, per_step = _format_time(in_steps / step * (total - step), step, in_steps).split()
        return f"ETA {left} {per_step}"

    def title(self, epoch: int) -> str:
        return f"Epoch {epoch + 1}/{self.epochs}" if self.what == "fit" else self.what


class _Watch:
    """A thread that tells a display every second what this one waits for.

    Args:
        show: Function of a text such as `compiling 3s`, empty if it waits for nothing.
    """

    def __init__(self, show: Callable[[str], None]):
        self._show, self._watched, self._is_over = show, threading.get_ident(), threading.Event()
        threading.Thread(target=self._look, name="kerax progress", daemon=True).start()

    def _look(self):
        while not self._is_over.wait(1.0):
            what, since = waiting.of(self._watched)
            seconds = time.time() - since
            self._show(f"{what} {seconds:.0f}s" if what and seconds >= 0.5 else "")

    def stop(self):
        """Ends the thread within a second."""
        self._is_over.set()


class Lines(View):
    """One line per epoch."""

    def begin(self, epoch: int):
        super().begin(epoch)
        self._title = self.title(epoch)

    def end(self, steps: int | None, logs):
        count = f"{steps}/{steps}" if steps else ""
        # Flushed: a log file of a cluster shall show the epoch now.
        say(_joined(self._title, count, self.taken(steps), format_numbers(logs)))


class Bar(View):
    """A bar per epoch in a line of its own, drawn at most ten times a second."""

    _width = 20
    _line: LiveLine | None = None
    _watch: _Watch | None = None
    _note = ""

    def begin(self, epoch: int):
        super().begin(epoch)
        self._title, self._drawn, self._validation_began = self.title(epoch), 0.0, 0.0
        self._line = LiveLine(sys.stdout)
        # A Windows console or a C locale may have no such character.
        self._mark = "━" if self._line.can_show("━") else "="
        self._line.open()
        self._draw(0, self.steps, self.taken(None))
        self._watch = self._watch or _Watch(self._say)

    def _say(self, note: str):
        """Says what is waited for, in the place of the numbers."""
        step, total, text = self._latest
        # Without a note only what would look hung.
        if note or self._note or not step:
            self._redraw(step, total, note or (text if step else self.taken(None)))
        self._note = note

    def progress(self, step: int, logs):
        # Reading the logs waits for numbers; ten times a second costs nothing that shows.
        if self._is_due():
            self._draw(step, self.steps, _joined(self.remaining(step, self.steps), format_numbers(logs)))

    def validating(self, step: int, total: int | None):
        if not self._validation_began:
            self._validation_began, self._first_validated = time.time(), step
        # The batches before the first look are done with what is not known to be compiling or not.
        done = step - self._first_validated
        if done and self._is_due():
            left = None if total is None else total - self._first_validated
            self._draw(step, total, f"{self.remaining(done, left, self._validation_began)} - validation")

    def _is_due(self) -> bool:
        return time.time() - self._drawn >= 0.1

    def end(self, steps: int | None, logs):
        if self._line is not None:
            self._line.finish(self._parts(steps or 0, steps, _joined(self.taken(steps), format_numbers(logs))))

    def _draw(self, step: int, total: int | None, text: str):
        self._latest, self._drawn = (step, total, text), time.time()
        self._redraw(step, total, text)

    def _redraw(self, step: int, total: int | None, text: str):
        if self._line is not None:
            self._line.draw(self._parts(step, total, text))

    def _parts(self, step: int, total: int | None, text: str) -> list[tuple]:
        filled = self._width * step // total if total else 0
        return [
            (f"{self._title} {step}/{total or '?'} ", None),
            (self._mark * filled, "green"),
            (self._mark * (self._width - filled), "grey"),
            (f" {text}", None),
        ]

    def close(self):
        if self._watch is not None:
            self._watch.stop()
        if self._line is not None:
            self._line.close()


class Notebook(View):
    """A table with a row per epoch in one display, redrawn at most twice a second, and once more at the end.

    What a saved notebook keeps is that last drawing: plain HTML, and text where HTML is not shown.
    """

    _interval = 0.5

    def open(self, epochs: int, steps: int | None):
        super().open(epochs, steps)
        from IPython.display import display

        self._rows: list[tuple] = []  # (epoch, time as text, logs) of the epochs that are done
        self._running: tuple | None = None  # (epoch, step, logs) of the one that is not
        self._drawn, self._is_current, self._note = time.time(), True, ""
        self._lock = threading.RLock()
        # One display that is updated: a saved notebook keeps its last form only.
        self._handle: Any = display(_Shown(self._html(), self._text()), display_id=True)
        self._watch = _Watch(self._say)

    def _say(self, note: str):
        """Says below the table what is waited for."""
        with self._lock:
            note, self._note = self._note, note
            if self._running is not None and note != self._note:
                self._draw()

    def begin(self, epoch: int):
        super().begin(epoch)
        self._running = (epoch, 0, {})
        self._refresh()

    def progress(self, step: int, logs):
        if self._running and time.time() - self._drawn >= self._interval:  # else the numbers are not even read
            self._running = (self._running[0], step, dict(logs))
            self._note = ""
            self._refresh()

    def end(self, steps: int | None, logs):
        if self._running is not None:
            self._rows.append((self._running[0], self.taken(steps), dict(logs or {})))
        self._running = None
        self._refresh()

    def close(self):
        if hasattr(self, "_watch"):
            self._watch.stop()
        # The last epoch may have ended within the interval since the last drawing.
        if not getattr(self, "_is_current", True):
            self._draw()

    def _refresh(self):
        self._is_current = False
        if time.time() - self._drawn >= self._interval:
            self._draw()

    def _draw(self):
        with self._lock:
            self._drawn, self._is_current = time.time(), True
            self._handle.update(_Shown(self._html(), self._text()))

    def _table_rows(self) -> list[tuple]:
        rows = list(self._rows)
        # A row for the running epoch once it has numbers.
        if self._running is not None and self._running[2]:
            epoch, step, logs = self._running
            rows.append((epoch, self.taken(step), logs))
        return rows

    def _html(self) -> str:
        rows = self._table_rows()
        names = list(dict.fromkeys(name for _, _, logs in rows for name in logs))
        cells = [[str(epoch + 1), taken, *(_cell(logs, name) for name in names)] for epoch, taken, logs in rows]
        heads = ["epoch", "time", *names]
        if self.what != "fit":
            # An evaluation has no epochs.
            heads, cells = heads[1:], [row[1:] for row in cells]
        table = html_tables.table(heads, cells) if rows else ""
        return table + self._curves() + self._bar()

    def _bar(self) -> str:
        """How far the running epoch is; nothing once all is done."""
        if self._running is None:
            if not self._rows:
                return "starting"
            done = self._rows[-1][0] + 1
            return f"{done} of {self.epochs} epochs" if self.what == "fit" and done < self.epochs else ""
        epoch, step, _ = self._running
        total = self.steps or 0
        value = f"value='{step}' max='{total}'" if total else ""
        at = f"{step}/{total or '?'} {self.remaining(step, total) if step else ''}"
        return f"{self.title(epoch)} <progress {value}></progress> {self._note or at.strip()}"

    def _curves(self) -> str:
        if not self.with_curves:
            return ""
        history: dict[str, list] = {}
        for _, _, logs in self._rows:
            for name, value in logs.items():
                history.setdefault(name, []).append(value)
        return html_tables.curves(history, [epoch + 1 for epoch, _, _ in self._rows])

    def _text(self) -> str:
        lines = []
        for epoch, taken, logs in self._table_rows()[-html_tables.MOST_ROWS :]:
            lines.append(_joined(self.title(epoch), taken, format_numbers(logs)))
        return "\n".join(lines) or self.title(0)


def _cell(logs: dict, name: str) -> str:
    return format_number(logs[name]) if name in logs else ""


class _Shown:
    """What a display holds: HTML, and the same as text."""

    def __init__(self, page: str, text: str):
        self._page, self._text = page, text

    def _repr_html_(self) -> str:
        return self._page

    def __repr__(self) -> str:
        return self._text
