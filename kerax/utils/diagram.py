"""Boxes and arrows: where they go, and how they are drawn as SVG or by Pillow."""

import html
import itertools
from collections.abc import Iterator
from typing import NamedTuple

ROW = 26  # height of a row of text
PAD = 12  # beside a text
GAP_X, GAP_Y = 28, 34  # between boxes
LETTER = 7.3  # width of a letter, about


class Cell(NamedTuple):
    """A text in a box, with its colours."""

    text: str
    fill: str = "white"
    ink: str = "black"
    bold: bool = False


class Frame(NamedTuple):
    """A rectangle to be drawn."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    is_dashed: bool


class Label(NamedTuple):
    """A text to be drawn, centred at a point."""

    x: float
    y: float
    cell: Cell


class Arrow(NamedTuple):
    """A line to be drawn, with an arrow at its end."""

    points: list[tuple[float, float]]


class Box:
    """A table of cells, or a frame with a diagram inside."""

    def __init__(self, key, rows: list[list[Cell]], inside: "Diagram | None" = None, title: str = ""):
        self.key, self.rows, self.inside, self.title = key, rows, inside, title
        self.x = self.y = 0.0
        if inside is None:
            self.width = max(sum(_width(cell) for cell in row) for row in rows)
            self.height = ROW * len(rows)
        else:
            self.width = max(inside.width, _width(Cell(title))) + 2 * PAD
            self.height = inside.height + ROW + PAD


def _width(cell: Cell) -> float:
    return LETTER * len(cell.text) * (1.08 if cell.bold else 1) + 2 * PAD


class Diagram:
    """Boxes in layers, each below those that lead to it.

    Args:
        boxes: The boxes, each after those that lead to it but for loops.
        edges: Pairs of the keys of two boxes.
        rankdir: `"TB"`, `"BT"`, `"LR"` or `"RL"`: from top to bottom and so on.
    """

    def __init__(self, boxes: list[Box], edges: list[tuple], rankdir: str = "TB"):
        self.boxes, self.edges, self.rankdir = {box.key: box for box in boxes}, edges, rankdir
        self.routes: dict[tuple, list] = {}
        self._place()

    def _place(self):
        # Sugiyama's way: boxes get layers, then an order in their layer, then a place.
        layers, chains = self._layered()
        above, below = _neighbours(chains)
        _sort(layers, above, below)
        sideways = self.rankdir in ("LR", "RL")
        # (across, along) the direction of the layers; placeholders of edges take 8 across.
        spans = {
            key: (box.height, box.width) if sideways else (box.width, box.height) for key, box in self.boxes.items()
        }
        across = _spread(layers, {key: spans.get(key, (8, 0))[0] for layer in layers for key in layer}, above, below)
        starts, depth = [], 0.0
        for layer in layers:
            thickness = max((spans.get(key, (0, 0))[1] for key in layer), default=0)
            starts.append((depth, depth + thickness))
            depth += thickness + GAP_Y
        depth -= GAP_Y
        total = max((across[key] + spans[key][0] / 2 for key in self.boxes), default=0)
        total = max([total, *across.values()])  # an edge may pass beside all boxes
        self.width, self.height = (depth, total) if sideways else (total, depth)
        # Everything is computed for the direction down; where it goes elsewhere, points are turned at the end.
        turn = {
            "TB": lambda x, y: (x, y),
            "BT": lambda x, y: (x, depth - y),
            "LR": lambda x, y: (y, x),
            "RL": lambda x, y: (depth - y, x),
        }[self.rankdir]
        for layer, (start, end) in zip(layers, starts, strict=True):
            for key in layer:
                if key in self.boxes:
                    box, (x, y) = self.boxes[key], turn(across[key], (start + end) / 2)
                    box.x, box.y = x - box.width / 2, y - box.height / 2
        for edge, chain in chains.items():
            self.routes[edge] = [turn(across[key], y) for key, rank in chain for y in starts[rank]]

    def _layered(self):
        """The layer of each box, with a placeholder in each layer that an edge crosses."""
        # The longest way from the start, so that every edge but those of loops leads down.
        rank = {key: 0 for key in self.boxes}
        position = {key: index for index, key in enumerate(self.boxes)}
        forward = sorted(
            (edge for edge in self.edges if position[edge[0]] < position[edge[1]]), key=lambda e: position[e[1]]
        )
        for first, second in forward:
            rank[second] = max(rank[second], rank[first] + 1)
        layers: list[list] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
        for key in self.boxes:
            layers[rank[key]].append(key)
        chains: dict[tuple, list] = {}
        # An edge that skips layers gets a narrow place in each, so that no box lies on it.
        for edge in self.edges:
            chain = [((edge, between), between) for between in range(rank[edge[0]] + 1, rank[edge[1]])]
            for key, between in chain:
                layers[between].append(key)
            chains[edge] = chain
        return layers, chains

    def shapes(self, left: float = 0, top: float = 0) -> "Iterator[Frame | Label | Arrow]":
        """What is to be drawn, in order."""
        for box in self.boxes.values():
            x, y = left + box.x, top + box.y
            if box.inside is not None:
                yield Frame(x, y, box.width, box.height, "none", True)
                yield Label(x + box.width / 2, y + ROW / 2, Cell(box.title, bold=True))
                # Its title may be wider than what is inside.
                inner_x = x + (box.width - box.inside.width) / 2
                yield from box.inside.shapes(inner_x, y + ROW)
                continue
            for row in box.rows:
                widths = [_width(cell) for cell in row]
                spare, at = (box.width - sum(widths)) / len(row), x
                for cell, width in zip(row, widths, strict=True):
                    yield Frame(at, y, width + spare, ROW, cell.fill, False)
                    yield Label(at + (width + spare) / 2, y + ROW / 2, cell)
                    at += width + spare
                y += ROW
        for first, second in self.edges:
            yield Arrow([(left + x, top + y) for x, y in self._route(first, second)])

    def _route(self, first, second) -> list[tuple[float, float]]:
        start, end = self.boxes[first], self.boxes[second]
        forward = {"TB": (0, 1), "BT": (0, -1), "LR": (1, 0), "RL": (-1, 0)}[self.rankdir]
        return [_edge_point(start, forward), *self.routes[first, second], _edge_point(end, (-forward[0], -forward[1]))]


def _neighbours(chains: dict) -> tuple[dict, dict]:
    """What leads to each key from the layer above, and what each leads to in the layer below."""
    above: dict = {}
    below: dict = {}
    for (first, second), chain in chains.items():
        path = [first, *(key for key, _ in chain), second]
        for one, other in itertools.pairwise(path):
            above.setdefault(other, []).append(one)
            below.setdefault(one, []).append(other)
    return above, below


def _mean(found: list | None, values: dict, default: float) -> float:
    return sum(values[key] for key in found) / len(found) if found else default


def _sort(layers: list[list], above: dict, below: dict):
    """Orders each layer by the mean place of what leads to it, then of what it leads to; a few rounds."""
    place = {key: index for layer in layers for index, key in enumerate(layer)}
    # Down and up again, for each sweep spoils a little of what the one before it made.
    for near, sweep in ((above, layers), (below, layers[::-1])) * 3 + ((above, layers),):
        for layer in sweep:
            means = {key: _mean(near.get(key), place, place[key]) for key in layer}
            layer.sort(key=means.__getitem__)
            place.update({key: index for index, key in enumerate(layer)})


def _apart(wanted: list[float], gaps: list[float]) -> list[float]:
    """Each place as it is wanted, or as far to the right as the gap to the one before it needs."""
    steps = zip(wanted, [0, *gaps], strict=True)
    return list(itertools.accumulate(steps, lambda at, step: max(step[0], at + step[1]), initial=float("-inf")))[1:]


def _spread(layers: list[list], widths: dict, above: dict, below: dict) -> dict:
    """The centre of each key across its layer: near the mean of its neighbours', without overlaps, from 0 on."""
    centers: dict = {}
    for layer in layers:
        at = -(sum(widths[key] + GAP_X for key in layer) - GAP_X) / 2
        for key in layer:
            centers[key] = at + widths[key] / 2
            at += widths[key] + GAP_X
    for near, sweep in ((above, layers), (below, layers[::-1])) * 4 + ((above, layers),):
        for layer in sweep:
            wanted = [_mean(near.get(key), centers, centers[key]) for key in layer]
            gaps = [(widths[one] + widths[other]) / 2 + GAP_X for one, other in itertools.pairwise(layer)]
            # From the left, and mirrored from the right: the mean of the two keeps the distances and favours no side.
            right = _apart(wanted, gaps)
            left = [-at for at in _apart([-at for at in wanted[::-1]], gaps[::-1])[::-1]]
            centers.update({key: (a + b) / 2 for key, a, b in zip(layer, left, right, strict=True)})
    start = min((centers[key] - widths[key] / 2 for key in centers), default=0)
    return {key: center - start for key, center in centers.items()}


def _edge_point(box: Box, direction) -> tuple[float, float]:
    dx, dy = direction
    return box.x + box.width * (1 + dx) / 2, box.y + box.height * (1 + dy) / 2


def as_svg(diagram: Diagram, dpi: int = 96) -> str:
    """The diagram as an SVG picture."""
    margin, scale = 10, dpi / 96
    width, height = diagram.width + 2 * margin, diagram.height + 2 * margin
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * scale:.0f}" height="{height * scale:.0f}" '
        f'viewBox="{-margin} {-margin} {width:.1f} {height:.1f}" font-family="Helvetica, Arial, sans-serif" '
        'font-size="13">',
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z"/></marker></defs>',
        f'<rect x="{-margin}" y="{-margin}" width="{width:.1f}" height="{height:.1f}" fill="white"/>',
    ]
    for shape in diagram.shapes():
        if isinstance(shape, Frame):
            x, y, w, h, fill, is_dashed = shape
            dash = ' stroke-dasharray="6 4"' if is_dashed else ""
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="{fill}" stroke="black"{dash}/>'
            )
        elif isinstance(shape, Label):
            x, y, cell = shape
            weight = ' font-weight="bold"' if cell.bold else ""
            parts.append(
                f'<text x="{x:.1f}" y="{y + 4.5:.1f}" text-anchor="middle" fill="{cell.ink}"{weight}>'
                f"{html.escape(cell.text)}</text>"
            )
        else:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
            parts.append(f'<polyline points="{points}" fill="none" stroke="black" marker-end="url(#arrow)"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def as_image(diagram: Diagram, image_module, dpi: int = 96):
    """The diagram as a Pillow image; `image_module` is `PIL.Image`."""
    from PIL import ImageDraw, ImageFont

    margin, scale = 10, dpi / 96
    size = [round((length + 2 * margin) * scale) for length in (diagram.width, diagram.height)]
    image = image_module.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=13 * scale)

    def at(x, y):
        return (x + margin) * scale, (y + margin) * scale

    for shape in diagram.shapes():
        if isinstance(shape, Frame):
            x, y, w, h, fill, is_dashed = shape
            outline = "grey" if is_dashed else "black"
            draw.rectangle(
                [at(x, y), at(x + w, y + h)], None if fill == "none" else fill, outline, max(1, round(scale))
            )
        elif isinstance(shape, Label):
            x, y, cell = shape
            draw.text(at(x, y), cell.text, cell.ink, font, anchor="mm", stroke_width=0.4 * scale if cell.bold else 0)
        else:
            points = [at(*point) for point in shape.points]
            draw.line(points, "black", max(1, round(scale)), joint="curve")
            draw.polygon(_arrow_head(points, 7 * scale), "black")
    return image


def _arrow_head(points: list, size: float) -> list:
    (x0, y0), (x1, y1) = points[-2:]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1
    dx, dy = (x1 - x0) / length * size, (y1 - y0) / length * size
    return [(x1, y1), (x1 - dx - dy / 2, y1 - dy + dx / 2), (x1 - dx + dy / 2, y1 - dy - dx / 2)]
