"""The `kerax` command, and training runs described by YAML files."""

from kerax.cli import quiet_start as quiet_start  # isort: skip  # before anything else imports JAX
from kerax.cli.benchmarking import benchmark as benchmark
from kerax.cli.build import build_fit_arguments as build_fit_arguments
from kerax.cli.build import build_model as build_model
from kerax.cli.build import load_data as load_data
from kerax.cli.commands import COMMANDS as COMMANDS
from kerax.cli.commands import Command as Command
from kerax.cli.commands import main as main
from kerax.cli.config import ConfigError as ConfigError
from kerax.cli.config import Field as Field
from kerax.cli.config import parse_arguments as parse_arguments
from kerax.cli.config import read_config as read_config
from kerax.cli.config import resolve_config as resolve_config
from kerax.cli.config import run_script as run_script
from kerax.cli.fields import complete as complete
from kerax.cli.fields import show_fields as show_fields
from kerax.cli.finetuning import finetune as finetune
from kerax.cli.finetuning import run_finetuning as run_finetuning
from kerax.cli.inspecting import describe_file as describe_file
from kerax.cli.inspecting import inspect_file as inspect_file
from kerax.cli.inspecting import show_file as show_file
from kerax.cli.planning import plan_command as plan_command
from kerax.cli.testing import evaluate as evaluate
from kerax.cli.testing import predict as predict
from kerax.cli.training import run as run
from kerax.cli.training import train as train
from kerax.cli.tuning import search as search
from kerax.cli.tuning import tune as tune
