"""`Progbar`: a progress bar for loops of one's own."""

import sys
import time

import numpy as np

from kerax.callbacks.progress_views import format_number
from kerax.core.terminal import printable
from kerax.errors import check_choice


class Progbar:
    """A progress bar with running averages of numbers, drawn on the standard output.

    In a terminal it redraws one line; elsewhere each drawing is a line of its own.

    Args:
        target: Number of steps; `None` if not known.
        width: Width of the bar in characters.
        verbose: 0 nothing, 1 a bar, 2 one line at the end.
        interval: Least seconds between two drawings.
        stateful_metrics: Names of numbers that are shown as they come; all others are averaged over the steps.
        stateless_metrics: The other way round: names of numbers that are averaged; all others are shown as they come.
        unit_name: What one step is called.

    Raises:
        ValueError: if both lists of names are given, or `verbose` is not 0, 1 or 2.
    """

    def __init__(
        self,
        target,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics=None,
        stateless_metrics=None,
        unit_name: str = "step",
    ):
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError("Progbar: pass either `stateful_metrics` or `stateless_metrics`. Got both.")
        check_choice("Progbar", "verbose", verbose, (0, 1, 2))
        self.target, self.width, self.verbose, self.interval = target, width, verbose, interval
        self.unit_name = unit_name
        self.stateful_metrics, self.stateless_metrics = stateful_metrics, stateless_metrics
        self._totals: dict[str, tuple] = {}  # (sum, steps)
        self._seen, self._drawn, self._length = 0, -interval, 0  # so that the first update is drawn
        self._started = time.perf_counter()

    def _averages(self, name: str) -> bool:
        if self.stateless_metrics is not None:
            return name in self.stateless_metrics
        return name not in (self.stateful_metrics or ())

    def update(self, current, values=None, finalize=None):
        """Draws the state at step `current`.

        Args:
            current: Number of steps done.
            values: Pairs of name and number of the steps since the last update.
            finalize: Whether this is the last drawing, whose numbers are shown as given. Default: at `target`.
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        for name, value in values or ():
            # Weighted by the steps since the last update: whoever calls at every tenth step gets the same averages.
            steps, value = max(current - self._seen, 1), np.mean(value)
            before = self._totals.get(name, (0, 0)) if self._averages(name) and not finalize else (0, 0)
            self._totals[name] = (before[0] + value * steps, before[1] + steps)
        self._seen = current
        now = time.perf_counter()
        if self.verbose == 1 and (finalize or now - self._drawn >= self.interval):
            self._drawn = now
            self._draw(self._bar(current, now), finalize)
        elif self.verbose == 2 and finalize:
            count = f"{current}/{self.target} - " if self.target else ""
            sys.stdout.write(printable(f"{count}{self._times(current, now)}{self._numbers()}\n"))

    def add(self, n, values=None):
        """`update` at `n` more steps."""
        self.update(self._seen + n, values)

    def _bar(self, current: int, now: float) -> str:
        if not self.target:
            return f"{current}/? {self._times(current, now)}{self._numbers()}"
        filled = min(int(self.width * current / self.target), self.width)
        digits = len(str(self.target))
        bar = "━" * filled + "╌" * (self.width - filled)
        return f"{current:{digits}d}/{self.target} {bar} {self._times(current, now)}{self._numbers()}"

    def _times(self, current: int, now: float) -> str:
        """Seconds so far, or those left if the number of steps is known, and the time of a step."""
        elapsed = now - self._started
        per_step = elapsed / current if current else 0
        shown = per_step * (self.target - current) if self.target and current < self.target else elapsed
        scale, unit = (1, "s") if per_step >= 1 or not per_step else (1e3, "ms") if per_step >= 1e-3 else (1e6, "us")
        return f"{shown:.0f}s {per_step * scale:.0f}{unit}/{self.unit_name}"

    def _numbers(self) -> str:
        return "".join(
            f" - {name}: {format_number(float(total / steps))}" for name, (total, steps) in self._totals.items()
        )

    def _draw(self, line: str, finalize: bool):
        in_place = hasattr(sys.stdout, "isatty") and sys.stdout.isatty()
        line = printable(line)
        # A shorter line does not cover what a longer one left behind.
        padded = line + " " * max(self._length - len(line), 0)
        self._length = len(line)
        sys.stdout.write(f"\r{padded}" + ("\n" if finalize else "") if in_place else f"{line}\n")
        sys.stdout.flush()
