"""Between the tensors of a checkpoint and the weights of a model: which belongs to which, and in what shape."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from kerax.core import placement
from kerax.core.variable import Variable
from kerax.language.families import HEADS, Family
from kerax.language.files import Tensor

# A tensor's last word in kerax's words: a layer has one of them.
_NAMES = {"weight": ("kernel", "scale", "gamma", "embeddings", "position_embeddings"), "bias": ("bias", "beta")}
_ELSEWHERE = {"reverse": {"weight": ("reverse_embeddings",)}, "logits": {"bias": ("logit_bias",)}}


class Place(NamedTuple):
    """A weight of a model: the layer that has it, and the attribute."""

    layer: Any
    name: str

    @property
    def representation(self) -> Any:
        """How the weight is stored, where the layer can store it in several ways; else `None`."""
        return getattr(self.layer, "representations", {}).get(self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape as floats."""
        weight = self.representation
        return getattr(self.layer, self.name).shape if weight is None else weight.shape

    @property
    def dtype(self) -> str:
        """Name of the dtype of its floats."""
        return jnp.dtype(self.layer.variable_dtype).name

    @property
    def is_matrix(self) -> bool:
        """Whether inputs are multiplied by it, so that files may have it transposed."""
        return self.name in ("kernel", "reverse_embeddings")

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Its shape in a file, not transposed: a matrix `(inputs, outputs)`, a table, or a vector."""
        if self.name == "kernel":
            num_inputs = math.prod(self.shape[: self.representation.num_contracted])
            return num_inputs, math.prod(self.shape) // num_inputs
        return self.shape if "embeddings" in self.name else (math.prod(self.shape),)

    def put(self, value: np.ndarray) -> None:
        """Makes the value the weight's, stored as its layer stores it."""
        weight = self.representation
        value = value.reshape(self.shape)
        if weight is None or weight.is_its_variable:
            vars(self.layer)[self.name].assign(value)
            return
        # In float32, which NumPy computes with 20 times as fast as with half precision.
        parts = weight.split(jnp.asarray(value, "float32"))
        for part, variable in weight.variables.items():
            variable.assign(parts[part])

    def get(self) -> np.ndarray:
        """The weight as floats on the host, with a low-rank update in it."""
        weight = self.representation
        value = getattr(self.layer, self.name).value if weight is None else weight.value
        return np.asarray(placement.to_host(value.astype(self.dtype))).reshape(self.file_shape)


class Row(NamedTuple):
    """A tensor of a file: the weights that lie side by side in it, and whether it is transposed."""

    places: list[Place]
    is_transposed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        each = [place.file_shape for place in self.places]
        shape = (*each[0][:-1], sum(one[-1] for one in each))
        return shape[::-1] if self.is_transposed else shape

    def put(self, tensor: np.ndarray) -> None:
        """Makes the tensor's parts the values of the weights."""
        tensor, start = tensor.T if self.is_transposed else tensor, 0
        for place in self.places:
            end = start + place.file_shape[-1]
            place.put(tensor[..., start:end])
            start = end

    def get(self) -> np.ndarray:
        """The tensor."""
        each = [place.get() for place in self.places]
        tensor = each[0] if len(each) == 1 else np.concatenate(each, axis=-1)
        return tensor.T if self.is_transposed else tensor

    def tensor(self) -> Tensor:
        """What is written of it."""
        return Tensor(self.shape, self.places[0].dtype, self.get)


def rows(model: Any, family: Family, has_prefix: bool = True) -> dict[str, Row]:
    """The tensors of a built model by the family's names."""
    found = {}
    for module, path in modules_of(model, family):
        prefix = "" if module.startswith(HEADS) or not has_prefix else family.prefix
        for end, names in _names_at(path[0]).items():
            places = [place for one in path for place in _places(model, one, names)]
            if places:
                is_turned = places[0].is_matrix and (family.is_transposed or places[0].name != "kernel")
                found[f"{prefix}{module}.{end}"] = Row(places, is_turned)
    return found


def modules_of(model: Any, family: Family) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The modules of a family's table with the paths of their layers, for each block those with its number."""
    for module, paths in family.modules.items():
        paths = paths if isinstance(paths, tuple) else (paths,)
        for index in range(len(model.blocks) if "{}" in module else 1):
            yield module.format(index), tuple(path.format(index) for path in paths)


def _names_at(path: str) -> dict[str, tuple[str, ...]]:
    return _ELSEWHERE.get(path.rpartition("/")[2], _NAMES)


def _places(model: Any, path: str, names: tuple[str, ...]) -> list[Place]:
    """The weight at a path that has one of the names; none where the model has no such layer or weight."""
    layer = layer_at(model, path)
    found = {} if layer is None else vars(layer)
    # By what it is: `scale` is a weight here and an option there.
    return [Place(layer, name) for name in names if isinstance(found.get(name), Variable)]


def layer_at(model: Any, path: str) -> Any:
    """The layer at a path of attributes and indices, or `None`."""
    found = model
    for part in path.split("/"):
        if part in _ELSEWHERE:
            break
        found = found[int(part)] if part.isdigit() else getattr(found, part, None)
        if found is None:
            break
    return found
