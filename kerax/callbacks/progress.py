"""What is shown while a model trains: a bar in a terminal, a live table in a notebook, else a line per epoch."""

import sys
import time

from kerax import config
from kerax.callbacks.callback import Callback


class ProgbarLogger(Callback):
    """The progress display of `fit`, `evaluate` and `predict`.

    It reads numbers that are ready, at most ten times a second in a terminal and twice in a notebook.

    Args:
        verbose: 0 nothing, 1 a bar (in a terminal or notebook), 2 a line per epoch, `"auto"` what fits the output.
            Default: the `verbose` of the call.
        what: `"fit"`, `"evaluate"` or `"predict"`, for error messages.
    """

    first_process_only = True

    def __init__(self, verbose=None, what="ProgbarLogger"):
        super().__init__()
        if verbose not in (None, "auto", 0, 1, 2):
            raise ValueError(f"{what}: `verbose` must be 'auto', 0, 1 or 2. Got {verbose!r}.")
        self.verbose = verbose
        self._view = _Nothing("fit")
        self._epoch = self._seen = 0
        self._in_fit = False

    def _open(self, what: str):
        verbose = self.params.get("verbose", "auto") if self.verbose is None else self.verbose
        kind = "none" if verbose in (0, False) else "lines" if verbose == 2 else _surroundings()
        if kind == "lines" and verbose == 1:
            kind = "bar"
        self._view = {"none": _Nothing, "lines": _Lines, "bar": _Bar, "notebook": _Notebook}[kind](what)
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
        self._view.end(self.params.get("steps") or self._seen, logs)

    def on_train_end(self, logs=None):
        self._in_fit = False

    def close(self):
        self._in_fit = False
        self._view.close()

    def on_test_begin(self, logs=None):
        if not self._in_fit:
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
    if "IPython" in sys.modules:
        from IPython import get_ipython

        shell = get_ipython()
        if shell is not None and hasattr(shell, "kernel"):
            return "notebook"
    return "bar" if hasattr(sys.stdout, "isatty") and sys.stdout.isatty() else "lines"


def format_numbers(logs) -> str:
    """`accuracy: 0.9812 - loss: 0.0631`, small numbers in scientific notation."""
    return " - ".join(f"{name}: {format_number(value)}" for name, value in dict(logs or {}).items())


def format_number(value) -> str:
    """A number with four decimals, or in scientific notation below 0.001."""
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.4e}"


def _format_time(seconds: float, steps: int | None) -> str:
    text = f"{seconds:.0f}s" if seconds >= 1 else f"{seconds * 1e3:.0f}ms"
    if not steps:
        return text
    per_step = seconds / steps
    unit = (
        f"{per_step:.1f}s"
        if per_step >= 1
        else f"{per_step * 1e3:.3g}ms"
        if per_step >= 1e-3
        else f"{per_step * 1e6:.0f}us"
    )
    return f"{text} {unit}/step"


class _Nothing:
    """Shows nothing."""

    def __init__(self, what: str):
        self.what = what
        self.epochs, self.steps, self.started = 1, None, 0.0

    def open(self, epochs: int, steps: int | None):
        self.epochs, self.steps = epochs, steps

    def begin(self, epoch: int):
        self.started = time.perf_counter()

    def progress(self, step: int, logs):
        pass

    def end(self, steps: int | None, logs):
        pass

    def close(self):
        pass

    def title(self, epoch: int) -> str:
        return f"Epoch {epoch + 1}/{self.epochs}" if self.what == "fit" else self.what


class _Lines(_Nothing):
    """One line per epoch."""

    def begin(self, epoch: int):
        super().begin(epoch)
        self._title = self.title(epoch)

    def end(self, steps: int | None, logs):
        numbers = format_numbers(logs)
        seconds = _format_time(time.perf_counter() - self.started, steps)
        count = f"{steps}/{steps} - " if steps else ""
        print(f"{self._title} - {count}{seconds}{' - ' if numbers else ''}{numbers}", flush=True)


class _Bar(_Nothing):
    """A bar per epoch, drawn by rich at most ten times a second."""

    _width = 20

    def open(self, epochs: int, steps: int | None):
        super().open(epochs, steps)
        from rich.console import Console

        self._console = Console(file=sys.stdout, highlight=False)

    def begin(self, epoch: int):
        super().begin(epoch)
        from rich.live import Live

        self._title, self._drawn = self.title(epoch), 0.0
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()
        self._draw(0, self.steps, {})  # so that a step that is still being compiled does not look hung

    def progress(self, step: int, logs):
        now = time.perf_counter()
        if now - self._drawn >= 0.1:
            self._drawn = now
            self._draw(step, self.steps, logs)

    def end(self, steps: int | None, logs):
        self._draw(steps or 0, steps, logs)
        self._live.stop()

    def _draw(self, step: int, total: int | None, logs):
        from rich.text import Text

        filled = self._width * step // total if total else 0
        numbers = format_numbers(logs)
        self._live.update(
            Text.assemble(
                f"{self._title} {step}/{total or '?'} ",
                ("━" * filled, "green"),
                ("━" * (self._width - filled), "bright_black"),
                f" {_format_time(time.perf_counter() - self.started, step)}",
                f" - {numbers}" if numbers else "",
            ),
            refresh=True,
        )

    def close(self):
        live = getattr(self, "_live", None)
        if live is not None and live.is_started:
            live.stop()


class _Notebook(_Nothing):
    """A table with a row per epoch in one display handle, redrawn at most twice a second."""

    def open(self, epochs: int, steps: int | None):
        super().open(epochs, steps)
        from IPython.display import HTML, display

        self._html, self._rows, self._drawn = HTML, [], 0.0
        self._handle = display(HTML(""), display_id=True)

    def begin(self, epoch: int):
        super().begin(epoch)
        self._number = epoch + 1

    def progress(self, step: int, logs):
        now = time.perf_counter()
        if now - self._drawn >= 0.5:
            self._drawn = now
            bar = f"<progress value='{step}' max='{self.steps or step}'></progress> {step}/{self.steps or '?'}"
            self._show([*self._rows, (self._number, now - self.started, dict(logs))], bar)

    def end(self, steps: int | None, logs):
        self._rows.append((self._number, time.perf_counter() - self.started, dict(logs or {})))
        self._show(self._rows, "" if self._number == self.epochs else f"{self._number}/{self.epochs}")

    def _show(self, rows: list, below: str):
        names = list(dict.fromkeys(name for _, _, logs in rows for name in logs))
        head = "".join(f"<th>{name}</th>" for name in ("epoch", "time", *names))
        body = "".join(
            f"<tr><td>{number}</td><td>{_format_time(seconds, None)}</td>"
            + "".join(f"<td>{format_number(logs[name]) if name in logs else ''}</td>" for name in names)
            + "</tr>"
            for number, seconds, logs in rows
        )
        self._handle.update(self._html(f"<table><tr>{head}</tr>{body}</table>{below}"))
