"""Saving and loading whole models, as what the name tells."""

import os
import re
from typing import Any

from kerax import checkpoint
from kerax.places import exists, is_elsewhere, path_of, to_read, to_write
from kerax.saving import archive, h5_members, hub, legacy_model


def save_model(model, filepath, overwrite: bool = True, zipped: bool | None = None, **kwargs):
    """Writes a model: config, weights, compile arguments, optimizer state, vocabularies.

    Args:
        model: A model or layer.
        filepath: `*.keras` for a file that Keras reads too, `*.h5` or `*.hdf5` for one that Keras 2 reads; a path
            without an ending for an orbax checkpoint, also at `gs://`, `s3://` and the like. `hf://user/name` for a
            repository of the Hugging Face Hub, see `push_to_hub`. An open binary file gets what a `.keras` file holds.
        overwrite: Whether what is there may be replaced.
        zipped: `False` writes what a `.keras` file holds to a folder.
        include_optimizer: Whether an `.h5` file holds the compile arguments and the optimizer's state.
        save_format: Kept for Keras's signature: the ending tells.

    Raises:
        ValueError: for another ending or argument, or what is there and not to be replaced.
        NotImplementedError: for an `.h5` file of a model that is neither `Sequential` nor functional.
        OSError: naming the file, if it cannot be written. What was there is as it was then.
    """
    options = {"include_optimizer": True, "save_format": None} | kwargs
    include_optimizer, save_format = options.pop("include_optimizer"), options.pop("save_format")
    if options:
        raise ValueError(f"save_model: unknown argument {next(iter(options))!r}.")
    if h5_members.is_open_file(filepath):
        archive.save_model(model, filepath)
        return
    if hub.is_address(filepath):
        hub.save_model(model, filepath, overwrite)
        return
    path = check_name(filepath, "save_model")
    if save_format is not None and not path.endswith((".keras", ".h5", ".hdf5")):
        raise ValueError(
            f"save_model: the name's ending, '.keras' or '.h5', says the format, not `save_format`. Got {path!r} and "
            f"save_format={save_format!r}."
        )
    if not overwrite and exists(path):
        raise ValueError(f"save_model: {path!r} exists. Pass `overwrite=True` to replace it.")
    is_older = path.endswith((".h5", ".hdf5"))
    if zipped is False and (is_older or path.endswith(".keras")):
        raise ValueError(f"save_model: with `zipped=False`, `filepath` names a folder, without ending. Got {path!r}.")
    if zipped is not False and not is_older and not path.endswith(".keras"):
        checkpoint.save(path, model, overwrite=overwrite)
        return
    with to_write(path) as file:
        if is_older:
            from absl import logging  # comes with orbax; Keras says so in its log too

            logging.warning(
                "save_model: %r becomes a file of the older HDF5 format. The newer one ends in '.keras'.", path
            )
            legacy_model.save_model(model, file, include_optimizer)
        else:
            archive.save_model(model, file, zipped=zipped is not False)


def check_name(filepath, who: str) -> str:
    """The path of a model as text.

    Raises:
        ValueError: if it has an ending that says nothing to kerax, or is an address of another place.
    """
    path = path_of(filepath, who)
    ending = os.path.splitext(path)[1]
    # One with digits first, as in `model_v1.5`, is part of a folder's name.
    if ending not in (".keras", ".h5", ".hdf5") and re.fullmatch(r"\.[A-Za-z]\w*", ending):
        raise ValueError(
            f"{who}: the name of a model ends in '.keras', in '.h5' for the older format, or in nothing for an orbax "
            f"checkpoint. Got {path!r}."
        )
    return path


def load_model(filepath, custom_objects: dict | None = None, compile: bool = True, safe_mode: bool = True) -> Any:
    """The model that `save_model` of kerax or Keras wrote, from the file alone.

    Args:
        filepath: A `.keras` file, a folder of one that was not zipped, an `.h5` file of Keras 2 or 3, the folder of a
            checkpoint, also at `gs://`, `s3://` and the like; `hf://user/name`; or an open binary file.
        custom_objects: `{name: class or function}` of those that are not registered. The name of a layer stands for
            the lambda in it, whose code is not run then.
        compile: Whether to compile it as it was, with the optimizer's state.
        safe_mode: Whether the file is not trusted. `False` lets its config name vocabulary files to read, and run the
            Python code of lambdas in the file, after a warning.

    Raises:
        ValueError: if the file is damaged, asks for what it may not, or names a class or function that is not known.
        FileNotFoundError: if there is none; it is a `ValueError` too.
    """
    if h5_members.is_open_file(filepath):
        is_hdf5 = filepath.read(8) == h5_members.SIGNATURE
        filepath.seek(0)
        load = legacy_model.load_model if is_hdf5 else archive.load_model
        return load(filepath, custom_objects, compile, safe_mode)
    if hub.is_address(filepath):
        with hub.files_of(filepath, "load_model") as folder:
            if not archive.is_folder(folder):
                raise ValueError(f"load_model: {filepath!r} holds no model, which has a `config.json`.")
            return load_model(folder, custom_objects, compile, safe_mode)
    path = path_of(filepath, "load_model")
    # First: a folder's name may end in anything.
    if checkpoint.all_steps(path) if is_elsewhere(path) else os.path.isdir(path) and not archive.is_folder(path):
        return checkpoint.load_model(path, None, custom_objects, compile, safe_mode)
    if path.endswith((".safetensors", ".weights.json")):
        raise ValueError(
            f"load_model: {path!r} holds weights, but no model: make the model and call its `load_weights`."
        )
    with to_read(path) as file:
        if not archive.is_folder(file):
            check_name(path, "load_model")
        load = legacy_model.load_model if path.endswith((".h5", ".hdf5")) else archive.load_model
        return load(file, custom_objects, compile, safe_mode)
