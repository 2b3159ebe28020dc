"""Operations on text, in ONNX. Its only ones are to split, to join and to look up; all else is made of these."""

import string
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kerax.export.onnx.graph import BOOL, INT32, INT64, TEXT, Graph, Operand, stored

_OPSET_OF_SPLIT = 20
_WHITESPACE = "\t\n\r\f\v"
"""Beside the space, which is the only one that onnxruntime splits at."""


class _Rows(NamedTuple):
    """Texts as tokens: `(texts, longest)`, filled up with empty ones."""

    tokens: Any
    counts: Any  # of tokens that are there, by text


def _vector(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _is_there(graph: Graph, rows: _Rows):
    length = graph.node("Squeeze", [_size(graph, rows.tokens, 1), _vector(0)])
    positions = graph.node("Range", [np.array(0), length, np.array(1)])
    return graph.node("Less", [positions, graph.node("Unsqueeze", [rows.counts, _vector(1)])])


def _size(graph: Graph, value, axis: int):
    return graph.node("Shape", [value], start=axis, end=axis + 1)


def _replaced(graph: Graph, texts, character: str, by: str):
    """Texts of one axis with `by` for a character: split there, and put together again piece by piece."""
    pieces, counts = graph.node("StringSplit", [texts], outputs=2, delimiter=character)
    length = graph.node("Squeeze", [_size(graph, pieces, 1), _vector(0)])
    start = graph.node("Expand", [np.array("", object), graph.node("Shape", [texts])])

    def step(body: Graph, count: Operand, goes_on: Operand, text: Operand):
        piece = body.node("Gather", [pieces, count], axis=1)
        if by:
            is_behind = body.node("Greater", [count, np.array(0)])
            is_behind = body.node("And", [is_behind, body.node("Less", [count, counts])])
            between = body.node("Where", [is_behind, np.array(by, object), np.array("", object)])
            piece = body.node("StringConcat", [between, piece])
        return [goes_on, Operand(text.shape, TEXT, body.node("StringConcat", [text, piece]))]

    specs = [((), INT64), ((), BOOL), ((graph.unique("texts"),), TEXT)]
    return graph.node("Loop", [length, None, start], body=graph.body(step, specs))


def rules(graph: Graph) -> dict[str, Callable]:
    """ONNX's operations for the steps of `kerax.core.text.TextStep`."""
    graph.shared.opset = max(graph.shared.opset, _OPSET_OF_SPLIT)

    def translate(texts: Operand, lower: bool, removed: str) -> Operand:
        changes = dict.fromkeys(removed, "")
        # Not by StringNormalizer: its letters are those of a locale that the machine may lack.
        changes |= dict(zip(string.ascii_uppercase, string.ascii_lowercase, strict=True)) if lower else {}
        flat = graph.node("Reshape", [texts, _vector(-1)])
        for character, by in changes.items():
            flat = _replaced(graph, flat, character, by)
        return Operand(texts.shape, TEXT, graph.node("Reshape", [flat, graph.node("Shape", [texts])]))

    def split(texts: Operand, by: str | None) -> _Rows:
        if by == "character":
            raise NotImplementedError("it splits no strings into characters")
        if by is None:
            size = texts.shape[-1] if texts.rank > 1 else 1
            tokens = graph.node("Reshape", [texts, _vector(-1, size)])
            return _Rows(tokens, graph.node("Expand", [_vector(size), _size(graph, tokens, 0)]))
        flat = graph.node("Reshape", [texts, _vector(-1)])
        for character in _WHITESPACE:
            flat = _replaced(graph, flat, character, " ")
        return _Rows(*graph.node("StringSplit", [flat], outputs=2))

    def join(rows: _Rows, widths: tuple) -> _Rows:
        is_there, found, kept = _is_there(graph, rows), [], []
        length = _size(graph, rows.tokens, 1)
        for width in widths:
            # As many as there are places for; none where there are fewer tokens.
            places = graph.node("Max", [graph.node("Sub", [length, _vector(width - 1)]), _vector(0)])

            def part(value, start: int, places=places):
                end = graph.node("Add", [places, _vector(start)])
                return graph.node("Slice", [value, _vector(start), end, _vector(1)])

            joined = part(rows.tokens, 0)
            for start in range(1, width):
                joined = graph.node("StringConcat", [joined, np.array(" ", object)])
                joined = graph.node("StringConcat", [joined, part(rows.tokens, start)])
            found.append(joined)
            kept.append(part(is_there, width - 1))
        tokens, is_kept = graph.node("Concat", found, axis=1), graph.node("Concat", kept, axis=1)
        # Those that are there come first, in their order.
        size = _size(graph, tokens, 1)
        positions = graph.node("Range", [np.array(0), graph.node("Squeeze", [size, _vector(0)]), np.array(1)])
        order = graph.node("Where", [is_kept, positions, graph.node("Add", [positions, size])])
        _, places = graph.node("TopK", [order, size], outputs=2, largest=0, axis=1)
        tokens = graph.node("Where", [is_kept, tokens, np.array("", object)])
        counts = graph.node("ReduceSum", [graph.node("Cast", [is_kept], to=7), _vector(1)], keepdims=0)
        return _Rows(graph.node("GatherElements", [tokens, places], axis=1), counts)

    def look_up(texts: Operand | _Rows, table: dict[str, int], start: int, bins: int, salt) -> Operand:
        if bins > 1:
            raise NotImplementedError("it has no hash of strings")
        texts = Operand((None, None), TEXT, texts.tokens) if isinstance(texts, _Rows) else texts
        found = graph.node(
            "LabelEncoder",
            [texts],
            domain="ai.onnx.ml",
            keys_strings=list(table),
            values_int64s=list(table.values()),
            default_int64=start if bins else -1,
        )
        return Operand(texts.shape, INT64, found)

    def hashed(texts: Operand, bins: int, salt, mask):
        raise NotImplementedError("it has no hash of strings")

    def fit_length(indices: Operand, length: int) -> Operand:
        pads = [0] * (2 * indices.rank - 1) + [length]
        padded = graph.node("Pad", [indices, _vector(*pads)])
        cut = graph.node("Slice", [padded, _vector(0), _vector(length), _vector(-1)])
        return Operand((*indices.shape[:-1], length), INT64, cut)

    def encode(indices: Operand, mode: str, depth: int, weights, dtype: str) -> Operand:
        if mode == "int":
            return graph.cast(indices, INT32)
        if mode == "one_hot":
            is_column = indices.rank > 1 and indices.shape[-1] == 1
            column = indices if is_column else graph.node("Unsqueeze", [indices, _vector(-1)])
            vectors = graph.node("Equal", [column, np.arange(depth)])
            return graph.cast(Operand((*indices.shape[:-1], depth), BOOL, vectors), stored(dtype))
        rows, one = indices, np.ones((), np.float32)
        if indices.rank == 1:
            rows = graph.node("Unsqueeze", [indices, _vector(0)])
        elif indices.rank > 2:
            rows = graph.node("Reshape", [indices, _vector(-1, indices.shape[-1])])
        is_low, is_high = (graph.node(kind, [rows, _vector(n)]) for kind, n in (("Less", 0), ("Greater", depth)))
        # Those that are to be left out meet in one more column.
        kept = graph.node("Where", [graph.node("Or", [is_low, is_high]), _vector(depth), rows])
        sizes = graph.node("Concat", [_size(graph, rows, 0), _vector(depth + 1)], axis=0)
        ones = graph.node("Expand", [one, graph.node("Shape", [rows])])
        counts = graph.node("Expand", [one * 0, sizes])
        counts = graph.node("ScatterElements", [counts, kept, ones], axis=1, reduction="add")
        counts = graph.node("Slice", [counts, _vector(0), _vector(depth), _vector(1)])
        counts = graph.node("Min", [counts, one]) if mode == "multi_hot" else counts
        if indices.rank != 2:
            outer = graph.node("Shape", [indices], start=0, end=-1)
            counts = graph.node("Reshape", [counts, graph.node("Concat", [outer, _vector(depth)], axis=0)])
        shape = *indices.shape[:-1], depth
        vectors = graph.cast(Operand(shape, np.dtype(np.float32), counts), stored(dtype))
        if weights is None:
            return vectors
        return Operand(shape, vectors.dtype, graph.node("Mul", [vectors, np.asarray(weights, vectors.dtype)]))

    named = (translate, split, join, look_up, fit_length, encode)
    return {rule.__name__: rule for rule in named} | {"hash": hashed}
