"""Saving and loading weights in a file of the kind that its name tells."""

import os

from kerax.saving import legacy_h5, safetensors_file, weights_h5


def save_weights(model, filepath, overwrite: bool = True, max_shard_size=None, **kwargs):
    """Writes the weights of a model, and its optimizer's state if there is one.

    Args:
        filepath: `*.weights.h5`, as Keras reads it; `*.weights.json` for shards; `*.safetensors` for the weights alone.
        overwrite: Whether an existing file may be replaced.
        max_shard_size: Most GB in one file of shards, which `filepath` then names.

    Raises:
        ValueError: for another ending, a model that is not built, or a file that is there and not to be replaced.
    """
    if kwargs:
        raise TypeError(f"save_weights: unknown argument {next(iter(kwargs))!r}.")
    path = _check(filepath, model, "save_weights", (".weights.h5", ".weights.json", ".safetensors"))
    # One without the other would be ignored silently.
    if path.endswith(".weights.json") != (max_shard_size is not None):
        raise ValueError(
            "save_weights: `max_shard_size` and a name that ends in '.weights.json' go together. "
            f"Got {path!r} and max_shard_size={max_shard_size}."
        )
    if not overwrite and os.path.exists(path):
        raise ValueError(f"save_weights: {path!r} exists. Pass `overwrite=True` to replace it.")
    if path.endswith(".safetensors"):
        safetensors_file.save(model, path)
    else:
        weights_h5.save(model, path, max_shard_size)


def load_weights(model, filepath, skip_mismatch: bool = False, **kwargs):
    """Reads the weights of a model, all or none.

    Args:
        filepath: What `save_weights` wrote, or an older `.h5` or `.hdf5` file of Keras's.
        skip_mismatch: Whether to skip what does not fit, with a warning that lists it.
        by_name: For older files: whether to match layers by name instead of by order.
        only: For safetensors: regular expression; weights of the model whose path it matches from the start are loaded,
            all others left alone.
        rename: For safetensors: function of a weight's path that returns its name in the file, or a dict
            `{regular expression: replacement}` applied to the path in order.

    Raises:
        ValueError: listing everything that does not fit, changing nothing; or if the file is none of these.
        FileNotFoundError: if there is no such file.
    """
    # In the order of `_OPTIONS`: `.weights.h5` before `.h5`.
    ending = next((end for end, known in _OPTIONS.items() if os.fspath(filepath).endswith(end)), None)
    for name in kwargs:
        kinds = [end for end, options in _OPTIONS.items() if name in options]
        if not kinds:
            raise TypeError(f"load_weights: unknown argument {name!r}.")
        if ending not in kinds:
            raise ValueError(f"load_weights: `{name}` is for {' and '.join(kinds)} files. Got {os.fspath(filepath)!r}.")
    path = _check(filepath, model, "load_weights", tuple(_OPTIONS))
    if ending == ".safetensors":
        safetensors_file.load(model, path, skip_mismatch, **kwargs)
    elif ending in (".h5", ".hdf5"):
        legacy_h5.load_weights(model, path, skip_mismatch, bool(kwargs.get("by_name")))
    else:
        weights_h5.load(model, path, skip_mismatch)


_OPTIONS = {
    ".weights.h5": (),
    ".weights.json": (),
    ".safetensors": ("only", "rename"),
    ".h5": ("by_name",),
    ".hdf5": ("by_name",),
}


def _check(filepath, model, who: str, endings: tuple[str, ...]) -> str:
    path = os.fspath(filepath)
    if not path.endswith(endings):
        listed = " or ".join(map(repr, endings))
        raise ValueError(f"{who}: the name must end in {listed}. Got {path!r}.")
    if not model.built:
        raise ValueError(
            f"{who}: {model} is not built, so its weights are not known. Call it on data or `build` it first."
        )
    return path
