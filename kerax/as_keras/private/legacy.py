"""What `keras.src.legacy` has beyond the public API: whole models in files of the older HDF5 format."""

from typing import Any

from kerax.saving import load_model, save_model


def save_model_to_hdf5(model, filepath, overwrite: bool = True, include_optimizer: bool = True) -> None:
    """Writes a model to a path that ends in `.h5` or `.hdf5`."""
    save_model(model, filepath, overwrite, include_optimizer=include_optimizer)


def load_model_from_hdf5(filepath, custom_objects=None, compile: bool = True, safe_mode: bool = True) -> Any:
    """The model of such a file."""
    return load_model(filepath, custom_objects, compile, safe_mode)


__all__ = ["load_model_from_hdf5", "save_model_to_hdf5"]
