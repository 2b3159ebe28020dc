"""`KerasFileEditor`: looks into a file of weights, compares it with a model, and mends it."""

import contextlib
import tempfile

import numpy as np

from kerax.errors import suggest
from kerax.places import local_path
from kerax.saving import archive, h5_members, structure, weights_h5


class KerasFileEditor:
    """The weights of a `.keras` or `.weights.h5` file by object, to be looked at, changed and saved.

    Args:
        filepath: Path of the file.

    Attributes:
        weights_dict: `{"layers/dense": {"0": array, "1": array}}`.
        metadata: What a `.keras` file says of its origin.

    Raises:
        ValueError: for another ending, or a damaged file.
        FileNotFoundError: if there is none.

    Keras nests `weights_dict`; here its keys are whole paths.
    """

    def __init__(self, filepath):
        self.filepath = path = local_path(filepath, "KerasFileEditor")
        self.metadata: dict = {}
        self.weights_dict: dict[str, dict[str, np.ndarray]] = {}
        if path.endswith(".weights.h5"):
            self._read(path)
        elif path.endswith(".keras"):
            with archive.opening(path, "KerasFileEditor") as members, tempfile.TemporaryDirectory() as folder:
                self.metadata = archive.read_json(members, archive.METADATA, path)
                if archive.WEIGHTS not in members.namelist():
                    raise ValueError(f"KerasFileEditor: {path!r} has no member {archive.WEIGHTS!r}.")
                # h5py reads files, not members of a zip file.
                self._read(members.extract(archive.WEIGHTS, folder))
        else:
            raise ValueError(f"KerasFileEditor: the name must end in '.keras' or '.weights.h5'. Got {path!r}.")

    def _read(self, path: str):
        with h5_members.open_file(path, "KerasFileEditor") as file:
            with h5_members.explaining(self.filepath, "KerasFileEditor"):
                for group in weights_h5.filled_groups(file):
                    members = h5_members.members_of(file, group) or {}
                    place = group.removesuffix("vars").rstrip("/")
                    self.weights_dict[place] = {name: member[()] for name, member in members.items()}

    def summary(self):
        """Prints every object with the shapes and dtypes of its weights."""
        print(f"{self.filepath}: {len(self.weights_dict)} objects with weights")
        for place, weights in self.weights_dict.items():
            print(place or "(the model itself)")
            for name, value in sorted(weights.items(), key=structure.by_number):
                print(f"    {name}: shape={value.shape}, dtype={value.dtype}")

    def compare(self, reference_model) -> dict:
        """Prints where the file differs from a model.

        Returns: `{"status": "success" or "error", "error_count": ..., "match_count": ...}`.
        """
        errors, matches, seen = [], 0, set()
        for place, owner in structure.saveables(reference_model):
            seen.add(place)
            found = structure.match(place, owner, self.weights_dict.get(place, {}))
            differences = [difference for difference in found if isinstance(difference, str)]
            errors += differences
            matches += len(found) - len(differences)
        errors += [f"{place}: in the file only" for place in self.weights_dict if place not in seen]
        for error in errors:
            print(error)
        print(f"{matches} weights fit, {len(errors)} differences.")
        return {"status": "error" if errors else "success", "error_count": len(errors), "match_count": matches}

    def rename_object(self, object_name: str, new_name: str):
        """Gives an object, and what lies below it, another name.

        Args:
            object_name: Name or path, such as `"dense_2"` or `"layers/dense_2"`.
            new_name: The name that takes the place of the last part.
        """
        old = self._find(object_name)
        new = "/".join([*old.split("/")[:-1], new_name])
        self._require_free(new)
        self.weights_dict = {_moved(place, old, new): weights for place, weights in self.weights_dict.items()}

    def delete_object(self, object_name: str):
        """Removes an object and what lies below it."""
        old = self._find(object_name)
        self.weights_dict = {
            place: weights for place, weights in self.weights_dict.items() if not f"{place}/".startswith(f"{old}/")
        }

    def add_object(self, object_path: str, weights: dict):
        """Adds an object with `{"0": array, ...}` at a path such as `"layers/dense_2"`."""
        self._require_free(object_path)
        self.weights_dict[object_path] = {name: np.asarray(value) for name, value in weights.items()}

    def delete_weight(self, object_name: str, weight_name: str):
        """Removes a weight of an object. Raises `ValueError` if there is none of that name."""
        weights = self.weights_dict[self._find(object_name)]
        if str(weight_name) not in weights:
            raise ValueError(f"KerasFileEditor: {object_name!r} has no weight {weight_name!r}. It has {list(weights)}.")
        del weights[str(weight_name)]

    def add_weights(self, object_name: str, weights: dict):
        """Adds weights to an object, or replaces those of the same name."""
        self.weights_dict[self._find(object_name)].update({name: np.asarray(v) for name, v in weights.items()})

    def save(self, filepath):
        """Writes the weights to a `.weights.h5` file."""
        path = local_path(filepath, "KerasFileEditor")
        if not path.endswith(".weights.h5"):
            raise ValueError(f"KerasFileEditor: the name must end in '.weights.h5'. Got {path!r}.")
        with h5_members.writing(path) as file:
            for place, weights in self.weights_dict.items():
                h5_members.write_group(file, structure.vars_of(place), place.split("/")[-1], weights)

    resave_weights = save

    def _find(self, name: str) -> str:
        """The path of an object given by path or, if that is clear, by its last part."""
        places = list(self.weights_dict)
        # A whole path is clear, even if it is the last part of another.
        with contextlib.suppress(ValueError):
            return places[places.index(name)]
        found = {
            "/".join(parts[: index + 1])
            for parts in (place.split("/") for place in places)
            # Objects without weights of their own, as a model inside, are there only as part of paths.
            for index, part in enumerate(parts)
            if part == name or "/".join(parts[: index + 1]) == name
        }
        if len(found) != 1:
            what = f"several objects are called {name!r}: {sorted(found)}" if found else f"there is no object {name!r}"
            raise ValueError(f"KerasFileEditor: {what}.{suggest(name, places)} Objects: {places}.")
        return found.pop()

    def _require_free(self, place: str):
        # The slash: `dense` is not in the way of `dense_1`.
        if any(f"{other}/".startswith(f"{place}/") for other in self.weights_dict):
            raise ValueError(f"KerasFileEditor: there is an object {place!r} already.")


def _moved(place: str, old: str, new: str) -> str:
    return new + place[len(old) :] if f"{place}/".startswith(f"{old}/") else place
