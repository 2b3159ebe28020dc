"""Names of serializable things: kerax's own by family, the user's by registration. Nothing else is ever looked up."""

import enum
import functools
import inspect
import re
import types
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, TypeGuard, cast

import jax
import numpy as np

from kerax import config as settings
from kerax import dtype_policies, lazy
from kerax.core import lambdas, loading
from kerax.core.scope import holding
from kerax.errors import ConfigError, near, suggest

_custom: dict[str, Any] = {}
custom_names: dict[Any, str] = {}
"""The names that registered classes and functions have."""
_scoped: ContextVar[dict[str, Any] | None] = ContextVar("kerax_custom_objects", default=None)  # of open scopes
families: dict[str, "Family"] = {}
# Whose classes a file may name by their modules without being registered: nobody's, until somebody says so.
trusted_packages: set[str] = set()
_safe_mode: ContextVar[bool | None] = ContextVar("kerax_safe_mode", default=None)
_shared: ContextVar[dict | None] = ContextVar("kerax_shared", default=None)  # while describing: (layer, description)
_owner: ContextVar[str | None] = ContextVar("kerax_owner", default=None)  # name of what is being revived
_made: ContextVar[dict | None] = ContextVar("kerax_made", default=None)  # while reviving: shared objects by number


def to_snake_case(name: str) -> str:
    """`MaxPooling2D` becomes `max_pooling2d`, as Keras names layers."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


_uids: Counter = Counter()


def get_uid(prefix: str = "") -> int:
    """A number that counts up from 1 for each prefix, until `clear_session`. kerax itself never counts names."""
    _uids[prefix] += 1
    return _uids[prefix]


def forget_uids() -> None:
    """Makes `get_uid` start from 1 again."""
    _uids.clear()


class Family:
    """The named objects of one kind (layers, losses, activations, ...) and the `get` that its module offers.

    Args:
        name: The module's name, for example `"losses"`.
        label: What one member is called in messages, for example `"loss"`.
        module: The module's name in files. Default: `keras.<name>`.
    """

    def __init__(self, name: str, label: str, module: str | None = None):
        self.name, self.label, self.module = name, label, module or f"keras.{name}"
        self.entries: dict[str, Any] = {}
        families[name] = self

    def add(self, member, *aliases: str) -> Any:
        """Registers a class under its name and its snake case form, a function under its name, both under aliases."""
        names = (member.__name__, *aliases)
        if inspect.isclass(member):
            names = (*names, to_snake_case(member.__name__))
        for name in names:
            # The first keeps a name: an alias never takes that of another member.
            self.entries.setdefault(name, member)
        return member

    def adding(self, *aliases: str) -> Callable[[Any], Any]:
        """`add` under further names, as a decorator."""
        return lambda member: self.add(member, *aliases)

    def find(self, name: str) -> Any:
        """The member called `name`. Raises `ValueError` with a suggestion for an unknown name."""
        # The user's first: one under the very name is what was meant. In a package it is one of another name.
        custom = find_custom(name, is_whole=name in self.entries)
        if custom is not None:
            return custom
        if name not in self.entries:
            raise ValueError(
                f"Unknown {self.label} {name!r}.{suggest(name, self.entries)} "
                f"Known: {near(name, self.entries)}. "
                f"Pass a {self.label} of your own as an object, or register it with `register_keras_serializable`."
            )
        return self.entries[name]

    def get(self, identifier: Any) -> Any:
        """The member for a name, a config dict, a class or an object; `None` stays `None`.

        Raises:
            ValueError: if the name is unknown.
            TypeError: if the identifier is none of these.
        """
        if identifier is None:
            return None
        if isinstance(identifier, dict):
            return deserialize_keras_object(identifier)
        if isinstance(identifier, str):
            identifier = self.find(identifier)
        if inspect.isclass(identifier):
            return identifier()
        # After classes, which are callable too.
        if callable(identifier):
            return identifier
        article = "an" if self.label[0] in "aeiou" else "a"
        raise TypeError(f"Expected {article} {self.label} by name, config or object. Got {identifier!r}.")


def family(name: str) -> Family:
    """The family of that name, its modules loaded if they were not."""
    if name not in families:
        loading.load(name)
    return families[name]


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Any:
    """Decorator that lets files refer to a class or function of yours as `package>name`.

    Args:
        package: Prefix that keeps names of different projects apart.
        name: The name within the package. Default: the object's own.
    """

    def register(member):
        registered = f"{package}>{name or member.__name__}"
        is_enum = inspect.isclass(member) and issubclass(member, enum.Enum)
        if inspect.isclass(member) and not is_enum and not hasattr(member, "get_config"):
            raise ValueError(
                f"Cannot register {member.__name__}: a serializable class must have a `get_config` method."
            )
        _custom[registered] = member
        custom_names[member] = registered
        return member

    return register


def get_registered_name(obj: Any) -> str:
    """`package>name` of a registered class or function, else its `__name__`."""
    return custom_names[obj] if obj in custom_names else obj.__name__


def get_registered_object(name: str, custom_objects: dict | None = None, module_objects: dict | None = None) -> Any:
    """The class or function registered as `name`, or `None`."""
    for objects in (custom_objects, _scoped.get(), _custom, module_objects):
        if objects and name in objects:
            return objects[name]
    return None


def find_custom(name: str, is_whole: bool = False) -> Any:
    """The user's object called `name`, or `None`; unless the name is whole, one of that name in any package, too."""
    # Open scopes count before registrations.
    known = _custom | (_scoped.get() or {})
    if name in known or is_whole:
        return known.get(name)
    return next((member for full, member in known.items() if full.split(">")[-1] == name), None)


def get_custom_objects() -> dict:
    """The mutable dict of the user's registered objects by name, without those of `custom_object_scope`."""
    return _custom


def custom_object_scope(custom_objects: dict[str, Any] | None) -> AbstractContextManager[None]:
    """Makes the objects known by these names for the length of a `with` block, in this thread or task alone."""
    return holding(_scoped, (_scoped.get() or {}) | (custom_objects or {}))


CustomObjectScope = custom_object_scope


def serialize_keras_object(obj: Any) -> Any:
    """A JSON-able description of a layer, loss, function, policy, array or nested structure of these.

    Objects become `{"module", "class_name", "config", "registered_name"}` as Keras 3 writes them.

    Raises:
        TypeError: if `obj` has no such description.
    """
    if obj is None or isinstance(obj, (str, bool, int, float, lambdas.Code)):
        return obj
    # Before floats of NumPy could reach `json`, which refuses them.
    if isinstance(obj, np.generic) and obj.ndim == 0:
        return obj.item()
    if isinstance(obj, (list, tuple)):
        items = [serialize_keras_object(item) for item in obj]
        return tuple(items) if isinstance(obj, tuple) else items
    if isinstance(obj, bytes):
        # Any bytes, not only those that are text.
        return {"class_name": "__bytes__", "config": {"value": obj.decode("utf-8", "surrogateescape")}}
    if isinstance(obj, enum.Enum):
        return {"class_name": "__enum__", "config": {"enum": get_registered_name(type(obj)), "member": obj.name}}
    if isinstance(obj, functools.partial):
        parts = {"func": obj.func, "args": list(obj.args), "keywords": obj.keywords}
        return {"class_name": "__partial__", "config": serialize_keras_object(parts)}
    if isinstance(obj, dict):
        return {key: serialize_keras_object(item) for key, item in obj.items()}
    if isinstance(obj, (np.ndarray, jax.Array)):
        array = np.asarray(obj)
        return {"class_name": "__numpy__", "config": {"value": array.tolist(), "dtype": array.dtype.name}}
    if isinstance(obj, slice):
        config = {"start": obj.start, "stop": obj.stop, "step": obj.step}
        return {"class_name": "__slice__", "config": serialize_keras_object(config)}
    if obj is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(obj, np.dtype) or (inspect.isclass(obj) and issubclass(obj, np.generic)):
        return np.dtype(obj).name
    if isinstance(obj, dtype_policies.DTypePolicy):
        return dtype_policies.serialize(obj)
    # A callable object with a config, as an initializer, is no function.
    if inspect.isfunction(obj) or inspect.isbuiltin(obj) or (callable(obj) and not hasattr(obj, "get_config")):
        return _serialize_function(obj)
    get_config = getattr(obj, "get_config", None)
    if get_config is None:
        raise TypeError(f"Cannot serialize {obj!r}: it has no `get_config` method.")
    cls: Any = type(obj)
    # The description itself is handed out again, with its number: both places are then alike.
    known = _shared.get()
    if known is not None and id(obj) in known:
        return known[id(obj)][1]
    description = {
        "module": _module_of(cls),
        "class_name": cls.__name__,
        "config": serialize_keras_object(get_config()),
        "registered_name": custom_names.get(cls),
    }
    # What may have state: layers, seed generators and whatever is the user's.
    if known is not None and (hasattr(obj, "kerax_number") or not cls.__module__.startswith("kerax.")):
        description["shared_object_id"] = len(known)
        known[id(obj)] = obj, description
    build_config = getattr(obj, "get_build_config", lambda: None)()
    if build_config is not None:
        description["build_config"] = serialize_keras_object(build_config)
    return description


def sharing_scope() -> AbstractContextManager[None]:
    """Marks objects described within a `with` block, so that one that is there twice comes back as one."""
    return holding(_shared, {})


def _serialize_function(function) -> Any:
    name = getattr(function, "__name__", None)
    if name is None:
        raise TypeError(f"Cannot serialize {function!r}: it has neither a name nor a `get_config` method.")
    if function in custom_names:
        return {"class_name": "function", "config": custom_names[function], "module": None, "registered_name": None}
    for family in families.values():
        # `is`: a user's function of the same name is another one.
        if family.entries.get(name) is function:
            return name
    if lambdas.is_lambda(function):
        return lambdas.Code(function, {"value": lambdas.parts_of(function, serialize_keras_object)})
    module = function.__module__ if settings.compatibility() == "keras" else None
    return {"class_name": "function", "config": name, "module": module, "registered_name": name}


def _module_of(cls: type) -> str | None:
    """Keras's name of the module that offers a class of kerax; `None` for the user's classes."""
    if not cls.__module__.startswith("kerax."):
        return cls.__module__ if _goes_by_module(cls.__module__) else None
    if "keras_module" in vars(cls):  # it is in none of Keras's public modules
        return vars(cls)["keras_module"]
    of_cls = [family for family in families.values() if family.entries.get(cls.__name__) is cls]
    return of_cls[-1].module if of_cls else "keras"  # the last: a model is in the family of layers too


def is_serialized(value) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON value describes an object."""
    return isinstance(value, dict) and "class_name" in value and "config" in value


def safe_mode_scope(safe_mode: bool) -> AbstractContextManager[None]:
    """Says for the length of a `with` block whether what is deserialized comes from a source that is not trusted.

    The outermost scope counts.
    """
    outer = _safe_mode.get()
    return holding(_safe_mode, safe_mode if outer is None else outer)


def in_safe_mode() -> bool:
    """Whether objects are being made from a config that is not trusted: then nothing may read a file it names."""
    return bool(_safe_mode.get())


def owned_by(name: str | None) -> AbstractContextManager[None]:
    """Says for the length of a `with` block whose parts are being made: a lambda of it is looked up by that name."""
    return holding(_owner, name)


def deserialize_keras_object(
    config: Any, custom_objects: dict | None = None, safe_mode: bool = True, module_objects: dict | None = None, **_
) -> Any:
    """The object that `serialize_keras_object` described. Classes are found by registered name, and not imported.

    Args:
        config: The description, or any nested structure of descriptions and plain values.
        custom_objects: More classes and functions by name. That of a layer stands for the lambda in it.
        safe_mode: Whether to refuse what an untrusted config must not do, such as reading a file that it names. An
            outer call or `safe_mode_scope` has the last word.
        module_objects: More classes and functions, which a plain name means too.

    Raises:
        ConfigError: (a `ValueError` and a `TypeError`) if a class or function is not known by that name, or what
            describes it is of another form.
    """
    made = {} if _made.get() is None else _made.get()
    known = (module_objects or {}) | (custom_objects or {})
    with safe_mode_scope(safe_mode), custom_object_scope(known), holding(_made, made):
        if module_objects is not None and isinstance(config, str) and config in known:
            return known[config]() if inspect.isclass(known[config]) else known[config]
        return _deserialize(config)


def _deserialize(config):
    if isinstance(config, lambdas.Code):  # of this process, not of a file
        return config.function
    if isinstance(config, (list, tuple)):
        return type(config)(_deserialize(item) for item in config)
    # Plain values, and dicts that describe nothing.
    if not is_serialized(config):
        if isinstance(config, dict):
            return {key: _deserialize(item) for key, item in config.items()}
        return config
    name, inner = config["class_name"], config["config"]
    if name == "function":
        return _find_function(config)
    if name == "type":
        return _scalar_type(inner)
    if not isinstance(inner, dict):
        raise ConfigError(f"The config of {name!r} must be a dict. Got {inner!r}.")
    if name in _VALUES:
        return _VALUES[name](inner)
    if dtype_policies.is_policy(name):
        return dtype_policies.deserialize(config)
    number, made = config.get("shared_object_id"), _made.get()
    made = {} if made is None else made  # an empty one is kept: it is being filled
    if number is not None and number in made:
        return made[number]
    owner = inner.get("name")
    with owned_by(owner if isinstance(owner, str) else _owner.get()):
        found = _find_class(config)
        if not hasattr(found, "from_config"):
            raise ConfigError(
                f"{name}: an object of this class cannot be made from a config. Give the class a class method "
                "`from_config(cls, config)`, such as one that returns `cls(**config)`."
            )
        obj = found.from_config(inner)
    if number is not None:
        made[number] = obj
    if config.get("build_config") and hasattr(obj, "build_from_config"):
        obj.build_from_config(config["build_config"])
    return obj


def _array(config: dict) -> np.ndarray:
    dtype = np.dtype(config["dtype"])
    if dtype.kind not in "biufcV" or dtype.itemsize > 16:  # one of text could ask for any amount of memory
        raise ValueError(f"An array in a config must be of numbers. Got dtype {config['dtype']!r}.")
    return np.asarray(config["value"], dtype)


def _scalar_type(name) -> type:
    """The scalar type of a dtype. Raises `ConfigError` for any other class."""
    try:
        return jax.numpy.dtype(name).type
    except TypeError:
        raise ConfigError(f"A class in a config must be that of a dtype. Got {name!r}.") from None


def _function_from_code(config: dict) -> Any:
    owner = _owner.get()
    own = find_custom(owner) if owner else None
    # The user's own: nothing of the file is run.
    if own is not None and not inspect.isclass(own):
        return own
    if _safe_mode.get() is not False:  # nobody has said that the source is trusted
        raise ConfigError(lambdas.refusal(owner))
    return lambdas.function_from_code(_deserialize(config))


def _partial(config: dict) -> functools.partial:
    function, args, keywords = (_deserialize(config[name]) for name in ("func", "args", "keywords"))
    if not callable(function):
        function = _find_function({"config": function})  # a function of kerax, which has a name only
    return functools.partial(cast(Callable, function), *cast(list, args), **cast(dict, keywords))


def _enum_member(config: dict) -> enum.Enum:
    found = find_custom(config["enum"])
    if not inspect.isclass(found) or not issubclass(found, enum.Enum):
        raise ConfigError(
            f"Unknown enum {config['enum']!r}. Register it with `register_keras_serializable`, or pass it in "
            "`custom_objects`."
        )
    return found[config["member"]]


_VALUES: dict[str, Callable[[dict], Any]] = {
    "__numpy__": _array,
    "__tensor__": lambda config: jax.numpy.asarray(_array(config)),
    "__slice__": lambda config: slice(config["start"], config["stop"], config["step"]),
    "__ellipsis__": lambda config: Ellipsis,
    "__bytes__": lambda config: config["value"].encode("utf-8", "surrogateescape"),
    "__lambda__": _function_from_code,
    "__partial__": _partial,
    "__enum__": _enum_member,
}
"""What makes the plain values that JSON does not have."""


def _find_first_custom(registered, name, is_whole: bool = False) -> Any:
    """The user's object by its registered name, which tells apart those of one name, else by its own; or `None`."""
    found = (find_custom(one, is_whole) for one in (registered, name) if isinstance(one, str))
    return next((item for item in found if item is not None), None)


def _find_class(config: dict) -> Any:
    """The class of a description: the user's by registered name, else kerax's by family and name."""
    registered, name = config.get("registered_name"), config["class_name"]
    # A description of Keras's own class is not one of a user's class in a package, which has the same name.
    is_kerass = str(config.get("module")).split(".")[0] == "keras" and registered in (None, name)
    found = _find_first_custom(registered, name, is_whole=is_kerass)
    if found is not None:
        return found
    imported = _import_named(config, name)
    if inspect.isclass(imported) and hasattr(imported, "from_config"):
        return imported
    # The module only picks a family.
    module = (config.get("module") or "").split(".")[-1]
    loading.load()
    # All families are filled before one is searched.
    searched = [families[module]] if module in families else list(families.values())
    for family in searched:
        if isinstance(name, str) and inspect.isclass(family.entries.get(name)):
            _refuse_other_name(registered, name)
            return family.entries[name]
    known = [entry for family in searched for entry in family.entries]
    raise ConfigError(
        f"Unknown class {name!r}.{suggest(name, known)} A class of your own must be registered with "
        "`register_keras_serializable` or passed in `custom_objects`."
    )


def _find_function(config: dict):
    registered, name = config.get("registered_name"), config["config"]
    loading.load()
    entries = (family.entries.get(name) for family in families.values()) if isinstance(name, str) else ()
    keras_function = next((entry for entry in entries if callable(entry)), None)
    # As for classes; of a function of nobody's package files have "function" for the registered name.
    is_kerass = keras_function is not None and registered in (None, "function", name)
    found = _find_first_custom(registered, name, is_whole=is_kerass)
    if found is not None:
        return found
    # Not of trusted packages: of their functions any could be asked for, with any arguments.
    imported = _import_named(config, name) if settings.compatibility() == "keras" else None
    if isinstance(imported, types.FunctionType):
        return imported
    if keras_function is not None:
        _refuse_other_name(None if registered == "function" else registered, name)
        return keras_function
    raise ConfigError(
        f"Unknown function {name!r}. A function of your own must be registered with "
        "`register_keras_serializable` or passed in `custom_objects`."
    )


def _goes_by_module(module: str) -> bool:
    """Whether files name classes of a module by it, and have it imported."""
    return settings.compatibility() == "keras" or module.partition(".")[0] in trusted_packages


def _import_named(config: dict, name) -> Any:
    """What has that name in the module that a description names, where modules may be imported; else `None`."""
    module = config.get("module")
    if not isinstance(module, str) or not isinstance(name, str) or not _goes_by_module(module):
        return None
    try:
        return lazy.users_object(module, name)
    except ImportError as error:
        raise ConfigError(f"The config names {module!r} for {name!r}, which cannot be imported: {error}.") from None


def _refuse_other_name(registered: str | None, name: str):
    """Raises `ConfigError` for a class or function of kerax where another one was meant, which is not known."""
    if registered and registered != name:
        raise ConfigError(
            f"The config names {registered!r}, which is not registered; {name!r} of kerax is another. Register yours "
            "with `register_keras_serializable`, or pass it in `custom_objects`."
        )
