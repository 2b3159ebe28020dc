"""Python functions without a name, as Keras stores them in files: as code, which runs only when told to."""

import base64
import marshal
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Code(dict):
    """The description of a function in a config. Within the process the config still holds the function itself."""

    def __init__(self, function: Callable, described: dict):
        super().__init__(class_name="__lambda__", config=described)
        self.function = function

    def __reduce__(self):
        return Code, (self.function, self["config"])


def is_lambda(function) -> bool:
    """Whether a function has no name."""
    return isinstance(function, types.FunctionType) and function.__name__ == "<lambda>"


def parts_of(function, describe: Callable[[Any], Any]) -> tuple:
    """(code, defaults, values of the closure) of a function, described as JSON.

    Parts that have no description are left out, with a warning: the function can be given by its owner's name then.
    """
    code = base64.encodebytes(marshal.dumps(function.__code__)).decode("ascii")

    def described(values):
        try:
            return None if values is None else describe(tuple(values))
        except TypeError as error:
            warnings.warn(f"A lambda is saved without the values it refers to. {error}", stacklevel=2)
            return None

    cells = function.__closure__
    return code, described(function.__defaults__), described(cells and [cell.cell_contents for cell in cells])


def refusal(owner: str | None) -> str:
    """Why the code in a file is not run, and the two ways out."""
    return (
        f"The file holds a Python function without a name (a lambda) as code, in {owner!r}, which kerax does not run: "
        "it could do anything to this computer. Give the function yourself, "
        f"`custom_objects={{{owner or 'name of the layer'!r}: function}}`, and nothing of the file is run; or if you "
        "trust whoever made the file, pass `safe_mode=False`."
    )


def function_from_code(config: Any) -> types.FunctionType:
    """The function of a `"__lambda__"` config, for files that are trusted. Warns.

    Raises:
        ValueError: if the code cannot be read, as that of another version of Python.
    """
    warnings.warn("The file holds Python code, and `safe_mode=False` lets it run.", stacklevel=2)
    try:
        # A layer `Lambda` names the parts, anything else lists them.
        parts = config.get("value", config)
        code, defaults, closure = parts if isinstance(parts, (list, tuple)) else map(parts.get, _PARTS)
        found = marshal.loads(base64.b64decode(code))
        cells = tuple(map(types.CellType, closure or ()))
        return types.FunctionType(found, _names(), found.co_name, None if defaults is None else tuple(defaults), cells)
    except (ValueError, TypeError, EOFError, KeyError, AttributeError) as error:
        raise ValueError(
            f"The code of a Python function in the file cannot be read; it may be of another version of Python: {error}"
        ) from None


_PARTS = ("code", "defaults", "closure")


def _names() -> dict[str, Any]:
    """What such a function finds by name: its module is not there."""
    library: Any = sys.modules["kerax"]
    known = {"keras": library, "kerax": library, "ops": library.ops, "np": np, "numpy": np, "jax": jax, "jnp": jnp}
    return {"__builtins__": __builtins__} | known
