"""What every error message shares: suggestions for misspelt names, checks, and kinds of errors."""

import difflib
from collections.abc import Collection, Iterable
from numbers import Integral
from typing import Any


class UnknownArgument(TypeError, ValueError):
    """A keyword argument that a constructor does not take: Python raises `TypeError` there, Keras `ValueError`."""


def suggest(name: object, options: Iterable[object]) -> str:
    """` Did you mean 'x'?` when an option is close to `name`, else an empty string."""
    # Several candidates, for `difflib` counts `raet` as far from `rate` as another word with one letter changed.
    close = difflib.get_close_matches(str(name), [str(option) for option in options], n=5, cutoff=0.6)
    close.sort(key=lambda option: sorted(option) != sorted(str(name)))  # exchanged letters first
    return f" Did you mean {close[0]!r}?" if close else ""


def near(name: object, options: Iterable[object], most: int = 8) -> str:
    """The options closest to `name`, for a message; all, if they are few."""
    texts = [str(option) for option in options]
    if len(texts) <= most:
        return ", ".join(sorted(texts))
    # One spelling of each: `MeanSquaredError` and `mean_squared_error` are one.
    spelt = {option.lower().replace("_", ""): option for option in sorted(texts, reverse=True)}
    found = difflib.get_close_matches(str(name).lower().replace("_", ""), spelt, n=most, cutoff=0.0)
    return f"{', '.join(spelt[key] for key in found)} and {len(texts) - len(found)} more"


class ArgumentTypeError(ValueError, TypeError):
    """An argument is not of the kind it must be. Both kinds, for Keras raises now the one, now the other."""


class NotIterableError(TypeError, NotImplementedError):
    """Something symbolic has no items. Python's kind, for what asks whether it has, and Keras's."""


class MissingFileError(FileNotFoundError, ValueError):
    """There is no such file. Both kinds, for Keras raises now the one, now the other."""


class ConfigError(ValueError, TypeError):
    """What a config or file describes cannot be made. Both kinds, for Keras raises now the one, now the other."""


class UnknownNameError(ValueError, KeyError):
    """A name that nothing has. Both kinds, for Keras raises now the one, now the other."""

    __str__ = Exception.__str__  # that of `KeyError` puts the message in quotes


def check_choice(who: object, name: str, value: object, choices: Collection) -> None:
    """Raises `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{who}: `{name}` must be one of {tuple(choices)}. Got {value!r}.{suggest(value, choices)}")


def check_integers(who: object, **arguments: tuple[Any, int]) -> None:
    """Raises `ValueError` for an argument, given as (value, least), that is no integer of at least so much."""
    for name, (value, least) in arguments.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{who}: `{name}` must be an integer of at least {least}. Got {value!r}.")
