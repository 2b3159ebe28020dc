"""`InputSpec`: what a layer accepts, checked before it is built or called."""

from typing import Any

import jax

from kerax.core import sparse
from kerax.core.symbolic import known_shape


class InputSpec:
    """Rank, sizes and dtype that one input of a layer must have.

    Args:
        dtype: Name of the dtype, or `None` for any.
        shape: Tuple of sizes, `None` for any size.
        ndim: Exact number of axes.
        max_ndim: Largest number of axes.
        min_ndim: Smallest number of axes.
        axes: `{axis: size}` for single axes.
        allow_last_axis_squeeze: Whether a last axis of size 1 may be missing or extra.
        name: Name of the input when inputs come as a dict.
        optional: Whether the input may be `None`.
    """

    def __init__(
        self,
        dtype=None,
        shape=None,
        ndim=None,
        max_ndim=None,
        min_ndim=None,
        axes=None,
        allow_last_axis_squeeze=False,
        name=None,
        optional=False,
    ):
        self.dtype, self.name, self.optional = dtype, name, optional
        self.shape = None if shape is None else tuple(shape)
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.allow_last_axis_squeeze = allow_last_axis_squeeze

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")}

    @classmethod
    def from_config(cls, config: dict) -> "InputSpec":
        """The spec that `get_config` described."""
        return cls(**config)

    def check(self, layer, shape: tuple) -> None:
        """Raises `ValueError` naming the layer if an input of this shape does not fit. Unknown sizes fit all."""
        ndim, expected = len(shape), None
        if self.ndim is not None and ndim != self.ndim and not self._squeezes(shape):
            expected = f"ndim={self.ndim}"
        elif self.max_ndim is not None and ndim > self.max_ndim:
            expected = f"at most {self.max_ndim} axes"
        elif self.min_ndim is not None and ndim < self.min_ndim:
            expected = f"at least {self.min_ndim} axes"
        if expected is not None:
            shape = known_shape(shape)
            raise ValueError(f"{layer}: expected an input with {expected}, found ndim={ndim}. Got shape {shape}.")
        sizes = self.axes
        if self.shape is not None and ndim == len(self.shape):
            sizes = sizes | dict(enumerate(self.shape))
        for axis, size in sizes.items():
            # A symbolic size fits all.
            if size is not None and isinstance(shape[axis], int) and shape[axis] != size:
                shape = known_shape(shape)
                which = "0 (batch)" if axis == 0 else axis
                raise ValueError(
                    f"{layer}: expected axis {which} of the input to have size {size}, but it has shape {shape}. "
                    f"The layer was built for size {size}; build a new one, or reshape the input."
                )

    def _squeezes(self, shape: tuple) -> bool:
        own = self.shape or ()
        return self.allow_last_axis_squeeze and abs(len(shape) - len(own)) == 1 and 1 in (shape[-1:] + own[-1:])


def check_inputs(layer, inputs) -> Any:
    """Checks the first argument of a call against `layer.input_spec`."""
    specs = layer.input_spec
    if specs is None:
        return
    if isinstance(specs, InputSpec) and hasattr(inputs, "shape"):
        return specs.check(layer, inputs.shape)
    # Nested specs and inputs meet in flat order.
    specs = jax.tree.leaves(specs, is_leaf=lambda leaf: isinstance(leaf, InputSpec))
    tensors = [leaf for leaf in sparse.leaves(inputs) if hasattr(leaf, "shape")]
    if len(tensors) != len(specs):
        raise ValueError(f"{layer}: expected {len(specs)} input(s), arrays, got {len(tensors)}.")
    for spec, tensor in zip(specs, tensors, strict=True):
        spec.check(layer, tensor.shape)
