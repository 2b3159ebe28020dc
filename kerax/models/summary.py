"""Tables of a model's layers for terminals and notebooks."""

import html
import itertools
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from kerax.core.display import format_bytes, html_table, with_unit
from kerax.core.layer import Layer
from kerax.core.symbolic import is_shape, known_shape
from kerax.core.terminal import say
from kerax.plan.flops import layer_flops, model_flops


class Row(NamedTuple):
    """One line of a summary."""

    name: str
    kind: str
    shape: str
    params: str
    bytes: int
    trainable: str
    connected: str
    flops: int | None


def rows(model, expand_nested: bool = False, indent: str = "", layer_range=None, with_flops: bool = False) -> list[Row]:
    """A row per layer and op of a model, those of models inside it too with `expand_nested`."""
    found = []
    for layer in _between(model, layer_range):
        if not isinstance(layer, Layer):
            words = getattr(layer, "op_name", type(layer).__name__).split("_")
            kind = "".join(word[0].upper() + word[1:] for word in words)
            flops, connected = layer_flops(layer) if with_flops else None, _connections(_calls(model, layer))
            found.append(Row(indent + layer.name, kind, _output_shape(layer), "0", 0, "-", connected, flops))
            continue
        weights = layer.weights
        trained = {weight.trainable for weight in weights}
        found.append(
            Row(
                indent + layer.name,
                type(layer).__name__,
                _output_shape(layer),
                f"{sum(map(_size, weights)):,}" if layer.built or weights else "0 (unbuilt)",
                _bytes(weights),
                "-" if not trained else "Y" if True in trained else "N",
                _connections(_calls(model, layer)),
                layer_flops(layer) if with_flops else None,
            )
        )
        if expand_nested and hasattr(layer, "layers"):
            found += rows(layer, True, "   " + (indent or "└ "), with_flops=with_flops)
    return found


def _steps(model) -> list:
    """The layers of a model, and the ops that lie between them in a graph."""
    return getattr(model, "operations", model.layers)


def _calls(model, layer) -> list:
    """A layer's calls in a model: it may have been called in others too, and models made of some of the layers."""
    graph = getattr(model, "kerax_graph", None)
    return [node for node in layer.inbound_nodes if graph is None or node in graph.nodes]


def _connections(calls: list) -> str:
    """Where the inputs of a layer's calls come from, as `layer[call][output]`."""
    origins = [tensor._keras_history for node in calls for tensor in node.inputs]
    return ", ".join(f"{origin[0].name}[{origin[1]}][{origin[2]}]" for origin in origins if origin) or "-"


def _is_chain(model) -> bool:
    """Whether each layer follows the one before, so that connections say nothing."""
    called = [(layer, calls) for layer in _steps(model) if (calls := _calls(model, layer))]
    return all(len(calls) == 1 and len(calls[0].inputs) <= 1 for _, calls in called) and all(
        calls[0].inputs and calls[0].inputs[0]._keras_history[0] is before
        for (before, _), (_, calls) in itertools.pairwise(called)
    )


def _between(model, layer_range) -> list:
    """The layers and ops from the first that matches `layer_range[0]` to the last that matches `layer_range[1]`."""
    layers = _steps(model)
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


def _output_shape(layer) -> str:
    if layer.inbound_nodes:
        # The last call: a shared layer may have had several.
        outputs: Any = jax.tree.map(lambda tensor: tensor.shape, layer.inbound_nodes[-1].outputs)
    elif layer.kerax_build_shapes:
        try:
            outputs = layer.compute_output_shape(*layer.kerax_build_shapes.values())
        except Exception:  # it is the user's, and a table is no place to fail
            return "?"
    else:
        return "?"
    shapes = [str(known_shape(tuple(shape))) for shape in jax.tree.leaves(outputs, is_leaf=is_shape)]
    return shapes[0] if len(shapes) == 1 else f"[{', '.join(shapes)}]"


def _in_units(size: int) -> str:
    value, unit = with_unit(size, 1024, ("B", "KB", "MB", "GB", "TB"))
    return f"{value:.2f} {unit}"  # two digits always, as scripts expect


def format_flops(count: int | None) -> str:
    """A number of operations with a unit of 1,000; a question mark for `None`."""
    if count is None:
        return "?"
    size, unit = with_unit(count, 1000, ("", " K", " M", " G", " T"))
    return f"{size:.2f}{unit}" if unit else f"{size:.0f}"


def totals(model) -> list[tuple[str, int, int]]:
    """(label, parameters, bytes) of all, trainable, other and optimizer variables."""
    groups = [
        ("Trainable params", model.trainable_weights),
        ("Non-trainable params", model.non_trainable_weights),
    ]
    # Its state is made at the first `fit`.
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and optimizer.built:
        groups.append(("Optimizer params", optimizer.variables))
    counted = [(label, sum(map(_size, group)), _bytes(group)) for label, group in groups]
    # As in Keras, the optimizer's as well.
    return [("Total params", sum(count for _, count, _ in counted), sum(size for *_, size in counted)), *counted]


def print_summary(
    model,
    line_length=None,
    print_fn=None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range=None,
    show_flops: bool = False,
) -> None:
    """Prints the table as Keras does, or hands its text to `print_fn`."""
    # Imported here: who trains does not wait for it.
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shows_connections = hasattr(type(model), "output_shape") and not _is_chain(model)
    # (heading, relative width): Keras's.
    columns = [("Layer (type)", 45), ("Output Shape", 33), ("Param #", 21)]
    if shows_connections:
        columns = [("Layer (type)", 27), ("Output Shape", 24), ("Param #", 16), ("Connected to", 29)]
    columns += [("Trainable", 18)] if show_trainable else []
    columns += [("FLOPs", 18)] if show_flops else []
    width = line_length or 80 + 14 * (show_trainable + show_flops)
    table = Table(width=width - 4, box=box.HEAVY_HEAD, show_lines=True)
    for heading, ratio in columns:
        is_number = heading in ("Param #", "FLOPs")
        table.add_column(heading, ratio=ratio, justify="right" if is_number else "left", overflow="fold")
    for row in rows(model, expand_nested, layer_range=layer_range, with_flops=show_flops):
        cells = [f"{row.name} ({row.kind})", row.shape, row.params]
        cells += [row.connected] if shows_connections else []
        cells += [row.trainable] if show_trainable else []
        cells += [format_flops(row.flops)] if show_flops else []
        table.add_row(*(escape(cell) for cell in cells))
    footer = [f" {label}: {count:,} ({_in_units(size)})" for label, count, size in totals(model)]
    if show_flops:
        footer.append(f" FLOPs per example: {format_flops(model_flops(model))}")
    # For a function, text without colours. In a notebook rich would show an empty output beside what is printed here.
    colors = "auto" if print_fn is None else None
    console = Console(width=width, highlight=False, color_system=colors, force_jupyter=False)
    with console.capture() as captured:
        console.print(f'Model: "{escape(model.name)}"')
        console.print(table)
        console.print("\n".join(footer))
    if print_fn is None:
        say(captured.get())
    else:
        print_fn(captured.get())


def summary_html(model) -> str:
    """The table as HTML, for notebooks."""
    headings = ("Layer", "Type", "Output shape", "Params", "Bytes", "Trainable")
    cells = ((row.name, row.kind, row.shape, row.params, format_bytes(row.bytes), row.trainable) for row in rows(model))
    footer = "<br>".join(f"{label}: {count:,} ({format_bytes(size)})" for label, count, size in totals(model))
    return f"<b>{html.escape(model.name)}</b>{html_table(headings, cells)}{footer}"
