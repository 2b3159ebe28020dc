"""Training runs described by YAML files: what `scripts/train.py` and `scripts/evaluate.py` are made of."""

from kerax.cli.build import build_fit_arguments, build_model, load_data
from kerax.cli.config import ConfigError, Field, parse_arguments, read_config, resolve_config, run_script

__all__ = [
    "ConfigError",
    "Field",
    "build_fit_arguments",
    "build_model",
    "load_data",
    "parse_arguments",
    "read_config",
    "resolve_config",
    "run_script",
]
