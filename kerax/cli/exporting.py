"""`kerax export`: a trained model as a file of another runtime."""

from collections.abc import Sequence
from typing import Any

from kerax.cli.config import ConfigError, one_line, parse_arguments
from kerax.cli.preprocessing import PREPROCESSING, find_preprocessing, preceded
from kerax.cli.testing import find_checkpoint
from kerax.cli.training import load_model
from kerax.core.text import TEXT
from kerax.export import ExportError
from kerax.export.formats import FORMATS

_DESCRIPTION = """Writes a .keras file, a checkpoint or a run for another runtime: an .onnx, .tflite or .xml file, or
the folder of a SavedModel. The file is run in its runtime, if that is installed, and kept if it computes what the model
does."""
_OPTIONS = {
    "format": f"one of {', '.join(FORMATS)}; default: by the ending of OUT",
    "batch": "a fixed batch size, or dynamic; default dynamic, for litert 1",
    "opset": "version of ONNX's operators, default 18",
    "quantize": "int8: large weights as integers of 8 bits, for onnx and litert",
}
_FLAGS = {
    "overwrite": "replace what is there",
    "unverified": "write without running the file",
    "without_preprocessing": "leave out what a run makes of tables and texts: the file takes what comes out of it",
}
_WITH_TEXT = ("onnx", "tf_saved_model")  # formats that have strings
_ENDINGS = {".onnx": "onnx", ".tflite": "litert", ".xml": "openvino"}


def export(arguments: Sequence[str]):
    """Writes the file. Raises `ConfigError` for anything wrong in the command line, or what it names."""
    words = list(arguments)
    # The second word is where to: the parser knows one path.
    target = words.pop(1) if len(words) > 1 and not words[0].startswith("-") and not words[1].startswith("-") else None
    path, given = parse_arguments(words, "MODEL OUT", _DESCRIPTION, _FLAGS, _OPTIONS, has_fields=False)
    if target is None:
        raise ConfigError("expected two paths, MODEL and OUT.")
    if unknown := given.keys() - _OPTIONS.keys() - _FLAGS.keys():
        raise ConfigError(f"unknown option --{min(unknown)}. Expected --{', --'.join([*_OPTIONS, *_FLAGS])}.")
    format = given.pop("format", None) or next((f for end, f in _ENDINGS.items() if target.endswith(end)), None)
    if format is None:
        raise ConfigError(f"{target}: its ending tells no format. Give --format, one of {', '.join(FORMATS)}.")
    options: dict[str, Any] = {"overwrite": "overwrite" in given, "verify": "unverified" not in given}
    if (batch := given.pop("batch", None)) is not None:
        options["batch"] = batch if batch == "dynamic" else _number("batch", batch)
    if (opset := given.pop("opset", None)) is not None:
        options["opset_version"] = _number("opset", opset)
    if "quantize" in given:
        options["quantize"] = given["quantize"]
    path = find_checkpoint(path)
    model = load_model(path, None, False)
    preprocessing: Any = None if "without_preprocessing" in given else find_preprocessing(path)
    if preprocessing is not None and format not in _WITH_TEXT and any(x.dtype == TEXT for x in preprocessing.inputs):
        print(f"{PREPROCESSING} is left out, for {format} has no text: the file takes what comes out of it.")
        preprocessing = None
    try:
        model = preceded(model, preprocessing)
        model.export(target, format, **options)
    except (ExportError, ImportError, OSError, TypeError, ValueError) as error:
        raise ConfigError(one_line(error)) from None


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--{name}: expected a whole number of at least 1. Got {text!r}.")
    return int(text)
