"""What layers and trees of arrays show of themselves in a notebook: plain HTML tables."""

import html
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerax.core.configurable import captured_arguments

_MOST_ROWS = 60


def html_table(heads: Sequence[str], rows: Iterable[Sequence[str]], to_the_right: Collection[int] = ()) -> str:
    """A table of texts; cells of the columns `to_the_right` are aligned so."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = ""
    for row in rows:
        # The style is in the cell: notebooks drop style sheets from saved outputs.
        styles = [" style='text-align:right'" if column in to_the_right else "" for column in range(len(row))]
        cells = [f"<td{style}>{html.escape(text)}</td>" for style, text in zip(styles, row, strict=True)]
        body += f"<tr>{''.join(cells)}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def layer_page(layer) -> str:
    """A layer: its class and name, what it was made with, and its weights."""
    head = f"<b>{html.escape(type(layer).__name__)}</b> {html.escape(layer.name)}"
    pages = [head if layer.built else f"{head} (unbuilt)"]
    arguments = [
        (name, _short(value))
        for name, value in captured_arguments(layer).items()
        if name not in ("name", "trainable", "dtype") and value is not None
    ]
    if arguments:
        pages.append(html_table(("argument", "value"), arguments))
    if layer.weights:
        leaves = [(weight.path or weight.name, weight) for weight in layer.weights]
        pages.append(leaves_table(leaves, "weight", trainable=True))
    return "".join(f"<div>{page}</div>" for page in pages)


def tree_page(values: Any, title: str) -> str:
    """A tree of arrays, variables or their specs, folded up under its title, counts and bytes."""
    leaves = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in _flatten(values)]
    sizes = [_size(leaf) for _, leaf in leaves]
    elements, num_bytes = sum(size for size, _ in sizes), sum(size for _, size in sizes)
    head = f"<b>{html.escape(title)}</b> {len(leaves)} arrays, {elements:,} numbers, {format_bytes(num_bytes)}"
    if not leaves:
        return f"<div>{head}</div>"
    return f"<details><summary>{head}</summary>{leaves_table(leaves, 'path')}</details>"


def leaves_table(leaves: list[tuple[str, Any]], heading: str, trainable: bool = False) -> str:
    """A row for each array: name, shape, dtype, bytes, and whether it is trained."""
    rows = []
    for name, leaf in leaves[:_MOST_ROWS]:
        cells = [name, str(tuple(leaf.shape)), _dtype(leaf).name, format_bytes(_size(leaf)[1])]
        rows.append([*cells, "yes" if leaf.trainable else "no"] if trainable else cells)
    if len(leaves) > _MOST_ROWS:
        rows.append([f"… and {len(leaves) - _MOST_ROWS} more"])
    return html_table([heading, "shape", "dtype", "bytes", *(["trainable"] if trainable else [])], rows, {3})


def _flatten(values: Any):
    has_shape = lambda leaf: hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    leaves = jax.tree_util.tree_leaves_with_path(values, is_leaf=has_shape)
    return [(path, leaf) for path, leaf in leaves if has_shape(leaf)]


def _dtype(leaf) -> np.dtype:
    """Of a random key the dtype of its data."""
    dtype = getattr(leaf, "stored_dtype", leaf.dtype)
    return np.dtype("uint32") if jnp.issubdtype(dtype, jax.dtypes.prng_key) else np.dtype(dtype)


def _size(leaf) -> tuple[int, int]:
    """Elements and bytes."""
    count = math.prod(leaf.shape)
    return count, count * _dtype(leaf).itemsize


def _short(value: Any) -> str:
    text = getattr(value, "__name__", None) or repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def format_bytes(count: float) -> str:
    """A number of bytes with a unit of 1,024."""
    size, unit = with_unit(count, 1024, ("B", "KB", "MB", "GB", "TB"))
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.2f} {unit}"


def with_unit(count: float, base: int, units: tuple[str, ...]) -> tuple[float, str]:
    """A number in the largest unit, each `base` times the one before, of which it is at least 1."""
    size, place = float(count), 0
    while size >= base and place < len(units) - 1:
        size, place = size / base, place + 1
    return size, units[place]
