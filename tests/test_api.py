"""Every public name of Keras 3.15 is there, with Keras's arguments in Keras's order, Keras's defaults and methods.

`tests/data/keras_api.json` holds Keras's names with their signatures, and for classes their methods.
"""

import ast
import importlib
import inspect
import json
from pathlib import Path

import pytest

API = json.loads((Path(__file__).parent / "data" / "keras_api.json").read_text())

# Names that are not offered, and why.
EXCEPTIONS = {
    "keras.layers.TFSMLayer": "runs TensorFlow's saved models",
    "keras.layers.TorchModuleWrapper": "runs PyTorch's modules; a JAX gradient does not go through them",
}

# Methods that are not offered, and why.
_INSIDE = "a step inside Keras's `call`; kerax's layers compute in one function"
_OPTIMIZERS = "a step inside Keras's `update_step`; kerax's own optimizers are optax transformations"
METHOD_EXCEPTIONS = {
    "is_multihost_enabled": "orbax asks JAX's runtime itself",
    "is_primary_host": "orbax asks JAX's runtime itself",
    "check_finite": _OPTIMIZERS,
    "transpose_last_axis": _OPTIMIZERS,
    "convert_weight": "TensorFlow's data pipelines",
    "inner_loop": _INSIDE,
    "interpolate_pr_auc": _INSIDE,
    "linear_to_mel_weight_matrix": _INSIDE,
    "normalized_weights": _INSIDE,
    "finalize_state": "`adapt` sets the statistics itself",
    "get_dropout_mask": "masks are drawn with the call's key, not kept in the cell",
    "get_recurrent_dropout_mask": "masks are drawn with the call's key, not kept in the cell",
    "reset_dropout_mask": "masks are drawn with the call's key, not kept in the cell",
    "reset_recurrent_dropout_mask": "masks are drawn with the call's key, not kept in the cell",
    "transform_single_image": _INSIDE,
    "transform_single_label": _INSIDE,
    "transform_single_bounding_box": _INSIDE,
    "transform_single_segmentation_mask": _INSIDE,
    "get_elastic_transform_params": _INSIDE,
    "get_shifted_bbox": _INSIDE,
    "get_clipped_bbox": _INSIDE,
    "get_transformed_x_y": _INSIDE,
}

# ELSEWHERE: names and methods that are on their way. An entry goes when what it names is there; then this is empty.
ELSEWHERE: dict[str, str] = {}
METHODS_ELSEWHERE: dict[str, str] = {}
NUM_RESOLVED = 1427


def is_elsewhere(name: str) -> bool:
    return name in ELSEWHERE or any(name.startswith(prefix) for prefix in ELSEWHERE if prefix.endswith("."))


def resolve(name: str):
    """kerax's object for a name of Keras. Raises `AttributeError` if there is none."""
    found = importlib.import_module("kerax")
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    return found


def expected_signature(text: str):
    """Positional names, keyword-only names and defaults (as source text) of a signature; `None` for an unspecific one
    with only `*args`."""
    arguments = ast.parse(f"def function{text}: pass").body[0].args
    positional = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    if arguments.vararg is not None and positional in ([], ["self"]):
        return None
    first = len(positional) - len(arguments.defaults)
    defaults = dict(zip(positional[first:], map(ast.unparse, arguments.defaults)))
    named = [argument.arg for argument in arguments.kwonlyargs]
    defaults |= {k: ast.unparse(v) for k, v in zip(named, arguments.kw_defaults) if v is not None}
    return positional, named, defaults


def differences(found, text: str, is_class: bool) -> list[str]:
    """What does not fit between an object of kerax and a signature of Keras."""
    expected = expected_signature(text)
    if expected is None:
        return []
    positional, named, defaults = expected
    signature = inspect.signature(found.__init__ if inspect.isclass(found) else found)
    if is_class and not inspect.isclass(found):  # a function that does what Keras's class does
        positional = positional[1:]
    own = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    kinds = {p.kind for p in signature.parameters.values()}
    wrong = []
    if own[: len(positional)] != positional and inspect.Parameter.VAR_POSITIONAL not in kinds:
        wrong.append(f"positional arguments {own}, expected {positional}")
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        wrong += [f"no argument {name!r}" for name in positional + named if name not in signature.parameters]
    for name, default in defaults.items():
        if name in signature.parameters and repr(signature.parameters[name].default) != repr(ast.literal_eval(default)):
            wrong.append(f"default {name}={signature.parameters[name].default!r}, expected {default}")
    for name, parameter in signature.parameters.items():
        if name not in positional + named and parameter.default is parameter.empty and parameter.kind in (1, 3):
            wrong.append(f"required argument {name!r} that Keras does not have")
    return wrong


@pytest.fixture(scope="module")
def resolved() -> dict:
    found = {}
    for name in API:
        try:
            found[name] = resolve(name)
        except AttributeError:
            pass
    return found


def test_every_name_resolves(resolved):
    missing = [name for name in API if name not in resolved and name not in EXCEPTIONS and not is_elsewhere(name)]
    assert missing == []
    assert len(resolved) >= NUM_RESOLVED
    assert len(API) == 1429


def test_every_signature_is_keras_s(resolved):
    wrong = {}
    for name, found in resolved.items():
        text, *methods = API[name]
        if not is_elsewhere(name) and (problems := differences(found, text, bool(methods))):
            wrong[name] = problems
    assert wrong == {}


def test_every_method_is_there(resolved):
    known = METHOD_EXCEPTIONS | METHODS_ELSEWHERE
    wrong = {}
    for name, found in resolved.items():
        for methods in API[name][1:]:
            missing = [method for method in methods if not hasattr(found, method) and method not in known]
            if missing and inspect.isclass(found) and not is_elsewhere(name):
                wrong[name] = missing
    assert wrong == {}


def test_exceptions_are_still_exceptions(resolved):
    assert [name for name in EXCEPTIONS if name in resolved] == []
    lacking = {
        method
        for name, found in resolved.items()
        for methods in API[name][1:]
        for method in methods
        if not hasattr(found, method)
    }
    assert sorted(set(METHOD_EXCEPTIONS) - lacking) == []


def test_the_comparison_finds_what_differs():
    assert differences(lambda a, b=1: None, "(a, b=1)", False) == []
    assert "no argument 'c'" in differences(lambda a: None, "(a, c)", False)
    assert differences(lambda b, a: None, "(a, b)", False)[0].startswith("positional arguments")
    assert differences(lambda a=2: None, "(a=1)", False) == ["default a=2, expected 1"]
    assert differences(lambda a, z: None, "(a)", False) == ["required argument 'z' that Keras does not have"]


def test_unknown_names_get_a_suggestion():
    import kerax

    for module, name, hint in (
        (kerax, "optimiser", "optimizers"),
        (kerax, "Sequentiel", "Sequential"),
        (kerax.datasets, "minst", "mnist"),
        (kerax.wrappers, "SKLearnClasifier", "SKLearnClassifier"),
    ):
        with pytest.raises(AttributeError, match=f"Did you mean '{hint}'"):
            getattr(module, name)


def test_what_is_one_thing_in_keras_is_one_thing(resolved):
    import keras

    groups: dict[int, list[str]] = {}
    for name in resolved:
        found = keras
        for part in name.split(".")[1:]:
            found = getattr(found, part)
        groups.setdefault(id(found), []).append(name)
    apart = {
        name: names[0] for names in groups.values() for name in names[1:] if resolved[name] is not resolved[names[0]]
    }
    assert apart == {}


def test_get_finds_every_name_that_keras_finds(resolved):
    abstract = {"Initializer", "Regularizer", "Constraint", "Loss", "Metric", "Optimizer"}
    missing = []
    for family in ("activations", "initializers", "regularizers", "constraints", "losses", "metrics", "optimizers"):
        module, theirs = resolve(f"keras.{family}"), importlib.import_module(f"keras.{family}")
        for name in resolved:
            if not name.startswith(f"keras.{family}.") or (last := name.split(".")[-1]) in abstract:
                continue
            try:
                theirs.get(last)
            except Exception:
                continue  # a function of the module, or a class that needs arguments
            try:
                module.get(last)
            except ValueError:
                missing.append(name)
    assert missing == []
