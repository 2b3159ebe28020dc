"""The fields that a config may have: what `--help` shows about them, and what `--print_config` fills in."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import kerax
from kerax.cli.build import FAMILIES, FIT_GIVEN_ELSEWHERE, Family, constructors_of, find_loader
from kerax.cli.config import Field, read_config
from kerax.cli.encode import OPTIONS

_CATCH_ALLS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", list: "list", tuple: "list"}
_KINDS |= {dict: "mapping"}
_ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?: ?(.*)")


class Argument(NamedTuple):
    """One argument of a class or function: a field of a config.

    Args:
        name: Its name.
        kind: What its values are, in words; empty where the signature does not tell.
        default: `inspect.Parameter.empty` if it must be given.
        text: What the docstring says about it.
        owner: The function or class that declares it.
    """

    name: str
    kind: str
    default: Any
    text: str
    owner: Any = None


def describe_arguments(target: Callable) -> list[Argument]:
    """The arguments of a function, or of a class and its bases as far as `**kwargs` passes them on.

    >>> [(each.name, each.kind, each.default) for each in describe_arguments(kerax.layers.Dropout)][:2]
    [('rate', '', <class 'inspect._empty'>), ('noise_shape', '', None)]
    """
    found: dict[str, Argument] = {}
    for function, documented in constructors_of(target) if inspect.isclass(target) else [(target, target)]:
        texts = read_argument_texts(inspect.getdoc(documented) or "")
        for parameter in inspect.signature(function).parameters.values():
            # A class's own argument hides that of a base with the same name.
            if parameter.name == "self" or parameter.kind in _CATCH_ALLS or parameter.name in found:
                continue
            text = texts.get(parameter.name, "")
            found[parameter.name] = Argument(parameter.name, _kind(parameter), parameter.default, text, documented)
    return list(found.values())


def _kind(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if isinstance(annotation, type) and annotation is not inspect.Parameter.empty:
        return _KINDS.get(annotation, annotation.__name__)
    return _KINDS.get(type(parameter.default), "")  # of one among several kinds the default says most


def read_argument_texts(doc: str) -> dict[str, str]:
    """What the `Args` part of a docstring says about each argument.

    >>> read_argument_texts("Sum.\\n\\nArgs:\\n    a, b: Numbers\\n        to add.\\n    c: More.\\n\\nReturns: it.")
    {'a': 'Numbers to add.', 'b': 'Numbers to add.', 'c': 'More.'}
    """
    lines = inspect.cleandoc(doc).splitlines()
    if "Args:" not in lines:
        return {}
    texts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines[lines.index("Args:") + 1 :]:
        if line and not line.startswith(" "):
            break
        # An entry begins four columns in; what is indented further goes on with the one before.
        entry = _ENTRY.fullmatch(line[4:]) if line[4:5].strip() else None
        if entry:
            current = [entry[2]]  # one list for all names of the entry, which share their text
            texts |= dict.fromkeys((name.lstrip("*") for name in entry[1].split(", ")), current)
        else:
            current.append(line.strip())
    return {name: " ".join(" ".join(parts).split()) for name, parts in texts.items()}


class _Object(NamedTuple):
    """A class or function that a config names, and where."""

    title: str
    target: Callable
    places: list[str]
    left_out: tuple[str, ...] = ()
    family: Family | None = None


def find_objects(config: Field) -> list[_Object]:
    """The data set, model, methods and classes that a config names, each once, in order.

    Raises:
        ConfigError: for an unknown class.
    """
    found: dict[Any, _Object] = {}

    # By the object itself: a class that is named in several places is shown once, with all of them.
    def add(place, title, target, left_out=(), family=None):
        found.setdefault(target, _Object(title, target, [], left_out, family)).places.append(place)

    def add_class(place, family, cls):
        add(place, f"{FAMILIES[family].noun} {cls.__name__}", cls, family=FAMILIES[family])

    name = config["data"].value.get("name")
    if (loader := find_loader(name)) is not None:
        add("data", f"data set {name}", loader)
    for place, family, cls in named_classes(config["model"], "layers"):
        add_class(place, family, cls)
    add("compile", "Model.compile", kerax.Model.compile)
    add("fit", "Model.fit", kerax.Model.fit, FIT_GIVEN_ELSEWHERE)
    for section in ("compile", "callbacks"):
        for place, family, cls in named_classes(config[section]):
            add_class(place, family, cls)
    return list(found.values())


def named_classes(field: Field, *families: str) -> Iterator[tuple[str, str, type]]:
    """`(key of the arguments, family, class)` of what reads as a class of a family, `{Class: ...}` or `Class`, below a
    field. Of several families the first that has the class counts."""
    families = families or tuple(FAMILIES)
    # Reversed, so that the first family overwrites the others.
    known = {name: (family, cls) for family in reversed(families) for name, cls in FAMILIES[family].classes().items()}
    value = field.value
    # A plain name counts in a list only, of layers or callbacks: as an argument it may be a name of the user's own.
    if isinstance(value, str) and value in known and field.key.split(".")[-1].isdecimal():
        yield f"{field.key}.{value}", *known[value]
    elif isinstance(value, list):
        for each in field.fields():
            yield from named_classes(each, *families)
    elif isinstance(value, dict):
        for name, below in field.items():
            if name in known:
                yield below.key, *known[name]
            yield from named_classes(below)


def show_fields(path: str):
    """Prints every field that the config in a file may have: its kind, its default and what it means.

    Raises:
        ConfigError: if the config cannot be read.
    """
    config = read_config(path, {})
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    shared: dict[str, Argument] = {}
    print(f"\nFields of {path}:")
    for found in find_objects(config):
        print(f"\n{', '.join(f'--{place}' for place in found.places)}: {found.title}")
        summary = (inspect.getdoc(found.target) or "").split("\n\n")[0]
        print(textwrap.fill(" ".join(summary.split()), width, initial_indent="  ", subsequent_indent="  "))
        if found.places == ["data"]:
            for name, (kind, text) in OPTIONS.items():
                _print_argument(Argument(name, kind, None, text), width)
        for argument in describe_arguments(found.target):
            # What all layers take, such as `name` and `dtype`, is told once at the end.
            if found.family is not None and argument.owner is found.family.base:
                shared[f"{found.family.noun} {argument.name}"] = argument
            elif argument.name not in found.left_out:
                _print_argument(argument, width)
    for noun in dict.fromkeys(key.split(" ")[0] for key in shared):
        print(f"\nevery {noun} also")
        for key, argument in shared.items():
            if key.startswith(f"{noun} "):
                _print_argument(argument, width)


def _print_argument(argument: Argument, width: int):
    notes = [argument.kind] if argument.kind else []
    if argument.default is inspect.Parameter.empty:
        notes.append("required")
    else:
        default = argument.default
        notes.append(f"default {_as_yaml(default) if _is_plain(default) else getattr(default, '__name__', default)}")
    head = f"  .{argument.name} ({', '.join(notes)})"
    text = textwrap.fill(argument.text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    print(head + (f"\n{text}" if text else ""))


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(each) for name, each in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def _as_yaml(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)


def complete(config: Field) -> dict[str, Any]:
    """A config with the defaults of everything that it leaves out, as plain data that can be run."""
    # Copies where something is filled in: the config itself stays as it was read.
    tree = dict(config.value)
    if (loader := find_loader(tree["data"].get("name"))) is not None:
        tree["data"] = _with_defaults(tree["data"], loader)
    model = dict(tree["model"])
    if isinstance(model.get("layers"), list):
        model["layers"] = [_fill(layer, ("layers",)) for layer in model["layers"]]
    tree["model"] = model
    compiled = {name: _fill(value, tuple(FAMILIES)) for name, value in tree["compile"].items()}
    tree["compile"] = _with_defaults(compiled, kerax.Model.compile)
    tree["fit"] = _with_defaults(tree["fit"], kerax.Model.fit, FIT_GIVEN_ELSEWHERE)
    tree["callbacks"] = [_fill(callback, ("callbacks",)) for callback in tree["callbacks"]]
    return tree


def _with_defaults(given: dict, target: Callable, left_out: tuple[str, ...] = ()) -> dict:
    """Arguments with the defaults that are plain data, of the function or class itself only."""
    function = target.__init__ if inspect.isclass(target) else target
    defaults = {
        # YAML has no tuples.
        name: list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty and _is_plain(parameter.default) and name not in left_out
    }
    return given | {name: value for name, value in defaults.items() if name not in given}


def _fill(value: Any, families: tuple[str, ...]) -> Any:
    """A description of an object, or what holds some, with the defaults of each."""
    if isinstance(value, list):
        return [_fill(each, families) for each in value]
    known = {name: cls for family in reversed(families) for name, cls in FAMILIES[family].classes().items()}
    if isinstance(value, str) and value in known:
        value = {value: {}}
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and next(iter(value)) in known:
        ((name, arguments),) = value.items()
        return {name: _with_defaults(_fill_below(arguments or {}, tuple(FAMILIES)), known[name])}
    return _fill_below(value, families)


def _fill_below(values: dict, families: tuple[str, ...]) -> dict:
    """A text that is an argument stays: it may be a class's name, or mean something else."""
    return {name: each if isinstance(each, str) else _fill(each, families) for name, each in values.items()}
