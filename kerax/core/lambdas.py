"""Python functions that Keras stores as code in files. kerax never writes them, and runs them only when told to."""

import base64
import marshal
import types
import warnings

REFUSAL = (
    "The file holds a Python function (a lambda) as code, which kerax does not run: it could do anything to this "
    "computer. Have the function registered with `register_keras_serializable` when the file is written, or if you "
    "trust whoever made the file, pass `safe_mode=False`."
)


def function_from_code(config: dict) -> types.FunctionType:
    """The function of a `"__lambda__"` config, for files that are trusted. Warns.

    Raises:
        ValueError: if the code cannot be read, as that of another version of Python.
    """
    warnings.warn("The file holds Python code, and `safe_mode=False` lets it run.", stacklevel=2)
    stored = config.get("value", config)
    try:
        code = marshal.loads(base64.b64decode(stored["code"]))
        closure = tuple(map(types.CellType, stored.get("closure") or ()))
        defaults = None if stored.get("defaults") is None else tuple(stored["defaults"])
        return types.FunctionType(code, {"__builtins__": __builtins__}, code.co_name, defaults, closure)
    except (ValueError, TypeError, EOFError, KeyError, AttributeError) as error:
        raise ValueError(
            f"The code of a Python function in the file cannot be read; it may be of another version of Python: {error}"
        ) from None
