"""Layers that make one array of several, and their function forms."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from kerax import ops
from kerax.core import masks
from kerax.layers.options import PassesMasks, check


class _Merge(PassesMasks):
    """What all merging layers share: a list of inputs of fitting shapes, and the union of their masks."""

    num_inputs: int | None = None  # if only so many can be merged

    def build(self, input_shape: Any) -> None:
        shapes = self._check_list(input_shape)
        ndim = max(map(len, shapes))
        # Sizes of 1 stretch, as do axes that the shorter shapes lack.
        for aligned in zip(*(_align(shape, ndim) for shape in shapes), strict=True):
            if len({size for size in aligned if size not in (1, None)}) > 1:
                self._refuse(shapes, "inputs must have equal shapes, or sizes of 1 where they differ")
        if len({shape[0] for shape in shapes} - {None}) > 1:
            self._refuse(shapes, "inputs must have the same batch size")

    def _check_list(self, shapes) -> list[tuple]:
        if not isinstance(shapes, (list, tuple)) or not shapes or not all(isinstance(s, (list, tuple)) for s in shapes):
            raise ValueError(f"{self}: call it on a list of inputs. Got one input of shape {shapes}.")
        if self.num_inputs not in (None, len(shapes)):
            raise ValueError(f"{self}: expected exactly {self.num_inputs} inputs. Got {len(shapes)}.")
        return [tuple(shape) for shape in shapes]

    def _refuse(self, shapes, reason: str):
        raise ValueError(f"{self}: {reason}. Got shapes {', '.join(map(str, shapes))}.")

    def _check_masks(self, inputs, mask):
        are_lists = isinstance(inputs, (list, tuple)) and isinstance(mask, (list, tuple))
        if not are_lists or len(inputs) != len(mask):
            raise ValueError(f"{self}: `inputs` and `mask` must be lists of one length. Got {inputs!r}, {mask!r}.")

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """True where any input counts; none if one of them has no mask."""
        if mask is None:
            return None
        self._check_masks(inputs, mask)
        if any(one is None for one in mask):
            return None
        return functools.reduce(ops.logical_or, mask)


def _align(shape: tuple, ndim: int) -> tuple:
    """A shape with sizes of 1 after the batch axis, to `ndim` axes."""
    return (*shape[:1], *(1,) * (ndim - len(shape)), *shape[1:])


def _aligned(inputs) -> list:
    ndim = max(value.ndim for value in inputs)
    return [value.reshape(_align(value.shape, ndim)) for value in inputs]


def _fold_masked(combine: Callable, inputs):
    """`combine` over the inputs, each taking part only where its mask lets it."""
    output, output_mask = None, None
    for value, mask in zip(_aligned(inputs), map(masks.get_mask, inputs), strict=True):
        mask = None if mask is None else jnp.broadcast_to(mask[..., None], value.shape)  # masks have no features
        if output is None:
            output, output_mask = value, mask
            continue
        # A masked value gives way to what is there already, whichever side it is on, so that it changes nothing.
        value = value if mask is None else jnp.where(mask, value, output)
        output = output if output_mask is None else jnp.where(output_mask, output, value)
        output_mask = None if mask is None or output_mask is None else output_mask | mask
        output = combine(output, value)
    return output


class Add(_Merge):
    """The sum of a list of inputs of equal shapes."""

    def call(self, inputs: Any) -> Any:
        return functools.reduce(jnp.add, _aligned(inputs))


class Subtract(_Merge):
    """The first of two inputs minus the second."""

    num_inputs = 2

    def call(self, inputs: Any) -> Any:
        return jnp.subtract(*_aligned(inputs))


class Multiply(_Merge):
    """The product of a list of inputs of equal shapes; masked positions count as 1."""

    def call(self, inputs: Any) -> Any:
        found = [masks.get_mask(value) for value in inputs]
        pairs = zip(_aligned(inputs), found, strict=True)
        values = (value if mask is None else jnp.where(mask[..., None], value, 1) for value, mask in pairs)
        output = functools.reduce(jnp.multiply, values)
        # 0 where all inputs are masked, not the empty product 1.
        mask = self.compute_mask(inputs, found)
        return output if mask is None else jnp.where(mask[..., None], output, 0)


class Average(_Merge):
    """The mean of a list of inputs of equal shapes."""

    def call(self, inputs: Any) -> Any:
        return functools.reduce(jnp.add, _aligned(inputs)) / len(inputs)


class Maximum(_Merge):
    """The largest of a list of inputs, position by position; masked positions do not count."""

    takes_sparse = True

    def call(self, inputs: Any) -> Any:
        return _fold_masked(ops.maximum, inputs)


class Minimum(_Merge):
    """The smallest of a list of inputs, position by position; masked positions do not count."""

    takes_sparse = True

    def call(self, inputs: Any) -> Any:
        return _fold_masked(ops.minimum, inputs)


class Concatenate(_Merge):
    """A list of inputs, one behind the other along an axis.

    Args:
        axis: The axis; all others must have equal sizes.
    """

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def build(self, input_shape: Any) -> None:
        shapes = self._check_list(input_shape)
        ndim = len(shapes[0])
        if not -ndim <= self.axis < ndim or any(len(shape) != ndim for shape in shapes):
            self._refuse(shapes, f"inputs must have the same number of axes, and among them axis {self.axis}")
        for axis, aligned in enumerate(zip(*shapes, strict=True)):
            if axis != self.axis % ndim and len(set(aligned) - {None}) > 1:
                self._refuse(shapes, f"inputs must have equal sizes but along axis {self.axis}")

    def call(self, inputs: Any) -> Any:
        return jnp.concatenate(inputs, self.axis)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The masks, one behind the other; inputs without one count everywhere."""
        if mask is None:
            return None
        self._check_masks(inputs, mask)
        if all(one is None for one in mask):
            return None
        full = []
        for value, one in zip(inputs, mask, strict=True):
            if one is None:
                one = ops.ones_like(value[..., 0], dtype="bool")
            full.append(ops.any(one, axis=-1) if len(one.shape) == len(value.shape) else one)
        ndim = len(inputs[0].shape)
        # Masks have no features: one position counts if it does in any input.
        if self.axis % ndim == ndim - 1:
            return functools.reduce(ops.logical_or, full)
        return ops.concatenate(full, self.axis % ndim)


def _normalized(value, axis: int):
    """A value scaled to length 1 along an axis; one of zeros stays so."""
    return value * lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(value), axis, keepdims=True), 1e-12))


class Dot(_Merge):
    """The product of two inputs, summed over one axis of each, sample by sample.

    Args:
        axes: The axis of both, or a pair; never the batch axis.
        normalize: Whether to scale both to length 1 along the axis first, which gives the cosine.

    Output shape: the first input's axes without the summed one, then the second's without batch and summed one;
        at least `(batch, 1)`.
    """

    num_inputs = 2

    def __init__(self, axes, normalize=False, **kwargs):
        super().__init__(**kwargs)
        pair = (axes, axes) if isinstance(axes, int) else tuple(axes) if isinstance(axes, (list, tuple)) else ()
        are_axes = len(pair) == 2 and all(isinstance(axis, int) and axis != 0 for axis in pair)
        check(self, are_axes, "`axes` must be an axis other than 0, or two of them", axes=axes)
        self.axes, self.normalize = axes, normalize
        self._pair = pair

    def build(self, input_shape: Any) -> None:
        shapes = self._check_list(input_shape)
        picked = []
        for shape, axis in zip(shapes, self._pair, strict=True):
            if not -len(shape) < axis < len(shape):
                self._refuse(shapes, f"`axes`={self.axes} must be an axis after the batch axis of each input")
            picked.append(shape[axis])
        if len(set(picked) - {None}) > 1 or len({shape[0] for shape in shapes} - {None}) > 1:
            self._refuse(shapes, f"batch sizes and the sizes of `axes`={self.axes} must be equal")

    def call(self, inputs: Any) -> Any:
        if self.normalize:
            inputs = list(map(_normalized, inputs, self._pair))
        first, second = (axis % value.ndim for value, axis in zip(inputs, self._pair, strict=True))
        left, right = inputs
        # The batch axis is not summed over: sample meets sample.
        outputs = lax.dot_general(left, right, (((first,), (second,)), ((0,), (0,))))
        return outputs[:, None] if outputs.ndim == 1 else outputs

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`None`."""
        return None


def add(inputs: Any, **kwargs) -> Any:
    """`Add` as a function."""
    return Add(**kwargs)(inputs)


def subtract(inputs: Any, **kwargs) -> Any:
    """`Subtract` as a function."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Any, **kwargs) -> Any:
    """`Multiply` as a function."""
    return Multiply(**kwargs)(inputs)


def average(inputs: Any, **kwargs) -> Any:
    """`Average` as a function."""
    return Average(**kwargs)(inputs)


def maximum(inputs: Any, **kwargs) -> Any:
    """`Maximum` as a function."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Any, **kwargs) -> Any:
    """`Minimum` as a function."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Any, axis: Any = -1, **kwargs) -> Any:
    """`Concatenate` as a function."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Any, axes: Any = -1, **kwargs) -> Any:
    """`Dot` as a function."""
    return Dot(axes=axes, **kwargs)(inputs)
