"""Whole models in `.h5` files, as Keras 3 still reads and writes them, and as TensorFlow's Keras 2 wrote them.

The attribute `model_config` holds the class and config of a `Sequential` or functional model as JSON, `training_config`
what it was compiled with; the weights lie in the group `model_weights` as `legacy_h5` says, the optimizer's state in
`optimizer_weights`. Loading is data, as for `.keras` files.
"""

import json
import os
import warnings
from typing import Any, cast

from kerax.core.layer import Layer
from kerax.core.registry import deserialize_keras_object, safe_mode_scope, serialize_keras_object, sharing_scope
from kerax.saving import archive, h5_members, keras2, legacy_h5

_OPTIMIZER = "optimizer_weights"


def save_model(model, path: str, include_optimizer: bool = True):
    """Writes a `Sequential` or functional model with its weights, compile arguments and optimizer state.

    Raises:
        NotImplementedError: for a model of another class: nothing in such a file could make it anew.
    """
    with sharing_scope():
        described = serialize_keras_object(model)
    if described["class_name"] not in ("Functional", "Sequential"):
        raise NotImplementedError(
            f"save_model: an '.h5' file holds `Sequential` and functional models only. Got {model}. "
            "End the name in '.keras', or save the weights with `save_weights`."
        )
    config = {key: described[key] for key in ("class_name", "config")}
    training = archive.compile_config(model) if include_optimizer and model.compiled else None
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)  # as Keras does for these files alone
    with h5_members.writing(path) as file:
        # Text of any length: HDF5 keeps it outside the header, which has room for 64 KB only.
        file.attrs["keras_version"], file.attrs["backend"] = archive.KERAS_VERSION, "jax"
        file.attrs["model_config"] = json.dumps(config)
        legacy_h5.write_layers(file.create_group("model_weights"), model)
        if training is not None:
            training["optimizer_config"] = training.pop("optimizer", None)
            file.attrs["training_config"] = json.dumps(training)
            if model.optimizer is not None and model.optimizer.built:
                legacy_h5.write_weights(file.create_group(_OPTIMIZER), model.optimizer.variables)


def load_model(path: str, custom_objects: dict | None = None, compile: bool = True, safe_mode: bool = True) -> Any:
    """The model of an `.h5` file: see `kerax.saving.load_model`."""
    who = "load_model"
    h5_members.require_file(path, who)
    with archive.naming(path), safe_mode_scope(safe_mode), h5_members.open_file(path, who) as file:
        with h5_members.explaining(path, who):
            texts = {name: file.attrs[name] for name in ("model_config", "training_config") if name in file.attrs}
        if "model_config" not in texts:
            raise ValueError("it holds weights, but no model: make the model and call its `load_weights`")
        config = keras2.modernized(_parse(texts, "model_config"))
        model: Any = deserialize_keras_object(config, custom_objects, safe_mode)
        if not isinstance(model, Layer):
            raise ValueError(f"the config describes {type(model).__name__}, which is no model")
        with h5_members.explaining(path, who):
            weights = h5_members.find_group(file, "model_weights")
            has_weights = weights is not None and any(
                len(h5_members.find_group(weights, str(name)) or ()) for name in weights
            )
        if not model.built and has_weights:
            raise ValueError(f"{model} cannot be built from its config, so its weights have no place")
        with h5_members.explaining(path, who):
            if model.built:  # else it was saved before it had weights
                legacy_h5.fill(file, model)
        if compile and "training_config" in texts:
            arguments = keras2.compile_arguments(_parse(texts, "training_config"), len(cast(Any, model).outputs))
            archive.compile_as(model, arguments, custom_objects)
            with h5_members.explaining(path, who):
                _fill_optimizer(file, model, path)
        elif compile:
            warnings.warn(f"load_model: {path!r} holds no compile arguments; call `compile`.", stacklevel=4)
    return model


def _parse(texts: dict, name: str) -> dict:
    text = texts[name]
    try:
        found = json.loads(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the attribute {name!r} is no JSON that can be read: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"the attribute {name!r} should hold an object")
    return found


def _fill_optimizer(file, model, path: str):
    """Puts the optimizer's state back, or says that it does not fit."""
    if _OPTIMIZER not in file or model.optimizer is None:
        return
    variables = model.optimizer.variables
    names, found = legacy_h5.read_weights(file, _OPTIMIZER)
    if len(found) <= 1:  # never trained
        return
    if len(found) == len(variables) - 1:  # Keras 2 kept no learning rate there
        variables = [variable for variable in variables if variable.name != "learning_rate"]
    if names and names[-1].split(":")[0].rsplit("/", 1)[-1] in _SLOTS:
        # The oldest optimizers wrote one slot of all weights, then the next; today those of a weight stand together.
        slots, count = found[1:], len(model.trainable_variables)
        found = found[:1] + [slot for index in range(count) for slot in slots[index::count]]
    if [dataset.shape for dataset in found] != [variable.shape for variable in variables]:
        message = f"load_model: the optimizer's state in {path!r} does not fit {model.optimizer}; it starts anew."
        warnings.warn(message, stacklevel=5)
        return
    values = [h5_members.read_dataset(dataset) for dataset in found]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


_SLOTS = ("m", "v", "vhat", "momentum", "rms", "mg", "accumulator", "accum_grad", "accum_var", "linear")
