"""Low-rank adaptation: a frozen weight plus a trained product of two small ones.

    weight + alpha / rank * a @ b

Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685
"""

import functools
from typing import Any

import jax.numpy as jnp

from kerax.ops.products import contract
from kerax.quantizers.representations import Quantized, Weight


class LowRank(Weight):
    """A frozen weight, in any representation but those of calibration and 8-bit floats, plus a low-rank update.

    Args:
        base: The weight. It is frozen here.
        rank: Size of the axis between `a` and `b`.
        alpha: The update is multiplied by `alpha / rank`.
        initializers: Of `a` and `b`.
        dtype: Of both.
        is_beside: Whether `a` has the weight's contracted axes and `b` all others, as matrices have them, and what they
            give is added to the outputs: the update itself, as large as the weight, is never made.
    """

    is_its_variable = False

    def __init__(self, base: Weight, rank: int, alpha, initializers: tuple, dtype="float32", is_beside=False):
        super().__init__(base.layer, base.name, base.equation, base.layout)
        self.attributes, self.options = {}, base.options
        self.base, self.factor, self.is_beside = base, alpha / rank, is_beside
        base.variables[""].trainable = False
        # `a` has the weight's axes but the last, so that any kernel has an update: (*rows, rank) @ (rank, columns).
        num_rows = base.num_contracted if is_beside else len(self.shape) - 1
        shapes = (*self.shape[:num_rows], rank), (rank, *self.shape[num_rows:])
        options = {"dtype": dtype, "regularizer": self.options.get("regularizer")}
        for part, shape, initializer in zip("ab", shapes, initializers, strict=True):
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
        return contract(self._scaled(), self.variables["b"].value)

    def _scaled(self):
        return self.variables["a"].value * self.factor

    def project(self, inputs: Any, bias: Any = None) -> Any:
        """One product with the merged floats, or that of the stored weight plus that of the update."""
        if not isinstance(self.base, Quantized) and not self.is_beside:
            return type(self.base).project(self, inputs, bias)
        outputs = self.base.project(inputs, bias)
        if self.is_beside:
            more = contract(contract(inputs, self._scaled(), self.num_contracted), self.variables["b"].value)
        elif self.equation.split("->")[0][-1] == self.equation[-1]:  # then the update itself need not be made
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


def enable(
    layer: Any, rank: int, alpha: Any, *initializers: Any, dtype: str = "float32", is_beside: bool = False
) -> None:
    """Puts a low-rank update on the first weight of a layer; `dtype` and `is_beside` as in `LowRank`.

    Raises:
        ValueError: if the layer is not built, has a constraint on the weight, or has such an update already.
    """
    check_rank(layer, "rank", rank)
    if not layer._weights:
        raise ValueError(f"{layer}: `enable_lora` needs a built layer. Call it on data or `build` it first.")
    name, weight = next(iter(layer.representations.items()))  # of several, the first that the constructor named
    if layer.quantization_mode not in (None, "int8", "int4", "nf4"):
        raise ValueError(f"{layer}: LoRA does not go with quantization mode {layer.quantization_mode!r}.")
    # A constraint would have to hold for the sum, of which it sees only the frozen part.
    if weight.options.get("constraint") is not None:
        raise ValueError(f"{layer}: LoRA does not go with `{name}_constraint`. Make the layer without it.")
    if layer.lora_enabled:
        raise ValueError(f"{layer}: LoRA is already enabled, with rank {layer.lora_rank}.")
    alpha = rank if alpha is None else alpha
    if is_beside and not weight.num_contracted:
        raise ValueError(f"{layer}: its weight is no matrix that inputs are multiplied by. Got {weight.equation!r}.")
    layer.representations[name] = LowRank(weight, rank, alpha, initializers, dtype, is_beside)
    layer.lora_enabled, layer.lora_rank, layer.lora_alpha = True, rank, alpha


def merge(layer: Any) -> None:
    """Adds the low-rank update of a layer to its weight, which is trained from then on, but for one that is quantized:
    that is quantized anew."""
    for name, weight in layer.representations.items():
        if isinstance(weight, LowRank):
            base = weight.base
            parts = base.split(weight.value)
            for part, variable in base.variables.items():
                variable.assign(parts[part])
                variable.value_in_files = None
                variable.trainable = layer.trainable and not isinstance(base, Quantized)
            Weight.drop(weight)
            layer.representations[name] = base
    layer.lora_rank, layer.lora_alpha, layer.lora_enabled = None, None, False


def check_rank(layer: Any, name: str, rank: Any) -> None:
    """Raises `ValueError` unless `rank` is an integer of at least 1, or `None`."""
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 1):
        raise ValueError(f"{layer}: `{name}` must be an integer of at least 1. Got {name}={rank!r}.")
