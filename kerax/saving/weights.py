"""Saving and loading weights in a file of the kind that its name tells."""

from kerax import checkpoint
from kerax.places import exists, is_elsewhere, path_of, to_read, to_write
from kerax.saving import archive, h5_members, hub, legacy_h5, safetensors_file, weights_h5


def save_weights(model, filepath, overwrite: bool = True, max_shard_size=None, **kwargs):
    """Writes the weights of a model, and its optimizer's state if there is one.

    Args:
        filepath: `*.weights.h5`, as Keras reads it; `*.weights.json` for shards; `*.safetensors` for the weights alone.
            An open binary file gets what a `.weights.h5` file holds.
        overwrite: Whether an existing file may be replaced.
        max_shard_size: Most GB in one file of shards, which `filepath` then names.
        objects_to_skip: Layers that are left out, with what is in them.

    Raises:
        ValueError: for another ending, a model that is not built, or a file that is there and not to be replaced.
        OSError: naming the file, if it cannot be written. What was there is as it was then.
    """
    objects_to_skip = kwargs.pop("objects_to_skip", None) or ()
    if kwargs:
        raise TypeError(f"save_weights: unknown argument {next(iter(kwargs))!r}.")
    _check_built(model, "save_weights")
    if h5_members.is_open_file(filepath):
        weights_h5.save(model, filepath, objects_to_skip=objects_to_skip)
        return
    if hub.is_address(filepath):
        hub.save_weights(model, filepath, overwrite, objects_to_skip)
        return
    path, _ = _ending_of(filepath, "save_weights", (".weights.h5", ".weights.json", ".safetensors"))
    # One without the other would be ignored silently.
    if path.endswith(".weights.json") != (max_shard_size is not None):
        raise ValueError(
            "save_weights: `max_shard_size` and a name that ends in '.weights.json' go together. "
            f"Got {path!r} and max_shard_size={max_shard_size}."
        )
    if not overwrite and exists(path):
        raise ValueError(f"save_weights: {path!r} exists. Pass `overwrite=True` to replace it.")
    with to_write(path) as file:
        if path.endswith(".safetensors"):
            safetensors_file.save(model, file)
        else:
            weights_h5.save(model, file, max_shard_size, objects_to_skip)


def load_weights(model, filepath, skip_mismatch: bool = False, **kwargs):
    """Reads the weights of a model, all or none.

    Args:
        filepath: What `save_weights` or `save_model` wrote, or an older `.h5` or `.hdf5` file of Keras's, the folder of
            a checkpoint, or an open binary file.
        skip_mismatch: Whether to skip layers that do not fit, with a warning that lists them.
        objects_to_skip: Layers that are left alone, with what is in them.
        by_name: For older files: whether to match layers by name instead of by order.
        only: For safetensors: regular expression; weights of the model whose path it matches from the start are loaded,
            all others left alone.
        rename: For safetensors: function of a weight's path that returns its name in the file, or a dict
            `{regular expression: replacement}` applied to the path in order.

    Raises:
        ValueError: listing everything that does not fit, changing nothing; or if the file is none of these.
        FileNotFoundError: if there is no such file; it is a `ValueError` too.
    """
    if hub.is_address(filepath):
        with hub.files_of(filepath, "load_weights", only=hub.WEIGHTS) as file:
            load_weights(model, file, skip_mismatch, **kwargs)
        return
    given = {name: value for name, value in kwargs.items() if value or name not in ("by_name", "objects_to_skip")}
    path, ending = _ending_of(filepath, "load_weights", tuple(_OPTIONS))
    for name in given:
        kinds = [end for end, options in _OPTIONS.items() if name in options]
        if not kinds:
            raise TypeError(f"load_weights: unknown argument {name!r}.")
        if ending not in kinds:
            # Keras's class of error.
            raise ValueError(f"load_weights: `{name}` is for {' and '.join(kinds)} files. Got {path!r}.")
    _check_built(model, "load_weights")
    if ending == "checkpoint":
        checkpoint.restore(path, model, strict=not skip_mismatch)
        return
    with to_read(path) as file:
        if ending == ".safetensors":
            safetensors_file.load(model, file, skip_mismatch, **given)
        elif ending in (".h5", ".hdf5"):
            legacy_h5.load_weights(model, file, skip_mismatch, **given)
        elif ending in (".keras", "/"):
            archive.load_weights(model, file, skip_mismatch, **given)
        else:
            weights_h5.load(model, file, skip_mismatch, **given)


_OPTIONS = {
    # In this order: `.weights.h5` before `.h5`.
    ".weights.h5": ("objects_to_skip",),
    ".weights.json": ("objects_to_skip",),
    ".keras": ("objects_to_skip",),
    "/": ("objects_to_skip",),
    "checkpoint": (),
    ".safetensors": ("only", "rename"),
    ".h5": ("by_name",),
    ".hdf5": ("by_name",),
}


def _ending_of(filepath, who: str, endings: tuple[str, ...]):
    """A path as text, or an open file, with the ending that says what is in it; `"/"` or `"checkpoint"` for a folder.

    Raises:
        ValueError: if it is none of `endings`.
    """
    if h5_members.is_open_file(filepath):
        start = filepath.read(8)
        filepath.seek(0)
        if start != h5_members.SIGNATURE:
            return filepath, ".keras"
        return filepath, ".h5" if legacy_h5.is_legacy(filepath) else ".weights.h5"
    path = path_of(filepath, who)
    if "/" in endings and archive.is_folder(path):
        return path, "/"
    if "checkpoint" in endings and checkpoint.all_steps(path):
        return path, "checkpoint"
    known = [ending for ending in endings if ending.startswith(".")]
    if is_elsewhere(path) and path.endswith(".weights.json"):
        raise ValueError(f"{who}: shards are read and written on this computer only. Got {path!r}.")
    ending = next((ending for ending in known if path.endswith(ending)), None)
    if ending is None:
        listed = " or ".join(map(repr, known))
        raise ValueError(f"{who}: the name must end in {listed}. Got {path!r}.")
    return path, ending


def _check_built(model, who: str):
    if not model.built:
        raise ValueError(
            f"{who}: {model} is not built, so its weights are not known. Call it on data or `build` it first."
        )
