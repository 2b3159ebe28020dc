"""safetensors files: the weights by their paths, for exchange with other libraries."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from kerax.core.host_arrays import checksum
from kerax.core.tracking import walk
from kerax.core.variable import materialize
from kerax.errors import suggest
from kerax.saving import h5_members, structure


def save(model, path: str):
    """Writes every weight under its path, such as `"dense/kernel"`."""
    library = library_of_safetensors()
    weights = _weights(model)
    materialize(weights.values())
    # The library writes the memory as it lies.
    arrays = {name: np.ascontiguousarray(variable.numpy()) for name, variable in weights.items()}
    sums = json.dumps({name: checksum(array) for name, array in arrays.items()})
    with h5_members.replacing(path) as file:
        file.write(library.numpy.save(arrays, {"format": "kerax", _CHECKSUMS: sums}))


def load(model, path: str, skip_mismatch: bool = False, only: str | None = None, rename: Callable | dict | None = None):
    """Reads weights: see `kerax.saving.load_weights`."""
    library = library_of_safetensors()
    h5_members.require_file(path, "load_weights")
    weights = {name: variable for name, variable in _weights(model).items() if only is None or re.match(only, name)}
    if not weights:
        raise ValueError(f"load_weights: no weight of {model} matches only={only!r}. Weights: {list(_weights(model))}.")
    try:
        with library.safe_open(path, "numpy") as file:
            known = list(file.keys())
            wanted, differences = {}, []
            for name, variable in weights.items():
                stored = _renamed(name, rename)
                if stored not in known:
                    as_stored = "" if stored == name else f" (as {stored})"
                    differences.append(f"{name}{as_stored}: not in the file.{suggest(stored, known)}")
                # A slice knows its shape from the header: nothing has been read so far.
                elif tuple(file.get_slice(stored).get_shape()) != variable.shape:
                    shape = tuple(file.get_slice(stored).get_shape())
                    differences.append(f"{name}: expected shape {variable.shape}, found {shape}")
                else:
                    wanted[name] = stored
            # A part of the weights was asked for, or other names: what else is in the file is meant to be there.
            if only is None and rename is None:
                differences += [f"{name}: in the file only" for name in known if name not in weights]
            structure.report(differences, f"load_weights: {path!r} does not fit {model}.", skip_mismatch)
            # All is read before anything is assigned.
            values = {name: file.get_tensor(stored) for name, stored in wanted.items()}
            sums = _read_checksums(path, file.metadata() or {})
            sums_of = {name: sums[stored] for name, stored in wanted.items() if stored in sums}
            damaged = [name for name, written in sums_of.items() if written != checksum(values[name])]
            if damaged:
                raise ValueError(f"load_weights: {path!r} is damaged: {damaged} have other bytes than were written.")
    except library.SafetensorError as error:
        raise ValueError(f"load_weights: {path!r} is not a readable safetensors file: {error}") from None
    for name, value in values.items():
        weights[name].assign(value)


_CHECKSUMS = "kerax_crc32"  # in the metadata, which others do not look at


def _read_checksums(path: str, metadata: dict) -> dict:
    try:
        return dict(json.loads(metadata.get(_CHECKSUMS, "{}")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"load_weights: {path!r} is damaged: its checksums cannot be read: {error}") from None


def list_arrays(path: str) -> tuple[dict[str, str], dict]:
    """`{name: "float32[3, 4]"}` of a file's arrays, and its metadata. Raises `ValueError` if it is no such file."""
    library = library_of_safetensors()
    try:
        with library.safe_open(path, "numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
            arrays = {name: f"{_DTYPES.get(s.get_dtype(), s.get_dtype())}{s.get_shape()}" for name, s in slices.items()}
            return arrays, file.metadata() or {}
    except library.SafetensorError as error:
        raise ValueError(f"{path!r} is not a readable safetensors file: {error}") from None


_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"} | {
    f"{letter}{bits}": f"{name}{bits}" for letter, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}


def _weights(model) -> dict:
    return {"/".join(path): variable for path, variable in walk(model) if variable.is_weight}


def _renamed(name: str, rename: Callable | dict | None) -> str:
    if callable(rename):
        return rename(name)
    for pattern, replacement in (rename or {}).items():
        name = re.sub(pattern, replacement, name)
    return name


def library_of_safetensors() -> Any:
    """The `safetensors` library. Raises `ImportError` naming the extra if it is missing."""
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise ImportError("safetensors files need `safetensors`: pip install 'kerax[safetensors]'") from None
    return safetensors
