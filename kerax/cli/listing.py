"""`kerax runs` and `kerax compare`: what is in the folders of runs."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import yaml

from kerax import places
from kerax.cli import run_folder
from kerax.cli.config import ConfigError, parse_words

_RUNS = """Lists the runs below a folder (default: runs), newest last: epochs done, the lowest loss on data held out
(or else on the training data), and the numbers of the test."""
_COMPARE = """Shows runs beside each other: fields of their configs that differ, curves of what was measured after each
epoch, numbers of the test."""
_BARS = "▁▂▃▄▅▆▇█"


class Run(NamedTuple):
    """What is kept of a run.

    Attributes:
        folder: Its folder.
        config: The whole config.
        epochs: What was measured after each.
        results: Of the test; none of a run that is not finished.
        started: When, ISO 8601.
    """

    folder: str
    config: dict
    epochs: list[dict[str, float | None]]
    results: dict[str, float]
    started: str

    @property
    def state(self) -> str:
        """Epochs done and asked for, and whether it stopped."""
        wanted = (self.config.get("fit") or {}).get("epochs", 1)
        return f"{len(self.epochs)}/{wanted}{'' if self.results else ' stopped'}"

    @property
    def best(self) -> str:
        """The lowest loss on data held out, or on the training data, and its epoch."""
        for name in ("val_loss", "loss"):
            known = [(value, epoch) for epoch, row in enumerate(self.epochs, 1) if (value := row.get(name)) is not None]
            if known:
                value, epoch = min(known)
                return f"{name} {value:.4g} (epoch {epoch})"
        return ""


def read_run(folder: str) -> Run:
    """The run in a folder, here or elsewhere. Raises `ConfigError` if there is none."""
    place = places.folder(folder, "runs")
    if not (place / run_folder.CONFIG).is_file():
        raise ConfigError(f"{folder}: holds no run, which has a {run_folder.CONFIG}.")
    config = yaml.safe_load(_text(place / run_folder.CONFIG)) or {}
    epochs = [json.loads(line) for line in _text(place / run_folder.METRICS).splitlines()]
    results = json.loads(_text(place / run_folder.RESULTS) or "{}").get("test", {})
    environment = json.loads(_text(place / run_folder.ENVIRONMENT) or "{}")
    first = [*environment.get("earlier", []), environment][0]
    return Run(str(place), config, epochs, results, first.get("started", ""))


def _text(file: Any) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _folders(place: Any) -> Iterator[str]:
    """The folders of runs at or below a place."""
    if (place / run_folder.CONFIG).is_file():
        yield str(place)
        return
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if path.is_dir():
            yield from _folders(path)


def runs(arguments: Sequence[str]):
    """Prints the runs below a folder. Raises `ConfigError` if there are none."""
    words, overrides = parse_words(arguments, "[FOLDER]", _RUNS, has_fields=False)
    if overrides or len(words) > 1:
        raise ConfigError(f"expected one folder at most. Got {' '.join(arguments)}.")
    folder = words[0] if words else "runs"
    found = sorted(map(read_run, _folders(places.folder(folder, "runs"))), key=lambda run: run.started)
    if not found:
        raise ConfigError(f"{folder}: there are no runs in it.")
    rows = [("run", "started", "epochs", "best", "test")]
    for run in found:
        test = ", ".join(f"{name} {value:.4g}" for name, value in run.results.items())
        rows.append((run.folder, run.started[:16].replace("T", " "), run.state, run.best, test))
    print("\n".join(_table(rows)))


def compare(arguments: Sequence[str]):
    """Prints runs beside each other. Raises `ConfigError` if one is none."""
    words, overrides = parse_words(arguments, "RUN RUN ...", _COMPARE, has_fields=False)
    if overrides or len(words) < 2:
        raise ConfigError(f"expected two runs or more. Got {' '.join(arguments) or 'none'}.")
    print("\n".join(compared([read_run(word) for word in words])))


def compared(found: Sequence[Run]) -> list[str]:
    """The lines about runs beside each other."""
    names, fields = [run.folder for run in found], [_flat(run.config) for run in found]
    keys = [key for key in dict.fromkeys(key for flat in fields for key in flat) if key != "run_dir"]
    rows = [(key, *(_shown(flat.get(key, _ABSENT)) for flat in fields)) for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1] or [("no field differs",)]
    lines = [*_table([("config", *names), *rows]), ""]
    rows = []
    for name in sorted({name for run in found for row in run.epochs for name in row} - {"epoch"}):
        values = [[row.get(name) for row in run.epochs] for run in found]
        known = [value for each in values for value in each if value is not None and math.isfinite(value)]
        rows.append((name, *(_curve(each, known) for each in values)))
    lines += [*_table([("curves", *names), *rows]), ""]
    tested = dict.fromkeys(name for run in found for name in run.results)
    rows = [(name, *(_shown(run.results.get(name, _ABSENT)) for run in found)) for name in tested]
    return [*lines, *_table([("test", *names), *rows])]


_ABSENT = object()


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """`{dotted path: plain value}` of a config."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {}
    for name, inner in items:
        found |= _flat(inner, f"{key}.{name}" if key else str(name))
    return found or {key: value}


def _curve(values: Sequence[float | None], known: Sequence[float], most: int = 30) -> str:
    """A bar for each epoch, or for several, on the scale of all runs' finite values `known`, and the last value."""
    if not values or not known:
        return "-"
    count, low = min(len(values), most), min(known)
    span = (max(known) - low) or 1.0
    taken = [values[(index + 1) * len(values) // count - 1] for index in range(count)]
    numbers = [math.nan if value is None else value for value in taken]
    heights = [(value - low) / span * (len(_BARS) - 1) for value in numbers]
    bars = [_BARS[round(height)] if math.isfinite(height) else " " for height in heights]
    return f"{''.join(bars)} {_shown(values[-1])}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells in columns as wide as they need."""
    widths = [max(len(row[place]) for row in rows if place < len(row)) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
