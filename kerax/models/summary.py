"""Tables of a model's layers for terminals and notebooks."""

import html
import re
from typing import NamedTuple

import jax
import numpy as np

from kerax.core.display import format_bytes, html_table, with_unit
from kerax.core.layer import Layer
from kerax.core.symbolic import known_shape
from kerax.plan.flops import layer_flops, model_flops


class Row(NamedTuple):
    """One line of a summary."""

    name: str
    kind: str
    shape: str
    params: int
    bytes: int
    trainable: str
    flops: int | None


def rows(model, expand_nested: bool = False, indent: str = "", layer_range=None, with_flops: bool = False) -> list[Row]:
    """A row per layer of a model, those of models inside it too with `expand_nested`."""
    found = []
    for layer in _between(model, layer_range):
        weights = layer.weights
        trained = {weight.trainable for weight in weights}
        found.append(
            Row(
                indent + layer.name,
                type(layer).__name__,
                _output_shape(layer),
                sum(map(_size, weights)),
                _bytes(weights),
                "-" if not trained else "partly" if len(trained) > 1 else "yes" if True in trained else "no",
                layer_flops(layer) if with_flops else None,
            )
        )
        if expand_nested and hasattr(layer, "layers"):
            found += rows(layer, True, indent + "  ", with_flops=with_flops)
    return found


def _between(model, layer_range) -> list[Layer]:
    """The layers from the first that matches `layer_range[0]` to the last that matches `layer_range[1]`."""
    layers = model.layers
    if layer_range is None:
        return layers
    places = [[i for i, layer in enumerate(layers) if re.match(name, layer.name)] for name in layer_range]
    if len(places) != 2 or not all(places):
        names = ", ".join(layer.name for layer in layers)
        raise ValueError(f"summary: `layer_range` must hold the names of two layers of {names}. Got {layer_range!r}.")
    return layers[places[0][0] : places[1][-1] + 1]


def _size(weight) -> int:
    # int64: the product of a large shape overflows 32 bits.
    return int(np.prod(weight.shape, dtype=np.int64))


def _bytes(weights) -> int:
    return sum(_size(weight) * np.dtype(weight.stored_dtype).itemsize for weight in weights)


def _output_shape(layer: Layer) -> str:
    if layer.inbound_nodes:
        # The last call: a shared layer may have had several.
        shapes = [known_shape(tensor.shape) for tensor in jax.tree.leaves(layer.inbound_nodes[-1].outputs)]
        return ", ".join(str(shape).replace("None", "?") for shape in shapes)
    return "?" if layer.built else "? (unbuilt)"


def format_flops(count: int | None) -> str:
    """A number of operations with a unit of 1,000; a question mark for `None`."""
    if count is None:
        return "?"
    size, unit = with_unit(count, 1000, ("", " K", " M", " G", " T"))
    return f"{size:.2f}{unit}" if unit else f"{size:.0f}"


def totals(model) -> list[tuple[str, int, int]]:
    """(label, parameters, bytes) of all, trainable, other and optimizer variables."""
    groups = [
        ("Total params", model.weights),
        ("Trainable params", model.trainable_weights),
        ("Non-trainable params", model.non_trainable_weights),
    ]
    # Its state is made at the first `fit`.
    if model.optimizer is not None and model.optimizer.built:
        groups.append(("Optimizer params", model.optimizer.variables))
    return [(label, sum(map(_size, group)), _bytes(group)) for label, group in groups]


def print_summary(
    model,
    line_length=None,
    print_fn=None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range=None,
    show_flops: bool = False,
) -> None:
    """Prints the table, or hands its text to `print_fn`."""
    import io

    # Imported here: who trains does not wait for it.
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f'Model: "{model.name}"', title_justify="left")
    for heading in ("Layer (type)", "Output shape"):
        table.add_column(heading)
    for heading in ("Params", "Bytes"):
        table.add_column(heading, justify="right")
    if show_trainable:
        table.add_column("Trainable")
    if show_flops:
        table.add_column("FLOPs", justify="right")
    for row in rows(model, expand_nested, layer_range=layer_range, with_flops=show_flops):
        cells = [f"{row.name} ({row.kind})", row.shape, f"{row.params:,}", format_bytes(row.bytes)]
        cells += [row.trainable] if show_trainable else []
        table.add_row(*cells, *([format_flops(row.flops)] if show_flops else []))
    footer = [f" {label}: {count:,} ({format_bytes(size)})" for label, count, size in totals(model)]
    if show_flops:
        footer.append(f" FLOPs per example: {format_flops(model_flops(model))}")
    # For a function, text without colours, and 100 columns wide where nobody says otherwise.
    written = io.StringIO()
    if print_fn is None:
        console = Console(width=line_length, highlight=False)
    else:
        console = Console(file=written, width=line_length or 100, highlight=False, color_system=None)
    console.print(table)
    console.print("\n".join(footer))
    if print_fn is not None:
        for line in written.getvalue().splitlines():
            print_fn(line)


def summary_html(model) -> str:
    """The table as HTML, for notebooks."""
    headings = ("Layer", "Type", "Output shape", "Params", "Bytes", "Trainable")
    cells = (
        (row.name, row.kind, row.shape, f"{row.params:,}", format_bytes(row.bytes), row.trainable)
        for row in rows(model)
    )
    footer = "<br>".join(f"{label}: {count:,} ({format_bytes(size)})" for label, count, size in totals(model))
    return f"<b>{html.escape(model.name)}</b>{html_table(headings, cells)}{footer}"
