"""What `keras.src.saving` has beyond the public API: the store of weights and the scopes of files."""

import io
from collections.abc import Iterator, MutableMapping
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from kerax.core import registry
from kerax.saving import models
from kerax.saving.models import load_model as load_model
from kerax.saving.weights import load_weights, save_weights

in_safe_mode = registry.in_safe_mode
SafeModeScope = registry.safe_mode_scope
ObjectSharingScope = registry.sharing_scope
load_weights_only, save_weights_only = load_weights, save_weights
GLOBAL_CUSTOM_OBJECTS, GLOBAL_CUSTOM_NAMES = registry.get_custom_objects(), registry.custom_names
_CONFIG_FILENAME, _METADATA_FILENAME, _ASSETS_DIRNAME = "config.json", "metadata.json", "assets"
_VARS_FNAME, _VARS_FNAME_H5 = "model.weights", "model.weights.h5"


def save_model(model, filepath, weights_format: str = "h5", zipped: bool = True, **kwargs) -> None:
    """Writes a `.keras` file: to a path, or, as no public function does, into an open file."""
    models.save_model(model, filepath, zipped=zipped, **kwargs)


class _Entry(MutableMapping):
    """The arrays of one path in a store."""

    def __init__(self, group):
        self._group = group

    def __getitem__(self, name: str) -> Any:
        dataset = self._group[name]
        if dataset.attrs.get("dtype") == "bfloat16":  # which HDF5 has not: two bytes of nothing in particular
            return np.array(dataset).view(ml_dtypes.bfloat16)
        return dataset

    def __setitem__(self, name: str, value) -> None:
        value = np.asarray(getattr(value, "value", value))
        if value.dtype == ml_dtypes.bfloat16:
            self._group.create_dataset(name, data=value.view(np.dtype("V2"))).attrs["dtype"] = "bfloat16"
        else:
            self._group[name] = value

    def __delitem__(self, name: str) -> None:
        del self._group[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._group)

    def __len__(self) -> int:
        return len(self._group)


class H5IOStore:
    """Arrays by path and name in an HDF5 file, as Keras writes them: `<path>/vars/<name>`.

    Args:
        root_path: Path of the file, or an open one.
        archive: An open zip file that holds, or gets, a file of that name.
        mode: `"r"` or `"w"`.
    """

    def __init__(self, root_path, archive=None, mode: str = "r"):
        self.path, self.archive, self.mode = root_path, archive, mode
        self.io_file: io.BytesIO | None = None
        if archive is not None:
            self.io_file = io.BytesIO(archive.read(str(root_path)) if mode == "r" else b"")
        self.h5_file = h5py.File(self.io_file if self.io_file is not None else root_path, mode=mode)

    def make(self, path: str, metadata: dict | None = None) -> MutableMapping:
        """A new place for arrays."""
        group = self.h5_file.create_group(f"{path}/vars" if path else "vars")
        for name, value in (metadata or {}).items():
            group.attrs[name] = value
        return _Entry(group)

    def get(self, path: str) -> MutableMapping:
        """The arrays of a path: none where the file has none."""
        place = f"{path}/vars" if path else "vars"
        return _Entry(self.h5_file[place] if place in self.h5_file else {})

    def keys(self) -> list[str]:
        """The paths at the top."""
        return list(self.h5_file)

    def close(self) -> None:
        """Writes what is open."""
        self.h5_file.close()
        if self.archive is not None and self.io_file is not None and self.mode == "w":
            self.archive.writestr(str(self.path), self.io_file.getvalue())

    def __enter__(self) -> "H5IOStore":
        return self

    def __exit__(self, *_) -> None:
        self.close()


__all__ = ["H5IOStore", "ObjectSharingScope", "SafeModeScope", "in_safe_mode", "load_model", "load_weights_only"]
__all__ += ["save_model", "save_weights_only"]
