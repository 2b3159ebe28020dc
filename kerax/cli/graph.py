"""Functional models, with branches and several inputs and outputs, from a config."""

import inspect
from collections.abc import Callable
from typing import Any

import kerax
from kerax.cli.config import Field
from kerax.errors import suggest


def build_graph(field: Field, build_layer: Callable[[Field], Any]) -> "kerax.Model":
    """The functional model that `model` describes.

        inputs:
          size: {shape: [3]}                 # arguments of kerax.Input, by name
        layers:
          wide: {Dense: {units: 64}}         # of the layer, or input, written before it
          deep: {Dense: {units: 8}}
          both: {Concatenate: {}, of: [size, deep]}
          heads: {MultiHeadAttention: {num_heads: 4, key_dim: 32}, of: [both, both], call: {use_causal_mask: true}}
        outputs: [both]                      # default: the last layer; {name: layer} for outputs by name

    Args:
        field: `model` of a config.
        build_layer: Makes a layer of `{ClassName: {argument: value}}`.

    Raises:
        ConfigError: naming the layer that is wrong.
    """
    field.expect_names(
        ["class_name", "name", "inputs", "layers", "outputs"], required=["class_name", "inputs", "layers"]
    )
    inputs = {
        name: arguments.call(kerax.Input, {"name": name, **_input(arguments)})
        for name, arguments in field["inputs"].expect(dict).items()
    }
    tensors = dict(inputs)  # by name, in the order of the file: "the one before" is the last of them
    for name, description in field["layers"].expect(dict).items():
        if name in tensors:  # two layers of one name the reader of the file has refused already
            raise description.error("an input has this name too.")
        tensors[name] = _apply(name, description, tensors, build_layer)
    outputs = _outputs(field, tensors)
    # One input is no dict, so that the model takes plain arrays.
    inputs = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    return field.call(lambda: kerax.Model(inputs, outputs, name=field.value.get("name")))


def _input(field: Field) -> dict:
    field.expect_names(["shape", "dtype", "batch_size"], required=["shape"])
    return {**field.value, "shape": tuple(field["shape"].expect(list).value)}


def _apply(name: str, field: Field, tensors: dict, build_layer: Callable[[Field], Any]):
    """What the layer `name` gives."""
    if isinstance(field.value, str):
        field = Field({field.value: {}}, field.source, field.key)
    field.expect(dict, "ClassName or {ClassName: {argument: ...}, of: [names]}")
    sources = [next(reversed(tensors))]
    if "of" in field.value:
        of = field["of"]
        sources = [_known(of, source, tensors) for source in (of.value if isinstance(of.value, list) else [of.value])]
    options = field["call"].expect(dict).value if "call" in field.value else {}
    # The name in the mapping becomes the layer's, unless its arguments say another.
    description = {
        key: {"name": name, **(value or {})} if isinstance(value, dict | None) else value
        for key, value in field.value.items()
        if key not in ("of", "call")
    }
    layer = build_layer(Field(description, field.source, field.key))
    given = [tensors[source] for source in sources]
    # Where `call` needs one thing only, as that of `Add` does, several are a list of it.
    needed = [p for p in inspect.signature(layer.call).parameters.values() if p.default is p.empty]
    if len(needed) == 1 and len(given) > 1:
        given = [given]
    return field.call(lambda: layer(*given, **options))


def _known(field: Field, name: Any, tensors: dict) -> str:
    if name not in tensors:
        names = ", ".join(tensors)
        raise field.error(f"nothing before it is named {name!r}. Expected one of {names}.{suggest(name, tensors)}")
    return name


def _outputs(field: Field, tensors: dict):
    if "outputs" not in field.value:
        return tensors[next(reversed(tensors))]
    outputs = field["outputs"]
    if isinstance(outputs.value, dict):
        return {name: tensors[_known(layer, layer.value, tensors)] for name, layer in outputs.items()}
    return [tensors[_known(outputs, name, tensors)] for name in outputs.expect(list).value]
