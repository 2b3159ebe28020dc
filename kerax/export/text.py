"""Text in exported models: what is made of it before the compiled part, which has numbers only."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from kerax.core import sparse
from kerax.core.input_spec import InputSpec
from kerax.core.layer import Layer
from kerax.core.symbolic import KerasTensor
from kerax.core.text import TEXT, TextStep, reads_text
from kerax.export.errors import ExportError


def is_spec(value: Any) -> bool:
    """Whether a value is an `InputSpec`, which are the leaves of signatures."""
    return isinstance(value, InputSpec)


def takes_text(signature: tuple) -> bool:
    """Whether there is an input of strings."""
    return any(spec.dtype == TEXT for spec in jax.tree.leaves(signature, is_leaf=is_spec))


class Text:
    """The calls of a model that read text, which a file makes by its format's own operations.

    Args:
        model: One of symbolic tensors, or a `Sequential`.
        signature: What it takes, with strings among it.

    Attributes:
        signature: What the compiled part takes in their place.

    Raises:
        ExportError: for a model that reads text in a `call` of its own.
    """

    def __init__(self, model: Any, signature: tuple):
        self._model = model
        tensors = jax.tree.map(lambda spec: KerasTensor(spec.shape, spec.dtype), signature, is_leaf=is_spec)
        self._inputs, self._form = jax.tree.flatten(tensors)
        self._calls: list[tuple[Layer, tuple, dict, KerasTensor]] = []
        is_model = hasattr(model, "kerax_used_inputs")
        prepared = model.kerax_used_inputs(tensors[0], self._record) if is_model else tensors
        self._starts: list[KerasTensor] = jax.tree.leaves(prepared)
        if any(map(reads_text, self._starts)):
            raise ExportError(
                f"export: {model} reads text itself. Where layers read it, in a model of symbolic tensors or a "
                "`Sequential`, formats that have text write what they do; add that model as the endpoint."
            )
        self.signature = (jax.tree.map(lambda tensor: InputSpec(shape=tensor.shape, dtype=tensor.dtype), prepared),)

    def _record(self, layer, *args, **kwargs) -> KerasTensor:
        output = layer.compute_output_spec(*args, **kwargs)
        self._calls.append((layer, args, kwargs, output))
        return output

    @property
    def first_layer(self) -> Any:
        """The layer that is called first."""
        return self._calls[0][0]

    def write(self, inputs: list, rules: dict[str, Callable], format: str) -> list:
        """What the compiled part starts from, in a format.

        Args:
            inputs: A value of the format's for each input.
            rules: By the step's name, from the value that the layer reads, or has made of it, and the step's arguments
                to the next value.
        """
        known = dict(zip(self._inputs, inputs, strict=True))
        for layer, args, kwargs, output in self._calls:
            value: Any = jax.tree.map(known.__getitem__, args[0])
            for step in _steps(layer, args, kwargs):
                if step.name not in rules:
                    what = f"`{step.params['argument']}` is a function" if step.name == "call" else repr(step.name)
                    raise _refused(layer, format, f"{what}, which it has no operation for")
                try:
                    value = rules[step.name](value, **step.params)
                except NotImplementedError as error:
                    raise _refused(layer, format, str(error)) from None
            known[output] = value
        return [known[start] for start in self._starts]

    def compute(self, inputs: list[np.ndarray]) -> list:
        """What the compiled part starts from, as this machine computes it."""
        prepared = self._model.kerax_used_inputs(jax.tree.unflatten(self._form, inputs)[0])
        return jax.tree.leaves(sparse.to_dense(prepared))

    def made_up(self, index: int, shape: tuple, rng: np.random.Generator) -> np.ndarray:
        """Text for an input: tokens that its layers know, and others where they take them; sentences if they split."""
        steps = list(self._steps_of(self._inputs[index]))
        tables = [step.params for step in steps if step.name == "look_up"]
        words = [word for table in tables for word in list(table["table"])[:50]] or ["a word"]
        if all(table["bins"] for table in tables):
            words += ["Unknown", "Étranger", ""]
        if not any(step.name in ("split", "translate") for step in steps):
            return rng.choice(np.array(words, object), shape)
        marks = np.array([" ", ", ", "\t", "  ", "! "], object)
        texts = [
            "".join(f"{word.title()}{mark}" for word, mark in zip(rng.choice(words, n), rng.choice(marks, n)))
            for n in rng.integers(0, 9, int(np.prod(shape)))
        ]
        return np.array(texts, object).reshape(shape)

    def _steps_of(self, tensor: KerasTensor) -> Iterator[TextStep]:
        for layer, args, kwargs, _ in self._calls:
            if any(tensor is leaf for leaf in jax.tree.leaves(args)):
                yield from _steps(layer, args, kwargs)


def _steps(layer, args: tuple, kwargs: dict) -> list[TextStep]:
    if kwargs or len(args) != 1 or not hasattr(layer, "kerax_text_steps"):
        raise ExportError(f"export: {layer} does with text what no format has an operation for.")
    return layer.kerax_text_steps(jax.tree.leaves(args)[0].shape)


def _refused(layer, format: str, reason: str) -> ExportError:
    return ExportError(
        f"export: format {format!r} cannot do what {layer} does with text: {reason}. Call the layer on the data "
        "before, and export a model of what it makes, or give format='tf_saved_model'."
    )


def refused(text: Text, format: str) -> ExportError:
    """The error of a format that has no text."""
    return _refused(text.first_layer, format, "it has no strings")
