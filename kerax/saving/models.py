"""Saving and loading whole models, as what the name tells."""

import os
from typing import Any

from kerax import checkpoint
from kerax.saving import archive, legacy_model


def save_model(model, filepath, overwrite: bool = True, zipped: bool | None = None, **kwargs):
    """Writes a model: config, weights, compile arguments, optimizer state, vocabularies.

    Args:
        model: A model or layer.
        filepath: `*.keras` for a file that Keras reads too, `*.h5` or `*.hdf5` for one that Keras 2 reads; a path
            without an ending for an orbax checkpoint.
        overwrite: Whether what is there may be replaced.
        zipped: Kept for Keras's signature: a `.keras` file is always zipped.
        include_optimizer: Whether an `.h5` file holds the compile arguments and the optimizer's state.
        save_format: Kept for Keras's signature: the ending tells.

    Raises:
        ValueError: for another ending or argument, or what is there and not to be replaced.
        NotImplementedError: for an `.h5` file of a model that is neither `Sequential` nor functional.
    """
    path = os.fspath(filepath)
    options = {"include_optimizer": True, "save_format": None} | kwargs
    include_optimizer, save_format = options.pop("include_optimizer"), options.pop("save_format")
    if options or save_format not in (None, "keras", "h5"):
        unknown = next(iter(options), f"save_format={save_format!r}")
        raise ValueError(
            f"save_model: unknown argument {unknown}. The name's ending, '.keras' or '.h5', says the format."
        )
    if path.endswith((".h5", ".hdf5")):
        if not overwrite and os.path.exists(path):
            raise ValueError(f"save_model: {path!r} exists. Pass `overwrite=True` to replace it.")
        legacy_model.save_model(model, path, include_optimizer)
    elif path.endswith(".keras"):
        # Keras can write a folder instead; `None` and `True` are what is done anyway.
        if zipped is False:
            raise ValueError("save_model: kerax writes '.keras' files zipped only. Leave `zipped` out.")
        archive.save_model(model, path, overwrite)
    else:
        checkpoint.save(path, model, overwrite=overwrite)


def load_model(filepath, custom_objects: dict | None = None, compile: bool = True, safe_mode: bool = True) -> Any:
    """The model that `save_model` of kerax or Keras wrote, from the file alone.

    Args:
        filepath: A `.keras` file, an `.h5` file of Keras 2 or 3, or the folder of a checkpoint.
        custom_objects: `{name: class or function}` of those that are not registered.
        compile: Whether to compile it as it was, with the optimizer's state.
        safe_mode: Whether the file is not trusted. `False` lets its config name vocabulary files to read, and run the
            Python code of `Lambda` layers that Keras stores in files, after a warning.

    Raises:
        ValueError: if the file is damaged, asks for what it may not, or names a class or function that is not known.
        FileNotFoundError: if there is none.
    """
    path = os.fspath(filepath)
    # First: a folder's name may end in anything.
    if os.path.isdir(path):
        return checkpoint.load_model(path, None, custom_objects, compile, safe_mode)
    if path.endswith((".h5", ".hdf5")):
        return legacy_model.load_model(path, custom_objects, compile, safe_mode)
    return archive.load_model(path, custom_objects, compile, safe_mode)
