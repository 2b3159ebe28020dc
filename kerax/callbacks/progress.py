"""What is shown while a model trains: a bar in a terminal, a live table in a notebook, else a line per epoch."""

import sys
import threading
import time
from typing import Any

from kerax import config
from kerax.callbacks import durations, html_tables
from kerax.callbacks.callback import Callback
from kerax.callbacks.live_line import LiveLine


class ProgbarLogger(Callback):
    """The progress display of `fit`, `evaluate` and `predict`.

    It reads numbers that are ready, at most ten times a second in a terminal and twice in a notebook. The time of a
    step does not hold that of compiling. While an epoch runs, its remaining time is shown.

    Args:
        verbose: 0 nothing, 1 a bar (in a terminal or notebook), 2 a line per epoch, `"auto"` what fits the output.
            Default: the `verbose` of the call.
        what: `"fit"`, `"evaluate"` or `"predict"`, for error messages.
        curves: Whether a notebook also gets small curves of the metrics below the table. Keras has no such argument.
    """

    first_process_only = True

    def __init__(self, verbose=None, what="ProgbarLogger", curves: bool = False):
        super().__init__()
        if verbose not in (None, "auto", 0, 1, 2):
            raise ValueError(f"{what}: `verbose` must be 'auto', 0, 1 or 2. Got {verbose!r}.")
        self.verbose, self.curves = verbose, curves
        self._view = _View("fit")
        self._epoch = self._seen = 0
        self._in_fit = False

    def _open(self, what: str):
        # Only now: `set_params` comes after the constructor.
        verbose = self.params.get("verbose", "auto") if self.verbose is None else self.verbose
        kind = "none" if verbose in (0, False) else "lines" if verbose == 2 else _surroundings()
        # Asked for explicitly: a bar even where the output is no terminal.
        if kind == "lines" and verbose == 1:
            kind = "bar"
        self._view = {"none": _View, "lines": _Lines, "bar": _Bar, "notebook": _Notebook}[kind](what)
        self._view.with_curves = self.curves
        durations.listen()
        self._view.open(self.params.get("epochs", 1), self.params.get("steps"))

    def on_train_begin(self, logs=None):
        self._in_fit = True
        self._open("fit")

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._seen = epoch, 0
        self._view.begin(epoch)

    def on_progress(self, step, logs):
        self._seen = step
        self._view.progress(step, logs)

    def on_epoch_end(self, epoch, logs=None):
        # A source of unknown length: as many as were seen.
        self._view.end(self.params.get("steps") or self._seen, logs)

    def on_train_end(self, logs=None):
        self._in_fit = False
        history = getattr(self.model, "history", None)
        if isinstance(self._view, _Notebook) and history is not None:
            history.shown_in = html_tables.cell_number()

    def close(self):
        self._in_fit = False
        self._view.close()

    def on_test_begin(self, logs=None):
        if not self._in_fit:
            # The validation of an epoch shows in that epoch's line.
            self._open("evaluate")
            self._view.begin(0)

    def on_test_end(self, logs=None):
        if not self._in_fit:
            self._view.end(self.params.get("steps"), logs)

    def on_predict_begin(self, logs=None):
        self._open("predict")
        self._view.begin(0)

    def on_predict_end(self, logs=None):
        self._view.end(self.params.get("steps"), {})


def _surroundings() -> str:
    """Where output goes: `"notebook"`, `"bar"` for a terminal, `"lines"` for a file or pipe."""
    if not config.is_interactive_logging_enabled():
        return "lines"
    if html_tables.cell_number() is not None:
        return "notebook"
    return "bar" if hasattr(sys.stdout, "isatty") and sys.stdout.isatty() else "lines"


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


class _View:
    """Shows nothing; the base of what does."""

    with_curves = False

    def __init__(self, what: str):
        self.what = what
        self.epochs, self.steps, self.started = 1, None, 0.0
        self.first_epoch: int | None = None

    def open(self, epochs: int, steps: int | None):
        self.epochs, self.steps = epochs, steps

    def begin(self, epoch: int):
        self.first_epoch = epoch if self.first_epoch is None else self.first_epoch
        self.started = time.time()

    def progress(self, step: int, logs):
        pass

    def end(self, steps: int | None, logs):
        pass

    def close(self):
        pass

    def in_steps(self) -> float:
        """Seconds of the epoch so far without compiling."""
        now = time.time()
        return now - self.started - durations.seconds(durations.COMPILING, self.started, now)

    def taken(self, steps: int | None) -> str:
        """The time of the epoch, and of a step."""
        return _format_time(time.time() - self.started, steps, self.in_steps())

    def remaining(self, step: int, total: int | None) -> str:
        """The time that is left, and that of a step; for an unknown number of steps the time so far."""
        if not total or not step:
            return self.taken(step)
        in_steps = self.in_steps()
        left, per_step = _format_time(in_steps / step * (total - step), step, in_steps).split()
        return f"ETA {left} {per_step}"

    def title(self, epoch: int) -> str:
        return f"Epoch {epoch + 1}/{self.epochs}" if self.what == "fit" else self.what


class _Lines(_View):
    """One line per epoch."""

    def begin(self, epoch: int):
        super().begin(epoch)
        self._title = self.title(epoch)

    def end(self, steps: int | None, logs):
        count = f"{steps}/{steps}" if steps else ""
        # Flushed: a log file of a cluster shall show the epoch now.
        print(_joined(self._title, count, self.taken(steps), format_numbers(logs)), flush=True)


class _Bar(_View):
    """A bar per epoch in a line of its own, drawn at most ten times a second."""

    _width = 20
    _line: LiveLine | None = None
    _has_started: threading.Event | None = None  # whether the first batches of this epoch are done

    def begin(self, epoch: int):
        super().begin(epoch)
        self._title, self._drawn = self.title(epoch), 0.0
        self._line = LiveLine(sys.stdout)
        # A Windows console or a C locale may have no such character.
        self._mark = "━" if self._line.can_show("━") else "="
        self._line.open()
        self._line.draw(self._parts(0, self.steps, self.taken(None)))
        if epoch == self.first_epoch:  # what is still being compiled shall not look hung
            self._has_started = threading.Event()
            threading.Thread(target=self._wait, args=(self._has_started,), name="kerax progress", daemon=True).start()

    def _wait(self, has_started: threading.Event):
        while not has_started.wait(1.0):
            if self._line is not None:
                # An evaluation or prediction says no more before it is done: it may be computing.
                doing = "compiling " if self.what == "fit" else ""
                self._line.draw(self._parts(0, self.steps, f"{doing}{self.taken(None)}"))

    def _stop_waiting(self):
        if self._has_started is not None:
            self._has_started.set()

    def progress(self, step: int, logs):
        self._stop_waiting()
        now = time.time()
        # Reading the logs waits for numbers; ten times a second costs nothing that shows.
        if self._line is not None and now - self._drawn >= 0.1:
            self._drawn = now
            self._line.draw(
                self._parts(step, self.steps, _joined(self.remaining(step, self.steps), format_numbers(logs)))
            )

    def end(self, steps: int | None, logs):
        self._stop_waiting()
        if self._line is not None:
            self._line.finish(self._parts(steps or 0, steps, _joined(self.taken(steps), format_numbers(logs))))

    def _parts(self, step: int, total: int | None, text: str) -> list[tuple]:
        filled = self._width * step // total if total else 0
        return [
            (f"{self._title} {step}/{total or '?'} ", None),
            (self._mark * filled, "green"),
            (self._mark * (self._width - filled), "grey"),
            (f" {text}", None),
        ]

    def close(self):
        self._stop_waiting()
        if self._line is not None:
            self._line.close()


class _Notebook(_View):
    """A table with a row per epoch in one display, redrawn at most twice a second, and once more at the end.

    What a saved notebook keeps is that last drawing: plain HTML, and text where HTML is not shown.
    """

    _interval = 0.5

    def open(self, epochs: int, steps: int | None):
        super().open(epochs, steps)
        from IPython.display import display

        self._rows: list[tuple] = []  # (epoch, time as text, logs) of the epochs that are done
        self._running: tuple | None = None  # (epoch, step, logs) of the one that is not
        self._drawn, self._is_current = time.time(), True
        # One display that is updated: a saved notebook keeps its last form only.
        self._handle: Any = display(_Shown(self._html(), self._text()), display_id=True)

    def begin(self, epoch: int):
        super().begin(epoch)
        self._running = (epoch, 0, {})
        self._refresh()

    def progress(self, step: int, logs):
        if self._running and time.time() - self._drawn >= self._interval:  # else the numbers are not even read
            self._running = (self._running[0], step, dict(logs))
            self._refresh()

    def end(self, steps: int | None, logs):
        if self._running is not None:
            self._rows.append((self._running[0], self.taken(steps), dict(logs or {})))
        self._running = None
        self._refresh()

    def close(self):
        # The last epoch may have ended within the interval since the last drawing.
        if not getattr(self, "_is_current", True):
            self._draw()

    def _refresh(self):
        self._is_current = False
        if time.time() - self._drawn >= self._interval:
            self._draw()

    def _draw(self):
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
        note = "compiling" if step == 0 and not self._rows else at.strip()
        return f"{self.title(epoch)} <progress {value}></progress> {note}"

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
