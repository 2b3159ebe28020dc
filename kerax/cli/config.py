"""From a YAML file and command-line overrides to one checked tree of plain data.

The file is data only: it names classes, never modules or code. Every complaint is a `ConfigError`, which
`run_script` prints as one line.
"""

import copy
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jsonargparse
import yaml

from kerax.errors import suggest


class Section(NamedTuple):
    """One top-level name of a config. A `default` of `None` means that it must be given."""

    type: type
    default: Any
    help: str


SECTIONS = {
    "seed": Section(int, 0, "seed of weights, shuffling and dropout, default 0"),
    "run_dir": Section(str, None, "folder that the run writes to"),
    "data": Section(dict, None, "the dataset: name, scale (a factor on the inputs), the dataset's own arguments"),
    "model": Section(dict, None, "class_name, name, input_shape, layers"),
    "compile": Section(dict, None, "arguments of Model.compile"),
    "fit": Section(dict, {}, "arguments of Model.fit"),
    "callbacks": Section(list, [], "callbacks, by class name"),
}
_TYPE_NAMES = {int: "a whole number", str: "a string", dict: "a mapping", list: "a list"}
_OVERRIDE_HELP = """\
Every field is an option too: its path written with dots, list positions counted from 0, the value in YAML:
  --fit.epochs 3 --compile.optimizer.Adam.learning_rate 0.01 --model.layers.0.Conv2D.filters 16
  --compile.optimizer '{SGD: {learning_rate: 0.1, momentum: 0.9}}' --callbacks '[]'
"""
_load_yaml = jsonargparse.get_loader("yaml")


class ConfigError(ValueError):
    """Something in a config, or on the command line, is wrong. The message says where, and what was expected."""


@dataclass(frozen=True)
class Field:
    """A value of a config that knows where it stands.

    Args:
        value: Plain data: mappings, lists, numbers, strings, booleans, `None`.
        source: Where the config comes from, for error messages.
        key: Path of the value in the config, with dots. Empty for the whole config.

    >>> config = Field({"fit": {"epochs": 3}}, source="run.yaml")
    >>> config["fit"]["epochs"]
    Field(value=3, source='run.yaml', key='fit.epochs')
    """

    value: Any
    source: str
    key: str = ""

    def __getitem__(self, name: str | int) -> "Field":
        return Field(self.value[name], self.source, f"{self.key}.{name}" if self.key else str(name))

    def items(self) -> Iterable[tuple[Any, "Field"]]:
        """The fields below a mapping, with their names."""
        return ((name, self[name]) for name in self.value)

    def error(self, message: str) -> ConfigError:
        """The error to raise about this field."""
        return ConfigError(f"{self.source}: {self.key}: {message}" if self.key else f"{self.source}: {message}")

    def expect(self, kind: type, description: str = "") -> "Field":
        """This field, which must be a `kind`, called `description` in the error. Raises `ConfigError`."""
        if not isinstance(self.value, kind) or (kind is int and isinstance(self.value, bool)):
            raise self.error(f"expected {description or _TYPE_NAMES[kind]}. Got {self.value!r}.")
        return self

    def expect_names(self, allowed: Iterable[str], required: Iterable[str] = ()) -> "Field":
        """This field, which must be a mapping with these names only. Raises `ConfigError`."""
        allowed = list(allowed)
        self.expect(dict, f"a mapping with {_enumerate(allowed)}")
        for name in self.value:
            if name not in allowed:
                raise self[name].error(f"unknown name. Expected {_enumerate(allowed)}.{suggest(name, allowed)}")
        for name in required:
            if name not in self.value:
                raise self.error(f"{name!r} is missing.")
        return self


def _enumerate(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}" if names else "no names"


def parse_arguments(arguments: Sequence[str], positional: str, description: str) -> tuple[str, dict[str, Any]]:
    """A script's command line: its one positional argument, and the overrides `{dotted path: value}`.

    Prints the help and exits for `--help`. Raises `ConfigError` for an option without a value or a wrong number of
    positional arguments.
    """
    if "-h" in arguments or "--help" in arguments:
        _print_help(positional, description)
        raise SystemExit(0)
    positionals, overrides = [], {}
    pending = iter(arguments)
    for argument in pending:
        if not argument.startswith("--"):
            positionals.append(argument)
            continue
        option, equals, text = argument.partition("=")
        if not equals:
            text = next(pending, "--")
            if text.startswith("--"):
                raise ConfigError(f"{option}: expected a value after it.")
        try:
            overrides[option[2:]] = _load_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{option}: the value is not YAML: {one_line(error)}") from None
    if len(positionals) != 1:
        raise ConfigError(f"expected one {positional}, then --section.name VALUE. Got {positionals}. See --help.")
    return positionals[0], overrides


def _print_help(positional: str, description: str):
    parser = jsonargparse.ArgumentParser(
        usage=f"%(prog)s {positional} [--section.name VALUE ...]", description=description
    )
    for name, section in SECTIONS.items():
        parser.add_argument(f"--{name}", metavar="VALUE", default=jsonargparse.SUPPRESS, help=section.help)
    parser.print_help()
    print(f"\n{_OVERRIDE_HELP}")


def read_config(path: str, overrides: Mapping[str, Any]) -> Field:
    """The checked config in a YAML file, with overrides. Raises `ConfigError` if it cannot be read or is wrong."""
    try:
        tree = _load_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}. Expected a YAML file.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {one_line(error)}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {one_line(error)}") from None
    return resolve_config(tree, overrides, path)


def resolve_config(tree: Any, overrides: Mapping[str, Any], source: str) -> Field:
    """The checked config in `tree`, with overrides and the defaults of the sections that it leaves out.

    Args:
        tree: Plain data as read from YAML. It is not changed.
        overrides: `{dotted path: value}`.
        source: What errors name as the origin of `tree`.

    Raises:
        ConfigError: for an override of something that is not there, and for unknown, missing or mistyped sections.
    """
    config = Field(copy.deepcopy(tree), source).expect(dict, f"a mapping with {_enumerate(list(SECTIONS))}")
    if overrides:
        config = Field(config.value, f"{source} with {' '.join(f'--{key}' for key in overrides)}")
    for key, value in overrides.items():
        _override(config, key, value)
    for name, section in SECTIONS.items():
        if section.default is not None and config.value.get(name) is None:
            config.value[name] = copy.copy(section.default)
    config.expect_names(SECTIONS, required=SECTIONS)
    for name, section in SECTIONS.items():
        config[name].expect(section.type)
    return config


def _override(config: Field, key: str, value: Any):
    """Puts `value` at the path `key`, in place. A mapping on the way is made where there is nothing."""
    *path, last = key.split(".")
    parent = config
    for name in path:
        name = _position_or_name(parent, name)
        if isinstance(name, str) and parent.value.get(name) is None:
            parent.value[name] = {}
        parent = parent[name]
    parent.value[_position_or_name(parent, last)] = value


def _position_or_name(parent: Field, name: str) -> int | str:
    """`name` as something that `parent` can be indexed with."""
    if isinstance(parent.value, dict):
        return name
    if not isinstance(parent.value, list):
        raise parent.error(f"cannot set {name!r} below {parent.value!r}; give --{parent.key} a whole new value.")
    if not name.isdecimal() or int(name) >= len(parent.value):
        raise parent.error(f"expected a position from 0 to {len(parent.value) - 1}. Got {name!r}.")
    return int(name)


def one_line(error: Exception) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())


def run_script(main: Callable[[Sequence[str]], None]) -> int:
    """Calls `main` with the command line. Returns the exit code: 2, after one line on stderr, for a `ConfigError`."""
    try:
        main(sys.argv[1:])
    except ConfigError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        return 2
    return 0
