"""The `kerax` command: `COMMANDS` says which function does what."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kerax.cli.benchmarking import benchmark
from kerax.cli.config import run_script
from kerax.cli.exporting import export
from kerax.cli.inspecting import inspect_file
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
    "export": Command(export, "writes a trained model as a file of another runtime: ONNX, LiteRT, SavedModel, ..."),
    "serve": Command(serve, "answers requests over HTTP with trained models"),
    "tune": Command(tune, "searches the values that a YAML file leaves open"),
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
    if name not in COMMANDS:
        known = f"Expected one of {', '.join(COMMANDS)}.{suggest(name, COMMANDS)}"
        print(f"kerax: error: unknown command {name!r}. {known}", file=sys.stderr)
        return 2
    return run_script(COMMANDS[name].function, rest, f"kerax {name}")


def _help() -> str:
    lines = ["usage: kerax COMMAND ...", "", "Deep learning in the Keras way on nothing but JAX.", ""]
    lines += [f"  {name:<10} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "kerax COMMAND --help says more about each."])
