"""Tables of epochs and small curves as HTML that needs nothing but a browser: no scripts, no widgets, no styles."""

import html
import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from kerax.core.display import html_table

MOST_ROWS = 20
TRAINING, VALIDATION = "#1f77b4", "#ff7f0e"
_WIDTH, _HEIGHT, _TOP, _SIDE = 230, 96, 20, 6  # of one picture, and what is beside its curves


def cell_number() -> int | None:
    """The number of the notebook's cell that runs; `None` outside notebooks."""
    # Not imported for this: a plain script shall not wait for IPython.
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return getattr(shell, "execution_count", 0) if hasattr(shell, "kernel") else None


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; of many rows the first and the last ones, with a row of dots between."""
    shown: list[Sequence[str]] = list(rows)
    if len(shown) > MOST_ROWS:
        shown = [*shown[: MOST_ROWS // 2], ["…"] * len(names), *shown[-MOST_ROWS // 2 :]]
    return html_table(names, shown, range(len(names)))


def curves(history: Mapping[str, Sequence], epochs: Sequence[int]) -> str:
    """A small picture of each metric over the epochs, training blue and validation orange.

    Args:
        history: `{name: values}`; one that began later has fewer values than there are epochs.
        epochs: Numbers of the epochs.

    Returns: SVG pictures side by side, and what their colours mean; empty with less than two epochs.
    """
    if len(epochs) < 2:
        return ""
    names, numbers = names_and_numbers(history)
    pictures = "".join(_picture(name, numbers, epochs) for name in names)
    return f"<div>{pictures}</div>{_LEGEND}" if pictures else ""


def names_and_numbers(history: Mapping[str, Sequence]) -> tuple[list[str], dict[str, Sequence]]:
    """The metrics of a history, each once for training and validation, and the values that are single numbers."""
    numbers = {name: values for name, values in history.items() if all(np.ndim(value) == 0 for value in values)}
    twins = {name: name.removeprefix("val_") for name in numbers}
    # A metric of validation alone keeps its prefix.
    return list(dict.fromkeys(twin if twin in numbers else name for name, twin in twins.items())), numbers


def _picture(name: str, history: Mapping[str, Sequence], epochs: Sequence[int]) -> str:
    lines = [
        (color, list(zip(epochs[-len(history[key]) :], map(float, history[key]))))
        for key, color in ((name, TRAINING), (f"val_{name}", VALIDATION))
        if history.get(key)
    ]
    # A diverged run: NaN has no place, the rest of the curve has.
    lines = [(color, [point for point in points if math.isfinite(point[1])]) for color, points in lines]
    values = [value for _, points in lines for _, value in points]
    if not values:
        return ""
    low, high = min(values), max(values)
    # A flat curve has no span.
    span, width, height = (high - low) or 1.0, _WIDTH - 2 * _SIDE, _HEIGHT - _TOP - _SIDE

    def place(epoch, value):
        x = _SIDE + width * (epoch - epochs[0]) / (epochs[-1] - epochs[0])
        return f"{x:.1f},{_TOP + height * (high - value) / span:.1f}"

    drawn = "".join(
        f"<polyline points='{' '.join(place(*point) for point in points)}' fill='none' stroke='{color}' "
        "stroke-width='1.5' stroke-linejoin='round'/>"
        for color, points in lines
    )
    ends = f"<text x='{_WIDTH - _SIDE}' y='13' text-anchor='end'>{low:.4g} to {high:.4g}</text>"
    return (
        f"<svg width='{_WIDTH}' height='{_HEIGHT}' style='margin:4px' fill='currentColor' font-size='11' "
        f"font-family='sans-serif'><text x='{_SIDE}' y='13' font-weight='bold'>{html.escape(name)}</text>{ends}"
        f"<rect x='{_SIDE - 3}' y='{_TOP - 3}' width='{width + 6}' height='{height + 6}' fill='none' "
        f"stroke='currentColor' stroke-opacity='0.25'/>{drawn}</svg>"
    )


_LEGEND = (
    f"<span style='font-size:11px'><span style='color:{TRAINING}'>training</span> "
    f"<span style='color:{VALIDATION}'>validation</span></span>"
)
