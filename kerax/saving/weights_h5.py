"""`.weights.h5` files with Keras 3's structure inside.

Every layer is a group with a subgroup `vars` whose members `0`, `1`, ... are its own weights. Sublayers are groups
named after the attribute that holds them; in containers and in the `layers` of a model, after the class with a counter.
Reading checks every shape before any weight is changed, and refuses links and external storage.
"""

import os
import warnings
from collections.abc import Iterator

import numpy as np

from kerax.core.layer import Layer
from kerax.core.registry import to_snake_case
from kerax.core.tracking import unique
from kerax.core.variable import Variable, materialize


def save_weights(model, filepath, overwrite=True):
    """Writes the weights of a model.

    Raises:
        ValueError: if the name does not end in `.weights.h5`, the model is not built, or the file exists and
            `overwrite` is false.
    """
    import h5py

    path = _check_path(filepath, model, "save_weights")
    if not overwrite and os.path.exists(path):
        raise ValueError(f"save_weights: {path!r} exists. Pass `overwrite=True` to replace it.")
    materialize(model.weights)
    partial = f"{path}.partial"
    with h5py.File(partial, "w") as file:
        for group, layer, _ in _groups(model):
            members = file.require_group(f"{group}/vars" if group else "vars")
            members.attrs["name"] = layer.name
            for index, value in enumerate(map(np.asarray, layer.stored_values())):
                dataset = members.create_dataset(str(index), data=value)
                if value.dtype.name == "bfloat16":
                    dataset.attrs["dtype"] = "bfloat16"
    os.replace(partial, path)


def load_weights(model, filepath, skip_mismatch=False):
    """Reads the weights of a model, all or none.

    Args:
        skip_mismatch: Whether to skip what does not fit, with a warning that lists it.

    Raises:
        ValueError: listing every weight that is missing or has another shape; or if the file is not a plain HDF5 file.
        FileNotFoundError: if there is no such file.
    """
    import h5py

    path = _check_path(filepath, model, "load_weights")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"load_weights: there is no file {path!r}.")
    values: list[tuple[Variable, np.ndarray]] = []
    differences: list[str] = []
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"load_weights: {path!r} is not a readable HDF5 file: {error}") from None
    with file:
        seen: set[str] = set()
        for group, layer, variables in _groups(model):
            where = f"{group}/vars" if group else "vars"
            members = _descend(file, where)
            stored = [] if members is None else sorted(members, key=lambda name: (len(name), name))
            seen.add(where)
            if len(stored) != len(variables):
                differences.append(
                    f"{where} ({layer.name}): expected {len(variables)} weights, the file has {len(stored)}"
                )
                continue
            for index, variable in enumerate(variables):
                dataset = _plain_dataset(members, str(index), path)
                if dataset is None or dataset.shape != variable.shape:
                    found = None if dataset is None else dataset.shape
                    differences.append(
                        f"{where}/{index} ({variable.path}): expected shape {variable.shape}, found {found}"
                    )
                    continue
                values.append((variable, _read(dataset)))
            values += layer.also_loaded()
        differences += [
            f"{name}: in the file only"
            for name in _filled_groups(file)
            if name not in seen and not name.startswith("optimizer")
        ]
    if differences:
        message = f"load_weights: {path!r} does not fit {model}.\n  " + "\n  ".join(differences)
        if not skip_mismatch:
            raise ValueError(f"{message}\nNothing was loaded. Pass `skip_mismatch=True` to load what fits.")
        warnings.warn(message, stacklevel=3)
    for variable, value in values:
        variable.assign(value)


def _check_path(filepath, model, who: str) -> str:
    path = os.fspath(filepath)
    if not path.endswith(".weights.h5"):
        raise ValueError(f"{who}: the name must end in '.weights.h5'. Got {path!r}.")
    if not model.built:
        raise ValueError(
            f"{who}: {model} is not built, so its weights are not known. Call it on data or `build` it first."
        )
    return path


def _groups(layer: Layer, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Layer, list[Variable]]]:
    """(group, layer, own weights) of a layer and everything below it, each once, in Keras's order."""
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield path, layer, layer.stored_variables()
    attributes = {name: value for name, value in vars(layer).items() if name not in layer._untracked}
    first = []
    if hasattr(layer, "get_layer"):  # a model
        attributes["layers"] = layer.layers
        first = ["layers"] if hasattr(layer, "output_shape") else []
    for name in first + sorted(attributes, key=lambda name: (name.startswith("_"), name)):
        yield from _below(attributes[name], f"{path}/{name}" if path else name, seen)


def _below(value, path: str, seen: set[int]) -> Iterator:
    if isinstance(value, Layer):
        yield from _groups(value, path, seen)
    elif isinstance(value, (list, tuple, dict)):
        taken: set[str] = set()
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, (Layer, list, tuple, dict)):
                kind = to_snake_case(type(item).__name__) if isinstance(item, Layer) else "container"
                name = unique(kind, taken)
                taken.add(name)
                yield from _below(item, f"{path}/{name}", seen)


def _descend(file, path: str):
    """The group at a path, reached by hard links only."""
    import h5py

    group = file
    for part in path.split("/"):
        if part not in group:
            return None
        link = group.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{file.filename!r} holds a link at {group.name}/{part}, which kerax does not follow.")
        group = group[part]
        if not isinstance(group, h5py.Group):
            raise ValueError(f"{file.filename!r}: {group.name} should be a group of weights.")
    return group


def _plain_dataset(group, name: str, path: str):
    """A dataset stored in the file itself, or `None`."""
    import h5py

    if name not in group:
        return None
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{path!r} holds a link at {group.name}/{name}, which kerax does not follow.")
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{path!r}: {group.name}/{name} should be a weight.")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{path!r}: {dataset.name} keeps its data in another file, which kerax does not read.")
    return dataset


def _read(dataset) -> np.ndarray:
    if dataset.attrs.get("dtype") == "bfloat16":
        import ml_dtypes  # comes with jax

        return np.array(dataset).view(ml_dtypes.bfloat16)
    return np.array(dataset)


def _filled_groups(file) -> list[str]:
    """The `vars` groups of a file that hold weights."""
    import h5py

    found: list[str] = []

    def visit(name, item):
        if isinstance(item, h5py.Group) and (name == "vars" or name.endswith("/vars")) and len(item):
            found.append(name)

    file.visititems(visit)
    return found
