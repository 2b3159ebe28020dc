"""The `kerax` command: `COMMANDS` says which function does what."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kerax.cli.benchmarking import benchmark
from kerax.cli.config import ConfigError, run_script
from kerax.cli.exporting import export
from kerax.cli.finetuning import finetune
from kerax.cli.inspecting import inspect_file
from kerax.cli.listing import compare, runs
from kerax.cli.planning import plan_command
from kerax.cli.serving import serve
from kerax.cli.testing import evaluate, predict
from kerax.cli.training import train
from kerax.cli.tuning import tune
from kerax.errors import suggest
from kerax.version import __version__


class Command(NamedTuple):
    """A subcommand: a function of the words after it, and its line in the help."""

    function: Callable[[Sequence[str]], Any]
    help: str


COMMANDS = {
    "train": Command(train, "trains the model that a YAML file describes, tests it and keeps the run in a folder"),
    "evaluate": Command(evaluate, "tests a checkpoint, a run or a .keras file"),
    "predict": Command(predict, "writes the predictions for a file or a data set"),
    "inspect": Command(inspect_file, "lists what is in a checkpoint or a file of weights"),
    "runs": Command(runs, "lists the runs in a folder with their best and their last numbers"),
    "compare": Command(compare, "shows runs beside each other: configs, curves, results"),
    "export": Command(export, "writes a trained model as a file of another runtime: ONNX, LiteRT, SavedModel, ..."),
    "serve": Command(serve, "answers requests over HTTP with trained models"),
    "tune": Command(tune, "searches the values that a YAML file leaves open"),
    "finetune": Command(finetune, "trains a language model on answers or preferences, as a YAML file describes"),
    "plan": Command(plan_command, "tells what a config's model would need and take on devices that need not be there"),
    "benchmark": Command(benchmark, "times kerax beside a hand-written JAX step on this machine"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Args:
        arguments: The words after `kerax`. Default: those of this process.

    Returns: the exit code, 0 if all went well and 2 for a mistake on the command line or in a file.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    # A call without a command is a mistake to a script (exit code 2), and a question to a person.
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"kerax {__version__}")
        return 0
    name, *rest = words
    if name in COMMANDS:
        rest, files = _imported(rest)
        try:
            for file in files:
                _import(file)
        except ConfigError as error:
            print(f"kerax {name}: error: {error}", file=sys.stderr)
            return 2
    if name not in COMMANDS:
        known = f"Expected one of {', '.join(COMMANDS)}.{suggest(name, COMMANDS)}"
        print(f"kerax: error: unknown command {name!r}. {known}", file=sys.stderr)
        return 2
    return run_script(COMMANDS[name].function, rest, f"kerax {name}")


def _imported(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words without `--import FILE`, and the files."""
    rest, files, given = [], [], iter(words)
    for word in given:
        if word == "--import":
            files.append(next(given, ""))
        elif word.startswith("--import="):
            files.append(word.removeprefix("--import="))
        else:
            rest.append(word)
    return rest, files


def _import(file: str):
    """Runs a Python file, whose registered classes and functions have names in configs and files then.

    Given on the command line only: a config or a model stays data, whoever wrote it.
    """
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(f"--import: expected the path of a Python file. Got {file!r}.")
    name = f"kerax_imported_{path.stem}"
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pickles and data classes look for it
    spec.loader.exec_module(module)


def _help() -> str:
    lines = ["usage: kerax COMMAND ...", "", "Deep learning in the Keras way on nothing but JAX.", ""]
    lines += [f"  {name:<10} {command.help}" for name, command in COMMANDS.items()]
    lines += ["", "kerax COMMAND --import FILE.py ... runs a Python file first, with layers and functions of your own."]
    return "\n".join([*lines, "kerax COMMAND --help says more about each."])
