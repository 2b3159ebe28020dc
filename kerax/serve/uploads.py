"""Bodies that are no JSON: pictures, forms with files, tables and texts, as the inputs of a model."""

import asyncio
import csv
import io
import json
from collections import defaultdict
from typing import Any

import numpy as np

from kerax.core.text import is_number
from kerax.serve.tensors import TEXT, RequestError, TensorSpec
from kerax.utils.images import load_img

KINDS = ("image/", "multipart/form-data", "text/csv", "text/plain")
_COLORS = {1: "grayscale", 3: "rgb", 4: "rgba"}


def is_upload(content_type: str) -> bool:
    """Whether `read_upload` reads such a body."""
    return content_type.startswith(KINDS)


def read_upload(entry, headers, body: bytes) -> dict[str, Any]:
    """The inputs in a body, by name. Raises `RequestError`."""
    kind = headers["content-type"].partition(";")[0].strip()
    if kind.startswith("image/"):
        spec = _only(entry, [spec for spec in entry.inputs if spec.is_image], "picture")
        return {spec.name: read_image(spec, body, entry.scale)[None]}
    if kind == "multipart/form-data":
        return asyncio.run(_read_form(entry, headers, body))  # of Starlette, which reads it as it comes
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the body is not UTF-8: {error}") from None
    if kind == "text/plain":
        spec = _only(entry, [spec for spec in entry.inputs if spec.dtype == TEXT], "text")
        return {spec.name: np.array([text]).reshape(1, *(1 for _ in spec.shape))}
    return _read_table(entry, text)


def read_image(spec: TensorSpec, data: bytes, scale: float) -> np.ndarray:
    """A picture in the size and colors of an input: pixels from 0 to 255, times `scale`. Raises `RequestError`."""
    is_last = spec.shape[-1] in _COLORS
    size = spec.shape[:-1] if is_last else spec.shape[1:]
    channels = spec.shape[-1 if is_last else 0] or 1
    target = None if None in size else tuple(size)
    try:
        picture = load_img(io.BytesIO(data), _COLORS[channels], target, "bilinear")
    except ImportError as error:
        raise RequestError(501, str(error)) from None
    except Exception as error:  # Pillow raises whatever its decoders do for bytes that are no picture
        raise RequestError(400, f"input {spec.name!r}: expected a picture. {error}") from None
    pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)
    pixels = pixels if is_last else pixels.transpose(2, 0, 1)
    return pixels.astype(spec.dtype) if scale == 1 else (pixels * np.float32(scale)).astype(spec.dtype)


def _only(entry, specs: list[TensorSpec], what: str) -> TensorSpec:
    if len(specs) != 1 or len(entry.inputs) != 1:
        taken = ", ".join(f"{spec.name!r} ({spec.describe()})" for spec in entry.inputs)
        raise RequestError(400, f"a single {what} is no input of {entry.name!r}, which takes {taken}.")
    return specs[0]


async def _read_form(entry, headers, body: bytes) -> dict[str, Any]:
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream():
        yield body
        yield b""

    try:
        form = await MultiPartParser(headers, stream(), max_part_size=max(len(body), 1)).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise RequestError(400, f"the form cannot be read: {error}") from None
    known = {spec.name: spec for spec in entry.inputs}
    given: dict[str, list] = defaultdict(list)
    for name, value in form.multi_items():
        # A browser's field may have any name if there is one input only.
        name = next(iter(known)) if len(known) == 1 else name
        if name not in known:
            raise RequestError(400, f"the form has {name!r}. Expected the inputs {list(known)}.")
        content = value if isinstance(value, str) else await value.read()
        given[name].append(_of_field(known[name], content, entry.scale))
    try:
        return {name: np.stack(rows) for name, rows in given.items()}
    except ValueError:
        raise RequestError(400, "rows of one request must have one shape.") from None


def _of_field(spec: TensorSpec, content: str | bytes, scale: float) -> np.ndarray:
    """One row."""
    if spec.is_image and isinstance(content, bytes):
        return read_image(spec, content, scale)
    try:
        text = content.decode() if isinstance(content, bytes) else content
        return np.array(text).reshape([1] * len(spec.shape)) if spec.dtype == TEXT else np.array(json.loads(text))
    except (ValueError, TypeError) as error:
        raise RequestError(400, f"input {spec.name!r}: expected {spec.describe()}. {error}") from None


def _read_table(entry, text: str) -> dict[str, Any]:
    """The columns of CSV: by the inputs' names in its first line, or all of them as the rows of the one input."""
    lines = [line for line in csv.reader(io.StringIO(text)) if line]
    known = {spec.name: spec for spec in entry.inputs}
    has_names = bool(lines) and set(lines[0]) == set(known)
    # Of one input columns may have names of their own, none of which is a number.
    is_heading = (
        len(known) == 1 and entry.inputs[0].dtype != TEXT and not any(map(is_number, lines[0] if lines else []))
    )
    rows = lines[1:] if has_names or is_heading else lines
    if not rows or len({len(row) for row in rows}) > 1:
        raise RequestError(400, "expected a table with rows of the same number of columns.")
    if has_names:
        columns = {name: [row[index] for row in rows] for index, name in enumerate(lines[0])}
    elif len(known) == 1:
        columns = {next(iter(known)): rows}
    else:
        raise RequestError(400, f"expected a table whose first line names the columns {list(known)}. Got {lines[0]}.")
    try:
        return {
            name: column if known[name].dtype == TEXT else np.asarray(column, np.float64)
            for name, column in columns.items()
        }
    except ValueError as error:
        raise RequestError(400, f"expected numbers: {error}") from None
