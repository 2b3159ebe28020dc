"""Functions of functions, and axes moved by a pattern."""

import functools
import re

import jax
import jax.numpy as jnp

from kerax.core.lift import lift
from kerax.core.variable import unwrap
from kerax.ops.lifting import op

__all__ = ["custom_gradient", "rearrange", "vectorize"]


def custom_gradient(f):
    """`f` with a gradient of its own: it returns its value and a function from the output's gradient to the inputs'."""
    differentiated = jax.custom_gradient(f)
    # Variables are read; `lift` would record the call in graphs, whose files find no function of a user's.
    return functools.wraps(f)(lambda *args, **kwargs: differentiated(*jax.tree.map(unwrap, args), **kwargs))


def vectorize(pyfunc, *, excluded=None, signature=None):
    """`pyfunc` of single elements as a function of arrays, broadcast like `jnp.vectorize`."""
    return lift(jnp.vectorize(pyfunc, excluded=excluded or frozenset(), signature=signature))


def _groups(pattern: str) -> list[list[str]]:
    """The axes of one side of a pattern, those in brackets together."""
    return [group.strip("()").split() for group in re.findall(r"\([^()]*\)|[^\s()]+", pattern)]


@op
def rearrange(tensor, pattern, **axes_lengths):
    """The axes split, moved and merged as `pattern` says: `"b (h p) c -> b h (p c)"`.

    Args:
        pattern: Names of the axes before and after the arrow; names in brackets make up one axis.
        axes_lengths: Sizes of names; all but one of those in a bracket on the left are needed.

    Raises:
        ValueError: if the pattern does not fit the tensor.
    """
    tensor = jnp.asarray(tensor)
    sides = [_groups(side) for side in pattern.split("->")]
    names = [[name for group in side for name in group if name != "1"] for side in sides]
    # With one side only, `names[-1]` is the first again, and the length is what tells.
    if len(sides) != 2 or sorted(names[0]) != sorted(names[-1]) or len(set(names[0])) != len(names[0]):
        raise ValueError(f"rearrange: expected 'axes -> the same axes', each named once per side. Got {pattern!r}.")
    if len(sides[0]) != tensor.ndim:
        raise ValueError(f"rearrange: {pattern!r} names {len(sides[0])} axes. Got a tensor of shape {tensor.shape}.")
    sizes = dict(axes_lengths)
    for group, size in zip(sides[0], tensor.shape, strict=True):
        # A `1` has its size in its name.
        unknown = [name for name in group if name not in sizes and name != "1"]
        known = 1
        for name in group:
            known *= sizes.get(name, 1)
        if len(unknown) > 1 or size % known or (not unknown and size != known):
            raise ValueError(
                f"rearrange: the axis '{' '.join(group)}' of size {size} does not fit the sizes {axes_lengths}. "
                f"Give all sizes but one; their product must divide the axis."
            )
        if unknown:
            sizes[unknown[0]] = size // known
    tensor = tensor.reshape([sizes[name] for name in names[0]])
    tensor = tensor.transpose([names[0].index(name) for name in names[1]])
    merged = []
    for group in sides[1]:
        merged.append(1)
        for name in group:
            merged[-1] *= sizes.get(name, 1)
    return tensor.reshape(merged)
