"""The weights in `.h5` files as Keras wrote them before `.weights.h5`, alone or in a file of a whole model.

The attribute `layer_names` lists the layers in order; each is a group whose attribute `weight_names` lists its weights,
trainable ones first. Long lists are cut into `layer_names0`, `layer_names1`, and so on. Only numbers are read.
"""

import itertools

import numpy as np

from kerax.core import placement
from kerax.core.tracking import unique
from kerax.core.variable import Variable, materialize
from kerax.saving import h5_members, structure

_TOP = "top_level_model_weights"


def load_weights(model, filepath, skip_mismatch: bool = False, by_name: bool = False):
    """Reads the weights of a model from an older `.h5` file, all or none.

    Args:
        filepath: A file of weights, or of a whole model, of which the weights are read.
        skip_mismatch: Whether to skip what does not fit, with a warning that lists it.
        by_name: Whether to match layers by their names, leaving out those that only one side has. Default: by their
            order; layers without weights do not count.

    Raises:
        ValueError: listing every weight that is missing or has another shape; or if the file is not such a file, is
            damaged, or refers to another file.
        FileNotFoundError: if there is no such file.
    """
    with h5_members.open_file(filepath, "load_weights") as file, h5_members.explaining(filepath, "load_weights"):
        fill(file, model, skip_mismatch, by_name)


def is_legacy(open_file) -> bool:
    """Whether an open HDF5 file is one of these."""
    with h5_members.open_file(open_file, "load_weights") as file:
        return _has_names(file, "layer_names") or "model_weights" in file


def fill(file, model, skip_mismatch: bool = False, by_name: bool = False):
    """Puts the weights of an open file into a model: see `load_weights`."""
    values, differences = _match(file, model, by_name)
    structure.report(differences, f"load_weights: {file.filename!r} does not fit {model}.", skip_mismatch)
    for variable, value in values:
        variable.assign(value)


def write_layers(group, model):
    """Writes the weights of a model's layers, and those of the model itself, into a group."""
    materialize(model.weights)
    layers = [layer for layer in model.layers if not hasattr(layer, "batch_shape") or _ordered(layer)]
    _write_names(group, "layer_names", [layer.name for layer in layers])
    for layer in layers:
        write_weights(group.create_group(layer.name), _ordered(layer))
    write_weights(group.create_group(_TOP), model.kerax_stored_variables())


def write_weights(group, variables: list[Variable]):
    """Writes variables into a group, in order, under their paths."""
    taken: set[str] = set()
    names = []
    for variable in variables:
        names.append(unique(variable.path, taken))
        taken.add(names[-1])
        h5_members.write_array(group, names[-1], placement.to_host(variable.value))
    _write_names(group, "weight_names", names)


def read_weights(file, name: str) -> tuple[list[str], list]:
    """The names and datasets of a group of weights, in order."""
    return _names(h5_members.find_group(file, name), "weight_names"), _weights_of(file, name)


def _write_names(group, name: str, names: list[str]):
    # An attribute has room for 64 KB, 16 bytes for each piece of text.
    pieces = [names[start : start + 3000] for start in range(0, len(names), 3000)] or [[]]
    for index, piece in enumerate(pieces):
        group.attrs[name if len(pieces) == 1 else f"{name}{index}"] = np.array(piece, object) if piece else []


def _match(file, model, by_name: bool) -> tuple[list[tuple[Variable, np.ndarray]], list[str]]:
    """The values of the file that fit, with their variables, and what does not fit, in words."""
    root = file
    # A file of a whole model has the weights one level deeper.
    if not _has_names(file, "layer_names"):
        root = h5_members.find_group(file, "model_weights")
        if root is None or not _has_names(root, "layer_names"):
            raise ValueError(
                f"load_weights: {file.filename!r} is not an older Keras file of weights: it has no `layer_names`. "
                "If it is a newer one, its name must end in '.weights.h5'."
            )
    saved = {name: _weights_of(root, name) for name in _names(root, "layer_names")}
    if by_name:
        pairs = [(layer.name, _ordered(layer), saved[layer.name]) for layer in model.layers if layer.name in saved]
        if not pairs:
            raise ValueError(
                f"load_weights: {file.filename!r} and {model} have no layer name in common. The file has {list(saved)}."
            )
    else:
        # By order: layers without weights, as `Dropout`, do not count on either side.
        own = [(layer.name, weights) for layer in model.layers if (weights := _ordered(layer))]
        filled = [(name, datasets) for name, datasets in saved.items() if datasets]
        if len(own) != len(filled):
            ours, theirs = [name for name, _ in own], [name for name, _ in filled]
            raise ValueError(
                f"load_weights: {model} has {len(own)} layers with weights, {file.filename!r} has {len(filled)}. "
                f"Only in the model: {[name for name in ours if name not in theirs]}; "
                f"only in the file: {[name for name in theirs if name not in ours]}."
            )
        pairs = [
            (name if name == other else f"{name} (in the file {other})", weights, datasets)
            for (name, weights), (other, datasets) in zip(own, filled, strict=True)
        ]
    top = model.kerax_stored_variables()
    # Weights of the model itself, in no layer; by name only if it has some.
    if not by_name or top:
        pairs.append((f"{model.name} itself", top, _weights_of(root, _TOP) if _TOP in root else []))
    values, differences = [], []
    for name, weights, datasets in pairs:
        if len(weights) != len(datasets):
            differences.append(f"{name}: expected {len(weights)} weights, the file has {len(datasets)}")
            continue
        for variable, dataset in zip(weights, datasets, strict=True):
            member = h5_members.Member(dataset)
            if structure.fits(variable, member):
                values.append((variable, member[()]))
            else:
                differences.append(f"{name} ({variable.path}): {structure.difference(variable, member)}")
    return values, differences


def _ordered(layer) -> list[Variable]:
    """A layer's weights in the order of these files."""
    return layer.trainable_weights + layer.non_trainable_weights


def _weights_of(root, name: str) -> list:
    """The datasets of a layer, in order."""
    group = h5_members.find_group(root, name)
    if group is None:
        raise ValueError(f"load_weights: {root.file.filename!r} lists the layer {name!r}, but has no such group.")
    found = []
    for path in _names(group, "weight_names"):
        folder, _, last = path.rpartition("/")
        # Names may hold slashes, which are groups in the file.
        parent = h5_members.find_group(group, folder) if folder else group
        dataset = None if parent is None else h5_members.find_dataset(parent, last)
        if dataset is None:
            raise ValueError(f"load_weights: {root.file.filename!r} lists {path!r} of {name!r}, but does not hold it.")
        found.append(dataset)
    return found


def _has_names(group, name: str) -> bool:
    return name in group.attrs or f"{name}0" in group.attrs


def _names(group, name: str) -> list[str]:
    """A list of names in the attributes of a group, put together from its pieces."""
    numbered = (f"{name}{index}" for index in itertools.count())
    keys = [name] if name in group.attrs else itertools.takewhile(group.attrs.__contains__, numbered)
    try:
        items = [item for key in keys for item in np.ravel(group.attrs[key])]
        names = [item.decode() if isinstance(item, bytes) else item for item in items]
    except ValueError:  # neither text nor numbers
        names = [None]
    if not all(isinstance(item, str) and item.strip("/") for item in names):
        raise ValueError(f"load_weights: {group.file.filename!r}: the attribute `{name}` of {group.name} is no names.")
    return names
