"""What one hyperparameter may be: numbers, choices, fixed values; and how a search draws from it."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kerax.errors import check_choice

SAMPLINGS = ("linear", "log", "reverse_log")
_EPSILON = 1e-9


class Integers(NamedTuple):
    """Whole numbers from `low` to `high`, both included; with `log` small ones are as likely as large ones."""

    low: int
    high: int
    step: int = 1
    log: bool = False


class Floats(NamedTuple):
    """Numbers between `low` and `high`."""

    low: float
    high: float
    log: bool = False


class Options(NamedTuple):
    """Values without order."""

    values: tuple


@dataclass(frozen=True)
class Number:
    """An integer or a float in a range. Built and checked by `HyperParameters.Int` and `.Float`."""

    name: str
    kind: type
    min_value: Any  # these and the default are of the `kind`
    max_value: Any
    step: Any = None
    sampling: str = "linear"
    default: Any = None
    conditions: tuple = field(default=(), compare=False)

    def __post_init__(self):
        who, low, high, step = self.who, self.min_value, self.max_value, self.step
        allowed = (int,) if self.kind is int else (int, float)
        for argument in ("min_value", "max_value", "step", "default"):
            value = getattr(self, argument)
            if value is None and argument in ("step", "default"):
                continue
            if not isinstance(value, allowed) or isinstance(value, bool) or not math.isfinite(value):
                kind = "an integer" if self.kind is int else "a finite number"
                raise ValueError(f"{who}: `{argument}` must be {kind}. Got {value!r}.")
        if low > high:
            raise ValueError(f"{who}: `min_value` must not be above `max_value`. Got {low} and {high}.")
        check_choice(who, "sampling", self.sampling, SAMPLINGS)
        if self.sampling != "linear" and low <= 0:
            raise ValueError(f"{who}: sampling={self.sampling!r} needs a `min_value` above 0. Got {low}.")
        # A step is a distance on a linear scale, else a ratio, which leads nowhere at 1.
        least = 0 if self.sampling == "linear" else 1
        if step is not None and step <= least:
            raise ValueError(f"{who}: `step` must be above {least} with sampling={self.sampling!r}. Got {step}.")
        if self.default is not None and not low <= self.default <= high:
            raise ValueError(f"{who}: `default` must be from {low} to {high}. Got {self.default}.")
        # The class is frozen: declarations are compared, and one that is asked for again must be the one of before.
        object.__setattr__(self, "default", self.kind(low if self.default is None else self.default))

    @property
    def who(self) -> str:
        return f"{self.kind.__name__.capitalize()}({self.name!r})"

    def distribution(self, grid: bool = False):
        """What to draw from; with `grid` only a countable set: ten values where there is no step."""
        low, high, step = self.min_value, self.max_value, self.step
        if step is None and grid and not (self.kind is int and self.sampling == "linear"):
            return Integers(0, len(self._tenths()) - 1)
        if step is None:
            log = self.sampling != "linear"  # the mirror image of the reverse one is made in `value`
            return Integers(low, high, log=log) if self.kind is int else Floats(float(low), float(high), log)
        if self.kind is int and self.sampling == "linear":
            return Integers(low, low + (high - low) // step * step, step)
        # With a step, numbers are drawn as counts of it: Optuna has no steps on a logarithmic scale.
        span = (high - low) / step if self.sampling == "linear" else math.log(high / low) / math.log(step)
        return Integers(0, math.floor(span + _EPSILON))  # 0.3 / 0.1 is a little less than 3

    def value(self, drawn, grid: bool = False):
        """The value that a draw from `distribution` stands for."""
        low, high, step = self.min_value, self.max_value, self.step
        if self.kind is int and self.sampling == "linear":
            return int(drawn)
        if step is None:
            drawn = self._tenths()[int(drawn)] if grid else drawn
        else:
            drawn = low + drawn * step if self.sampling == "linear" else low * step**drawn
        drawn = low + high - drawn if self.sampling == "reverse_log" else drawn
        return self.kind(min(max(drawn, low), high))  # powers and products are rounded, and may miss the end

    def _tenths(self) -> list:
        """The middles of ten equal parts of the range, on its scale; integers rounded, each once."""
        low, high = self.min_value, self.max_value
        shares = [(index + 0.5) / 10 for index in range(10)]
        if self.sampling == "linear":
            values = [low + (high - low) * share for share in shares]
        else:
            values = [low * (high / low) ** share for share in shares]
        return values if self.kind is float else sorted({round(value) for value in values})

    def get_config(self) -> dict:
        """The arguments."""
        names = ("name", "min_value", "max_value", "step", "sampling", "default")
        return {name: getattr(self, name) for name in names} | {"conditions": [list(c) for c in self.conditions]}


@dataclass(frozen=True)
class Choice:
    """One of given values. Built and checked by `HyperParameters.Choice` and `.Boolean`."""

    name: str
    values: tuple
    ordered: bool | None = None
    default: Any = None
    conditions: tuple = field(default=(), compare=False)
    word: str = "Choice"

    def __post_init__(self):
        # Text is a sequence too, of its letters, which nobody means.
        try:
            values = tuple(self.values) if not isinstance(self.values, str) else ()
        except TypeError:
            values = ()
        if not values:
            raise ValueError(f"{self.who}: `values` must be a list of at least one value. Got {self.values!r}.")
        kinds = {type(value) for value in values}
        if not kinds <= {int, float, str, bool} or len(kinds) > 1:
            raise ValueError(
                f"{self.who}: `values` must be of one type among int, float, str, bool. Got {list(values)}."
            )
        if len(set(values)) < len(values):
            raise ValueError(f"{self.who}: `values` must differ. Got {list(values)}.")
        is_number = kinds <= {int, float}
        if self.ordered and not is_number:
            raise ValueError(f"{self.who}: `ordered` is for numbers. Got values={list(values)}.")
        if self.default is not None and self.default not in values:
            raise ValueError(f"{self.who}: `default` must be one of {list(values)}. Got {self.default!r}.")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "ordered", is_number if self.ordered is None else self.ordered)
        object.__setattr__(self, "default", values[0] if self.default is None else self.default)

    @property
    def who(self) -> str:
        return f"{self.word}({self.name!r})"

    def distribution(self, grid: bool = False):
        """The positions of the values, in the given order if that means something; else the values."""
        # By position, samplers can tell that neighbours are alike; of values without order they learn each by itself.
        return Integers(0, len(self.values) - 1) if self.ordered else Options(self.values)

    def value(self, drawn, grid: bool = False):
        """The value that a draw from `distribution` stands for."""
        return self.values[int(drawn)] if self.ordered else drawn

    def get_config(self) -> dict:
        """The arguments."""
        config = {"name": self.name, "values": list(self.values), "ordered": self.ordered, "default": self.default}
        config = {"name": self.name, "default": self.default} if self.word == "Boolean" else config
        return config | {"conditions": [list(c) for c in self.conditions]}


@dataclass(frozen=True)
class Fixed:
    """A value that is not searched. Built and checked by `HyperParameters.Fixed`."""

    name: str
    default: Any
    conditions: tuple = field(default=(), compare=False)

    def __post_init__(self):
        if not isinstance(self.default, (int, float, str, bool)):
            raise ValueError(f"{self.who}: `value` must be an int, float, str or bool. Got {self.default!r}.")

    @property
    def who(self) -> str:
        return f"Fixed({self.name!r})"

    def distribution(self, grid: bool = False):
        """`None`: there is nothing to draw."""

    def get_config(self) -> dict:
        """The arguments."""
        return {"name": self.name, "value": self.default, "conditions": [list(c) for c in self.conditions]}
