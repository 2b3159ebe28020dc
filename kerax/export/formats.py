"""The formats: who writes them, who runs them, and what is needed for it. Each file is tried before it is kept."""

import dataclasses
import importlib
import importlib.util
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kerax import places
from kerax.core.text import TEXT
from kerax.errors import suggest
from kerax.export.endpoints import Endpoint
from kerax.export.errors import ExportError
from kerax.export.text import refused


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        module: The module of kerax with its functions.
        extra: kerax's extra with all that is needed.
        needs: The package that writes it, if any.
        runtime: The package that runs it.
        ending: What the file's name must end in, if anything.
        options: Arguments of its own.
        write, run: Names of the functions.
        has_text: Whether there are strings in it.
    """

    module: str
    extra: str
    needs: str | None
    runtime: str
    ending: str = ""
    options: tuple[str, ...] = ()
    write: str = "write"
    run: str = "run"
    has_text: bool = False

    def function(self, name: str) -> Any:
        """One of the module's functions."""
        return getattr(importlib.import_module(f"kerax.export.{self.module}"), name)


FORMATS = {
    "tf_saved_model": Format(
        "saved_model", "tensorflow", "tensorflow", "tensorflow", "", ("options", "collections"), has_text=True
    ),
    "onnx": Format(
        "onnx_file", "onnx", "onnx_ir", "onnxruntime", ".onnx", ("opset_version", "quantize"), has_text=True
    ),
    "openvino": Format(
        "onnx_file", "openvino", "openvino", "openvino", ".xml", ("opset_version",), "write_openvino", "run_openvino"
    ),
    "litert": Format("litert", "litert", "litert_converter", "ai_edge_litert", ".tflite", ("quantize",)),
    "jax": Format("portable", "", None, "jax"),
}
_KERAS_OPTIONS = ("is_static", "jax2tf_kwargs")
"""Of Keras's own way into SavedModels, which kerax does not go."""
_TOLERANCES = {"float16": 2e-2, "bfloat16": 5e-2, "int8": 2e-2, "float8_e4m3fn": 5e-2}
"""Largest difference over largest output, by the coarsest dtype: of sums in another order a last bit may differ, and
what is rounded to fewer bits may then go the other way. 1e-4 for all others."""


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        ValueError: for an unknown one, or `"torch"`.
    """
    if name == "torch":
        raise ValueError(
            "export: kerax writes no files of PyTorch's. Use format='onnx', which onnxruntime runs beside PyTorch, and "
            "converters read."
        )
    if name not in FORMATS:
        raise ValueError(
            f"export: expected one of the formats {', '.join(FORMATS)}. Got {name!r}.{suggest(name, FORMATS)}"
        )
    return FORMATS[name]


def write(
    endpoints: list[Endpoint],
    filepath: Any,
    format: str,
    verify: bool = True,
    overwrite: bool | None = None,
    verbose: bool | None = None,
    **options,
) -> str:
    """Writes endpoints, runs what was written, and keeps it if it computes what they do. Returns the path.

    Args:
        overwrite: Whether to replace what is there. `None` replaces what an earlier call may have left, as Keras does:
            a file, or the folder of a SavedModel.

    Raises:
        ValueError: for an unknown format or option, a path that is not to be replaced or ends otherwise than the
            format's.
        ImportError: naming the extra, if a package is missing.
        ExportError: if the format cannot express the model, or its runtime gives other numbers. Nothing is left then.
    """
    kind = find_format(format)
    path = places.local_path(filepath, "export").rstrip("/\\")
    _check(kind, format, path, overwrite, options)
    for endpoint in endpoints:
        if endpoint.text is not None and not kind.has_text:
            raise refused(endpoint.text, format)
    folder, name = os.path.split(os.path.abspath(path))
    places.check_writable(folder, "export")
    partial = os.path.join(folder, f"{name}.{uuid.uuid4().hex}.partial")
    os.mkdir(partial)
    try:
        # Under their own names: some files name those beside them.
        target = os.path.join(partial, name)
        kind.function(kind.write)(endpoints, target, **options)
        size = sum(os.path.getsize(file) for file in _files_in(partial)) / 1e6
        note = _verify(kind, target, endpoints, exact=not options.get("quantize")) if verify else "not checked"
        for entry in os.listdir(partial):
            places.replace(os.path.join(partial, entry), os.path.join(folder, entry))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if verbose is not False:
        print(f"Saved artifact at {path!r} ({format}, {size:.3g} MB; {note}).")
    return path


def _files_in(folder: str) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        yield from (os.path.join(place, name) for name in names)


def _may_replace(path: str, overwrite: bool | None) -> bool:
    if overwrite is None:
        return not os.path.isdir(path) or os.path.isfile(os.path.join(path, "saved_model.pb"))
    return overwrite


def _check(kind: Format, format: str, path: str, overwrite: bool | None, options: dict[str, Any]) -> None:
    for name in _KERAS_OPTIONS:
        if options.pop(name, None) is not None:
            warnings.warn(
                f"export: {name!r} is an argument of Keras's way by jax2tf and changes nothing.", stacklevel=5
            )
    unknown = [name for name in options if name not in kind.options]
    if unknown:
        takes = f"It takes {', '.join(kind.options)}." if kind.options else "It takes none."
        raise ValueError(
            f"export: format {format!r} has no argument {unknown[0]!r}. {takes}{suggest(unknown[0], kind.options)}"
        )
    if options.get("quantize") not in (None, "int8"):
        raise ValueError(f"export: `quantize` must be None or 'int8'. Got {options['quantize']!r}.")
    if kind.ending and not path.endswith(kind.ending):
        raise ValueError(f"export: a file of format {format!r} must end in {kind.ending!r}. Got {path!r}.")
    if os.path.lexists(path) and not _may_replace(path, overwrite):
        raise ValueError(f"export: {path!r} exists. Give `overwrite=True` to replace it, or another path.")
    if kind.needs and importlib.util.find_spec(kind.needs) is None:
        where = ""
        if kind.needs == "litert_converter":
            where = " litert-converter has wheels for Linux on x86-64 and macOS on arm64 only; export on one of these."
        raise ImportError(f"export: format {format!r} needs {kind.needs}: pip install 'kerax[{kind.extra}]'.{where}")


# The check.


def _verify(kind: Format, path: str, endpoints: Sequence[Endpoint], exact: bool) -> str:
    """Runs a file for two batch sizes and compares. Returns what to say of it."""
    if importlib.util.find_spec(kind.runtime) is None:
        extra = f": pip install 'kerax[{kind.extra}]'" if kind.extra else ""
        return f"not checked, for {kind.runtime} is not installed{extra}"
    worst = 0.0
    tried = endpoints if kind.module == "saved_model" else endpoints[:1]
    for endpoint in tried:
        inputs = _made_up(endpoint, endpoint.sized(3 if endpoint.is_dynamic else 2))
        expected = endpoint.computed(inputs)
        worst = max(worst, _differs(kind, path, endpoint, inputs, expected, exact))
        if not endpoint.is_dynamic:
            continue
        fewer = [array[:2] for array in inputs]
        try:
            # Of most models the first rows are those of the smaller batch, which saves compiling for it.
            known = [array[:2] for array in expected]
            worst = max(worst, _differs(kind, path, endpoint, fewer, known, exact))
        except ExportError:
            worst = max(worst, _differs(kind, path, endpoint, fewer, endpoint.computed(fewer), exact))
    return f"run in {kind.runtime}, differs by {worst:.0e} of the largest output at most"


def _differs(kind: Format, path: str, endpoint: Endpoint, inputs: list, expected: list, exact: bool) -> float:
    """How far a file's outputs are from the expected ones, over the largest of these."""
    try:
        found = kind.function(kind.run)(path, endpoint, inputs)
    except Exception as error:  # a runtime's own classes, none of which says more than its words
        text = " ".join(str(error).split())[:500]
        raise ExportError(
            f"export: {kind.runtime} does not run what was written of {endpoint.name!r}: {text}"
        ) from error
    worst = 0.0
    for name, one, other in zip(endpoint.output_names, expected, found, strict=True):
        worst = max(worst, _compare(kind.runtime, endpoint, name, one, np.asarray(other), exact))
    return worst


def _made_up(endpoint: Endpoint, shapes: Sequence[tuple]) -> list[np.ndarray]:
    """Inputs: floats around 0, text, and integers that every table of the model has a row for."""
    rng = np.random.default_rng(0)
    arrays = []
    for index, (shape, spec) in enumerate(zip(shapes, endpoint.inputs, strict=True)):
        if spec.dtype == TEXT and endpoint.text is not None:
            arrays.append(endpoint.text.made_up(index, shape, rng))
        elif np.dtype(spec.dtype).kind in "iu":
            arrays.append(rng.integers(0, endpoint.smallest_table, shape).astype(spec.dtype))
        elif spec.dtype == bool:
            arrays.append(rng.random(shape) < 0.5)
        else:
            arrays.append(rng.normal(size=shape).astype(spec.dtype))
    return arrays


def _compare(
    runtime: str, endpoint: Endpoint, name: str, expected: np.ndarray, found: np.ndarray, exact: bool
) -> float:
    if expected.shape != found.shape:
        raise ExportError(
            f"export: {runtime} gives output {name!r} of {endpoint.name!r} the shape {found.shape}, kerax "
            f"{expected.shape}."
        )
    tolerance = max((_TOLERANCES.get(dtype, 0) for dtype in endpoint.dtypes), default=0) or 1e-4
    tolerance = tolerance if exact else 0.2
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    one, other = expected.astype(wide), found.astype(wide)
    odd = ~np.isfinite(one)
    same = np.array_equal(one[odd], other[odd], equal_nan=True)
    one, other = np.where(odd, 0, one), np.where(odd, 0, other)
    difference = float(np.abs(one - other).max(initial=0) / max(np.abs(one).max(initial=0), 1e-30))
    if not same or not difference <= tolerance:
        raise ExportError(
            f"export: {runtime} computes other numbers than kerax: output {name!r} of {endpoint.name!r} differs by "
            f"{difference:.1e} of its largest value. The file was removed. Please report the model; `verify=False` "
            "keeps it."
        )
    return difference
