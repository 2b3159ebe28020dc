"""From a checked config to the data, the compiled model and the arguments of `fit`.

Classes are found by their public names in `kerax.layers`, `kerax.optimizers` and the like, or if whoever calls has
registered them, and nowhere else: a config can name no module and no code.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import kerax
from kerax import callbacks, constraints, datasets, initializers, layers, losses, metrics, optimizers, regularizers
from kerax.cli.config import Field, one_line
from kerax.cli.encode import OPTIONS, encode, find_encoder, scale
from kerax.cli.graph import build_graph
from kerax.cli.sources import LOADERS
from kerax.cli.tables import as_matrix
from kerax.core.registry import get_custom_objects
from kerax.core.seeds import set_random_seed
from kerax.errors import suggest
from kerax.optimizers import schedules


class Family(NamedTuple):
    """Where the classes of one kind are found.

    Args:
        noun: What error messages call one of them.
        module: The public module that holds them.
        base: The class they derive from.
        parts: Names of the families whose objects may be their arguments.
    """

    noun: str
    module: ModuleType
    base: type
    parts: tuple[str, ...] = ()

    def classes(self) -> dict[str, type]:
        """The classes by name: those of the module, and registered ones, whose full name is `package>Name`."""
        registered = [pair for pair in get_custom_objects().items() if inspect.isclass(pair[1])]
        short = [(name.rpartition(">")[2], cls) for name, cls in registered]
        found = [*short, *registered, *inspect.getmembers(self.module, inspect.isclass)]
        return {name: cls for name, cls in found if issubclass(cls, self.base) and cls is not self.base}


FAMILIES = {
    "layers": Family("layer", layers, layers.Layer, ("layers", "initializers", "regularizers", "constraints")),
    "initializers": Family("initializer", initializers, initializers.Initializer),
    "regularizers": Family("regularizer", regularizers, regularizers.Regularizer),
    "constraints": Family("constraint", constraints, constraints.Constraint),
    "optimizers": Family("optimizer", optimizers, optimizers.Optimizer, ("schedules",)),
    "schedules": Family("schedule", schedules, schedules.LearningRateSchedule),
    "losses": Family("loss", losses, losses.Loss),
    "metrics": Family("metric", metrics, metrics.Metric),
    "callbacks": Family("callback", callbacks, callbacks.Callback),
}
FIT_GIVEN_ELSEWHERE = ("x", "y", "callbacks", "validation_data")
# `compile` chooses the form of these by the shapes of targets and predictions.
_DEFERRED = {"losses": ("crossentropy", "ce"), "metrics": ("accuracy", "acc", "crossentropy", "ce")}


def set_seed(config: Field):
    """Starts all random draws from `seed`. Raises `ConfigError` if it is out of range."""
    config["seed"].call(lambda: set_random_seed(config["seed"].value))


def read_input_shape(field: Field) -> tuple | None:
    """The `input_shape` of `model`, `None` if there is none. Raises `ConfigError` unless it is a list of sizes."""
    if "input_shape" not in field.value:
        return None
    shape = field["input_shape"].expect(list, "a list of sizes, null where one is not known")
    for position, size in enumerate(shape.value):
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise shape[position].error(f"expected a whole number of at least 1, or null. Got {size!r}.")
    return tuple(shape.value)


def load_data(config: Field):
    """What `load_encoded` gives of data: `(x_train, y_train), (x_test, y_test)`."""
    return tuple(load_encoded(config)[:2])


def load_encoded(config: Field):
    """The dataset that `data` names, encoded as its options say (`encode`), and fitted to the model's input.

    Inputs are reshaped to `model.input_shape` where all of it is known.

    Returns: `(x_train, y_train), (x_test, y_test)`, NumPy arrays, or dicts of them, what `find_encoder` found, and the
        names of the classes, if they have names.

    Raises:
        ConfigError: for an unknown dataset or argument, and for inputs that do not fit `model.input_shape`.
    """
    field = config["data"]
    known = [*LOADERS, *datasets.__all__]
    if "name" not in field.value:
        raise field.error(f"'name' is missing. Expected one of {', '.join(known)}.")
    name = field["name"].expect(str).value
    load = find_loader(name)
    if load is None:
        raise field["name"].error(
            f"unknown dataset {name!r}. Expected one of {', '.join(known)}.{suggest(name, known)}"
        )
    # A dataset's own arguments are checked by its signature, so that a new one can be configured at once.
    parameters = inspect.signature(load).parameters
    required = [key for key, parameter in parameters.items() if parameter.default is parameter.empty]
    field.expect_names(["name", *OPTIONS, *parameters], required=required)
    arguments = {key: value for key, value in field.value.items() if key not in ("name", *OPTIONS)}
    try:
        parts = field.call(load, arguments)
    except (OSError, ImportError) as error:  # it cannot be downloaded, or not be written or read
        raise field["name"].error(one_line(error)) from None
    train, test = parts
    encoder = find_encoder(field, train[0])
    (x_train, y_train), (x_test, y_test) = encode(field, encoder, train, test)
    _take_input_shape(config["model"], x_train)
    train, test = (_reshape(config, x_train), y_train), (_reshape(config, x_test), y_test)
    return train, test, encoder, getattr(parts, "class_names", None)


def find_loader(name: str) -> Callable | None:
    """What loads the data that `data.name` says: a data set of `kerax.datasets`, or data of one's own."""
    if name in datasets.__all__:
        return importlib.import_module(f"{datasets.__name__}.{name}").load_data
    return LOADERS.get(name)


def fit_inputs(config: Field, inputs: np.ndarray) -> np.ndarray:
    """Inputs times `data.scale`, in the shape of `model.input_shape` where all of it is known. Raises `ConfigError`."""
    return _reshape(config, scale(config["data"], inputs))


def _take_input_shape(model: Field, inputs: Any):
    """Gives a `Sequential` without `input_shape` that of the data, for whoever builds or keeps the config."""
    if model.value.get("class_name") == "Sequential" and "input_shape" not in model.value:
        model.value["input_shape"] = [len(inputs)] if isinstance(inputs, dict) else list(inputs.shape[1:])


def _reshape(config: Field, inputs):
    shape = read_input_shape(config["model"])
    # Where a size is open the data decides.
    if shape is None or None in shape:
        return inputs
    if isinstance(inputs, dict):
        if shape != (len(inputs),) or any(column.ndim != 1 for column in inputs.values()):
            names = ", ".join(inputs)
            raise config["model"]["input_shape"].error(
                f"the data has several inputs, {names}. Use [{len(inputs)}] for a table of numbers, `data.features` "
                "for one of all kinds, or a Functional model."
            )
        return config["data"].call(lambda: as_matrix(inputs))
    if int(np.prod(shape)) != int(np.prod(inputs.shape[1:])):
        raise config["model"]["input_shape"].error(f"the examples have shape {inputs.shape[1:]}. Got {list(shape)}.")
    return inputs.reshape(-1, *shape)


def build_model(config: Field) -> "kerax.Model":
    """The model of `model`, compiled with `compile`. Raises `ConfigError` naming the field that is wrong.

    A `Sequential` has an `input_shape`, by default that of the data, and a list of layers; a `Functional` is as
    `build_graph` says.
    """
    if config["model"].value.get("class_name") == "Functional":
        model = build_graph(config["model"], lambda field: build_object(field, "layers"))
    else:
        model = _build_sequential(config["model"])
    config["compile"].call(model.compile, build_compile_arguments(config))
    return model


def _build_sequential(field: Field) -> "kerax.Model":
    field.expect_names(
        ["class_name", "name", "input_shape", "layers"], required=["class_name", "input_shape", "layers"]
    )
    if field["class_name"].value != "Sequential":
        raise field["class_name"].error(f"expected Sequential or Functional. Got {field['class_name'].value!r}.")
    shape = read_input_shape(field)
    # Each step is called on the field that can be wrong in it, so that the error names its line.
    name = field["name"] if "name" in field.value else field
    model = name.call(lambda: kerax.Sequential(name=field.value.get("name")))
    field["input_shape"].call(lambda: model.add(kerax.Input(shape)))
    if not field["layers"].expect(list).value:
        raise field["layers"].error("expected at least one layer.")
    for layer_field in field["layers"].fields():
        layer = build_object(layer_field, "layers")
        layer_field.call(lambda layer=layer: model.add(layer))
    return model


def build_compile_arguments(config: Field) -> dict[str, Any]:
    """The arguments of `Model.compile` that `compile` describes, objects built."""
    field = config["compile"].expect_names(_parameters(kerax.Sequential.compile))
    _check_kinds(field, kerax.Sequential.compile)
    families = {"optimizer": "optimizers", "loss": "losses", "metrics": "metrics", "weighted_metrics": "metrics"}
    return {
        name: _resolve_compiled(value, families[name]) if name in families else value.value
        for name, value in field.items()
    }


def _resolve_compiled(field: Field, family: str) -> Any:
    """Optimizers, losses and metrics: by name, as a class with arguments, or lists and mappings of these by output."""
    value = field.value
    if isinstance(value, list):
        return [_resolve_compiled(each, family) for each in field.fields()]
    # `{Adam: {...}}` and `{output: mse}` look alike: classes begin with a capital letter, outputs should not.
    if isinstance(value, dict) and not _describes_object(value) and family != "optimizers":
        return {name: _resolve_compiled(output, family) for name, output in field.items()}
    if isinstance(value, dict):
        return build_object(field, family)
    # Looked up here although `compile` would: here the error still knows the place in the file.
    if not isinstance(value, str) or value in _DEFERRED.get(family, ()):
        return value
    return field.call(lambda: FAMILIES[family].module.get(value))


def build_fit_arguments(config: Field) -> dict[str, Any]:
    """The arguments of `Model.fit` that `fit` and `callbacks` describe. Raises `ConfigError`."""
    config["fit"].expect_names(name for name in _parameters(kerax.Sequential.fit) if name not in FIT_GIVEN_ELSEWHERE)
    _check_kinds(config["fit"], kerax.Sequential.fit, allow_none=False)
    return {
        **config["fit"].value,
        "callbacks": [build_object(each, "callbacks") for each in config["callbacks"].fields()],
    }


def build_object(field: Field, *families: str) -> Any:
    """The object that `ClassName` or `{ClassName: {argument: value}}` describes.

    Args:
        field: The description. An argument's value may be such a description in turn.
        families: Names of the families that the class may come from.

    Raises:
        ConfigError: for an unknown class or argument, a missing argument, and whatever the constructor refuses.
    """
    noun = " or ".join(FAMILIES[family].noun for family in families)
    value = field.value
    if isinstance(value, dict) and len(value) == 1:
        (name,) = value
        arguments = field[name]
    elif isinstance(value, str):
        name, arguments = value, field.empty()
    else:
        raise field.error(f"expected exactly one {noun}: ClassName or {{ClassName: {{argument: ...}}}}. Got {value!r}.")
    # By public names of the families' modules only: a config cannot reach any other class, let alone code.
    known = {name: (cls, family) for family in families for name, cls in FAMILIES[family].classes().items()}
    if name not in known:
        modules = " or ".join(FAMILIES[family].module.__name__ for family in families)
        raise field.error(
            f"unknown {noun} {name!r}. Expected a class of {modules}, or a registered "
            f"one of a file given by --import.{suggest(name, known)}"
        )
    cls, family = known[name]
    if arguments.value is None:  # `Dropout:` with nothing behind it is a mapping to null in YAML
        arguments = arguments.empty()
    arguments.expect_names(constructor_parameters(cls), required=_required_parameters(cls))
    for constructor, _ in constructors_of(cls):
        _check_kinds(arguments, constructor)
    parts = FAMILIES[family].parts
    return arguments.call(cls, {name: _resolve_argument(value, parts) for name, value in arguments.items()})


def _resolve_argument(field: Field, families: Sequence[str]) -> Any:
    """An argument's value with the objects built that it describes."""
    if isinstance(field.value, list):
        return [_resolve_argument(each, families) for each in field.fields()]
    if families and _describes_object(field.value):
        return build_object(field, *families)
    return field.value


def _describes_object(value: Any) -> bool:
    """Whether `value` reads as `{ClassName: arguments}`."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    (name,) = value
    return isinstance(name, str) and name[:1].isupper()


def _check_kinds(field: Field, function: Callable, allow_none: bool = True):
    """Raises `ConfigError` where an argument's default is a number or a boolean, and the value a text or no boolean.

    Values of other kinds may be what an argument also takes: a list, or the description of an object.
    """
    parameters = inspect.signature(function).parameters
    for name, value in field.items():
        default = parameters[name].default if name in parameters else None
        # Booleans first: in Python they are numbers too.
        if isinstance(default, bool):
            value.expect(bool, "true or false")
        elif isinstance(default, (int, float)):
            # "auto" is what some arguments take beside a number; lists and mappings may be more of them.
            is_text = isinstance(value.value, str) and value.value != "auto"
            is_truth = isinstance(value.value, bool) and isinstance(default, float)
            if is_text or is_truth or (value.value is None and not allow_none):
                raise value.error(f"expected a number. Got {value.value!r}.")


def _parameters(function: Callable) -> list[str]:
    """Names of a method's parameters, `self` and catch-alls left out."""
    # The first is `self`, also of a method that was not looked up on an object.
    catch_alls = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return [parameter.name for parameter in parameters if parameter.kind not in catch_alls]


def _required_parameters(cls: type) -> list[str]:
    parameters = inspect.signature(cls.__init__).parameters
    return [name for name in _parameters(cls.__init__) if parameters[name].default is inspect.Parameter.empty]


def constructor_parameters(cls: type) -> list[str]:
    """Names of the parameters of `cls`, and of its bases as far as `**kwargs` passes them on."""
    return list(dict.fromkeys(name for constructor, _ in constructors_of(cls) for name in _parameters(constructor)))


def constructors_of(cls: type) -> Iterator[tuple[Callable, type]]:
    """The constructor of a class and those of bases that it passes arguments on to, each with the class it is of."""
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object:
            yield base.__init__, base
            # Without `**kwargs` the arguments end here.
            if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(base.__init__).parameters.values()):
                return
