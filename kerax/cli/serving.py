"""`kerax serve`: trained models behind HTTP."""

from collections.abc import Callable, Sequence
from typing import Any

from kerax import serve as serving
from kerax.cli.config import ConfigError, one_line, parse_words
from kerax.cli.run_folder import keep_programs

_DESCRIPTION = """Serves .keras and .onnx files, checkpoints, folders of runs, and folders with numbered versions, over
HTTP: KServe's V2 protocol, TensorFlow Serving's, Prometheus metrics, and a page to try them on; language models, which
are folders with config.json, safetensors and tokenizer.json, by OpenAI's protocol. MODEL is a path, NAME=PATH or
NAME:VERSION=PATH. SIGHUP, or POST /v2/repository/models/NAME/load, has models read anew."""


def _whole_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "host": (str, "address to listen at, default 127.0.0.1; 0.0.0.0 for all"),
    "port": (int, "default 8000"),
    "max_batch": (int, "rows computed at once at most, default 32"),
    "max_delay": (float, "seconds that an idle device waits for more rows, default 0"),
    "max_queue": (int, "rows that may wait, default 1024; more are refused"),
    "max_bytes": (int, "of a request's body, default 67108864"),
    "timeout": (float, "seconds for an answer, default 30"),
    "drain": (float, "seconds of answering after SIGTERM, until connections are refused, default 1"),
    "watch": (float, "seconds between looks for changed files and new versions, default 0: never"),
    "labels": (str, "a file with the classes' names, one in a line; for several models NAME=FILE,NAME=FILE"),
    "lengths": (_whole_numbers, "sizes of what models leave open, as 32,128, that are compiled before they are ready"),
    "pad_value": (float, "what shorter rows are filled up with to the next of the lengths, default: they are not"),
    "slots": (int, "requests that a language model answers at once, default 8"),
    "cache_length": (int, "positions of each, of its prompt and its answer, default 2048 or what it was trained for"),
    "cache_dtype": (str, "of what a language model keeps of them, as bfloat16 or int8"),
    "dtype": (str, "of a language model's layers, default that of its config.json"),
    "quantization": (str, "how its matrices are stored: int8, int4, int4/64"),
    "scale": (float, "factor on the pixels 0 to 255 of uploaded pictures, default 1, or 1/255 for a run that scales"),
}


def serve(arguments: Sequence[str]):
    """Serves until a signal comes. Raises `ConfigError` for anything wrong in the command line, or what it names."""
    texts = {name: help for name, (_, help) in _OPTIONS.items()}
    models, given = parse_words(arguments, "MODEL [MODEL ...]", _DESCRIPTION, options=texts, has_fields=False)
    if not models:
        raise ConfigError("expected one MODEL or more. See --help.")
    if unknown := given.keys() - _OPTIONS.keys():
        raise ConfigError(f"unknown option --{min(unknown)}. Expected --{', --'.join(_OPTIONS)}.")
    options = {name: _value(name, text) for name, text in given.items()}
    if "=" in (labels := options.get("labels", "")):
        options["labels"] = dict(pair.split("=", 1) for pair in labels.split(",") if "=" in pair)
    keep_programs()
    try:
        serving.run(models, say=lambda line: print(line, flush=True), **options)
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise ConfigError(one_line(error)) from None


def _value(name: str, text: str) -> Any:
    kind = _OPTIONS[name][0]
    try:
        return kind(text)
    except ValueError:
        expected = {int: "a whole number", float: "a number"}.get(kind, "whole numbers, as 32,128")
        raise ConfigError(f"--{name}: expected {expected}. Got {text!r}.") from None
