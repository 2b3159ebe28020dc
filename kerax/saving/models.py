"""Saving and loading whole models, as what the name tells."""

import os
from typing import Any

from kerax import checkpoint
from kerax.saving import archive


def save_model(model, filepath, overwrite: bool = True, zipped=None, **kwargs):
    """Writes a model: config, weights, compile arguments, optimizer state, vocabularies.

    Args:
        model: A built model.
        filepath: `*.keras` for a file that Keras reads too; a path without an ending for an orbax checkpoint.
        overwrite: Whether what is there may be replaced.
        zipped: Kept for Keras's signature: a `.keras` file is always zipped.

    Raises:
        ValueError: for another ending, a model that is not built, or what is there and not to be replaced.
    """
    if kwargs:
        raise TypeError(f"save_model: unknown argument {next(iter(kwargs))!r}.")
    path = os.fspath(filepath)
    if path.endswith((".h5", ".hdf5")):
        raise ValueError(
            f"save: kerax does not write whole models as {path!r}. End it in '.keras', or save the weights with "
            "`save_weights` and a name that ends in '.weights.h5'."
        )
    if path.endswith(".keras"):
        # Keras can write a folder instead; `None` and `True` are what is done anyway.
        if zipped is False:
            raise ValueError("save_model: kerax writes '.keras' files zipped only. Leave `zipped` out.")
        archive.save_model(model, path, overwrite)
    else:
        checkpoint.save(path, model, overwrite=overwrite)


def load_model(filepath, custom_objects: dict | None = None, compile: bool = True, safe_mode: bool = True) -> Any:
    """The model that `save_model` of kerax or Keras wrote, from the file alone.

    Args:
        filepath: A `.keras` file, or the folder of a checkpoint.
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
        raise ValueError(
            f"load_model: kerax does not read whole models from {path!r}. Make the model and call "
            f"`model.load_weights({path!r})`, or save it again with Keras 3 as '.keras'."
        )
    return archive.load_model(path, custom_objects, compile, safe_mode)
