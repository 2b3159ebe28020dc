"""Pictures of models: `plot_model` and `model_to_dot`."""

import html
import itertools
import os
import shutil
import subprocess
import sys

import jax

from kerax.core.layer import Layer
from kerax.errors import check_choice
from kerax.models import Functional, Sequential
from kerax.places import local_path
from kerax.utils.diagram import Box, Cell, Diagram, as_image, as_svg
from kerax.utils.images import pillow


class ModelGraph:
    """A model as boxes and arrows.

    In a notebook it shows itself. `to_string()` is its description in Graphviz's language, `write(path)` a picture.

    Args:
        diagram: The boxes and arrows.
        name: The model's name.
        dpi: Dots per inch of pictures.
        splines: What Graphviz draws arrows as.
    """

    def __init__(self, diagram: Diagram, name: str, dpi: int, splines: str):
        self.diagram, self.name, self.dpi, self.splines = diagram, name, dpi, splines

    def to_string(self) -> str:
        """The description in Graphviz's language."""
        head = f"rankdir={self.diagram.rankdir}; concentrate=true; dpi={self.dpi}; splines={self.splines};"
        body = _dot_lines(self.diagram)
        return "\n".join(["digraph model {", f"  {head}", '  node [shape=plain, fontname="Helvetica"];', *body, "}"])

    def write(self, path, format: str | None = None):
        """Writes a picture, or the description as `.dot`.

        Graphviz draws it if its program `dot` is there; else kerax does, as SVG, or with Pillow as PNG, PDF and others.

        Args:
            path: Of the file.
            format: Default: from the name of the file.

        Raises:
            ImportError: for a format other than SVG, if neither Graphviz nor Pillow is there.
            ValueError: for a format that is not known.
        """
        path = local_path(path, "Dot.write")
        format = (format or os.path.splitext(path)[1][1:] or "png").lower()
        if format in ("dot", "gv", "raw"):
            data = self.to_string().encode()
        elif shutil.which("dot"):
            command = ["dot", f"-T{format}"]
            done = subprocess.run(command, input=self.to_string().encode(), capture_output=True, check=False)
            if done.returncode:
                raise ValueError(f"Graphviz cannot draw {path!r}: {done.stderr.decode(errors='replace').strip()}")
            data = done.stdout
        elif format == "svg":
            data = as_svg(self.diagram, self.dpi).encode()
        else:
            image_module = pillow(f"Drawing {path!r} without Graphviz (an .svg needs neither)")
            image_module.init()  # else Pillow knows the endings of a few formats only
            if f".{format}" not in image_module.EXTENSION:
                raise ValueError(f"plot_model: unknown format {format!r}. Use 'svg', 'png', 'pdf' or 'dot'.")
            as_image(self.diagram, image_module, self.dpi).save(path, format=image_module.EXTENSION[f".{format}"])
            return
        with open(path, "wb") as file:
            file.write(data)

    def _repr_svg_(self) -> str:
        return as_svg(self.diagram)


def _dot_lines(diagram: Diagram, indent: str = "  ") -> list[str]:
    # Each row of a box is a table of its own: cells of one table would line up with those of the rows above.
    lines = []
    for box in diagram.boxes.values():
        if box.inside is not None:
            lines.append(f"{indent}subgraph cluster_{box.key} {{")
            lines.append(f"{indent}  label={_quoted(box.title)}; labeljust=l; style=dashed;")
            lines += [*_dot_lines(box.inside, indent + "  "), f"{indent}}}"]
        else:
            rows = "".join(
                "<tr><td><table border='0' cellborder='1' cellspacing='0' cellpadding='6'><tr>"
                + "".join(map(_dot_cell, row))
                + "</tr></table></td></tr>"
                for row in box.rows
            )
            table = f"<<table border='0' cellborder='0' cellspacing='0' cellpadding='0'>{rows}</table>>"
            lines.append(f"{indent}{box.key} [label={table}];")
    for first, second in diagram.edges:
        lines.append(f"{indent}{_end(diagram.boxes[first], -1)} -> {_end(diagram.boxes[second], 0)};")
    return lines


def _end(box: Box, index: int):
    """The box itself, or the last or first one inside a frame."""
    while box.inside is not None:  # Graphviz's edges cannot end at a cluster
        box = list(box.inside.boxes.values())[index]
    return box.key


def _dot_cell(cell: Cell) -> str:
    text = html.escape(cell.text)
    text = f"<b>{text}</b>" if cell.bold else text
    return f"<td bgcolor='{cell.fill}'><font color='{cell.ink}'>{text}</font></td>"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _calls(model) -> tuple[list, list[tuple]]:
    """The operations of a model in order, and the pairs of which one leads to the other."""
    if isinstance(model, Functional):
        # A layer that is called twice is one box, to which both of its calls lead.
        operations = model.kerax_graph.operations
        edges = [(needed.node.operation, call.operation) for call in model.kerax_graph.nodes for needed in call.inputs]
    elif isinstance(model, Sequential):
        operations = model.layers
        edges = list(itertools.pairwise(operations))
    else:
        return [model], []
    # By `id`, for two layers may have one name. Each pair once, in order.
    return operations, list(dict.fromkeys((id(one), id(other)) for one, other in edges))


def _diagram(model, rankdir: str, expand_nested: bool, show: dict) -> Diagram:
    operations, edges = _calls(model)
    boxes = []
    for operation in operations:
        is_nested = isinstance(operation, (Functional, Sequential)) and operation is not model
        if expand_nested and is_nested:
            inside = _diagram(operation, rankdir, expand_nested, show)
            boxes.append(Box(id(operation), [], inside, operation.name))
        else:
            boxes.append(Box(id(operation), _rows(operation, **show)))
    return Diagram(boxes, edges, rankdir)


def _rows(operation, names: bool, shapes: bool, dtype: bool, activations: bool, trainable: bool) -> list[list[Cell]]:
    kind = type(operation).__name__ if isinstance(operation, Layer) else getattr(operation, "op_name", "Operation")
    title = f"{operation.name} ({kind})" if names and operation.name != kind else kind
    rows = [[Cell(title, "black", "white", True)]]
    activation = getattr(operation, "activation", None)
    if activations and activation is not None:
        rows.append([Cell(f"Activation: {getattr(activation, '__name__', type(activation).__name__)}")])
    cells = []
    if shapes and kind != "InputLayer":  # whose input is its output
        cells.append(Cell(f"Input shape: {_of_tensors(operation, 'input', 'shape')}"))
    if shapes:
        cells.append(Cell(f"Output shape: {_of_tensors(operation, 'output', 'shape')}"))
    if dtype:
        cells.append(Cell(f"Output dtype: {_of_tensors(operation, 'output', 'dtype')}"))
    if trainable and getattr(operation, "weights", None):
        is_trained = operation.trainable
        fill, text = ("forestgreen", "Trainable") if is_trained else ("firebrick", "Non-trainable")
        cells.append(Cell(text, fill, "white", True))
    return [*rows, cells] if cells else rows


def _of_tensors(operation, which: str, what: str) -> str:
    """The shapes or dtypes of an operation's first call: `?` if it never was called on symbolic tensors."""
    if not operation.inbound_nodes:
        return "?"
    call = operation.inbound_nodes[0]
    tensors = call.outputs if which == "output" else call.inputs[0] if len(call.inputs) == 1 else call.inputs
    found = jax.tree.map(lambda tensor: str(getattr(tensor, what)), tensors)
    if isinstance(found, dict):
        return ", ".join(f"{name}: {value}" for name, value in found.items())
    return found if isinstance(found, str) else ", ".join(jax.tree.leaves(found))


def model_to_dot(
    model,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    subgraph: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
    **kwargs,
) -> ModelGraph:
    """A model as boxes and arrows, for `to_string()` (Graphviz's language), `write(path)`, or a notebook to show.

    Args:
        model: A built model. One that is neither sequential nor functional is a single box.
        show_shapes: Whether to write shapes of inputs and outputs.
        show_dtype: Whether to write dtypes of outputs.
        show_layer_names: Whether to write layers' names before their classes.
        rankdir: `"TB"`, `"BT"`, `"LR"` or `"RL"`: from top to bottom and so on.
        expand_nested: Whether models inside the model are drawn as frames with their layers.
        dpi: Dots per inch of pictures.
        subgraph: Kept for Keras's signature.
        show_layer_activations: Whether to write activations.
        show_trainable: Whether to say which layers are trained.
        splines: What Graphviz draws arrows as.

    Deviation from Keras: a `ModelGraph` is returned, with the two methods of pydot's graphs that are named above.

    Raises:
        ValueError: if the model is not built, or for an unknown `rankdir`.
        TypeError: for an unknown argument.
    """
    if kwargs:
        raise TypeError(f"model_to_dot: unknown argument {next(iter(kwargs))!r}.")
    if not model.built:
        raise ValueError(f"{model}: not built yet. Call it on data or `build` it before drawing it.")
    check_choice("model_to_dot", "rankdir", rankdir, ("TB", "BT", "LR", "RL"))
    show = {
        "names": show_layer_names,
        "shapes": show_shapes,
        "dtype": show_dtype,
        "activations": show_layer_activations,
        "trainable": show_trainable,
    }
    return ModelGraph(_diagram(model, rankdir, expand_nested, show), model.name, dpi, splines)


def plot_model(
    model,
    to_file: str | os.PathLike | None = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
    **kwargs,
):
    """Writes a picture of a model, and in a notebook shows it.

    Graphviz draws it if its program `dot` is there; else kerax does, as `.svg`, or with Pillow as `.png` and others.

    Args:
        to_file: Path of the picture; its ending says the format.
        All others as in `model_to_dot`.

    Returns: in a notebook the graph, which shows itself; else `None`.
    """
    shown = (show_shapes, show_dtype, show_layer_names, rankdir, expand_nested, dpi, False)
    graph = model_to_dot(model, *shown, show_layer_activations, show_trainable, splines, **kwargs)
    graph.write(to_file)
    return graph if "IPython" in sys.modules else None
