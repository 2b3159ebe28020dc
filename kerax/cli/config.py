"""From a YAML file and command-line overrides to one checked tree of plain data.

The file is data only: it names classes, never modules or code. Every complaint is a `ConfigError`, which
`run_script` prints as one line.
"""

import copy
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jsonargparse
import yaml

from kerax import places
from kerax.errors import suggest


class Section(NamedTuple):
    """One top-level name of a config. A `default` of `None` means that it must be given."""

    type: type
    default: Any
    help: str


SECTIONS = {
    "seed": Section(int, 0, "seed of weights, shuffling and dropout, default 0"),
    "run_dir": Section(str, None, "folder that the run writes to"),
    "data": Section(dict, None, "the dataset: name, scale, features, text, targets, the dataset's own arguments"),
    "model": Section(dict, None, "class_name, name, input_shape or inputs and outputs, layers"),
    "compile": Section(dict, None, "arguments of Model.compile"),
    "fit": Section(dict, {}, "arguments of Model.fit"),
    "distribution": Section(str, "none", "data or fsdp: all devices train, each on a part of each batch; default none"),
    "callbacks": Section(list, [], "callbacks, by class name"),
    "logs": Section(dict, {}, "what is kept of a run: csv, jsonl, tensorboard, backup; each true or false"),
    "search": Section(dict, {"RandomSearch": {}}, "for `kerax tune`: a tuner, by class name, with its arguments"),
}
_TYPE_NAMES: dict[Any, str] = {int: "a whole number", str: "a string", dict: "a mapping", list: "a list"}
_OVERRIDE_HELP = """\
Every field is an option too: its path written with dots, list positions counted from 0, the value in YAML:
  --fit.epochs 3 --compile.optimizer.Adam.learning_rate 0.01 --model.layers.0.Conv2D.filters 16
  --compile.optimizer '{SGD: {learning_rate: 0.1, momentum: 0.9}}' --callbacks '[]'
"""
_load_yaml = jsonargparse.get_loader("yaml")
_NO_VALUE = "expected a value after it."


class ConfigError(ValueError):
    """Something in a config, or on the command line, is wrong. The message says where, and what was expected."""


@dataclass(frozen=True)
class Field:
    """A value of a config that knows where it stands.

    Args:
        value: Plain data: mappings, lists, numbers, strings, booleans, `None`.
        source: Where the config comes from, for error messages.
        key: Path of the value in the config, with dots. Empty for the whole config.
        lines: `{key: line in the file}`, counted from 1, as far as they are known.

    >>> config = Field({"fit": {"epochs": 3}}, source="run.yaml")
    >>> config["fit"]["epochs"]
    Field(value=3, source='run.yaml', key='fit.epochs')
    """

    value: Any
    source: str
    key: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, name: str | int) -> "Field":
        return replace(self, value=self.value[name], key=f"{self.key}.{name}" if self.key else str(name))

    def empty(self) -> "Field":
        """An empty mapping in this field's place."""
        return replace(self, value={})

    def items(self) -> Iterable[tuple[Any, "Field"]]:
        """The fields below a mapping, with their names."""
        return ((name, self[name]) for name in self.value)

    def error(self, message: str) -> ConfigError:
        """The error to raise about this field."""
        line = self.lines.get(self.key)  # none for what an override or a default put there
        where = self.source if line is None else f"{self.source}, line {line}"
        return ConfigError(f"{where}: {self.key}: {message}" if self.key else f"{where}: {message}")

    def fields(self) -> Iterator["Field"]:
        """The fields below a mapping or a list; none below anything else."""
        if isinstance(self.value, dict):
            yield from (self[name] for name in self.value)
        elif isinstance(self.value, list):
            yield from (self[position] for position in range(len(self.value)))

    def call(self, function: Callable, arguments: Mapping[str, Any] | None = None) -> Any:
        """`function(**arguments)`, its complaints about values turned into errors about this field."""
        try:
            return function(**(arguments or {}))
        except (TypeError, ValueError) as error:
            message = one_line(error).removeprefix(f"{self.key}: ")
            if isinstance(error, TypeError) and "not supported between" in message:  # Python's words for a wrong type
                message = f"a value has the wrong type ({message}). Got {arguments}."
            raise self.error(message) from None

    def expect(self, kind: type | tuple[type, ...], description: str = "") -> "Field":
        """This field, which must be a `kind`, called `description` in the error. Raises `ConfigError`."""
        # Python counts booleans among the integers.
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


def parse_arguments(
    arguments: Sequence[str], positional: str, *further: Any, **options: Any
) -> tuple[str, dict[str, Any]]:
    """A command line of one positional argument, and the overrides; arguments as those of `parse_words`."""
    words, overrides = parse_words(arguments, positional, *further, **options)
    if len(words) != 1:
        raise ConfigError(f"expected one {positional}, then --section.name VALUE. Got {words}. See --help.")
    return words[0], overrides


def parse_words(
    arguments: Sequence[str],
    positional: str,
    description: str,
    flags: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    show_fields: Callable[[str], None] | None = None,
    has_fields: bool = True,
    sections: Mapping[str, Section] = SECTIONS,
) -> tuple[list[str], dict[str, Any]]:
    """A command line: its positional arguments, and the overrides `{dotted path: value}`.

    Args:
        arguments: The words of the command line.
        positional: What the help calls the positional argument.
        description: What the help begins with.
        flags: `{name: help}` of options without a value; those given are `True` among the overrides.
        options: `{name: help}` of options that are no fields of a config; among the overrides as they are written.
        show_fields: Called with the positional argument, if there is one, when help is asked for.
        has_fields: Whether the fields of a config are options too.
        sections: The sections of the config.

    Prints the help and exits for `--help`. Raises `ConfigError` for an option without a value.
    """
    flags, options = dict(flags or {}), dict(options or {})
    is_help = "-h" in arguments or "--help" in arguments
    positionals, overrides = [], {}
    # By hand, for no parser knows options whose names are the paths of a file that is yet to be read.
    pending = iter([argument for argument in arguments if argument not in ("-h", "--help")])
    for argument in pending:
        if not argument.startswith("--"):
            positionals.append(argument)
            continue
        option, equals, text = argument.partition("=")
        name = option[2:]
        if not all(name.split(".")):
            raise ConfigError(f"{option}: expected names joined by dots, as in --fit.epochs.")
        if name in flags and not equals:
            overrides[name] = True
            continue
        if not equals:
            text = next(pending, "--")  # at the end as where another option follows: the value is missing
            if text.startswith("--"):
                raise ConfigError(f"{option}: {_NO_VALUE}")
        overrides[name] = text if name in options else _parse_value(option, text)
    # After parsing, so that the file is known whose fields are shown.
    if is_help:
        _print_help(positional, description, flags, options, sections if has_fields else {})
        if positionals and show_fields is not None:
            show_fields(positionals[0])
        raise SystemExit(0)
    return positionals, overrides


def _parse_value(option: str, text: str) -> Any:
    try:
        return _load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{option}: the value is not YAML: {one_line(error)}") from None


def _print_help(
    positional: str, description: str, flags: dict[str, str], options: dict[str, str], fields: Mapping[str, Section]
):
    sections = {name: section.help for name, section in fields.items()}
    usage = f"{program_name()} {positional}{' [--section.name VALUE ...]' if fields else ''}"
    parser = jsonargparse.ArgumentParser(usage=usage, description=description)
    for name, text in flags.items():
        parser.add_argument(f"--{name}", default=jsonargparse.SUPPRESS, help=text, action="store_true")
    for name, text in (options | sections).items():
        parser.add_argument(f"--{name}", metavar="VALUE", default=jsonargparse.SUPPRESS, help=text)
    parser.print_help()
    if fields:
        print(f"\n{_OVERRIDE_HELP}")


def read_config(path: str, overrides: Mapping[str, Any], sections: Mapping[str, Section] = SECTIONS) -> Field:
    """The checked config in a YAML file, with overrides. Raises `ConfigError` if it cannot be read or is wrong."""
    try:
        text = places.folder(path, "config").read_text(encoding="utf-8")
        # Read twice: the nodes know their lines, and the loader takes `1e-3` for a number, which PyYAML's own does not.
        node = yaml.compose(text, yaml.SafeLoader)
        lines = {} if node is None else _find_lines(node, path)
        tree = _load_yaml(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}. Expected a YAML file.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {one_line(error)}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else path
        raise ConfigError(f"{where}: is not YAML: {problem}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {one_line(error)}") from None
    if tree is None:
        raise ConfigError(f"{path}: is empty. Expected a mapping with {_enumerate(list(sections))}.")
    return resolve_config(tree, overrides, path, lines, sections)


def _find_lines(node: yaml.Node, path: str, key: str = "", above: tuple = ()) -> dict[str, int]:
    """`{dotted path: line}` of everything below a node. Raises `ConfigError` for a name that is given twice."""
    lines = {key: node.start_mark.line + 1} if key else {}
    if any(node is other for other in above):  # an alias of what it stands in
        raise ConfigError(f"{path}, line {node.start_mark.line + 1}: {key}: holds itself.")
    below = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines |= _find_lines(value, path, f"{key}.{index}" if key else str(index), below)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for name, value in node.value:
            line, own = name.start_mark.line + 1, f"{key}.{name.value}" if key else str(name.value)
            # YAML's own loader takes the last of two equal names without a word; `<<` may merge several mappings.
            if own in first and name.value != "<<":
                raise ConfigError(f"{path}, line {line}: {own}: is given twice, first in line {first[own]}.")
            first[own] = line
            lines |= _find_lines(value, path, own, below) | {own: line}
    return lines


def resolve_config(
    tree: Any,
    overrides: Mapping[str, Any],
    source: str,
    lines: Mapping[str, int] | None = None,
    sections: Mapping[str, Section] = SECTIONS,
) -> Field:
    """The checked config in `tree`, with overrides and the defaults of the sections that it leaves out.

    Args:
        tree: Plain data as read from YAML. It is not changed.
        overrides: `{dotted path: value}`.
        source: What errors name as the origin of `tree`.
        lines: `{key: line}` in the file that `tree` is from.
        sections: The sections that it has.

    Raises:
        ConfigError: for an override of something that is not there, and for unknown, missing or mistyped sections.
    """
    # Copied, for overrides are written into it, and YAML's aliases share what they stand for.
    config = Field(copy.deepcopy(tree), source, "", lines or {})
    config.expect(dict, f"a mapping with {_enumerate(list(sections))}")
    if overrides:
        given = tuple(overrides)
        # What an override changed stands in no line of the file any more.
        known = {key: line for key, line in config.lines.items() if not _is_touched(key, given)}
        config = Field(config.value, f"{source} with {' '.join(f'--{key}' for key in overrides)}", "", known)
    for key, value in overrides.items():
        _override(config, key, value)
    # After the overrides, which may give a whole section; before the check that all are there.
    for name, section in sections.items():
        if section.default is not None and config.value.get(name) is None:
            config.value[name] = copy.copy(section.default)
    config.expect_names(sections, required=sections)
    for name, section in sections.items():
        config[name].expect(section.type)
    return config


def _is_touched(key: str, overrides: Iterable[str]) -> bool:
    """Whether the value of a key, or something below it, is not that of the file any more."""
    return any(f"{key}.".startswith(f"{other}.") or other.startswith(f"{key}.") for other in overrides)


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


_program: list[str] = []  # the words that called the running command


def program_name() -> str:
    """How the running command was called: `train.py`, or `kerax train`."""
    return " ".join(_program) if _program else Path(sys.argv[0]).name


def run_script(main: Callable[[Sequence[str]], Any], arguments: Sequence[str] | None = None, name: str = "") -> int:
    """Calls `main` with the words of the command line, and turns the errors of users into one line on stderr.

    Args:
        main: Function of the list of words.
        arguments: The words. Default: those of this process.
        name: What the command is called. Default: the script's name.

    Returns: the exit code: 0, 2 for a `ConfigError`, 130 after Ctrl-C, 1 if nobody reads the output any more.
    """
    # In place and only for this call: tests run many commands in one process.
    _program[:] = name.split()
    try:
        main(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()  # here, where a broken pipe is still caught
    except ConfigError as error:
        print(f"{program_name()}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush is silent
        return 1
    finally:
        _program.clear()
    return 0
