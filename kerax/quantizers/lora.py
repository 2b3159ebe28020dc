"""Low-rank adaptation: a frozen weight plus a trained product of two small ones.

    weight + alpha / rank * a @ b

Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685
"""

import functools
from typing import Any

import jax.numpy as jnp

from kerax.quantizers.representations import Quantized, Weight


class LowRank(Weight):
    """A frozen weight, in any representation but those of calibration and 8-bit floats, plus a low-rank update.

    Args:
        base: The weight. It is frozen here.
        rank: Size of the axis between `a` and `b`.
        alpha: The update is multiplied by `alpha / rank`.
        initializers: Of `a` and `b`.
    """

    is_its_variable = False

    def __init__(self, base: Weight, rank: int, alpha, initializers: tuple):
        super().__init__(base.layer, base.name, base.equation, base.layout)
        self.attributes, self.options = {}, base.options
        self.base, self.factor = base, alpha / rank
        base.variables[""].trainable = False
        # `a` has the weight's axes but the last, so that any kernel has an update: (*rows, rank) @ (rank, columns).
        *rows, columns = self.shape
        options = {"dtype": "float32", "regularizer": self.options.get("regularizer")}
        for part, shape, initializer in zip("ab", ((*rows, rank), (rank, columns)), initializers, strict=True):
            self.add(part, shape=shape, initializer=initializer, **options).place_in_files = None
        self.variables["b"].zeroed_by_files = True  # Keras zeroes both, whose gradients are then zero for ever
        self._merge_in_files()
        self.layer._ready = False  # the new variables have no arrays yet

    def names(self, part: Any) -> Any:
        attribute = f"lora_{self.name}_{part}"
        return attribute, attribute

    @property
    def value(self) -> Any:
        return self.base.value + self.update()

    @property
    def shape(self) -> Any:
        return self.base.shape

    def update(self) -> Any:
        """`alpha / rank * a @ b`, of the weight's shape."""
        return self._scaled() @ self.variables["b"].value

    def _scaled(self):
        return self.variables["a"].value * self.factor

    def project(self, inputs: Any, bias: Any = None) -> Any:
        """One product with the merged floats, or that of the stored weight plus that of the update."""
        if not isinstance(self.base, Quantized):
            return type(self.base).project(self, inputs, bias)
        outputs = self.base.project(inputs, bias)
        if self.equation.split("->")[0][-1] == self.equation[-1]:  # then the update itself need not be made
            more = jnp.einsum(self.equation, inputs, self._scaled()) @ self.variables["b"].value
        else:
            more = jnp.einsum(self.equation, inputs, self.update())
        # The two small weights are float32: the sum must not widen a half-precision layer's outputs.
        return (outputs + more).astype(outputs.dtype)

    def take(self, index: Any) -> Any:
        return self.base.take(index) + jnp.take(self._scaled(), index, axis=0) @ self.variables["b"].value

    def drop(self) -> None:
        super().drop()
        self.base.drop()

    def quantized(self, config: Any) -> Any:
        self.base = self.base.quantized(config)  # which makes other variables
        self._merge_in_files()
        return self

    def _merge_in_files(self):
        for part, variable in self.base.variables.items():
            # Files hold the weight with its update, as Keras's do: loaded, it is one weight again.
            variable.value_in_files = functools.partial(self._part_in_files, part)

    def _part_in_files(self, part: str) -> Any:
        return self.base.split(self.value)[part]


def enable(layer: Any, rank: int, alpha: Any, *initializers: Any) -> None:
    """Puts a low-rank update on the first weight of a layer.

    Raises:
        ValueError: if the layer is not built, has a constraint on the weight, or has such an update already.
    """
    check_rank(layer, "rank", rank)
    if not layer._weights:
        raise ValueError(f"{layer}: `enable_lora` needs a built layer. Call it on data or `build` it first.")
    name, weight = next(iter(layer.representations.items()))  # of several, the first that the constructor named
    if layer.quantization_mode not in (None, "int8", "int4"):
        raise ValueError(f"{layer}: LoRA does not go with quantization mode {layer.quantization_mode!r}.")
    # A constraint would have to hold for the sum, of which it sees only the frozen part.
    if weight.options.get("constraint") is not None:
        raise ValueError(f"{layer}: LoRA does not go with `{name}_constraint`. Make the layer without it.")
    if layer.lora_enabled:
        raise ValueError(f"{layer}: LoRA is already enabled, with rank {layer.lora_rank}.")
    alpha = rank if alpha is None else alpha
    layer.representations[name] = LowRank(weight, rank, alpha, initializers)
    layer.lora_enabled, layer.lora_rank, layer.lora_alpha = True, rank, alpha


def check_rank(layer: Any, name: str, rank: Any) -> None:
    """Raises `ValueError` unless `rank` is an integer of at least 1, or `None`."""
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 1):
        raise ValueError(f"{layer}: `{name}` must be an integer of at least 1. Got {name}={rank!r}.")
