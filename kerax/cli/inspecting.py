"""What is in a file of weights, a model or a checkpoint, without loading it: `kerax inspect`."""

import json
import math
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerax import checkpoint
from kerax.cli.config import ConfigError, parse_arguments
from kerax.saving import archive, h5_members, safetensors_file, weights_h5

_DESCRIPTION = """Lists what is in a checkpoint or a file of weights, without loading it: arrays, shapes, dtypes,
metadata."""


def inspect_file(arguments: Sequence[str]):
    """Prints what is in a file. Raises `ConfigError` for anything wrong in the words of the command line."""
    path, overrides = parse_arguments(arguments, "FILE", _DESCRIPTION, has_fields=False)
    if overrides:
        raise ConfigError(f"unknown option --{next(iter(overrides))}. Expected FILE only.")
    print("\n".join(show_file(path)))


def describe_file(path: str) -> dict[str, Any]:
    """The contents of a file or folder by what it is.

    Returns: `kind`, `arrays` (`{path: "float32[3, 4]"}`), `metadata` (plain data), and for a checkpoint `steps`.

    Raises:
        ConfigError: if it is none of kerax's or Keras's files, or damaged.
    """
    try:
        if os.path.isdir(path):
            return _describe_checkpoint(path)
        if path.endswith(".keras"):
            return _describe_archive(path)
        if path.endswith((".h5", ".hdf5")):
            return {"kind": "HDF5 file of weights", "arrays": _arrays_of_hdf5(path), "metadata": {}}
        if path.endswith(".weights.json"):
            return _describe_shards(path)
        if path.endswith(".safetensors"):
            return _describe_safetensors(path)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from None
    endings = "'.keras', '.weights.h5', '.weights.json', '.h5', '.safetensors'"
    raise ConfigError(f"{path}: expected the folder of a checkpoint, or a file that ends in {endings}.")


def show_file(path: str) -> list[str]:
    """The lines to print about a file."""
    found = describe_file(path)
    sizes = {name: _size(text) for name, text in found["arrays"].items()}
    lines = [f"{path}: {found['kind']}"]
    if "steps" in found:
        lines.append(f"step {found['step']} of {found['steps']}")
    width = max(map(len, found["arrays"]), default=0)
    lines += [f"  {name:<{width}}  {text}" for name, text in found["arrays"].items()]
    elements, num_bytes = (sum(size[index] for size in sizes.values()) for index in (0, 1))
    lines.append(f"{len(sizes)} arrays, {elements:,} numbers, {num_bytes:,} bytes")
    return lines + [f"{name}: {json.dumps(value, default=str)}" for name, value in found["metadata"].items()]


def _size(text: str) -> tuple[int, int]:
    """Elements and bytes of `"float32[3, 4]"`."""
    dtype, _, shape = text.removesuffix("]").partition("[")
    count = math.prod(int(size) for size in shape.split(",") if size.strip())
    return count, count * np.dtype(dtype).itemsize


def _describe_checkpoint(path: str) -> dict:
    found = checkpoint.inspect(path)
    run, model = found["run"], found["model"]
    metadata = {"versions": found["versions"], "metadata": found["user"], "metrics": found.get("metrics")}
    # Of a checkpoint that was saved outside of `fit` there is no run.
    if run is not None:
        metadata["run"] = {name: run[name] for name in ("epoch", "step", "logs", "form")}
        metadata["callbacks"] = list(run["callbacks"])
    metadata["model"] = model.get("config", {}).get("class_name", model.get("error"))
    return {
        "kind": "checkpoint",
        "arrays": found["leaves"],
        "metadata": {name: value for name, value in metadata.items() if value},
        "step": found["step"],
        "steps": found["steps"],
    }


def _describe_archive(path: str) -> dict:
    with archive.opening(path, "inspect") as members, tempfile.TemporaryDirectory() as folder:
        metadata = archive.read_json(members, archive.METADATA, path)
        config = archive.read_json(members, archive.CONFIG, path)
        arrays = {}
        if archive.WEIGHTS in members.namelist():
            # HDF5 needs a file that it can seek in, which a compressed member is not.
            arrays = _arrays_of_hdf5(members.extract(archive.WEIGHTS, folder), path)
        assets = [name for name in members.namelist() if name.startswith(f"{archive.ASSETS}/")]
    metadata |= {"model": config.get("class_name"), "compiled": bool(config.get("compile_config"))}
    return {"kind": "Keras model", "arrays": arrays, "metadata": metadata | ({"assets": assets} if assets else {})}


def _arrays_of_hdf5(path: str, shown: str | None = None) -> dict[str, str]:
    import h5py

    arrays = {}
    with h5_members.open_file(path, "inspect") as file, h5_members.explaining(shown or path, "inspect"):
        for group, members in h5_members.walk_groups(file):
            for name in members:
                # A link may lead into another file of this machine: only what lies in this one is told.
                is_own = isinstance(members.get(name, getlink=True), h5py.HardLink)
                if is_own and members.get(name, getclass=True) is h5py.Dataset:
                    dataset = members[name]
                    # bfloat16 is kept as raw bytes, beside which its name stands.
                    dtype = dataset.attrs.get("dtype", dataset.dtype.name)
                    arrays[f"{group}/{name}".lstrip("/")] = f"{dtype}{list(dataset.shape or ())}"
    return arrays


def _describe_shards(path: str) -> dict:
    # Shards lie beside the map, wherever the command is run from; each is opened once.
    weight_map, arrays = weights_h5.read_map(path), {}
    for name in dict.fromkeys(name for names in weight_map.values() for name in names):
        arrays |= _arrays_of_hdf5(os.path.join(os.path.dirname(os.path.abspath(path)), name))
    shards = sorted({name for names in weight_map.values() for name in names})
    return {"kind": "weights in shards", "arrays": arrays, "metadata": {"shards": shards}}


def _describe_safetensors(path: str) -> dict:
    arrays, metadata = safetensors_file.list_arrays(path)
    return {"kind": "safetensors file", "arrays": arrays, "metadata": metadata}
