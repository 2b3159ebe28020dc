"""Text in a model: JAX has none, so what reads it is computed on the host before the compiled part.

A model that takes text is cut once into the calls that read text and all others. `fit`, `evaluate` and `predict` make
the first on the data, and hand what comes out as `Prepared` inputs to steps in which the model goes on with the others.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from kerax.core.symbolic import KerasTensor, Node

TEXT = "string"


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["start"])
class Prepared:
    """What the host's part of a model made of its inputs.

    Args:
        values: Where the compiled part starts from.
        start: Of a `Sequential`, the number of its layers that are done.
    """

    def __init__(self, values: tuple, start: int = 0):
        self.values, self.start = values, start


class TextStep(NamedTuple):
    """A part of what a layer makes of text, for runtimes that have operations on text of their own.

    Args:
        name: What is done, each with arguments of its own, to strings, to rows of tokens, or to their numbers:
            `"translate"` (`lower`: whether ASCII letters become small; `removed`: characters), `"split"` into rows of
            tokens (`by`: `"whitespace"`, `"character"`, or `None` where the last axis holds them), `"join"` neighbours
            (`widths`), `"look_up"` (`table`: number by token; of others `start`, or by their hash one of `bins` from
            there on, `salt`), `"hash"` (`bins`, `salt`, `mask`: what gets 0), `"cross"` (`bins`), `"fit_length"` of the
            last axis by zeros (`length`), `"encode"` (`mode`, `depth`, `weights`, `dtype`), and `"call"` of a function
            of Python's (`argument`: its name).
        params: The arguments.
    """

    name: str
    params: dict[str, Any]


class Resumed:
    """A call of a model that took text, in the compiled part: the model goes on from what it prepared."""

    def __init__(self, node: Node):
        self.operation, self.note, self._kwargs = node.operation, node.note, node.kwargs
        self.prepared = KerasTensor(())

    def arguments(self, values: dict) -> tuple[tuple, dict]:
        """As those of a `Node`."""
        return (values[self.prepared],), self._kwargs


class Cut:
    """A graph in two parts.

    Args:
        inputs: The symbolic inputs.
        nodes: All calls.
        outputs: The symbolic outputs.
        resumes: Which operations have a part of their own that is compiled.

    Attributes:
        on_host: The calls that read text, each with its `Resumed` or `None`.
        compiled: The others.
        starts: The tensors that the compiled part starts from.
    """

    def __init__(self, inputs: list, nodes: list, outputs: list, resumes):
        self.on_host, self.compiled = [], []
        known = list(inputs)
        needed = list(outputs)
        for node in nodes:
            if any(tensor.dtype == TEXT for tensor in node.inputs):
                resumed = Resumed(node) if resumes(node.operation) else None
                self.on_host.append((node, resumed))
                if resumed is None:
                    known += jax.tree.leaves(node.outputs)
                else:
                    self.compiled.append(resumed)
                    known.append(resumed.prepared)
                    needed.append(resumed.prepared)
            else:
                self.compiled.append(node)
                needed += node.inputs
        wanted = set(map(id, needed))
        self.starts = [tensor for tensor in known if id(tensor) in wanted]


_NUMBERS = frozenset("biufc")  # the kinds of NumPy's dtypes of numbers
_NAMES = ("string", "str", "<dtype: 'string'>")


def reads_text(value) -> bool:
    """Whether a value is text: a symbolic tensor or an array of strings, a string, or a list of such."""
    if isinstance(value, KerasTensor):
        return value.dtype == TEXT
    if isinstance(value, (list, tuple)):
        return bool(value) and reads_text(value[0])
    dtype = getattr(value, "dtype", None)
    if dtype is None or isinstance(value, jax.Array):
        return isinstance(value, (str, bytes))
    kind = getattr(dtype, "kind", "")
    if kind == "O":  # of NumPy or pandas: anything may be in there
        return isinstance(next(iter(np.asarray(value).flat), None), (str, bytes))
    # Of numbers no name is made: it takes longer than all else here.
    return kind in ("S", "U", "T") or (kind not in _NUMBERS and str(dtype) in _NAMES)


def as_arrays(given, form) -> Any:
    """Data in which text for each text tensor of `form` is one NumPy array: of a list of strings, or of a frame's
    column."""
    if isinstance(form, dict) and isinstance(given, dict):
        return {name: as_arrays(value, form.get(name)) for name, value in given.items()}
    if isinstance(form, (list, tuple)):
        if len(form) == 1 and not (isinstance(given, (list, tuple)) and len(given) == 1):
            return as_arrays(given, form[0])
        if isinstance(given, (list, tuple)) and len(given) == len(form):
            return type(given)(as_arrays(value, part) for value, part in zip(given, form, strict=True))
    return as_text(given) if reads_text(given) else given


def as_text(given) -> Any:
    """Text as one NumPy array, unless it is symbolic."""
    return given if isinstance(given, KerasTensor) else np.asarray(given, object)


def is_number(text: str) -> bool:
    """Whether text, as a cell of a table, reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
