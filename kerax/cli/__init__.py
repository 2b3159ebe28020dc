"""Training runs described by YAML files: what the scripts are made of."""

from kerax.cli.build import build_fit_arguments, build_model, load_data
from kerax.cli.config import ConfigError, Field, parse_arguments, read_config, resolve_config, run_script
from kerax.cli.inspecting import describe_file, show_file
from kerax.cli.planning import plan_command

__all__ = [
    "ConfigError",
    "Field",
    "build_fit_arguments",
    "build_model",
    "describe_file",
    "load_data",
    "parse_arguments",
    "plan_command",
    "read_config",
    "resolve_config",
    "run_script",
    "show_file",
]
