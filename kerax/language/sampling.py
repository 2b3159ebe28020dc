"""How a request's tokens are drawn: the names, ranges and defaults that `Engine` and the server share."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from kerax.core.seeds import key_from, make_seed
from kerax.errors import suggest
from kerax.models.slots import MOST_STOPS


class ArgumentError(ValueError):
    """An argument of a request that is out of its range.

    Args:
        name: The argument's.
        expected: What it must be.
        value: What was given.
    """

    def __init__(self, name: str, expected: str, value: Any):
        super().__init__(f"`{name}` must be {expected}. Got {value!r}.")
        self.name = name


class Range(NamedTuple):
    """A number that a request may give: its default, the least and the most, and whether it is an integer."""

    default: float
    least: float
    most: float
    is_integer: bool = False

    def read(self, name: str, value: Any) -> Any:
        """The value, checked. Raises `ArgumentError`."""
        kind, noun = (int, "an integer") if self.is_integer else ((int, float), "a number")
        number = value.item() if isinstance(value, np.generic) else value
        if isinstance(number, kind) and not isinstance(number, bool) and self.least <= number <= self.most:
            return number if self.is_integer else float(number)
        most = f" and at most {self.most:g}" if self.most < math.inf else ""
        raise ArgumentError(name, f"{noun} of at least {self.least:g}{most}", value)


NUMBERS = {
    "temperature": Range(0.0, 0, math.inf),
    "top_k": Range(0, 0, 2**31 - 1, is_integer=True),
    "top_p": Range(1.0, 0, 1),
    "min_p": Range(0.0, 0, 1),
    "repetition_penalty": Range(1.0, 0.01, math.inf),
    "presence_penalty": Range(0.0, -2, 2),
    "frequency_penalty": Range(0.0, -2, 2),
}
_BIAS = Range(0, -100, 100)
_SEED = Range(0, -(2**63), 2**64 - 1, is_integer=True)


class Sampling(NamedTuple):
    """How tokens are drawn, checked."""

    numbers: dict[str, Any]  # by the names of `NUMBERS`
    logit_bias: dict[int, float]
    stop_tokens: np.ndarray
    key: np.ndarray
    num_top: int | None  # likeliest tokens that are told with each; `None`: not even its own log probability

    def settings(self) -> dict[str, Any]:
        """What the programs get for a slot, but for where it ends."""
        stops = np.full(MOST_STOPS, -1, np.int32)
        stops[: len(self.stop_tokens)] = self.stop_tokens
        own = {"keys": self.key, "stops": stops, "has_bias": bool(self.logit_bias)}
        return self.numbers | own | {"has_chances": self.num_top is not None}


def read_sampling(
    vocabulary: int,
    most_top: int,
    *,
    seed: Any = None,
    index: int = 0,
    stop_tokens: Sequence[int] = (),
    logit_bias: Mapping[Any, Any] | None = None,
    num_top: int | None = None,
    **numbers: Any,
) -> Sampling:
    """How tokens are drawn, of what a request gives; its arguments are those of `Engine.submit`.

    Args:
        vocabulary: Number of tokens of the model.
        most_top: Largest `num_top`.
        index: Which of several answers for one seed this is; each draws anew.

    Raises:
        ArgumentError: (a `ValueError`) naming the argument.
        TypeError: if there is none of such a name.
    """
    if unknown := numbers.keys() - NUMBERS.keys():
        name = min(unknown)
        raise TypeError(f"Engine.submit: there is no argument {name!r}.{suggest(name, NUMBERS)}")
    found = {name: limits.read(name, numbers.get(name, limits.default)) for name, limits in NUMBERS.items()}
    tokens = Range(0, 0, vocabulary - 1, is_integer=True)
    stops = np.array([tokens.read("stop_tokens", token) for token in stop_tokens], np.int32)
    if len(stops) > MOST_STOPS:
        raise ArgumentError("stop_tokens", f"at most {MOST_STOPS} tokens", stops.tolist())
    if num_top is not None:
        Range(0, 0, most_top, is_integer=True).read("num_top", num_top)
    seed = make_seed() if seed is None else _SEED.read("seed", seed)
    key = jax.random.key_data(jax.random.fold_in(key_from(seed), index))
    return Sampling(found, _read_bias(logit_bias or {}, tokens), stops, np.asarray(key), num_top)


def _read_bias(given: Any, tokens: Range) -> dict[int, float]:
    if not isinstance(given, Mapping):
        raise ArgumentError("logit_bias", "a mapping from tokens to numbers", given)
    found = {}
    for token, bias in given.items():
        is_text = isinstance(token, str) and token.isdecimal()  # as JSON has it
        found[tokens.read("logit_bias", int(token) if is_text else token)] = _BIAS.read("logit_bias", bias)
    return found
