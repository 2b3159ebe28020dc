"""The `kerax` command, and training runs described by YAML files."""

from kerax.cli.benchmarking import benchmark
from kerax.cli.build import build_fit_arguments, build_model, load_data
from kerax.cli.commands import COMMANDS, Command, main
from kerax.cli.config import ConfigError, Field, parse_arguments, read_config, resolve_config, run_script
from kerax.cli.fields import complete, show_fields
from kerax.cli.inspecting import describe_file, inspect_file, show_file
from kerax.cli.planning import plan_command
from kerax.cli.testing import evaluate, predict
from kerax.cli.training import run, train
from kerax.cli.tuning import search, tune

__all__ = [
    "COMMANDS",
    "Command",
    "ConfigError",
    "Field",
    "benchmark",
    "build_fit_arguments",
    "build_model",
    "complete",
    "describe_file",
    "evaluate",
    "inspect_file",
    "load_data",
    "main",
    "parse_arguments",
    "predict",
    "plan_command",
    "read_config",
    "resolve_config",
    "run",
    "run_script",
    "search",
    "show_fields",
    "show_file",
    "train",
    "tune",
]
