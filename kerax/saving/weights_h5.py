"""`.weights.h5` files with Keras 3's structure inside, whole or in shards named by a `.weights.json` file.

Every layer is a group with a subgroup `vars` whose members `0`, `1`, ... are its own weights. Reading checks every
shape before any weight is changed, and refuses links and external storage.
"""

import contextlib
import functools
import json
import os
from collections.abc import Collection, Iterator

import numpy as np

from kerax.saving import h5_members, structure

_MOST_JSON = 2**26  # bytes


def write(file, model, objects_to_skip: Collection = ()):
    """Writes a model's weights, and its optimizer's state if there is one, into an open HDF5 file."""
    for group, name, values, labels in structure.stores(model, objects_to_skip):
        h5_members.write_group(file, group, name, values, labels)


def read(file, model, where: str, who: str, skip_mismatch: bool = False, objects_to_skip: Collection = ()):
    """Puts the values of an open HDF5 file into a model: see `structure.fill`."""
    find, below = functools.partial(h5_members.members_of, file), functools.partial(h5_members.groups_below, file)
    source = structure.Source(where, find, below, filled_groups(file))
    structure.fill(model, source, who, skip_mismatch, objects_to_skip)


def save(model, path, max_shard_size: float | None = None, objects_to_skip: Collection = ()):
    """Writes a `.weights.h5` file, or with `max_shard_size` (GB) a `.weights.json` file and its shards beside it."""
    if max_shard_size is None:
        with h5_members.writing(path) as file:
            write(file, model, objects_to_skip)
        return
    _save_shards(model, path, int(max_shard_size * 2**30), objects_to_skip)


def _save_shards(model, path: str, most_bytes: int, objects_to_skip: Collection):
    base = path.removesuffix(".weights.json")
    weight_map: dict[str, list[str]] = {}
    total, used, count, file, shard = 0, 0, 0, None, ""
    with contextlib.ExitStack() as renamed, contextlib.ExitStack() as in_memory:
        # The first to be opened is renamed last: without the map nothing could be taken for a whole file.
        text = renamed.enter_context(h5_members.replacing(path))

        def next_file():
            nonlocal used, count, shard
            name = f"{base}_{count:05d}.weights.h5"
            used, count, shard = 0, count + 1, os.path.basename(name)
            # One shard is in memory at a time.
            in_memory.close()
            return in_memory.enter_context(h5_members.hdf5(renamed.enter_context(h5_members.replacing(name))))

        for group, name, values, labels in structure.stores(model, objects_to_skip):
            # A layer without weights has a group all the same, as in Keras's files.
            for key, value in values.items() or [(None, np.zeros(0, np.float32))]:
                if value.nbytes > most_bytes:
                    raise ValueError(
                        f"save_weights: {group}/{key} has {value.nbytes} bytes, more than a shard of {most_bytes}. "
                        "Raise `max_shard_size` (GB)."
                    )
                if file is None or used + value.nbytes > most_bytes:
                    file = next_file()
                h5_members.write_group(file, group, name, {} if key is None else {key: value}, labels)
                used, total = used + value.nbytes, total + value.nbytes
                if key is not None and shard not in weight_map.setdefault(f"/{group}", []):
                    weight_map[f"/{group}"].append(shard)
        text.write(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=4).encode())


def load(model, path, skip_mismatch: bool = False, objects_to_skip: Collection = ()):
    """Reads a `.weights.h5` file, or the shards of a `.weights.json` file, into a model."""
    if isinstance(path, str) and path.endswith(".json"):
        _load_shards(model, path, skip_mismatch, objects_to_skip)
        return
    with h5_members.open_file(path, "load_weights") as file, h5_members.explaining(path, "load_weights"):
        read(file, model, repr(path), "load_weights", skip_mismatch, objects_to_skip)


def _load_shards(model, path: str, skip_mismatch: bool, objects_to_skip: Collection):
    weight_map = read_map(path)
    folder = os.path.dirname(os.path.abspath(path))
    with contextlib.ExitStack() as stack:
        files = {
            name: stack.enter_context(h5_members.open_file(os.path.join(folder, name), "load_weights"))
            for names in weight_map.values()
            for name in names
        }

        def find(group: str) -> dict:
            found: dict = {}
            for name in weight_map.get(f"/{group}", []):
                found |= h5_members.members_of(files[name], group) or {}
            return found

        with h5_members.explaining(path, "load_weights"):
            groups = [group.lstrip("/") for group in weight_map]
            source = structure.Source(repr(path), find, lambda place: {}, groups)
            structure.fill(model, source, "load_weights", skip_mismatch, objects_to_skip)


def read_map(path: str) -> dict[str, list[str]]:
    """The shards of each group. Raises `ValueError` if it is no such file, or names one outside its folder."""
    h5_members.require_file(path, "load_weights")
    # Before it is read into memory.
    if os.path.getsize(path) > _MOST_JSON:
        raise ValueError(f"load_weights: {path!r} has more than {_MOST_JSON} bytes; it names no shards.")
    try:
        with open(path, encoding="utf-8") as text:
            found = json.load(text)["weight_map"]
        weight_map = {group: [names] if isinstance(names, str) else list(names) for group, names in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"load_weights: {path!r} is no map of shards: {error!r}") from None
    for names in weight_map.values():
        for name in names:
            # A name with a folder in it could lead anywhere.
            if not isinstance(name, str) or os.path.basename(name) != name or not name.endswith(".weights.h5"):
                raise ValueError(f"load_weights: {path!r} names the shard {name!r}, which is no file in its folder.")
    return weight_map


def filled_groups(file) -> Iterator[str]:
    """The `vars` groups of a file that hold weights. Links are not followed."""
    for group, members in h5_members.walk_groups(file):
        if (group == "vars" or group.endswith("/vars")) and len(members):
            yield group
